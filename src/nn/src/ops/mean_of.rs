//! Mean of several tensors.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::composite;
use crate::kernel::{GRAIN, alike, by_dtype, output, read, simd};
use crate::real::Real;

/// Elementwise mean of at least one tensor, all of one shape.
///
/// On the CPU three tensors take one pass over memory; more take one pass for each
/// further pair.
///
/// # Errors
/// Without tensors, or when shapes, dtypes or devices differ.
pub fn mean_of(xs: &[Tensor]) -> Result<Tensor> {
    let Some((first, rest)) = xs.split_first() else { bail!("mean_of: no tensors") };
    for x in rest {
        if x.dims() != first.dims() {
            bail!("mean_of: shapes {:?} and {:?} differ", first.dims(), x.dims())
        }
        alike("mean_of", first, x)?;
    }
    if rest.is_empty() {
        return Ok(first.clone());
    }
    let scale = 1.0 / xs.len() as f64;
    if !first.device().is_cpu() {
        return composite::mean_of(xs);
    }
    let pairs = rest.chunks_exact(2);
    let left = pairs.remainder().first();
    let n = pairs.len();
    let mut sum = first.clone();
    for (i, pair) in pairs.enumerate() {
        let scale = if i + 1 == n && left.is_none() { scale } else { 1.0 };
        sum = sum.apply_op3(&pair[0], &pair[1], Sum3(scale))?;
    }
    match left {
        Some(x) => (sum + x)?.affine(scale, 0.0),
        None => Ok(sum),
    }
}

/// `(a + b + c) * scale`
struct Sum3(f64);

impl CustomOp3 for Sum3 {
    fn name(&self) -> &'static str {
        "mean_of"
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
        by_dtype!(s1.dtype(), "mean_of", T => {
            let y = sum3::<T>(&read(s1, l1)?, &read(s2, l2)?, &read(s3, l3)?, T::of(self.0));
            Ok(output(y, l1.shape()))
        })
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        // Exact: the last group alone has a scale other than one.
        #[expect(clippy::float_cmp, reason = "the constant one is passed through unchanged")]
        let g = if self.0 == 1.0 { g.clone() } else { g.affine(self.0, 0.0)? };
        let pick = |t: &Tensor| t.track_op().then(|| g.clone());
        Ok((pick(a), pick(b), pick(c)))
    }
}

fn sum3<T: Real>(a: &[T], b: &[T], c: &[T], scale: T) -> Vec<T> {
    let mut y = vec![T::zero(); a.len()];
    y.par_chunks_mut(GRAIN).zip(a.par_chunks(GRAIN)).zip(b.par_chunks(GRAIN).zip(c.par_chunks(GRAIN))).for_each(
        |((y, a), (b, c))| {
            simd(
                #[inline(always)]
                || {
                    for ((y, &a), (&b, &c)) in y.iter_mut().zip(a).zip(b.iter().zip(c)) {
                        *y = (a + b + c) * scale;
                    }
                },
            );
        },
    );
    y
}
