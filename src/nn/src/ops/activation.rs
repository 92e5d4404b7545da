//! Elementwise activation functions.

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::composite;
use crate::act::{Act, by_act};
use crate::kernel::{GRAIN, by_dtype, output, read, simd, tensor, with_data};
use crate::real::Real;

/// An elementwise non-linearity. Derivatives at kinks are zero, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`
    Identity,
    /// `max(0, x)`
    Relu,
    /// `min(6, max(0, x))`
    Relu6,
    /// `x * HardSigmoid(x)`
    HardSwish,
    /// `x * Sigmoid(x)`
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `max(0, min(1, x / 6 + 1 / 2))`
    HardSigmoid,
}

/// Applies `act` to each element of `x` (any shape).
///
/// # Errors
/// When the dtype is neither `f32` nor `f64`.
pub fn activation(x: &Tensor, act: Activation) -> Result<Tensor> {
    if act == Activation::Identity {
        return Ok(x.clone());
    }
    match x.device() {
        Device::Cpu => x.apply_op1(ActOp(act)),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) if x.dtype() == DType::F32 => crate::cuda::activation(x, act),
        _ => composite::activation(x, act),
    }
}

struct ActOp(Activation);

impl CustomOp1 for ActOp {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(s.dtype(), "activation", T => {
            let x = read::<T>(s, l)?;
            Ok(output(by_act!(self.0, A => fwd::<T, A>(&x)), l.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        by_dtype!(x.dtype(), "activation", T => {
            let dx = with_data::<T, _>(x, |x| {
                with_data::<T, _>(g, |g| by_act!(self.0, A => bwd::<T, A>(x, g)))
            })??;
            tensor(dx, x.shape()).map(Some)
        })
    }
}

fn fwd<T: Real, A: Act>(x: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); x.len()];
    y.par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN)).for_each(|(y, x)| {
        simd(
            #[inline(always)]
            || {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = A::f(x);
                }
            },
        );
    });
    y
}

fn bwd<T: Real, A: Act>(x: &[T], g: &[T]) -> Vec<T> {
    let mut dx = vec![T::zero(); x.len()];
    dx.par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN)).zip(g.par_chunks(GRAIN)).for_each(|((dx, x), g)| {
        simd(
            #[inline(always)]
            || {
                for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
                    *dx = g * A::df(x);
                }
            },
        );
    });
    dx
}
