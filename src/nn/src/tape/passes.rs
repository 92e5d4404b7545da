//! Passes over rows of channels, `[rows, C]`: norms, activations, and the sums that their gradients need.
//!
//! Vectors of channels are repeated until they fill whole SIMD registers ([`wide`]), so that a pass over 24 channels is
//! one over rows of 96. Sums are kept in registers down a block of rows, then added up in double precision.

use super::norm::{Affine, Sums};
use crate::act::{Act, by_act};
use crate::kernel::simd;
use crate::ops::Activation;
use crate::ops::batch_norm::{Moments, add_wide};
use crate::pool::Buf;
use crate::real::Real;
use crate::strips::{LANES, Plain, Rows, copy};

/// Rows of a block: summed in the type of the values, and still in cache for the next pass over it.
pub(super) const BLOCK: usize = 64;

/// The vector again and again, until its length is a multiple of [`LANES`].
pub(super) fn wide<T: Real>(v: &[T]) -> Vec<T> {
    let mut length = v.len();
    while !length.is_multiple_of(LANES) {
        length += v.len();
    }
    v.iter().copied().cycle().take(length).collect()
}

/// Adds what was summed over wide rows to the sums of the channels.
fn add_narrow<T: Real>(to: &mut [f64], wide: &[T]) {
    for part in wide.chunks_exact(to.len()) {
        add_wide(to, part);
    }
}

/// `act(scale y + shift + r)` in place.
pub(super) fn finish<T: Real>(y: &mut [T], affine: &Affine<T>, r: Option<&[T]>, act: Activation) {
    by_act!(act, A => simd(#[inline(always)] || {
        let (scale, shift) = (&affine.wide_scale, &affine.wide_shift);
        if let Some(r) = r {
            for (y, r) in y.chunks_mut(scale.len()).zip(r.chunks(scale.len())) {
                for (((y, &r), &scale), &shift) in y.iter_mut().zip(r).zip(scale).zip(shift) {
                    *y = A::f(y.fma(scale, shift) + r);
                }
            }
        } else {
            for y in y.chunks_mut(scale.len()) {
                for ((y, &scale), &shift) in y.iter_mut().zip(scale).zip(shift) {
                    *y = A::f(y.fma(scale, shift));
                }
            }
        }
    }));
}

/// As [`finish`], into other rows.
pub(super) fn finish_to<T: Real>(z: &mut [T], y: &[T], affine: &Affine<T>, r: Option<&[T]>, act: Activation) {
    let c = affine.scale.len();
    if r.is_some() {
        // Blocks stay in cache between the two.
        for (b, (z, y)) in z.chunks_mut(BLOCK * c).zip(y.chunks(BLOCK * c)).enumerate() {
            z.copy_from_slice(y);
            finish(z, affine, r.map(|r| &r[b * BLOCK * c..][..y.len()]), act);
        }
    } else {
        by_act!(act, A => simd(#[inline(always)] || {
            let (scale, shift) = (&affine.wide_scale, &affine.wide_shift);
            for (z, y) in z.chunks_mut(scale.len()).zip(y.chunks(scale.len())) {
                for (((z, &y), &scale), &shift) in z.iter_mut().zip(y).zip(scale).zip(shift) {
                    *z = A::f(y.fma(scale, shift));
                }
            }
        }));
    }
}

/// `act(y + shift)` in place; `shift` is wide.
pub(super) fn shifted<T: Real>(y: &mut [T], shift: &[T], act: Activation) {
    by_act!(act, A => simd(#[inline(always)] || {
        for y in y.chunks_mut(shift.len()) {
            for (y, &shift) in y.iter_mut().zip(shift) {
                *y = A::f(*y + shift);
            }
        }
    }));
}

