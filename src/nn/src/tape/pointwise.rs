//! Convolution by matrix products, with batch norm, a residual and an activation; and the squeeze-excite gate before it.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::norm::{Affine, Sums, join};
use super::passes::{BLOCK, Gradient, See, SumUp, finish, finish_to};
use super::source::{Input, Normed};
use super::{Flow, Norm, Tape, Value, Weight, add, prefix};
use crate::act::{Act as _, by_act};
use crate::gemm::{Mat, matmul, transposed};
use crate::kernel::{GRAIN, part_len, simd, with_data};
use crate::ops::Activation;
use crate::ops::squeeze::image_sums;
use crate::pool::Buf;
use crate::real::Real;
use crate::strips::LANES;

/// Least rows of a parallel part.
const LEAST: usize = 64;

/// A squeeze-excite gate: mean over the positions, two dense layers (ReLU, hard sigmoid), a factor for each channel.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Weight `[squeezed, C, 1, 1]` and bias of the first layer.
    pub reduce: (Weight, Weight),
    /// Weight `[C, squeezed, 1, 1]` and bias of the second.
    pub expand: (Weight, Weight),
    /// Outputs of the first layer.
    pub squeezed: usize,
}

/// What follows a convolution. The order is norm, residual, activation.
#[derive(Debug, Clone, Copy)]
pub struct After<'a, T: Real> {
    /// Batch norm.
    pub norm: Option<&'a Norm>,
    /// Added after the norm.
    pub residual: Option<&'a Value<T>>,
    /// Applied last.
    pub act: Activation,
}

impl<T: Real> Tape<T> {
    /// 1x1 convolution to `out` channels with the first rows and columns of `w` `[O, I, 1, 1]`; before it `x` is scaled
    /// by its gate.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit.
    pub fn pointwise(
        &mut self,
        x: &Value<T>,
        gate: Option<&Gate>,
        w: &Weight,
        out: usize,
        after: After<'_, T>,
    ) -> Result<Value<T>> {
        self.convolve(x, gate, &Kernel::new(w, out, x.channels(), 1)?, after)
    }

