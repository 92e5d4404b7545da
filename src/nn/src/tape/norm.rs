//! Batch norm as an affine map of each channel, and the way back through its statistics.

use candle_core::{Result, bail};

use super::passes::wide;
use super::{Flow, Norm, Tape, add, prefix};
use crate::kernel::{tensor, with_data};
use crate::ops::BatchStats;
use crate::ops::batch_norm::Moments;
use crate::real::Real;

/// `z = scale * y + shift` of each channel, with what the way back needs.
#[derive(Clone)]
pub(super) struct Affine<T> {
    pub(super) scale: Vec<T>,
    pub(super) shift: Vec<T>,
    /// Both as passes over rows read them.
    pub(super) wide_scale: Vec<T>,
    pub(super) wide_shift: Vec<T>,
    mean: Vec<f64>,
    inv: Vec<f64>,
    /// Values per channel.
    n: usize,
    norm: Norm,
    /// Part of the branch in the sum it belongs to.
    share: f64,
}

/// Sums over the values of each channel.
pub(super) struct Sums {
    /// Of `dz`.
    pub(super) sum: Vec<f64>,
    /// Of `dz * (y - mean)`.
    pub(super) dot: Vec<f64>,
}

impl Sums {
    pub(super) fn new(c: usize) -> Self {
        Self { sum: vec![0.0; c], dot: vec![0.0; c] }
    }

    /// Adds up parts in their order.
    pub(super) fn total(parts: &[Self], c: usize) -> Self {
        let mut total = Self::new(c);
        for part in parts {
            total.add(part);
        }
        total
    }

    /// As [`Sums::total`], of several norms each.
    pub(super) fn totals(parts: &[Vec<Self>], norms: usize, c: usize) -> Vec<Self> {
        let mut totals: Vec<Self> = (0..norms).map(|_| Self::new(c)).collect();
        for part in parts {
            for (total, part) in totals.iter_mut().zip(part) {
                total.add(part);
            }
        }
        totals
    }

    fn add(&mut self, part: &Self) {
        add(&mut self.sum, &part.sum);
        add(&mut self.dot, &part.dot);
    }
}

impl<T: Real> Affine<T> {
    pub(super) fn fixed(norm: &Norm, c: usize, share: f64) -> Result<Option<Self>> {
        let Some((mean, var)) = &norm.fixed else { return Ok(None) };
        let wide = |t| with_data::<T, _>(t, |v| v.iter().take(c).map(|v| v.wide()).collect::<Vec<_>>());
        Self::new(norm, wide(mean)?, &wide(var)?, 0, share).map(Some)
    }

    /// With the statistics of the batch, which the tape notes.
    pub(super) fn batch(tape: &mut Tape<T>, norm: &Norm, moments: Moments, share: f64) -> Result<Self> {
        let (n, c) = (moments.n, moments.mean.len());
        if n == 1 {
            bail!("tape: `{}` normalises one value per channel", norm.name)
        }
        let var: Vec<f64> = moments.m2.iter().map(|v| v / n as f64).collect();
        let unbiased = moments.m2.iter().map(|v| T::of(v / (n - 1) as f64)).collect::<Vec<T>>();
        let mean = moments.mean.iter().map(|&v| T::of(v)).collect::<Vec<T>>();
        tape.seen.push((norm.name.clone(), BatchStats { mean: tensor(mean, c)?, var: tensor(unbiased, c)? }));
        Self::new(norm, moments.mean, &var, n, share)
    }

    fn new(norm: &Norm, mean: Vec<f64>, var: &[f64], n: usize, share: f64) -> Result<Self> {
        let inv: Vec<f64> = var.iter().map(|v| 1.0 / (v + norm.eps).sqrt()).collect();
        let affine = match &norm.affine {
            Some((gamma, beta)) => Some((prefix::<T>(gamma, mean.len())?, prefix::<T>(beta, mean.len())?)),
            None => None,
        };
        let (scale, shift): (Vec<T>, Vec<T>) = (0..mean.len())
            .map(|i| {
                let (gamma, beta) = affine.as_ref().map_or((1.0, 0.0), |(g, b)| (g[i].wide(), b[i].wide()));
                let scale = gamma * inv[i] * share;
                (T::of(scale), T::of(beta * share - mean[i] * scale))
            })
            .unzip();
        let (wide_scale, wide_shift) = (wide(&scale), wide(&shift));
        Ok(Self { scale, shift, wide_scale, wide_shift, mean, inv, n, norm: norm.clone(), share })
    }

    /// Adds the gradients of gamma and beta; gives `k0`, `k1` with `dy = scale * dz + k0 - k1 * y`.
    pub(super) fn correction(&self, flow: &mut Flow<'_, T>, sums: &Sums) -> Result<(Vec<T>, Vec<T>)> {
        let c = self.scale.len();
        let centred = &sums.dot;
        if let Some((gamma, beta)) = self.norm.affine.as_ref().filter(|_| flow.wanted.parameters()) {
            let dgamma: Vec<T> = (0..c).map(|i| T::of(centred[i] * self.inv[i] * self.share)).collect();
            let dbeta: Vec<T> = sums.sum.iter().map(|s| T::of(s * self.share)).collect();
            add(flow.of(gamma)?, &dgamma);
            add(flow.of(beta)?, &dbeta);
        }
        Ok((0..c)
            .map(|i| {
                let s = self.scale[i].wide() / self.n as f64;
                let k1 = s * self.inv[i] * self.inv[i] * centred[i];
                (T::of(self.mean[i] * k1 - s * sums.sum[i]), T::of(k1))
            })
            .unzip())
    }

    /// Derivative of the loss by the share, given the sums of the gradient of the shared result.
    pub(super) fn share_gradient(&self, sums: &Sums) -> Result<f64> {
        let c = self.scale.len();
        let affine = match &self.norm.affine {
            Some((gamma, beta)) => Some((prefix::<T>(gamma, c)?, prefix::<T>(beta, c)?)),
            None => None,
        };
        Ok((0..c)
            .map(|i| {
                let (gamma, beta) = affine.as_ref().map_or((1.0, 0.0), |(g, b)| (g[i].wide(), b[i].wide()));
                gamma * self.inv[i] * sums.dot[i] + beta * sums.sum[i]
            })
            .sum())
    }

    pub(super) fn mean(&self) -> Vec<T> {
        self.mean.iter().map(|&v| T::of(v)).collect()
    }
}

/// Joins the moments of consecutive parts.
pub(super) fn join(parts: Vec<Moments>) -> Moments {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_else(|| Moments::new(0));
    for p in parts {
        total.join(p.n, p.mean.into_iter(), p.m2.into_iter());
    }
    total
}