/// `z = start + scale d`, or added to `z` without a start; `scale` and `start` are wide.
pub(super) fn mix<T: Real>(z: &mut [T], d: &[T], scale: &[T], start: Option<&[T]>) {
    simd(
        #[inline(always)]
        || {
            let rows = z.chunks_mut(scale.len()).zip(d.chunks(scale.len()));
            if let Some(start) = start {
                for (z, d) in rows {
                    for (((z, &d), &scale), &start) in z.iter_mut().zip(d).zip(scale).zip(start) {
                        *z = d.fma(scale, start);
                    }
                }
            } else {
                for (z, d) in rows {
                    for ((z, &d), &scale) in z.iter_mut().zip(d).zip(scale) {
                        *z = d.fma(scale, *z);
                    }
                }
            }
        },
    );
}

/// The gradient of a convolution's result, made piece by piece: `dy = scale dz + k0 - k1 y` behind a norm, else `dz`.
pub(super) struct Gradient<'a, T> {
    /// Gradient before the activation.
    g: &'a [T],
    c: usize,
    norm: Option<Back<'a, T>>,
}

struct Back<'a, T> {
    y: &'a [T],
    /// All wide.
    scale: &'a [T],
    k0: Vec<T>,
    k1: Vec<T>,
}

impl<'a, T: Real> Gradient<'a, T> {
    /// Without a norm.
    pub(super) fn plain(g: &'a [T], c: usize) -> Self {
        Self { g, c, norm: None }
    }

    /// With one; the last are its corrections.
    pub(super) fn norm(y: &'a [T], g: &'a [T], affine: &'a Affine<T>, (k0, k1): &(Vec<T>, Vec<T>)) -> Self {
        let back = Back { y, scale: &affine.wide_scale, k0: wide(k0), k1: wide(k1) };
        Self { g, c: k0.len(), norm: Some(back) }
    }

    /// `count` positions from `first` on; in `room` when they are computed.
    pub(super) fn positions<'b>(&'b self, first: usize, count: usize, room: &'b mut Buf<T>) -> &'b [T] {
        if self.norm.is_none() {
            return &self.g[first * self.c..][..count * self.c];
        }
        let to = room.at_least(count * self.c);
        self.fill(first, to);
        to
    }

    /// The positions from `first` on.
    pub(super) fn fill(&self, first: usize, to: &mut [T]) {
        let at = first * self.c;
        let g = &self.g[at..][..to.len()];
        let Some(Back { y, scale, k0, k1 }) = &self.norm else { return to.copy_from_slice(g) };
        let y = &y[at..][..to.len()];
        simd(
            #[inline(always)]
            || {
                let width = scale.len();
                for ((to, y), g) in to.chunks_mut(width).zip(y.chunks(width)).zip(g.chunks(width)) {
                    let vectors = scale.iter().zip(k0).zip(k1);
                    for (((to, &y), &g), ((&scale, &k0), &k1)) in to.iter_mut().zip(y).zip(g).zip(vectors) {
                        *to = scale.fma(g, (T::zero() - k1).fma(y, k0));
                    }
                }
            },
        );
    }

    /// As rows of `w` positions.
    pub(super) fn rows(self, w: usize) -> GradientRows<'a, T> {
        GradientRows { gradient: self, w }
    }
}

/// A [`Gradient`] that a depthwise convolution reads.
pub(super) struct GradientRows<'a, T> {
    gradient: Gradient<'a, T>,
    w: usize,
}

