//! Batch normalisation fused with an activation.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{Activation, composite};
use crate::act::{Act, by_act};
use crate::kernel::{alike, by_dtype, channel_vector, nhwc, output, part_len, read, simd, tensor, with_data};
use crate::real::Real;

/// Rows summed in the type of the input before being added to a sum in `f64`.
const BLOCK: usize = 64;

/// Per-channel statistics of a batch; they carry no gradient.
#[derive(Clone, Debug)]
pub struct BatchStats {
    /// Mean over batch and positions, `[C]`.
    pub mean: Tensor,
    /// Unbiased variance over batch and positions, `[C]`.
    pub var: Tensor,
}

/// Batch normalisation with the statistics of the batch, then an activation.
///
/// `y = act(gamma * (x - mean) / sqrt(var + eps) + beta)` with `x` `[N, H, W, C]`,
/// `gamma` and `beta` `[C]`, and the *biased* variance. The gradient flows through the
/// statistics. The returned [`BatchStats`] holds the unbiased variance, ready for
/// PyTorch-like running averages.
///
/// # Errors
/// When shapes, dtypes or devices do not fit, or when there is one value per channel.
pub fn batch_norm_train(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    act: Activation,
) -> Result<(Tensor, BatchStats)> {
    let op = "batch_norm_train";
    let c = check(op, x, &[("gamma", gamma), ("beta", beta)])?;
    let n = x.elem_count() / c;
    if n == 1 {
        bail!("{op}: one value per channel in an input of shape {:?}", x.dims())
    }
    if !x.device().is_cpu() {
        return composite::batch_norm_train(x, gamma, beta, eps, act);
    }
    by_dtype!(x.dtype(), op, T => {
        let (mean, m2) = with_data::<T, _>(x, |x| stats(x, c))?;
        let var: Vec<f64> = m2.iter().map(|v| v / n as f64).collect();
        let unbiased = m2.iter().map(|v| T::of(v / (n - 1) as f64)).collect::<Vec<T>>();
        let stats = BatchStats {
            mean: tensor(mean.iter().map(|&v| T::of(v)).collect::<Vec<T>>(), c)?,
            var: tensor(unbiased, c)?,
        };
        let y = x.apply_op3(gamma, beta, BatchNorm::new(&mean, &var, eps, act, true))?;
        Ok((y, stats))
    })
}

/// Batch normalisation with given statistics, then an activation:
/// `y = act(gamma * (x - mean) / sqrt(var + eps) + beta)`.
///
/// Gradients reach `x`, `gamma` and `beta`; `mean` and `var` (`[C]`) are constants.
///
/// # Errors
/// When shapes, dtypes or devices do not fit.
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let op = "batch_norm_eval";
    check(op, x, &[("gamma", gamma), ("beta", beta), ("mean", mean), ("var", var)])?;
    if !x.device().is_cpu() {
        return composite::batch_norm_eval(x, gamma, beta, mean, var, eps, act);
    }
    by_dtype!(x.dtype(), op, T => {
        let wide = |t: &Tensor| with_data::<T, _>(t, |v| v.iter().map(|v| v.wide()).collect::<Vec<_>>());
        x.apply_op3(gamma, beta, BatchNorm::new(&wide(mean)?, &wide(var)?, eps, act, false))
    })
}

fn check(op: &str, x: &Tensor, vectors: &[(&str, &Tensor)]) -> Result<usize> {
    let (_, _, _, c) = nhwc(op, x)?;
    for (name, v) in vectors {
        channel_vector(op, name, v, c)?;
        alike(op, x, v)?;
    }
    Ok(c)
}

struct BatchNorm {
    mean: Vec<f64>,
    inv: Vec<f64>,
    act: Activation,
    train: bool,
}

impl BatchNorm {
    fn new(mean: &[f64], var: &[f64], eps: f64, act: Activation, train: bool) -> Self {
        let inv = var.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        Self { mean: mean.to_vec(), inv, act, train }
    }

    /// The affine map of each channel that precedes the activation.
    fn affine<T: Real>(&self, gamma: &[T], beta: &[T]) -> (Vec<T>, Vec<T>) {
        gamma
            .iter()
            .zip(beta)
            .zip(self.mean.iter().zip(&self.inv))
            .map(|((g, b), (mean, inv))| {
                let scale = g.wide() * inv;
                (T::of(scale), T::of(b.wide() - mean * scale))
            })
            .unzip()
    }

