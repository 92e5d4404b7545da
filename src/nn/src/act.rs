//! Scalar activation functions and their derivatives, as types so that kernels are
//! compiled once for each.

use crate::real::Real;

pub(crate) trait Act {
    /// The value at `z`.
    fn f<T: Real>(z: T) -> T;
    /// The derivative at `z`; zero at the kinks, as PyTorch.
    fn df<T: Real>(z: T) -> T;
}

/// Runs `$body` with `$A` bound to the type that implements an activation.
macro_rules! by_act {
    ($act:expr, $A:ident => $body:expr) => {
        match $act {
            $crate::ops::Activation::Identity => {
                type $A = $crate::act::Identity;
                $body
            }
            $crate::ops::Activation::Relu => {
                type $A = $crate::act::Relu;
                $body
            }
            $crate::ops::Activation::Relu6 => {
                type $A = $crate::act::Relu6;
                $body
            }
            $crate::ops::Activation::HardSwish => {
                type $A = $crate::act::HardSwish;
                $body
            }
            $crate::ops::Activation::Silu => {
                type $A = $crate::act::Silu;
                $body
            }
            $crate::ops::Activation::Sigmoid => {
                type $A = $crate::act::Sigmoid;
                $body
            }
            $crate::ops::Activation::HardSigmoid => {
                type $A = $crate::act::HardSigmoid;
                $body
            }
        }
    };
}
pub(crate) use by_act;

pub(crate) struct Identity;
pub(crate) struct Relu;
pub(crate) struct Relu6;
pub(crate) struct HardSwish;
pub(crate) struct Silu;
pub(crate) struct Sigmoid;
pub(crate) struct HardSigmoid;

// Written so that a NaN passes through.
#[inline(always)]
fn clamp<T: Real>(z: T, lo: T, hi: T) -> T {
    let z = if z < lo { lo } else { z };
    if z > hi { hi } else { z }
}

#[inline(always)]
fn inside<T: Real>(z: T, lo: f64, hi: f64, value: T) -> T {
    if z > T::of(lo) && z < T::of(hi) { value } else { T::zero() }
}

#[inline(always)]
fn sigmoid<T: Real>(z: T) -> T {
    T::one() / (T::one() + (T::zero() - z).expo())
}

impl Act for Identity {
    #[inline(always)]
    fn f<T: Real>(z: T) -> T {
        z
    }
    #[inline(always)]
    fn df<T: Real>(_: T) -> T {
        T::one()
    }
}

impl Act for Relu {
    #[inline(always)]
    fn f<T: Real>(z: T) -> T {
        if z < T::zero() { T::zero() } else { z }
    }
    #[inline(always)]
    fn df<T: Real>(z: T) -> T {
        if z > T::zero() { T::one() } else { T::zero() }
    }
}

impl Act for Relu6 {
    #[inline(always)]
    fn f<T: Real>(z: T) -> T {
        clamp(z, T::zero(), T::of(6.0))
    }
    #[inline(always)]
    fn df<T: Real>(z: T) -> T {
        inside(z, 0.0, 6.0, T::one())
    }
}

impl Act for HardSigmoid {
    #[inline(always)]
    fn f<T: Real>(z: T) -> T {
        clamp(z.fma(T::of(1.0 / 6.0), T::of(0.5)), T::zero(), T::one())
    }
    #[inline(always)]
    fn df<T: Real>(z: T) -> T {
        inside(z, -3.0, 3.0, T::of(1.0 / 6.0))
    }
}

impl Act for HardSwish {
    #[inline(always)]
    fn f<T: Real>(z: T) -> T {
        z * HardSigmoid::f(z)
    }
    #[inline(always)]
    fn df<T: Real>(z: T) -> T {
        let mid = z.fma(T::of(1.0 / 3.0), T::of(0.5));
        let d = if z < T::of(3.0) { mid } else { T::one() };
        if z > T::of(-3.0) { d } else { T::zero() }
    }
}

impl Act for Sigmoid {
    #[inline(always)]
    fn f<T: Real>(z: T) -> T {
        sigmoid(z)
    }
    #[inline(always)]
    fn df<T: Real>(z: T) -> T {
        let s = sigmoid(z);
        s * (T::one() - s)
    }
}

impl Act for Silu {
    #[inline(always)]
    fn f<T: Real>(z: T) -> T {
        z * sigmoid(z)
    }
    #[inline(always)]
    fn df<T: Real>(z: T) -> T {
        let s = sigmoid(z);
        s * z.fma(T::one() - s, T::one())
    }
}