impl<T: Real> Rows<T> for GradientRows<'_, T> {
    fn pack(&self, row: usize, from: usize, len: usize, to: &mut [T]) {
        let Gradient { g, c, norm } = &self.gradient;
        let line = self.w * c;
        let Some(Back { y, scale, k0, k1 }) = norm else {
            return Plain { data: g, line, c: *c }.pack(row, from, len, to);
        };
        simd(
            #[inline(always)]
            || {
                let vectors = [scale, &k0[..], &k1[..]].map(|v| {
                    let mut lanes = [T::zero(); LANES];
                    lanes[..len].copy_from_slice(&v[from..][..len]);
                    lanes
                });
                let (ys, gs) = (&y[row * line..][..line], &g[row * line..][..line]);
                let pixels = to.chunks_exact_mut(LANES).zip(ys.chunks_exact(*c).zip(gs.chunks_exact(*c)));
                if len == LANES {
                    for (to, (y, g)) in pixels {
                        strip_gradient(&mut to[..LANES], &y[from..][..LANES], &g[from..][..LANES], &vectors);
                    }
                } else {
                    let (mut a, mut b) = ([T::zero(); LANES], [T::zero(); LANES]);
                    for (to, (y, g)) in pixels {
                        copy(&mut a[..len], &y[from..]);
                        copy(&mut b[..len], &g[from..]);
                        strip_gradient(&mut to[..LANES], &a, &b, &vectors);
                    }
                }
            },
        );
    }
}

#[inline(always)]
fn strip_gradient<T: Real>(to: &mut [T], y: &[T], g: &[T], [scale, k0, k1]: &[[T; LANES]; 3]) {
    for i in 0..LANES {
        to[i] = scale[i].fma(g[i], (T::zero() - k1[i]).fma(y[i], k0[i]));
    }
}

/// Moments of rows that come in pieces: sums about a value near the mean.
#[derive(Clone)]
pub(super) struct See<T> {
    c: usize,
    rows: usize,
    centre: Vec<T>,
    sum: Vec<f64>,
    squares: Vec<f64>,
    block: [Vec<T>; 2],
}

impl<T: Real> See<T> {
    pub(super) fn new(c: usize) -> Self {
        Self {
            c,
            rows: 0,
            centre: Vec::new(),
            sum: vec![0.0; c],
            squares: vec![0.0; c],
            block: [Vec::new(), Vec::new()],
        }
    }

    pub(super) fn rows(&mut self, y: &[T]) {
        if self.centre.is_empty() {
            let mut mean = vec![0.0; self.c];
            let first = &y[..y.len().min(BLOCK * self.c)];
            add_narrow(&mut mean, first);
            let share = self.c as f64 / first.len() as f64;
            self.centre = wide(&mean.iter().map(|m| T::of(m * share)).collect::<Vec<_>>());
            self.block = [(); 2].map(|()| vec![T::zero(); self.centre.len()]);
        }
        let [sums, squares] = &mut self.block;
        for y in y.chunks(BLOCK * self.c) {
            simd(
                #[inline(always)]
                || block_moments(y, &self.centre, sums, squares),
            );
            add_narrow(&mut self.sum, sums);
            add_narrow(&mut self.squares, squares);
        }
        self.rows += y.len() / self.c;
    }

    pub(super) fn moments(self) -> Moments {
        let n = self.rows as f64;
        let mut moments = Moments::new(self.c);
        moments.n = self.rows;
        for i in 0..self.c {
            let shift = self.sum[i] / n;
            moments.mean[i] = self.centre[i].wide() + shift;
            moments.m2[i] = (self.squares[i] - self.sum[i] * shift).max(0.0);
        }
        moments
    }
}

#[inline(always)]
fn block_moments<T: Real>(y: &[T], centre: &[T], sums: &mut [T], squares: &mut [T]) {
    let width = centre.len();
    let rows = y.chunks_exact(width);
    for from in (0..width).step_by(LANES) {
        let centre = &centre[from..][..LANES];
        let (mut sum, mut square) = ([T::zero(); LANES], [T::zero(); LANES]);
        for y in rows.clone() {
            let y = &y[from..][..LANES];
            for i in 0..LANES {
                let d = y[i] - centre[i];
                sum[i] += d;
                square[i] = d.fma(d, square[i]);
            }
        }
        sums[from..][..LANES].copy_from_slice(&sum);
        squares[from..][..LANES].copy_from_slice(&square);
    }
    for (i, &y) in rows.remainder().iter().enumerate() {
        let d = y - centre[i];
        sums[i] += d;
        squares[i] = d.fma(d, squares[i]);
    }
}

