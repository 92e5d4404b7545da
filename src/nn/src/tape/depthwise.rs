//! The searchable multi-scale unit: depthwise convolutions of several sizes, the mean of their batch norms, an activation.

use std::sync::Arc;

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::norm::{Affine, Sums, join};
use super::pointwise::{See, norm_gradient, total};
use super::{Flow, Norm, Recipe, Tape, Value, Weight};
use crate::act::{Act, by_act};
use crate::gemm::{Mat, matmul};
use crate::kernel::{part_len, simd, with_data};
use crate::ops::Activation;
use crate::ops::batch_norm::add_wide;
use crate::ops::depthwise_kernel::Geometry;
use crate::pool::Buf;
use crate::real::Real;

/// Rows handled at once by the elementwise passes.
const BLOCK: usize = 32;

/// One kernel size of a multi-scale unit.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Odd side of the kernel.
    pub kernel: usize,
    /// `[k k, k k]`: what the flattened centre crop of the shared tensor is multiplied by.
    pub transform: Weight,
    /// Its batch norm.
    pub norm: Norm,
}

impl<T: Real> Tape<T> {
    /// `act(mean over the branches of norm(depthwise(x)))` with the first channels of the shared tensor `w` `[C, 1, K, K]`
    /// (thesis equation 3.1).
    ///
    /// # Errors
    /// When shapes or dtypes do not fit, or there is no branch.
    pub fn multi_scale(
        &mut self,
        x: &Value<T>,
        w: &Weight,
        branches: &[Branch],
        stride: usize,
        act: Activation,
    ) -> Result<Value<T>> {
        let [n, h, wd, c] = x.dims;
        if branches.is_empty() || stride == 0 {
            bail!("tape: `{}`: {} branches, stride {stride}", w.name, branches.len())
        }
        let share = 1.0 / branches.len() as f64;
        let crops = branches.iter().map(|b| Crop::new(w, b, c)).collect::<Result<Vec<_>>>()?;
        let kernels = crops.iter().map(Crop::kernel::<T>).collect::<Result<Vec<_>>>()?;
        let geometry = |k: usize| Geometry { n, h, w: wd, c, k, s: stride, d: 1 };
        let geometries: Vec<Geometry> = branches.iter().map(|b| geometry(b.kernel)).collect();
        let (ho, wo) = (geometries[0].ho(), geometries[0].wo());
        let dims = [n, ho, wo, c];
        let fixed = branches.iter().map(|b| Affine::<T>::fixed(&b.norm, c, share)).collect::<Result<Vec<_>>>()?;
        if let Some(affine) = fixed.into_iter().collect::<Option<Vec<_>>>() {
            // All is linear: one kernel does the work of all.
            let (side, merged) = merge(&crops, &kernels, &affine);
            let shift = shifts(&affine);
            let mut y = Buf::stale(n * ho * wo * c);
            geometry(side).forward_into(
                &x.data,
                &merged,
                &mut y,
                || (),
                |(), y| {
                    by_act!(act, A => simd(#[inline(always)] || shifted::<T, A>(y, &shift)));
                },
            );
            return Ok(self.value(dims, y, None));
        }
        let mut convolved: Vec<Buf<T>> = branches.iter().map(|_| Buf::stale(n * ho * wo * c)).collect();
        let part = part_len(n * ho);
        let seen: Vec<Vec<See<T>>> = transposed(&mut convolved, part * wo * c)
            .into_par_iter()
            .enumerate()
            .map(|(p, mut ys)| {
                let mut seen: Vec<See<T>> = ys.iter().map(|_| See::new(c)).collect();
                for r in 0..ys[0].len() / (wo * c) {
                    for (b, y) in ys.iter_mut().enumerate() {
                        let y = &mut y[r * wo * c..][..wo * c];
                        geometries[b].forward_row(&x.data, &kernels[b], p * part + r, y);
                        seen[b].rows(y);
                    }
                }
                seen
            })
            .collect();
        let mut moments: Vec<Vec<_>> = branches.iter().map(|_| Vec::new()).collect();
        for part in seen {
            for (list, see) in moments.iter_mut().zip(part) {
                list.push(see.total);
            }
        }
        let affine = branches
            .iter()
            .zip(moments)
            .map(|(b, m)| Affine::batch(self, &b.norm, join(m), share))
            .collect::<Result<Vec<_>>>()?;
        let (convolved, affine) = (Arc::new(convolved), Arc::new(affine));
        let recipe: Recipe<T> = {
            let (convolved, affine) = (convolved.clone(), affine.clone());
            Arc::new(move || {
                let mut z = Buf::stale(convolved[0].len());
                let shift = shifts(&affine);
                z.par_chunks_mut(BLOCK * c).enumerate().for_each(|(b, z)| {
                    mix(z, &convolved, &affine, &shift, b * BLOCK * c);
                    by_act!(act, A => simd(#[inline(always)] || z.iter_mut().for_each(|z| *z = A::f(*z))));
                });
                z
            })
        };
        let value = recipe();
        if !self.recording {
            return Ok(self.value(dims, value, None));
        }
        let out = self.value(dims, value, Some(recipe));
        let (id, x_id, saved) = (out.id, x.id, x.saved());
        self.record(move |flow| {
            let Some(mut g) = flow.take(id) else { return Ok(()) };
            let mut convolved =
                Arc::try_unwrap(convolved).unwrap_or_else(|shared| shared.iter().map(|d| Buf::copy(d)).collect());
            let sums = all_sums(&convolved, &mut g, &affine, act);
            let corrections =
                affine.iter().zip(&sums).map(|(a, s)| a.correction(flow, s)).collect::<Result<Vec<_>>>()?;
            transposed(&mut convolved, BLOCK * c).into_par_iter().zip(g.par_chunks(BLOCK * c)).for_each(|(ds, g)| {
                for (d, (a, (k0, k1))) in ds.into_iter().zip(affine.iter().zip(&corrections)) {
                    simd(
                        #[inline(always)]
                        || norm_gradient(d, g, &a.scale, k0, k1),
                    );
                }
            });
            drop(g);
            let x = saved.get();
            for (b, dy) in convolved.iter().enumerate() {
                let dw = geometries[b].weight_gradient(&x, dy);
                crops[b].backward(flow, &dw)?;
            }
            drop(x);
            if x_id.is_some() {
                let (mut dx, mut adds) = flow.start(x_id, n * h * wd * c);
                for (b, dy) in convolved.into_iter().enumerate() {
                    geometries[b].input_gradient_into(&dy, &kernels[b], &mut dx, adds);
                    adds = true;
                }
                flow.put(x_id, dx);
            }
            Ok(())
        });
        Ok(out)
    }
}

/// Chunk `i` of every buffer, for each `i`.
fn transposed<T: Real>(bufs: &mut [Buf<T>], len: usize) -> Vec<Vec<&mut [T]>> {
    let mut out: Vec<Vec<&mut [T]>> = Vec::new();
    for buf in bufs {
        for (i, chunk) in buf.chunks_mut(len).enumerate() {
            if out.len() == i {
                out.push(Vec::new());
            }
            out[i].push(chunk);
        }
    }
    out
}

fn shifts<T: Real>(affine: &[Affine<T>]) -> Vec<T> {
    (0..affine[0].shift.len()).map(|i| T::of(affine.iter().map(|a| a.shift[i].wide()).sum())).collect()
}

/// `z = shift + sum of scale * d` over some values from `first` on.
fn mix<T: Real>(z: &mut [T], ds: &[Buf<T>], affine: &[Affine<T>], shift: &[T], first: usize) {
    let c = shift.len();
    for (b, (d, a)) in ds.iter().zip(affine).enumerate() {
        let d = &d[first..][..z.len()];
        let start = if b == 0 { Some(shift) } else { None };
        simd(
            #[inline(always)]
            || mix_rows(z, d, &a.scale[..c], start),
        );
    }
}

#[inline(always)]
fn mix_rows<T: Real>(z: &mut [T], d: &[T], scale: &[T], start: Option<&[T]>) {
    let c = scale.len();
    if let Some(start) = start {
        let start = &start[..c];
        for (z, d) in z.chunks_exact_mut(c).zip(d.chunks_exact(c)) {
            for i in 0..c {
                z[i] = d[i].fma(scale[i], start[i]);
            }
        }
    } else {
        for (z, d) in z.chunks_exact_mut(c).zip(d.chunks_exact(c)) {
            for i in 0..c {
                z[i] = d[i].fma(scale[i], z[i]);
            }
        }
    }
}

#[inline(always)]
fn shifted<T: Real, A: Act>(y: &mut [T], shift: &[T]) {
    for y in y.chunks_exact_mut(shift.len()) {
        for (y, &t) in y.iter_mut().zip(shift) {
            *y = A::f(*y + t);
        }
    }
}

/// Turns `g` into the gradient before the activation; gives its sums with every branch.
fn all_sums<T: Real>(ds: &[Buf<T>], g: &mut [T], affine: &[Affine<T>], act: Activation) -> Vec<Sums> {
    let (c, shift) = (affine[0].scale.len(), shifts(affine));
    let means: Vec<Vec<T>> = affine.iter().map(Affine::mean).collect();
    let part = part_len(g.len() / c) * c;
    let parts: Vec<Vec<Sums>> = g
        .par_chunks_mut(part)
        .enumerate()
        .map(|(p, g)| {
            let none = || Sums { sum: vec![0.0; c], dot: vec![0.0; c] };
            let mut totals: Vec<Sums> = ds.iter().map(|_| none()).collect();
            let (mut z, mut s) = (vec![T::zero(); BLOCK * c], vec![T::zero(); c]);
            for (b, g) in g.chunks_mut(BLOCK * c).enumerate() {
                let first = p * part + b * BLOCK * c;
                if act != Activation::Identity {
                    let z = &mut z[..g.len()];
                    mix(z, ds, affine, &shift, first);
                    by_act!(act, A => simd(#[inline(always)] || {
                        for (g, &z) in g.iter_mut().zip(z.iter()) {
                            *g *= A::df(z);
                        }
                    }));
                }
                simd(
                    #[inline(always)]
                    || column_sums(g, &mut s),
                );
                for total in &mut totals {
                    add_wide(&mut total.sum, &s);
                }
                for ((total, d), mean) in totals.iter_mut().zip(ds).zip(&means) {
                    let d = &d[first..][..g.len()];
                    simd(
                        #[inline(always)]
                        || centred_dot(g, d, mean, &mut s),
                    );
                    add_wide(&mut total.dot, &s);
                }
            }
            totals
        })
        .collect();
    let mut lists: Vec<Vec<Sums>> = ds.iter().map(|_| Vec::new()).collect();
    for part in parts {
        for (list, sums) in lists.iter_mut().zip(part) {
            list.push(sums);
        }
    }
    lists.into_iter().map(|l| total(l, c)).collect()
}

#[inline(always)]
fn column_sums<T: Real>(g: &[T], sum: &mut [T]) {
    let c = sum.len();
    sum.fill(T::zero());
    for g in g.chunks_exact(c) {
        for (s, &g) in sum.iter_mut().zip(g) {
            *s += g;
        }
    }
}

#[inline(always)]
fn centred_dot<T: Real>(g: &[T], d: &[T], mean: &[T], dot: &mut [T]) {
    let c = mean.len();
    let dot = &mut dot[..c];
    dot.fill(T::zero());
    for (g, d) in g.chunks_exact(c).zip(d.chunks_exact(c)) {
        for i in 0..c {
            dot[i] = g[i].fma(d[i] - mean[i], dot[i]);
        }
    }
}

/// Where a branch reads the shared tensor.
struct Crop {
    full: Weight,
    transform: Weight,
    c: usize,
    k: usize,
    side: usize,
}

impl Crop {
    fn new(full: &Weight, branch: &Branch, c: usize) -> Result<Self> {
        let (k, area) = (branch.kernel, branch.kernel * branch.kernel);
        let side = match full.tensor.dims() {
            &[o, 1, side, other] if o >= c && side == other && side % 2 == 1 && side >= k && k % 2 == 1 => side,
            d => bail!("tape: `{}` of shape {d:?} holds no [{c}, 1, {k}, {k}] in its centre", full.name),
        };
        if branch.transform.tensor.dims() != [area, area] {
            bail!(
                "tape: `{}` has shape {:?}, not [{area}, {area}]",
                branch.transform.name,
                branch.transform.tensor.dims()
            )
        }
        Ok(Self { full: full.clone(), transform: branch.transform.clone(), c, k, side })
    }

    /// Offset of the first of row `y` of the crop of channel `c`.
    fn row(&self, c: usize, y: usize) -> usize {
        let margin = (self.side - self.k) / 2;
        (c * self.side + margin + y) * self.side + margin
    }

    /// `[C, k k]`
    fn crop<T: Real>(&self) -> Result<Vec<T>> {
        with_data::<T, _>(&self.full.tensor, |full| {
            let mut out = Vec::with_capacity(self.c * self.k * self.k);
            for c in 0..self.c {
                for y in 0..self.k {
                    out.extend_from_slice(&full[self.row(c, y)..][..self.k]);
                }
            }
            out
        })
    }

    /// The transformed kernel, `[k k, C]`.
    fn kernel<T: Real>(&self) -> Result<Vec<T>> {
        let (crop, area) = (self.crop::<T>()?, self.k * self.k);
        let mut out = vec![T::zero(); area * self.c];
        with_data::<T, _>(&self.transform.tensor, |t| {
            matmul(&mut out, self.c, Mat::new(t, area, area, area), Mat::new(&crop, self.c, area, area).t(), false);
        })?;
        Ok(out)
    }

    /// Adds the gradients of the shared tensor and of the transform.
    fn backward<T: Real>(&self, flow: &mut Flow<'_, T>, dw: &[T]) -> Result<()> {
        let (crop, area, c) = (self.crop::<T>()?, self.k * self.k, self.c);
        let mut dcrop = vec![T::zero(); c * area];
        with_data::<T, _>(&self.transform.tensor, |t| {
            matmul(&mut dcrop, area, Mat::new(dw, area, c, c).t(), Mat::new(t, area, area, area), false);
        })?;
        matmul(flow.of(&self.transform)?, area, Mat::new(dw, area, c, c), Mat::new(&crop, c, area, area), true);
        let to = flow.of(&self.full)?;
        for (row, d) in dcrop.chunks_exact(self.k).enumerate() {
            let at = self.row(row / self.k, row % self.k);
            super::add(&mut to[at..at + self.k], d);
        }
        Ok(())
    }
}

/// The largest kernel's side, and the sum of the scaled kernels in it, `[k k, C]`.
fn merge<T: Real>(crops: &[Crop], kernels: &[Vec<T>], affine: &[Affine<T>]) -> (usize, Vec<T>) {
    let side = crops.iter().map(|c| c.k).max().unwrap_or(1);
    let c = affine[0].scale.len();
    let mut out = vec![T::zero(); side * side * c];
    for ((crop, kernel), a) in crops.iter().zip(kernels).zip(affine) {
        let (k, margin) = (crop.k, (side - crop.k) / 2);
        for (t, taps) in kernel.chunks_exact(c).enumerate() {
            let to = ((t / k + margin) * side + t % k + margin) * c;
            for ((o, &w), &s) in out[to..][..c].iter_mut().zip(taps).zip(&a.scale) {
                *o += w * s;
            }
        }
    }
    (side, out)
}
