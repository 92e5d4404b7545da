//! Scalar losses; the gradient reaches the prediction only.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::composite;
use crate::kernel::{GRAIN, alike, by_dtype, output, read, simd, tensor, with_data};
use crate::real::Real;

/// Mean binary cross entropy of probabilities, as PyTorch's `BCELoss`:
/// `mean(-y max(ln p, -100) - (1 - y) max(ln(1 - p), -100))`, a scalar.
///
/// `p` and `label` have one shape, values in `[0, 1]`. The gradient of `p` is
/// `(p - y) / max(p (1 - p), 1e-12) / n`; `label` gets none.
///
/// # Errors
/// When shapes, dtypes or devices differ, or there are no elements.
pub fn bce_loss(p: &Tensor, label: &Tensor) -> Result<Tensor> {
    loss("bce_loss", p, label, Kind::Bce)
}

/// Mean squared error `mean((p - target)^2)`, a scalar. The gradient of `p` is
/// `2 (p - target) / n`; `target` gets none.
///
/// # Errors
/// When shapes, dtypes or devices differ, or there are no elements.
pub fn mse_loss(p: &Tensor, target: &Tensor) -> Result<Tensor> {
    loss("mse_loss", p, target, Kind::Mse)
}

fn loss(op: &str, p: &Tensor, y: &Tensor, kind: Kind) -> Result<Tensor> {
    if p.dims() != y.dims() || p.elem_count() == 0 {
        bail!("{op}: prediction of shape {:?}, target of shape {:?}", p.dims(), y.dims())
    }
    alike(op, p, y)?;
    match kind {
        _ if p.device().is_cpu() => p.apply_op2(&y.detach(), kind),
        Kind::Bce => composite::bce_loss(p, y),
        Kind::Mse => composite::mse_loss(p, y),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Bce,
    Mse,
}

impl Kind {
    #[inline(always)]
    fn value<T: Real>(self, p: T, y: T) -> f64 {
        match self {
            Self::Bce => {
                let floor = |v: T| if v < T::of(-100.0) { T::of(-100.0) } else { v };
                let (a, b) = (floor(p.log()), floor((T::one() - p).log()));
                ((y - T::one()) * b - y * a).wide()
            }
            Self::Mse => ((p - y) * (p - y)).wide(),
        }
    }

    #[inline(always)]
    fn slope<T: Real>(self, p: T, y: T) -> T {
        match self {
            Self::Bce => {
                let v = p * (T::one() - p);
                (p - y) / if v < T::of(1e-12) { T::of(1e-12) } else { v }
            }
            Self::Mse => T::of(2.0) * (p - y),
        }
    }
}

impl Kind {
    fn gradient<T: Real>(self, p: &[T], y: &[T], scale: T) -> Vec<T> {
        let mut dp = vec![T::zero(); p.len()];
        dp.par_chunks_mut(GRAIN).zip(p.par_chunks(GRAIN).zip(y.par_chunks(GRAIN))).for_each(|(dp, (p, y))| {
            simd(
                #[inline(always)]
                || {
                    for (dp, (&p, &y)) in dp.iter_mut().zip(p.iter().zip(y)) {
                        *dp = self.slope(p, y) * scale;
                    }
                },
            );
        });
        dp
    }
}

impl CustomOp2 for Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Bce => "bce_loss",
            Self::Mse => "mse_loss",
        }
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(s1.dtype(), self.name(), T => {
            let (p, y) = (read::<T>(s1, l1)?, read::<T>(s2, l2)?);
            let parts: Vec<f64> = p
                .par_chunks(GRAIN)
                .zip(y.par_chunks(GRAIN))
                .map(|(p, y)| p.iter().zip(y).map(|(&p, &y)| self.value(p, y)).sum())
                .collect();
            Ok(output(vec![T::of(parts.iter().sum::<f64>() / p.len() as f64)], ()))
        })
    }

    fn bwd(&self, p: &Tensor, y: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        by_dtype!(p.dtype(), self.name(), T => {
            let scale = T::of(g.to_scalar::<T>()?.wide() / p.elem_count() as f64);
            let dp = with_data::<T, _>(p, |p| {
                with_data::<T, _>(y, |y| {
                    self.gradient(p, y, scale)
                })
            })??;
            Ok((Some(tensor(dp, p.shape())?), None))
        })
    }
}
