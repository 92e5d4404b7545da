//! Weighted sums of values and of convolutions, whose batch norms are applied on the way.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::norm::{Affine, Sums};
use super::passes::{Gradient, SumUp};
use super::raw::Raw;
use super::{Flow, Input, Tape, Value, Wanted, Weight};
use crate::kernel::{PARTS, simd};
use crate::pool::Buf;
use crate::real::Real;

/// Positions worked on at once, so that they stay in cache.
const BLOCK: usize = 128;

/// An element of a tensor of factors, whose gradient is wanted.
#[derive(Debug, Clone)]
pub struct Factor {
    /// The tensor.
    pub weight: Weight,
    /// Which of its elements, in row-major order.
    pub index: usize,
    /// Its value.
    pub value: f64,
}

/// What is added up.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a few at a time, and moved once")]
pub enum Term<T: Real> {
    /// A value as it is.
    Value(Value<T>),
    /// A convolution and its batch norm.
    Raw(Raw<T>),
}

/// A term with its factors.
#[derive(Debug)]
pub struct Part<T: Real> {
    /// What is multiplied.
    pub term: Term<T>,
    /// Factor with a gradient; one without it.
    pub factor: Option<Factor>,
    /// Constant factor of each image; ones without it. Values only.
    pub images: Option<Vec<f64>>,
}

/// A value term on its way back.
struct Plain<T: Real> {
    id: Option<usize>,
    saved: Option<Input<T>>,
    factor: Option<Factor>,
    images: Option<Arc<Vec<T>>>,
}

impl<T: Real> Plain<T> {
    fn scale(&self, image: usize) -> T {
        scale(self.factor.as_ref(), self.images.as_deref(), image)
    }
}

fn scale<T: Real>(factor: Option<&Factor>, images: Option<&Vec<T>>, image: usize) -> T {
    T::of(factor.map_or(1.0, |f| f.value)) * images.map_or(T::one(), |m| m[image])
}

/// A convolution on its way back.
struct Normed<T: Real> {
    raw: Raw<T>,
    affine: Affine<T>,
    factor: Option<Factor>,
}

/// Consecutive positions, each range within one image.
fn ranges([n, h, w, _]: [usize; 4]) -> Vec<Range<usize>> {
    let per_image = (PARTS.div_ceil(n)).min(h);
    let len = h.div_ceil(per_image) * w;
    let image = |i: usize| (0..h * w).step_by(len).map(move |at| i * h * w + at..i * h * w + (at + len).min(h * w));
    (0..n).flat_map(image).collect()
}

/// The slices of a buffer at these ranges of positions of `c` values.
fn split<'a, T>(mut buf: &'a mut [T], ranges: &[Range<usize>], c: usize) -> Vec<&'a mut [T]> {
    let mut out = Vec::with_capacity(ranges.len());
    for r in ranges {
        let (head, tail) = buf.split_at_mut(r.len() * c);
        out.push(head);
        buf = tail;
    }
    out
}

#[inline(always)]
fn add_scaled<T: Real>(to: &mut [T], x: &[T], scale: T, first: bool) {
    if first {
        to.iter_mut().zip(x).for_each(|(t, &x)| *t = x * scale);
    } else {
        to.iter_mut().zip(x).for_each(|(t, &x)| *t = x.fma(scale, *t));
    }
}

#[inline(always)]
fn add_affine<T: Real>(to: &mut [T], y: &[T], scale: &[T]) {
    let c = scale.len();
    for (t, y) in to.chunks_exact_mut(c).zip(y.chunks_exact(c)) {
        for i in 0..c {
            t[i] = y[i].fma(scale[i], t[i]);
        }
    }
}

#[inline(always)]
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::zero(); 16];
    let (head, tail) = (a.len() / 16 * 16, a.len() % 16);
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for i in 0..16 {
            sums[i] = a[i].fma(b[i], sums[i]);
        }
    }
    for i in 0..tail {
        sums[i] = a[head + i].fma(b[head + i], sums[i]);
    }
    sums.into_iter().sum()
}