    fn gradients<T: Real>(&self, args: [&Tensor; 3], g: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let [x, gamma, beta] = args;
        let c = self.mean.len();
        let (scale, shift) =
            with_data::<T, _>(gamma, |gamma| with_data::<T, _>(beta, |beta| self.affine(gamma, beta)))??;
        let mean: Vec<T> = self.mean.iter().map(|&v| T::of(v)).collect();
        let affine = Affine { scale: &scale, shift: &shift, mean: &mean };
        let (dx, sum, dot) = with_data::<T, _>(x, |xs| {
            with_data::<T, _>(g, |gs| {
                by_act!(self.act, A => {
                    let (sum, dot) = sums::<T, A>(xs, gs, &affine);
                    let dx = x.track_op().then(|| {
                        let (k0, k1) = self.correction(&scale, &sum, &dot, xs.len() / c);
                        input_gradient::<T, A>(xs, gs, &affine, &k0, &k1)
                    });
                    (dx, sum, dot)
                })
            })
        })??;
        let dgamma: Vec<T> = dot.iter().zip(&self.inv).map(|(d, inv)| T::of(d * inv)).collect();
        let dbeta: Vec<T> = sum.iter().map(|&s| T::of(s)).collect();
        Ok([
            dx.map(|dx| tensor(dx, x.shape())).transpose()?,
            gamma.track_op().then(|| tensor(dgamma, c)).transpose()?,
            beta.track_op().then(|| tensor(dbeta, c)).transpose()?,
        ])
    }

