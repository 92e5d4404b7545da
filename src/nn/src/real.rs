//! The floating point types the kernels are generic over.

use candle_core::{CpuStorage, WithDType};
use pulp::Simd;

use crate::pool::Pool;

/// `f32` or `f64` with the few operations the kernels need, scalar and vector.
#[expect(clippy::return_self_not_must_use, reason = "arithmetic")]
pub trait Real: WithDType + std::iter::Sum {
    /// Where buffers of this type wait for reuse.
    fn pool() -> &'static Pool<Self>;
    /// One SIMD register of this type.
    type V<S: Simd>: Copy;
    /// Values in one register.
    fn lanes<S: Simd>() -> usize;
    /// All lanes `v`.
    fn splat<S: Simd>(s: S, v: Self) -> Self::V<S>;
    /// All lanes zero.
    fn zeros<S: Simd>(s: S) -> Self::V<S>;
    /// `lanes` values, or with `FULL` false at most `lanes` and zeros after them.
    fn load<S: Simd, const FULL: bool>(s: S, from: &[Self]) -> Self::V<S>;
    /// Inverse of `load`.
    fn store<S: Simd, const FULL: bool>(s: S, to: &mut [Self], v: Self::V<S>);
    /// `a * b + c` in every lane.
    fn vfma<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    /// `self * b + c`.
    fn fma(self, b: Self, c: Self) -> Self;
    /// Exponential; a vectorisable polynomial for `f32` (relative error about 1e-7).
    fn expo(self) -> Self;
    /// Square root.
    fn root(self) -> Self;
    /// Natural logarithm.
    fn log(self) -> Self;
    /// The value nearest to `v`.
    fn of(v: f64) -> Self;
    /// Widening to double precision.
    fn wide(self) -> f64;
    /// The data of a storage of this type.
    fn slice_mut(s: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! real {
    ($t:ty, $variant:ident, $v:ident, $lanes:ident, $splat:ident, $as:ident, $as_mut:ident, $pl:ident, $ps:ident, $fma:ident, $exp:expr) => {
        impl Real for $t {
            fn pool() -> &'static Pool<Self> {
                static POOL: Pool<$t> = Pool::new();
                &POOL
            }
            type V<S: Simd> = S::$v;
            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$lanes
            }
            #[inline(always)]
            fn splat<S: Simd>(s: S, v: Self) -> Self::V<S> {
                s.$splat(v)
            }
            #[inline(always)]
            fn zeros<S: Simd>(s: S) -> Self::V<S> {
                s.$splat(0.0)
            }
            #[inline(always)]
            fn load<S: Simd, const FULL: bool>(s: S, from: &[Self]) -> Self::V<S> {
                if FULL { S::$as(from).0[0] } else { s.$pl(from) }
            }
            #[inline(always)]
            fn store<S: Simd, const FULL: bool>(s: S, to: &mut [Self], v: Self::V<S>) {
                if FULL {
                    S::$as_mut(to).0[0] = v;
                } else {
                    s.$ps(to, v);
                }
            }
            #[inline(always)]
            fn vfma<S: Simd>(s: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S> {
                s.$fma(a, b, c)
            }
            #[inline(always)]
            fn fma(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }
            #[inline(always)]
            fn expo(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn root(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn log(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn of(v: f64) -> Self {
                v as Self
            }
            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn slice_mut(s: &mut CpuStorage) -> Option<&mut [Self]> {
                match s {
                    CpuStorage::$variant(v) => Some(v),
                    _ => None,
                }
            }
        }
    };
}

real!(
    f32,
    F32,
    f32s,
    F32_LANES,
    splat_f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    partial_load_f32s,
    partial_store_f32s,
    mul_add_f32s,
    exp_f32
);
real!(
    f64,
    F64,
    f64s,
    F64_LANES,
    splat_f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    partial_load_f64s,
    partial_store_f64s,
    mul_add_f64s,
    f64::exp
);

/// exp by 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes coefficients), without
/// branches so that loops around it vectorise.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // 1.5 * 2^23: adding it rounds to an integer held in the low mantissa bits.
    const MAGIC: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let t = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = t - MAGIC;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 0.166_666_65)
        .mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    let scale = f32::from_bits((t.to_bits() << 23).wrapping_add(0x3f80_0000));
    p * scale
}

#[cfg(test)]
mod tests {
    use super::exp_f32;

    #[test]
    fn exp_is_accurate_and_keeps_nan() {
        for i in -8600..8700 {
            let x = i as f32 / 100.0;
            let want = f64::from(x).exp();
            let got = f64::from(exp_f32(x));
            assert!((got / want - 1.0).abs() < 4e-7, "{x}: {got} {want}");
        }
        assert!(exp_f32(f32::NAN).is_nan());
        assert!(exp_f32(-1e9) > 0.0 && exp_f32(1e9).is_finite());
    }
}
