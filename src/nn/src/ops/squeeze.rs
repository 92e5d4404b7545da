//! The two ends of a squeeze-and-excitation branch.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::composite;
use crate::kernel::{alike, by_dtype, nhwc, output, part_len, read, simd, tensor, with_data};
use crate::real::Real;

/// Mean over the positions: `[N, H, W, C]` to `[N, C]`.
///
/// # Errors
/// When `x` has not four dimensions.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    nhwc("global_avg_pool", x)?;
    if x.device().is_cpu() { x.apply_op1(GlobalAvgPool) } else { composite::global_avg_pool(x) }
}

/// Scales each channel of each image: `y[n, h, w, c] = x[n, h, w, c] * s[n, c]`.
///
/// # Errors
/// When shapes, dtypes or devices do not fit.
pub fn scale_channels(x: &Tensor, s: &Tensor) -> Result<Tensor> {
    let (n, _, _, c) = nhwc("scale_channels", x)?;
    if s.dims() != [n, c] {
        bail!("scale_channels: scales of shape {:?} for an input of shape {:?}", s.dims(), x.dims())
    }
    alike("scale_channels", x, s)?;
    if x.device().is_cpu() { x.apply_op2(s, ScaleChannels) } else { composite::scale_channels(x, s) }
}

/// Sums `a[row]` (or `a[row] * b[row]`) over the positions of each image, in fixed parts.
pub(crate) fn image_sums<T: Real>(a: &[T], b: Option<&[T]>, n: usize, c: usize) -> Vec<T> {
    let size = a.len() / n;
    let part = part_len(size / c) * c;
    let sums: Vec<Vec<f64>> = (0..n)
        .into_par_iter()
        .map(|img| {
            let parts: Vec<Vec<T>> = a[img * size..][..size]
                .par_chunks(part)
                .enumerate()
                .map(|(p, a)| {
                    let mut sum = vec![T::zero(); c];
                    let b = b.map(|b| &b[img * size + p * part..][..a.len()]);
                    simd(
                        #[inline(always)]
                        || add_rows(&mut sum, a, b),
                    );
                    sum
                })
                .collect();
            let mut sum = vec![0.0; c];
            for p in parts {
                for (s, v) in sum.iter_mut().zip(p) {
                    *s += v.wide();
                }
            }
            sum
        })
        .collect();
    sums.into_iter().flatten().map(T::of).collect()
}

#[inline(always)]
fn add_rows<T: Real>(sum: &mut [T], a: &[T], b: Option<&[T]>) {
    let c = sum.len();
    if let Some(b) = b {
        for (a, b) in a.chunks_exact(c).zip(b.chunks_exact(c)) {
            for ((s, &a), &b) in sum.iter_mut().zip(a).zip(b) {
                *s = a.fma(b, *s);
            }
        }
    } else {
        for a in a.chunks_exact(c) {
            for (s, &a) in sum.iter_mut().zip(a) {
                *s += a;
            }
        }
    }
}

/// `x[n, ..., c] * s[n, c]`, or `s` repeated when there is no `x`.
fn spread<T: Real>(x: Option<&[T]>, s: &[T], c: usize, len: usize) -> Vec<T> {
    let size = len * c / s.len();
    let rows = 256.min(size / c);
    let mut y = vec![T::zero(); len];
    y.par_chunks_mut(size).enumerate().for_each(|(img, y)| {
        let s = &s[img * c..][..c];
        y.par_chunks_mut(rows * c).enumerate().for_each(|(p, y)| {
            let x = x.map(|x| &x[img * size + p * rows * c..][..y.len()]);
            simd(
                #[inline(always)]
                || {
                    if let Some(x) = x {
                        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                            for ((y, &x), &s) in y.iter_mut().zip(x).zip(s) {
                                *y = x * s;
                            }
                        }
                    } else {
                        for y in y.chunks_exact_mut(c) {
                            y.copy_from_slice(s);
                        }
                    }
                },
            );
        });
    });
    y
}

struct GlobalAvgPool;

impl CustomOp1 for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "global_avg_pool"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, h, w, c) = l.shape().dims4()?;
        by_dtype!(s.dtype(), "global_avg_pool", T => {
            let scale = T::of(1.0 / (h * w) as f64);
            let mut y = image_sums(&read::<T>(s, l)?, None, n, c);
            for y in &mut y {
                *y *= scale;
            }
            Ok(output(y, (n, c)))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (_, h, w, c) = x.dims4()?;
        by_dtype!(x.dtype(), "global_avg_pool", T => {
            let scale = T::of(1.0 / (h * w) as f64);
            let dx = with_data::<T, _>(g, |g| {
                let g: Vec<T> = g.iter().map(|&g| g * scale).collect();
                spread(None, &g, c, x.elem_count())
            })?;
            tensor(dx, x.shape()).map(Some)
        })
    }
}

struct ScaleChannels;

impl CustomOp2 for ScaleChannels {
    fn name(&self) -> &'static str {
        "scale_channels"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, _, _, c) = l1.shape().dims4()?;
        by_dtype!(s1.dtype(), "scale_channels", T => {
            let (x, s) = (read::<T>(s1, l1)?, read::<T>(s2, l2)?);
            Ok(output(spread(Some(&x), &s, c, x.len()), l1.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, s: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, _, _, c) = x.dims4()?;
        let g = g.detach().contiguous()?;
        by_dtype!(x.dtype(), "scale_channels", T => {
            let dx = if x.track_op() {
                let dx = with_data::<T, _>(&g, |g| {
                    with_data::<T, _>(s, |s| spread(Some(g), s, c, g.len()))
                })??;
                Some(tensor(dx, x.shape())?)
            } else {
                None
            };
            let ds = if s.track_op() {
                let ds = with_data::<T, _>(&g, |g| {
                    with_data::<T, _>(x, |x| image_sums(g, Some(x), n, c))
                })??;
                Some(tensor(ds, (n, c))?)
            } else {
                None
            };
            Ok((dx, ds))
        })
    }
}