impl<T: Real> Tape<T> {
    /// Sum of the parts. Of a convolution, `factor * norm(y)` is added; neither the normed nor the scaled values are
    /// written anywhere.
    ///
    /// # Errors
    /// When there are no parts or shapes differ.
    pub fn mix(&mut self, parts: Vec<Part<T>>) -> Result<Value<T>> {
        let dims_of = |p: &Part<T>| match &p.term {
            Term::Value(x) => x.dims,
            Term::Raw(r) => r.dims,
        };
        let Some(dims) = parts.first().map(dims_of) else { bail!("tape: nothing to add up") };
        if parts.iter().any(|p| dims_of(p) != dims) {
            bail!("tape: shapes {:?} do not add up", parts.iter().map(dims_of).collect::<Vec<_>>())
        }
        let c = dims[3];
        let (mut values, mut raws) = (Vec::new(), Vec::new());
        for part in parts {
            let images = part.images.map(|m| Arc::new(m.into_iter().map(T::of).collect::<Vec<T>>()));
            match part.term {
                Term::Value(x) => values.push((x, part.factor, images)),
                Term::Raw(_) if images.is_some() => bail!("tape: a factor of each image of a convolution"),
                Term::Raw(mut raw) => {
                    let affine = raw.affine(self, part.factor.as_ref().map_or(1.0, |f| f.value))?;
                    raws.push(Normed { raw, affine, factor: part.factor });
                }
            }
        }
        let shift: Vec<T> = (0..c).map(|i| T::of(raws.iter().map(|r| r.affine.shift[i].wide()).sum::<f64>())).collect();
        let pixels = dims[1] * dims[2];
        let ranges = ranges(dims);
        let mut y = Buf::stale(dims.iter().product());
        split(&mut y, &ranges, c).into_par_iter().zip(&ranges).for_each(|(y, range)| {
            for (b, y) in y.chunks_mut(BLOCK * c).enumerate() {
                let at = (range.start + b * BLOCK) * c;
                simd(
                    #[inline(always)]
                    || {
                        y.chunks_exact_mut(c).for_each(|y| y.copy_from_slice(&shift));
                        for (x, factor, images) in &values {
                            let scale = scale(factor.as_ref(), images.as_deref(), range.start / pixels);
                            add_scaled(y, &x.data()[at..][..y.len()], scale, false);
                        }
                        for r in &raws {
                            add_affine(y, &r.raw.y[at..][..y.len()], &r.affine.scale);
                        }
                    },
                );
            }
        });
        let out = self.value(dims, y);
        if !self.recording {
            return Ok(out);
        }
        let wanted = self.wanted;
        let plain = values
            .into_iter()
            .map(|(x, factor, images)| {
                let saved = (wanted.factors() && factor.is_some()).then(|| x.saved());
                Plain { id: x.id, saved, factor, images }
            })
            .collect();
        let id = out.id;
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            for group in distinct(plain) {
                values_backward(flow, group, &g, &ranges, dims)?;
            }
            raws_backward(flow, raws, &g, &ranges, c)
        });
        Ok(out)
    }
}

/// Groups in which every value occurs once.
fn distinct<T: Real>(parts: Vec<Plain<T>>) -> Vec<Vec<Plain<T>>> {
    let mut groups: Vec<Vec<Plain<T>>> = Vec::new();
    for part in parts {
        match groups.iter_mut().find(|g| part.id.is_none() || g.iter().all(|p| p.id != part.id)) {
            Some(group) => group.push(part),
            None => groups.push(vec![part]),
        }
    }
    groups
}