    /// Convolution of the patches `x` with the kernel.
    pub(super) fn convolve(
        &mut self,
        x: &Value<T>,
        gate: Option<&Gate>,
        kernel: &Kernel,
        after: After<'_, T>,
    ) -> Result<Value<T>> {
        let [n, h, w, _] = x.dims;
        let (o, rows) = (kernel.out, n * h * w);
        let dims = [n, h, w, o];
        if after.residual.is_some_and(|r| r.dims != dims) {
            bail!(
                "tape: residual of `{}`: shapes {:?} and {dims:?} differ",
                kernel.w.name,
                after.residual.map(|r| r.dims)
            )
        }
        let gate = gate.map(|g| GateRun::new(g, x)).transpose()?;
        let input = x.input();
        let product = Product { groups: if gate.is_some() { n } else { 1 }, rows, i: kernel.inputs(), o };
        let matrix = kernel.fetch::<T>()?;
        let factors = gate.as_ref().map(|g| &g.factors[..]);
        let residual = after.residual.map(|r| r.data().clone());
        let mut y = Buf::stale(rows * o);
        let affine = match after.norm {
            None => None,
            Some(norm) => Affine::fixed(norm, o, 1.0)?,
        };
        if let Some(affine) = affine {
            // Known beforehand: finish each block while it is in cache.
            product.forward(
                &input,
                &matrix,
                factors,
                &mut y,
                || (),
                |(), y, first| {
                    let r = residual.as_ref().map(|r| &r[first * o..][..y.len()]);
                    finish(y, &affine, r, after.act);
                },
            );
            return Ok(self.value(dims, y));
        }
        let Some(norm) = after.norm else {
            product.forward(
                &input,
                &matrix,
                factors,
                &mut y,
                || (),
                |(), y, first| {
                    if let Some(r) = &residual {
                        add(y, &r[first * o..][..y.len()]);
                    }
                    by_act!(after.act, A => simd(#[inline(always)] || y.iter_mut().for_each(|y| *y = A::f(*y))));
                },
            );
            return self.record_plain(x, gate, kernel, product, after, dims, y);
        };
        let moments = product.forward(&input, &matrix, factors, &mut y, || See::new(o), |see, y, _| see.rows(y));
        let affine = Affine::batch(self, norm, join(moments.into_iter().map(See::moments).collect()), 1.0)?;
        if !self.recording {
            y.par_chunks_mut(product.part() * o).enumerate().for_each(|(p, y)| {
                let r = residual.as_ref().map(|r| &r[p * product.part() * o..][..y.len()]);
                finish(y, &affine, r, after.act);
            });
            return Ok(self.value(dims, y));
        }
        let normed = Arc::new(Normed { y, affine, act: after.act });
        let out = if let Some(r) = &residual {
            // Keeping the result is cheaper than keeping the residual.
            let Normed { y, affine, act } = &*normed;
            let (part, mut z) = (product.part() * o, Buf::stale(y.len()));
            z.par_chunks_mut(part).zip(y.par_chunks(part)).enumerate().for_each(|(p, (z, y))| {
                finish_to(z, y, affine, Some(&r[p * part..][..y.len()]), *act);
            });
            self.value(dims, z)
        } else {
            self.computed(dims, normed.clone())
        };
        let (id, x_id, saved, kernel) = (out.id, x.id, x.saved_for(self.wanted, gate.is_some()), kernel.clone());
        let residual_id = after.residual.and_then(|r| r.id);
        let residual = residual.filter(|_| after.act != Activation::Identity);
        self.record(move |flow| {
            let Some(mut g) = flow.take(id) else { return Ok(()) };
            let Normed { y, affine, act } = &*normed;
            let sums = sums(y, &mut g, affine, residual.as_ref().map(|r| &r[..]), *act);
            let gradient = Gradient::norm(y, &g, affine, &affine.correction(flow, &sums)?);
            product.backward(flow, (x_id, saved), &kernel, gate, &gradient)?;
            if let Some(id) = residual_id {
                flow.give(Some(id), g);
            }
            Ok(())
        });
        Ok(out)
    }

    /// Without a norm: only identity and sigmoid are in use, whose slopes the result tells.
    #[expect(clippy::too_many_arguments, reason = "the second half of one function")]
    fn record_plain(
        &mut self,
        x: &Value<T>,
        gate: Option<GateRun<T>>,
        kernel: &Kernel,
        product: Product,
        after: After<'_, T>,
        dims: [usize; 4],
        y: Buf<T>,
    ) -> Result<Value<T>> {
        if self.recording && !matches!(after.act, Activation::Identity | Activation::Sigmoid) {
            bail!("tape: `{}`: {:?} needs a norm before it", kernel.w.name, after.act)
        }
        let y = Arc::new(y);
        let out = self.value(dims, y.clone());
        let (id, x_id, saved, kernel) = (out.id, x.id, x.saved_for(self.wanted, gate.is_some()), kernel.clone());
        let residual_id = after.residual.and_then(|r| r.id);
        let sigmoid = (after.act == Activation::Sigmoid).then_some(y);
        self.record(move |flow| {
            let Some(mut g) = flow.take(id) else { return Ok(()) };
            if let Some(s) = sigmoid {
                for (g, &s) in g.iter_mut().zip(s.iter()) {
                    *g *= s * (T::one() - s);
                }
            }
            product.backward(flow, (x_id, saved), &kernel, gate, &Gradient::plain(&g, product.o))?;
            if let Some(id) = residual_id {
                flow.give(Some(id), g);
            }
            Ok(())
        });
        Ok(out)
    }
}

/// The part of a convolution's weight that is used, as a matrix `[out, k k I]` on patches.
#[derive(Clone)]
pub(super) struct Kernel {
    w: Weight,
    /// Two matrices as the blocks of a diagonal: the other one's.
    other: Option<Weight>,
    pub(super) out: usize,
    input: usize,
    k: usize,
}

impl Kernel {
    pub(super) fn new(w: &Weight, out: usize, input: usize, k: usize) -> Result<Self> {
        match w.tensor.dims() {
            &[o, i, kh, kw] if out > 0 && out <= o && input <= i && kh == k && kw == k => {}
            d => bail!("tape: `{}` of shape {d:?} does not hold [{out}, {input}, {k}, {k}]", w.name),
        }
        Ok(Self { w: w.clone(), other: None, out, input, k })
    }

    /// Two 1x1 convolutions of two halves of the channels, to two halves of the channels; weights are read whole.
    pub(super) fn halves(w: &Weight, other: &Weight) -> Result<Self> {
        match (w.tensor.dims(), other.tensor.dims()) {
            (&[o, i, 1, 1], d) if d == [o, i, 1, 1] => {
                Ok(Self { w: w.clone(), other: Some(other.clone()), out: 2 * o, input: i, k: 1 })
            }
            (d, e) => bail!("tape: `{}` and `{}` of shapes {d:?} and {e:?} are no halves", w.name, other.name),
        }
    }

    pub(super) fn inputs(&self) -> usize {
        self.k * self.k * self.input * if self.other.is_some() { 2 } else { 1 }
    }

    /// Offset of row `r`, tap `t` and channel 0 in the parameter, and the step between channels.
    fn at(&self, r: usize, t: usize) -> (usize, usize) {
        let (full, area) = (self.w.tensor.dims()[1], self.k * self.k);
        (r * full * area + t, area)
    }

    pub(super) fn fetch<T: Real>(&self) -> Result<Vec<T>> {
        if let Some(other) = &self.other {
            let (o, i) = (self.out / 2, self.input);
            let mut m = vec![T::zero(); 4 * o * i];
            for (half, w) in [&self.w, other].into_iter().enumerate() {
                for (r, row) in prefix::<T>(w, o * i)?.chunks_exact(i).enumerate() {
                    m[(half * o + r) * 2 * i + half * i..][..i].copy_from_slice(row);
                }
            }
            return Ok(m);
        }
        with_data::<T, _>(&self.w.tensor, |full| {
            let mut m = Vec::with_capacity(self.out * self.inputs());
            for r in 0..self.out {
                for t in 0..self.k * self.k {
                    let (from, step) = self.at(r, t);
                    if step == 1 {
                        m.extend_from_slice(&full[from..from + self.input]);
                    } else {
                        m.extend((0..self.input).map(|i| full[from + i * step]));
                    }
                }
            }
            m
        })
    }

    fn add_gradient<T: Real>(&self, flow: &mut Flow<'_, T>, dw: &[T]) -> Result<()> {
        if let Some(other) = &self.other {
            let (o, i) = (self.out / 2, self.input);
            for (half, w) in [&self.w, other].into_iter().enumerate() {
                let to = flow.of(w)?;
                for (r, to) in to.chunks_exact_mut(i).enumerate() {
                    add(to, &dw[(half * o + r) * 2 * i + half * i..][..i]);
                }
            }
            return Ok(());
        }
        let to = flow.of(&self.w)?;
        for (row, dw) in dw.chunks_exact(self.input).enumerate() {
            let (at, step) = self.at(row / (self.k * self.k), row % (self.k * self.k));
            if step == 1 {
                add(&mut to[at..at + self.input], dw);
            } else {
                for (i, &d) in dw.iter().enumerate() {
                    to[at + i * step] += d;
                }
            }
        }
        Ok(())
    }
}

/// `y = x w^T` in groups of rows that share a scaling of the columns of `w`.
#[derive(Clone, Copy)]
pub(super) struct Product {
    groups: usize,
    rows: usize,
    i: usize,
    o: usize,
}

impl Product {
    /// One group.
    pub(super) fn of(kernel: &Kernel, rows: usize) -> Self {
        Self { groups: 1, rows, i: kernel.inputs(), o: kernel.out }
    }

    fn group(&self) -> usize {
        self.rows / self.groups
    }

    /// Rows of a parallel part.
    fn part(&self) -> usize {
        part_len(self.rows).max(LEAST).min(self.group())
    }

    /// Rows worked on at once, so that they stay in cache.
    fn block(&self) -> usize {
        ((1 << 15) / self.i.max(self.o)).clamp(LEAST, 512)
    }

    /// The weight `[out, I]` with its columns scaled by the factors of a group.
    fn scaled<'a, T: Real>(&self, w: &'a [T], factors: Option<&[T]>, group: usize) -> Cow<'a, [T]> {
        let Some(f) = factors else { return Cow::Borrowed(w) };
        let f = &f[group * self.i..][..self.i];
        let mut out = w.to_vec();
        simd(
            #[inline(always)]
            || {
                for w in out.chunks_exact_mut(f.len()) {
                    for (w, &f) in w.iter_mut().zip(f) {
                        *w *= f;
                    }
                }
            },
        );
        Cow::Owned(out)
    }