/// What the gradient of a norm sums over some rows.
pub(super) struct SumUp<T> {
    mean: Vec<T>,
    pub(super) total: Sums,
    block: [Vec<T>; 2],
}

impl<T: Real> SumUp<T> {
    pub(super) fn new(affine: &Affine<T>) -> Self {
        let (mean, c) = (wide(&affine.mean()), affine.scale.len());
        let block = [(); 2].map(|()| vec![T::zero(); mean.len()]);
        Self { mean, total: Sums::new(c), block }
    }

    /// At most [`BLOCK`] rows whose gradient `g` before the activation is known.
    pub(super) fn block(&mut self, y: &[T], g: &[T]) {
        let [sums, dots] = &mut self.block;
        simd(
            #[inline(always)]
            || block_sums(y, g, &self.mean, sums, dots),
        );
        add_narrow(&mut self.total.sum, sums);
        add_narrow(&mut self.total.dot, dots);
    }

    /// As [`SumUp::block`], for the gradient after the activation, which is turned into that before it.
    pub(super) fn block_before_act(
        &mut self,
        y: &[T],
        g: &mut [T],
        affine: &Affine<T>,
        r: Option<&[T]>,
        act: Activation,
    ) {
        by_act!(act, A => simd(#[inline(always)] || before_act::<T, A>(y, g, affine, r)));
        self.block(y, g);
    }
}

/// `g *= act'(scale y + shift + r)`
#[inline(always)]
fn before_act<T: Real, A: Act>(y: &[T], g: &mut [T], affine: &Affine<T>, r: Option<&[T]>) {
    let (scale, shift) = (&affine.wide_scale, &affine.wide_shift);
    let width = scale.len();
    let rows = y.chunks(width).zip(g.chunks_mut(width));
    if let Some(r) = r {
        for ((y, g), r) in rows.zip(r.chunks(width)) {
            for ((((y, g), &r), &scale), &shift) in y.iter().zip(g).zip(r).zip(scale).zip(shift) {
                *g *= A::df(y.fma(scale, shift) + r);
            }
        }
    } else {
        for (y, g) in rows {
            for (((y, g), &scale), &shift) in y.iter().zip(g).zip(scale).zip(shift) {
                *g *= A::df(y.fma(scale, shift));
            }
        }
    }
}

#[inline(always)]
fn block_sums<T: Real>(y: &[T], g: &[T], mean: &[T], sums: &mut [T], dots: &mut [T]) {
    let width = mean.len();
    let (ys, gs) = (y.chunks_exact(width), g.chunks_exact(width));
    for from in (0..width).step_by(LANES) {
        let mean = &mean[from..][..LANES];
        let (mut sum, mut dot) = ([T::zero(); LANES], [T::zero(); LANES]);
        for (y, g) in ys.clone().zip(gs.clone()) {
            let (y, g) = (&y[from..][..LANES], &g[from..][..LANES]);
            for i in 0..LANES {
                sum[i] += g[i];
                dot[i] = g[i].fma(y[i] - mean[i], dot[i]);
            }
        }
        sums[from..][..LANES].copy_from_slice(&sum);
        dots[from..][..LANES].copy_from_slice(&dot);
    }
    for (i, (&y, &g)) in ys.remainder().iter().zip(gs.remainder()).enumerate() {
        sums[i] += g;
        dots[i] = g.fma(y - mean[i], dots[i]);
    }
}

/// `g *= act'(z)`
pub(super) fn before<T: Real>(g: &mut [T], z: &[T], act: Activation) {
    by_act!(act, A => simd(#[inline(always)] || {
        for (g, &z) in g.iter_mut().zip(z) {
            *g *= A::df(z);
        }
    }));
}