/// Gradients of the values, and of their factors.
fn values_backward<T: Real>(
    flow: &mut Flow<'_, T>,
    mut parts: Vec<Plain<T>>,
    g: &[T],
    ranges: &[Range<usize>],
    [_, h, w, c]: [usize; 4],
) -> Result<()> {
    let saved: Vec<Option<Arc<Buf<T>>>> = parts.iter_mut().map(|p| p.saved.take().map(Input::get)).collect();
    let mut grads: Vec<Option<(Buf<T>, bool)>> =
        parts.iter().map(|p| p.id.is_some().then(|| flow.start(p.id, g.len()))).collect();
    let mut tasks: Vec<Vec<Option<&mut [T]>>> = ranges.iter().map(|_| Vec::with_capacity(parts.len())).collect();
    let adds: Vec<bool> = grads.iter().map(|g| g.as_ref().is_some_and(|g| g.1)).collect();
    for grad in &mut grads {
        match grad {
            Some((dx, _)) => {
                for (task, dx) in tasks.iter_mut().zip(split(dx, ranges, c)) {
                    task.push(Some(dx));
                }
            }
            None => tasks.iter_mut().for_each(|t| t.push(None)),
        }
    }
    let dots: Vec<Vec<f64>> = tasks
        .into_par_iter()
        .zip(ranges)
        .map(|(mut dxs, range)| {
            let mut dots = vec![0.0; parts.len()];
            let image = range.start / (h * w);
            for from in (0..range.len()).step_by(BLOCK) {
                let len = BLOCK.min(range.len() - from) * c;
                let g = &g[(range.start + from) * c..][..len];
                for (i, part) in parts.iter().enumerate() {
                    if let Some(x) = &saved[i] {
                        let x = &x[(range.start + from) * c..][..len];
                        let d = simd(
                            #[inline(always)]
                            || dot(g, x),
                        );
                        dots[i] += d.wide() * part.images.as_ref().map_or(1.0, |m| m[image].wide());
                    }
                    if let Some(dx) = &mut dxs[i] {
                        let dx = &mut dx[from * c..][..len];
                        simd(
                            #[inline(always)]
                            || add_scaled(dx, g, part.scale(image), !adds[i]),
                        );
                    }
                }
            }
            dots
        })
        .collect();
    for (i, (part, grad)) in parts.iter().zip(grads).enumerate() {
        if let Some((dx, _)) = grad {
            flow.put(part.id, dx);
        }
        if let (Some(factor), Some(_)) = (&part.factor, &saved[i]) {
            flow.of(&factor.weight)?[factor.index] += T::of(dots.iter().map(|d| d[i]).sum());
        }
    }
    Ok(())
}

/// Gradients of what the convolutions read, of their factors and weights.
fn raws_backward<T: Real>(
    flow: &mut Flow<'_, T>,
    raws: Vec<Normed<T>>,
    g: &[T],
    ranges: &[Range<usize>],
    c: usize,
) -> Result<()> {
    let parts: Vec<Vec<Sums>> = ranges
        .par_iter()
        .map(|range| {
            let mut ups: Vec<SumUp<T>> = raws.iter().map(|r| SumUp::new(&r.affine)).collect();
            for from in range.clone().step_by(BLOCK) {
                let len = BLOCK.min(range.end - from) * c;
                let g = &g[from * c..][..len];
                for (r, up) in raws.iter().zip(&mut ups) {
                    up.block(&r.raw.y[from * c..][..len], g);
                }
            }
            ups.into_iter().map(|up| up.total).collect()
        })
        .collect();
    let totals = Sums::totals(&parts, raws.len(), c);
    for (Normed { raw, affine, factor }, total) in raws.into_iter().zip(totals) {
        if let Some(factor) = factor.filter(|_| flow.wanted.factors()) {
            flow.of(&factor.weight)?[factor.index] += T::of(affine.share_gradient(&total)?);
        }
        let correction = affine.correction(flow, &total)?;
        let Raw { y, product, kernel, x_id, saved, .. } = raw;
        product.backward(flow, (x_id, saved), &kernel, None, &Gradient::norm(&y, g, &affine, &correction))?;
    }
    Ok(())
}

impl<T: Real> Tape<T> {
    /// For which gradients this tape records.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }
}