    /// The transposed weight `[I, out]` with its rows scaled by the factors of a group.
    fn scaled_rows<'a, T: Real>(&self, w: &'a [T], factors: Option<&[T]>, group: usize) -> Cow<'a, [T]> {
        let Some(f) = factors else { return Cow::Borrowed(w) };
        let mut out = w.to_vec();
        for (w, &f) in out.chunks_exact_mut(self.o).zip(&f[group * self.i..]) {
            for w in w {
                *w *= f;
            }
        }
        Cow::Owned(out)
    }

    /// `see` gets each block while it is in cache, and its first row.
    pub(super) fn forward<T: Real, S: Send>(
        &self,
        x: &Input<T>,
        w: &[T],
        factors: Option<&[T]>,
        y: &mut [T],
        init: impl Fn() -> S + Sync,
        see: impl Fn(&mut S, &mut [T], usize) + Sync,
    ) -> Vec<S> {
        let Self { i, o, .. } = *self;
        let (group, part, block) = (self.group(), self.part(), self.block());
        let w = &transposed(w, i)[..];
        y.par_chunks_mut(group * o)
            .enumerate()
            .flat_map(|(g, y)| {
                let (init, see) = (&init, &see);
                y.par_chunks_mut(part * o).enumerate().map(move |(p, y)| {
                    let w = self.scaled_rows(w, factors, g);
                    let w = Mat::new(&w, i, o, o);
                    let mut seen = init();
                    let (mut first, mut room) = (g * group + p * part, Buf::stale(0));
                    for y in y.chunks_mut(block * o) {
                        let rows = y.len() / o;
                        let x = x.positions(first, rows, i, &mut room);
                        matmul(y, o, Mat::new(x, rows, i, i), w, false);
                        see(&mut seen, y, first);
                        first += rows;
                    }
                    seen
                })
            })
            .collect()
    }

    /// Gradients of input, kernel and gate, given that of the result.
    pub(super) fn backward<T: Real>(
        &self,
        flow: &mut Flow<'_, T>,
        (x_id, x): (Option<usize>, Input<T>),
        kernel: &Kernel,
        gate: Option<GateRun<T>>,
        gradient: &Gradient<'_, T>,
    ) -> Result<()> {
        let Self { i, o, .. } = *self;
        let (group, part, block) = (self.group(), self.part(), self.block());
        let w = kernel.fetch::<T>()?;
        let factors = gate.as_ref().map(|g| &g.factors[..]);
        let (mut dx, adds) = flow.start(x_id, self.rows * i);
        // A gate's gradient is made from that of the scaled weight.
        let weights = flow.wanted.parameters() || gate.is_some();
        // Its transpose where that fills the vectors better.
        let across = i * o.next_multiple_of(LANES) < o * i.next_multiple_of(LANES);
        let empty = dx.is_empty();
        // Parts of the input gradient; none for an input that takes no gradient.
        let dx_parts: Vec<Option<&mut [T]>> = if empty {
            (0..self.groups * group.div_ceil(part)).map(|_| None).collect()
        } else {
            dx.chunks_mut(group * i).flat_map(|dx| dx.chunks_mut(part * i)).map(Some).collect()
        };
        let per_group = group.div_ceil(part);
        let parts: Vec<(Buf<T>, Vec<T>)> = dx_parts
            .into_par_iter()
            .enumerate()
            .map(|(p, mut dx)| {
                let g = p / per_group;
                let start = g * group + (p % per_group) * part;
                let end = (start + part).min((g + 1) * group);
                let scaled = self.scaled(&w, factors, g);
                let matrix = Mat::new(&scaled, o, i, i);
                let mut dw = Buf::stale(if weights { o * i } else { 0 });
                let mut room = [Buf::stale(0), Buf::stale(0)];
                let [of_y, of_x] = &mut room;
                for first in (start..end).step_by(block) {
                    let rows = block.min(end - first);
                    let dy = Mat::new(gradient.positions(first, rows, of_y), rows, o, o);
                    if let Some(dx) = &mut dx {
                        matmul(&mut dx[(first - start) * i..], i, dy, matrix, adds);
                    }
                    if weights {
                        let x = Mat::new(x.positions(first, rows, i, of_x), rows, i, i);
                        if across {
                            matmul(&mut dw, o, x.t(), dy, first > start);
                        } else {
                            matmul(&mut dw, i, dy.t(), x, first > start);
                        }
                    }
                }
                if across && weights {
                    let whole = transposed(&dw, o);
                    dw.copy_from_slice(&whole);
                }
                let mut df = vec![T::zero(); if factors.is_some() { i } else { 0 }];
                if let Some(f) = factors {
                    let f = &f[g * i..][..i];
                    simd(
                        #[inline(always)]
                        || ungate(&mut dw, &w, f, &mut df),
                    );
                }
                (dw, df)
            })
            .collect();
        if weights {
            kernel.add_gradient(flow, &sum_parts(&parts))?;
        }
        if let Some(gate) = gate {
            let mut df = vec![T::zero(); self.groups * i];
            for (df, parts) in df.chunks_exact_mut(i).zip(parts.chunks(per_group)) {
                for (_, part) in parts {
                    add(df, part);
                }
            }
            let pooled = gate.backward(flow, &df, group)?;
            if !empty {
                dx.par_chunks_mut(group * i).zip(pooled.par_chunks(i)).for_each(|(dx, p)| {
                    dx.par_chunks_mut(64 * i).for_each(|dx| {
                        simd(
                            #[inline(always)]
                            || dx.chunks_exact_mut(i).for_each(|dx| add(dx, p)),
                        );
                    });
                });
            }
        }
        if !empty {
            flow.put(x_id, dx);
        }
        Ok(())
    }
}

