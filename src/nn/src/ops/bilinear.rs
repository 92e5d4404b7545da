//! Bilinear interpolation.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::composite;
use crate::kernel::{by_dtype, nhwc, output, read, simd, tensor, with_data};
use crate::real::Real;

/// Bilinear resampling of `[N, H, W, C]` to `[N, out_h, out_w, C]`, as PyTorch's
/// `interpolate(mode="bilinear")` without antialiasing.
///
/// The source coordinate of output index `i` is `i (in - 1) / (out - 1)` with
/// `align_corners`, else `max(0, (i + 1/2) in / out - 1/2)`.
///
/// # Errors
/// When `x` has not four dimensions or an output extent is zero.
pub fn upsample_bilinear2d(x: &Tensor, out_h: usize, out_w: usize, align_corners: bool) -> Result<Tensor> {
    let (n, h, w, c) = nhwc("upsample_bilinear2d", x)?;
    if out_h == 0 || out_w == 0 {
        bail!("upsample_bilinear2d: output size {out_h}x{out_w} for an input of shape {:?}", x.dims())
    }
    let (ys, xs) = (axis(h, out_h, align_corners), axis(w, out_w, align_corners));
    if !x.device().is_cpu() {
        return composite::upsample_bilinear2d(x, &ys, &xs);
    }
    x.apply_op1(Bilinear { n, h, w, c, ys, xs })
}

/// Where an output index reads: the lower source index, the upper one, and the weight
/// of the upper one.
pub(crate) type Source = (usize, usize, f64);

/// The sources of every output index along one axis.
pub(crate) fn axis(len: usize, out: usize, align_corners: bool) -> Vec<Source> {
    (0..out)
        .map(|i| {
            let at = if align_corners {
                if out > 1 { i as f64 * ((len - 1) as f64 / (out - 1) as f64) } else { 0.0 }
            } else {
                ((i as f64 + 0.5) * (len as f64 / out as f64) - 0.5).max(0.0)
            };
            let low = (at as usize).min(len - 1);
            (low, (low + 1).min(len - 1), at - low as f64)
        })
        .collect()
}

/// One resampling.
#[derive(Debug)]
pub(crate) struct Bilinear {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) ys: Vec<Source>,
    pub(crate) xs: Vec<Source>,
}

impl Bilinear {
    fn forward<T: Real>(&self, x: &[T]) -> Vec<T> {
        let (ho, wo, c, line) = (self.ys.len(), self.xs.len(), self.c, self.w * self.c);
        let mut y = vec![T::zero(); self.n * ho * wo * c];
        y.par_chunks_mut(wo * c).enumerate().for_each_init(
            || vec![T::zero(); line],
            |mixed, (row, y)| {
                let (img, oy) = (row / ho, row % ho);
                let (y0, y1, ty) = self.ys[oy];
                let a = &x[(img * self.h + y0) * line..][..line];
                let b = &x[(img * self.h + y1) * line..][..line];
                simd(
                    #[inline(always)]
                    || {
                        lerp(mixed, a, b, T::of(ty));
                        for (y, &(x0, x1, tx)) in y.chunks_exact_mut(c).zip(&self.xs) {
                            lerp(y, &mixed[x0 * c..][..c], &mixed[x1 * c..][..c], T::of(tx));
                        }
                    },
                );
            },
        );
        y
    }

    /// Adds one output row to `y`; `mixed` is room for an input row.
    pub(crate) fn add_row<T: Real>(&self, x: &[T], row: usize, mixed: &mut [T], y: &mut [T]) {
        let (ho, c, line) = (self.ys.len(), self.c, self.w * self.c);
        let (img, (y0, y1, ty)) = (row / ho, self.ys[row % ho]);
        let a = &x[(img * self.h + y0) * line..][..line];
        let b = &x[(img * self.h + y1) * line..][..line];
        let mixed = &mut mixed[..line];
        simd(
            #[inline(always)]
            || {
                lerp(mixed, a, b, T::of(ty));
                for (y, &(x0, x1, tx)) in y.chunks_exact_mut(c).zip(&self.xs) {
                    let (a, b, t) = (&mixed[x0 * c..][..c], &mixed[x1 * c..][..c], T::of(tx));
                    for (y, (&a, &b)) in y.iter_mut().zip(a.iter().zip(b)) {
                        *y += t.fma(b - a, a);
                    }
                }
            },
        );
    }

    fn backward<T: Real>(&self, g: &[T]) -> Vec<T> {
        let mut dx = vec![T::zero(); self.n * self.h * self.w * self.c];
        self.add_backward(g, &mut dx);
        dx
    }

    /// Adds the input gradient to `dx`.
    pub(crate) fn add_backward<T: Real>(&self, g: &[T], dx: &mut [T]) {
        let (ho, c, line) = (self.ys.len(), self.c, self.xs.len() * self.c);
        // For each input row the output rows that read it.
        let mut readers = vec![Vec::new(); self.h];
        for (oy, &(y0, y1, t)) in self.ys.iter().enumerate() {
            readers[y0].push((oy, T::of(1.0 - t)));
            readers[y1].push((oy, T::of(t)));
        }
        dx.par_chunks_mut(self.w * c).enumerate().for_each_init(
            || vec![T::zero(); line],
            |mixed, (row, dx)| {
                let (img, iy) = (row / self.h, row % self.h);
                simd(
                    #[inline(always)]
                    || {
                        mixed.fill(T::zero());
                        for &(oy, t) in &readers[iy] {
                            axpy(mixed, t, &g[(img * ho + oy) * line..][..line]);
                        }
                        for (m, &(x0, x1, t)) in mixed.chunks_exact(c).zip(&self.xs) {
                            axpy(&mut dx[x0 * c..][..c], T::of(1.0 - t), m);
                            axpy(&mut dx[x1 * c..][..c], T::of(t), m);
                        }
                    },
                );
            },
        );
    }
}

/// `out = a + t (b - a)`
#[inline(always)]
fn lerp<T: Real>(out: &mut [T], a: &[T], b: &[T], t: T) {
    for (o, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *o = t.fma(b - a, a);
    }
}

/// `out += t v`
#[inline(always)]
fn axpy<T: Real>(out: &mut [T], t: T, v: &[T]) {
    for (o, &v) in out.iter_mut().zip(v) {
        *o = t.fma(v, *o);
    }
}

impl CustomOp1 for Bilinear {
    fn name(&self) -> &'static str {
        "upsample_bilinear2d"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(s.dtype(), "upsample_bilinear2d", T => {
            let y = self.forward(&read::<T>(s, l)?);
            Ok(output(y, (self.n, self.ys.len(), self.xs.len(), self.c)))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        by_dtype!(x.dtype(), "upsample_bilinear2d", T => {
            let dx = with_data::<T, _>(g, |g| self.backward(g))?;
            tensor(dx, x.shape()).map(Some)
        })
    }
}