    /// `k0`, `k1` with `dx = scale * dz + k0 - k1 * x`: the part of the gradient that
    /// flows through mean and variance; zero when they are constants.
    fn correction<T: Real>(&self, scale: &[T], sum: &[f64], dot: &[f64], n: usize) -> (Vec<T>, Vec<T>) {
        (0..scale.len())
            .map(|i| {
                if !self.train {
                    return (T::zero(), T::zero());
                }
                let s = scale[i].wide();
                let k1 = s * self.inv[i] * self.inv[i] * dot[i] / n as f64;
                (T::of(self.mean[i] * k1 - s * sum[i] / n as f64), T::of(k1))
            })
            .unzip()
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(s1.dtype(), "batch_norm", T => {
            let x = read::<T>(s1, l1)?;
            let (scale, shift) = self.affine(&read::<T>(s2, l2)?, &read::<T>(s3, l3)?);
            Ok(output(by_act!(self.act, A => fwd::<T, A>(&x, &scale, &shift)), l1.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        by_dtype!(x.dtype(), "batch_norm", T => {
            let [dx, dgamma, dbeta] = self.gradients::<T>([x, gamma, beta], g)?;
            Ok((dx, dgamma, dbeta))
        })
    }
}

struct Affine<'a, T> {
    scale: &'a [T],
    shift: &'a [T],
    mean: &'a [T],
}

/// Mean and sum of squared deviations of each channel. Blocks of rows that stay in
/// cache are reduced in two passes and joined by Chan's formula in `f64`.
fn stats<T: Real>(x: &[T], c: usize) -> (Vec<f64>, Vec<f64>) {
    let part = part_len(x.len() / c) * c;
    let parts: Vec<_> = x
        .par_chunks(part)
        .map(|x| {
            let mut total = Moments::new(c);
            let (mut sum, mut sq) = (vec![T::zero(); c], vec![T::zero(); c]);
            for block in x.chunks(BLOCK * c) {
                let rows = block.len() / c;
                simd(
                    #[inline(always)]
                    || block_moments(block, T::of(1.0 / rows as f64), &mut sum, &mut sq),
                );
                total.join(rows, sum.iter().map(|v| v.wide()), sq.iter().map(|v| v.wide()));
            }
            total
        })
        .collect();
    let mut total = Moments::new(c);
    for p in &parts {
        total.join(p.n, p.mean.iter().copied(), p.m2.iter().copied());
    }
    (total.mean, total.m2)
}

#[inline(always)]
pub(crate) fn block_moments<T: Real>(block: &[T], inv_rows: T, mean: &mut [T], sq: &mut [T]) {
    let c = mean.len();
    let sq = &mut sq[..c];
    mean.fill(T::zero());
    sq.fill(T::zero());
    for row in block.chunks_exact(c) {
        for (m, &x) in mean.iter_mut().zip(row) {
            *m += x;
        }
    }
    for m in mean.iter_mut() {
        *m *= inv_rows;
    }
    for row in block.chunks_exact(c) {
        for ((q, &m), &x) in sq.iter_mut().zip(mean.iter()).zip(row) {
            let d = x - m;
            *q = d.fma(d, *q);
        }
    }
}

pub(crate) struct Moments {
    pub(crate) n: usize,
    pub(crate) mean: Vec<f64>,
    /// Sum of squared deviations.
    pub(crate) m2: Vec<f64>,
}

impl Moments {
    pub(crate) fn new(c: usize) -> Self {
        Self { n: 0, mean: vec![0.0; c], m2: vec![0.0; c] }
    }

    /// Of the first `c` channels that all of these hold one after the other.
    pub(crate) fn of_channels(groups: impl Iterator<Item = Self>, c: usize) -> Self {
        let mut all = Self::new(0);
        for group in groups {
            all.n = group.n;
            all.mean.extend(group.mean);
            all.m2.extend(group.m2);
        }
        all.mean.truncate(c);
        all.m2.truncate(c);
        all
    }

    pub(crate) fn join(&mut self, n: usize, mean: impl Iterator<Item = f64>, m2: impl Iterator<Item = f64>) {
        let share = n as f64 / (self.n + n) as f64;
        let cross = share * self.n as f64;
        let mine = self.mean.iter_mut().zip(&mut self.m2);
        for ((a, qa), (b, qb)) in mine.zip(mean.zip(m2)) {
            let d = b - *a;
            *a += d * share;
            *qa += qb + d * d * cross;
        }
        self.n += n;
    }
}

fn fwd<T: Real, A: Act>(x: &[T], scale: &[T], shift: &[T]) -> Vec<T> {
    let c = scale.len();
    let mut y = vec![T::zero(); x.len()];
    y.par_chunks_mut(BLOCK * c).zip(x.par_chunks(BLOCK * c)).for_each(|(y, x)| {
        simd(
            #[inline(always)]
            || {
                let shift = &shift[..c];
                for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                    for i in 0..c {
                        y[i] = A::f(x[i].fma(scale[i], shift[i]));
                    }
                }
            },
        );
    });
    y
}

/// For each channel the sums of `dz` and of `dz * (x - mean)`, where `dz` is the
/// gradient before the activation.
fn sums<T: Real, A: Act>(x: &[T], g: &[T], affine: &Affine<'_, T>) -> (Vec<f64>, Vec<f64>) {
    let c = affine.scale.len();
    let part = part_len(x.len() / c) * c;
    let parts: Vec<_> = x
        .par_chunks(part)
        .zip(g.par_chunks(part))
        .map(|(x, g)| {
            let (mut sum, mut dot) = (vec![0.0; c], vec![0.0; c]);
            let (mut s, mut d) = (vec![T::zero(); c], vec![T::zero(); c]);
            for (x, g) in x.chunks(BLOCK * c).zip(g.chunks(BLOCK * c)) {
                simd(
                    #[inline(always)]
                    || block_sums::<T, A>(x, g, affine, &mut s, &mut d),
                );
                add_wide(&mut sum, &s);
                add_wide(&mut dot, &d);
            }
            (sum, dot)
        })
        .collect();
    let (mut sum, mut dot) = (vec![0.0; c], vec![0.0; c]);
    for (s, d) in &parts {
        add_wide(&mut sum, s);
        add_wide(&mut dot, d);
    }
    (sum, dot)
}

pub(crate) fn add_wide<T: Real>(to: &mut [f64], from: &[T]) {
    for (a, b) in to.iter_mut().zip(from) {
        *a += b.wide();
    }
}

#[inline(always)]
fn block_sums<T: Real, A: Act>(x: &[T], g: &[T], affine: &Affine<'_, T>, sum: &mut [T], dot: &mut [T]) {
    let c = sum.len();
    let (scale, shift, mean) = (&affine.scale[..c], &affine.shift[..c], &affine.mean[..c]);
    let dot = &mut dot[..c];
    sum.fill(T::zero());
    dot.fill(T::zero());
    for (x, g) in x.chunks_exact(c).zip(g.chunks_exact(c)) {
        for i in 0..c {
            let dz = g[i] * A::df(x[i].fma(scale[i], shift[i]));
            sum[i] += dz;
            dot[i] = dz.fma(x[i] - mean[i], dot[i]);
        }
    }
}

fn input_gradient<T: Real, A: Act>(x: &[T], g: &[T], affine: &Affine<'_, T>, k0: &[T], k1: &[T]) -> Vec<T> {
    let c = k0.len();
    let mut dx = vec![T::zero(); x.len()];
    dx.par_chunks_mut(BLOCK * c).zip(x.par_chunks(BLOCK * c)).zip(g.par_chunks(BLOCK * c)).for_each(|((dx, x), g)| {
        simd(
            #[inline(always)]
            || {
                let (scale, shift, k1) = (&affine.scale[..c], &affine.shift[..c], &k1[..c]);
                let rows = x.chunks_exact(c).zip(g.chunks_exact(c));
                for (dx, (x, g)) in dx.chunks_exact_mut(c).zip(rows) {
                    for i in 0..c {
                        let dz = g[i] * A::df(x[i].fma(scale[i], shift[i]));
                        dx[i] = scale[i].fma(dz, (T::zero() - k1[i]).fma(x[i], k0[i]));
                    }
                }
            },
        );
    });
    dx
}