/// Turns `g` into the gradient before the activation.
pub(super) fn sums<T: Real>(y: &[T], g: &mut [T], affine: &Affine<T>, r: Option<&[T]>, act: Activation) -> Sums {
    let o = affine.scale.len();
    let (part, block) = (part_len(y.len() / o) * o, BLOCK * o);
    let parts: Vec<Sums> = g
        .par_chunks_mut(part)
        .zip(y.par_chunks(part))
        .enumerate()
        .map(|(p, (g, y))| {
            let mut up = SumUp::new(affine);
            for (b, (g, y)) in g.chunks_mut(block).zip(y.chunks(block)).enumerate() {
                if act == Activation::Identity {
                    up.block(y, g);
                } else {
                    let r = r.map(|r| &r[p * part + b * block..][..y.len()]);
                    up.block_before_act(y, g, affine, r, act);
                }
            }
            up.total
        })
        .collect();
    Sums::total(&parts, o)
}

/// Turns the gradient of the scaled weight into that of the weight, and adds that of the factors to `df`.
#[inline(always)]
fn ungate<T: Real>(dw: &mut [T], w: &[T], f: &[T], df: &mut [T]) {
    let i = f.len();
    let df = &mut df[..i];
    for (dw, w) in dw.chunks_exact_mut(i).zip(w.chunks_exact(i)) {
        for c in 0..i {
            df[c] = w[c].fma(dw[c], df[c]);
            dw[c] *= f[c];
        }
    }
}

/// Adds up parts in their order.
fn sum_parts<T: Real>(parts: &[(Buf<T>, Vec<T>)]) -> Buf<T> {
    let mut sum = Buf::copy(&parts[0].0);
    sum.par_chunks_mut(GRAIN).enumerate().for_each(|(k, sum)| {
        for (part, _) in &parts[1..] {
            let part = &part[k * GRAIN..][..sum.len()];
            simd(
                #[inline(always)]
                || add(sum, part),
            );
        }
    });
    sum
}

/// A gate that ran forward on `n` images.
pub(super) struct GateRun<T> {
    gate: Gate,
    c: usize,
    /// `[n, C]`, `[n, squeezed]`, `[n, C]` before and after the hard sigmoid.
    pooled: Vec<T>,
    hidden: Vec<T>,
    open: Vec<T>,
    factors: Vec<T>,
}

impl<T: Real> GateRun<T> {
    fn new(gate: &Gate, x: &Value<T>) -> Result<Self> {
        let [n, h, w, c] = x.dims;
        let scale = T::of(1.0 / (h * w) as f64);
        let mut pooled = image_sums(x.data(), None, n, c);
        for p in &mut pooled {
            *p *= scale;
        }
        let hidden = dense(&gate.reduce, &pooled, gate.squeezed, c, crate::act::Relu::f)?;
        let open = dense(&gate.expand, &hidden, c, gate.squeezed, |v| v)?;
        let factors = open.iter().map(|&v| crate::act::HardSigmoid::f(v)).collect();
        Ok(Self { gate: gate.clone(), c, pooled, hidden, open, factors })
    }

    /// Adds the gradients of the dense layers; gives that of each position, `[n, C]`.
    fn backward(&self, flow: &mut Flow<'_, T>, df: &[T], positions: usize) -> Result<Vec<T>> {
        let (c, mid) = (self.c, self.gate.squeezed);
        let open: Vec<T> = df.iter().zip(&self.open).map(|(&d, &v)| d * crate::act::HardSigmoid::df(v)).collect();
        let mut hidden = dense_backward(flow, &self.gate.expand, &self.hidden, &open, c, mid)?;
        for (d, &h) in hidden.iter_mut().zip(&self.hidden) {
            *d *= crate::act::Relu::df(h);
        }
        let mut pooled = dense_backward(flow, &self.gate.reduce, &self.pooled, &hidden, mid, c)?;
        let scale = T::of(1.0 / positions as f64);
        for p in &mut pooled {
            *p *= scale;
        }
        Ok(pooled)
    }
}

/// `f(x w^T + b)` with the first rows and columns of the weight.
fn dense<T: Real>((w, b): &(Weight, Weight), x: &[T], o: usize, i: usize, f: impl Fn(T) -> T) -> Result<Vec<T>> {
    let matrix = Kernel::new(w, o, i, 1)?.fetch::<T>()?;
    let bias = prefix::<T>(b, o)?;
    let mut y = vec![T::zero(); x.len() / i * o];
    matmul(&mut y, o, Mat::new(x, x.len() / i, i, i), Mat::new(&transposed(&matrix, i), i, o, o), false);
    for y in y.chunks_exact_mut(o) {
        for (y, &b) in y.iter_mut().zip(&bias) {
            *y = f(*y + b);
        }
    }
    Ok(y)
}

fn dense_backward<T: Real>(
    flow: &mut Flow<'_, T>,
    (w, b): &(Weight, Weight),
    x: &[T],
    dy: &[T],
    o: usize,
    i: usize,
) -> Result<Vec<T>> {
    let n = x.len() / i;
    let kernel = Kernel::new(w, o, i, 1)?;
    let matrix = kernel.fetch::<T>()?;
    let (mut dw, mut dx) = (vec![T::zero(); o * i], vec![T::zero(); n * i]);
    matmul(&mut dw, i, Mat::new(dy, n, o, o).t(), Mat::new(x, n, i, i), false);
    kernel.add_gradient(flow, &dw)?;
    let db = flow.of(b)?;
    for dy in dy.chunks_exact(o) {
        add(&mut db[..o], dy);
    }
    matmul(&mut dx, i, Mat::new(dy, n, o, o), Mat::new(&matrix, o, i, i), false);
    Ok(dx)
}
