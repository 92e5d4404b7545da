//! Pooling with kernel equal to stride.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::composite;
use crate::kernel::{by_dtype, nhwc, output, read, simd, tensor, with_data};
use crate::real::Real;

/// Maximum over `k` x `k` windows with stride `k`: `[N, H, W, C]` to
/// `[N, H / k, W / k, C]`; a remainder at the border is dropped. The gradient goes to
/// the first maximum of a window in row-major order.
///
/// # Errors
/// When `x` has not four dimensions or is smaller than a window.
pub fn max_pool2d(x: &Tensor, k: usize) -> Result<Tensor> {
    let pool = Pool::new("max_pool2d", x, k, true)?;
    if x.device().is_cpu() { x.apply_op1(pool) } else { composite::max_pool2d(x, k) }
}

/// Mean over `k` x `k` windows with stride `k`: `[N, H, W, C]` to
/// `[N, H / k, W / k, C]`; a remainder at the border is dropped.
///
/// # Errors
/// When `x` has not four dimensions or is smaller than a window.
pub fn avg_pool2d(x: &Tensor, k: usize) -> Result<Tensor> {
    let pool = Pool::new("avg_pool2d", x, k, false)?;
    if x.device().is_cpu() { x.apply_op1(pool) } else { composite::avg_pool2d(x, k) }
}

pub(crate) struct Pool {
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    k: usize,
    pub(crate) max: bool,
}

impl Pool {
    fn new(op: &str, x: &Tensor, k: usize, max: bool) -> Result<Self> {
        let (n, h, w, c) = nhwc(op, x)?;
        Self::of(op, [n, h, w, c], k, max)
    }

    pub(crate) fn of(op: &str, [n, h, w, c]: [usize; 4], k: usize, max: bool) -> Result<Self> {
        if k == 0 || h < k || w < k {
            bail!("{op}: a window of {k} does not fit an input of shape {:?}", [n, h, w, c])
        }
        Ok(Self { n, h, w, c, k, max })
    }

    pub(crate) fn out(&self) -> (usize, usize) {
        (self.h / self.k, self.w / self.k)
    }

    fn forward<T: Real>(&self, x: &[T]) -> Vec<T> {
        let (ho, wo) = self.out();
        let mut y = vec![T::zero(); self.n * ho * wo * self.c];
        self.forward_into(x, &mut y);
        y
    }

    pub(crate) fn forward_into<T: Real>(&self, x: &[T], y: &mut [T]) {
        let (ho, wo) = self.out();
        let (c, k, row) = (self.c, self.k, self.w * self.c);
        let scale = T::of(1.0 / (k * k) as f64);
        y.par_chunks_mut(wo * c).enumerate().for_each(|(r, y)| {
            let band = &x[((r / ho) * self.h + (r % ho) * k) * row..][..k * row];
            simd(
                #[inline(always)]
                || {
                    for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                        for t in 0..k * k {
                            let x = &band[(t / k) * row + (ox * k + t % k) * c..][..c];
                            for (y, &x) in y.iter_mut().zip(x) {
                                if t == 0 {
                                    *y = x;
                                } else if self.max {
                                    // The second test lets a NaN through.
                                    *y = if x > *y || x.ne(&x) { x } else { *y };
                                } else {
                                    *y += x;
                                }
                            }
                        }
                        if !self.max {
                            for y in y {
                                *y *= scale;
                            }
                        }
                    }
                },
            );
        });
    }

    fn backward<T: Real>(&self, x: &[T], g: &[T]) -> Vec<T> {
        let mut dx = vec![T::zero(); x.len()];
        self.add_backward(x, g, &mut dx);
        dx
    }

    /// Adds the input gradient to `dx`; the mean does not read `x`.
    pub(crate) fn add_backward<T: Real>(&self, x: &[T], g: &[T], dx: &mut [T]) {
        let (ho, wo) = self.out();
        let (c, k, row) = (self.c, self.k, self.w * self.c);
        // Bands of `k` rows; rows that no window reaches stay as they are.
        dx.par_chunks_mut(self.h * row).enumerate().for_each(|(img, dx)| {
            dx[..ho * k * row].par_chunks_mut(k * row).enumerate().for_each(|(oy, dx)| {
                let g = &g[(img * ho + oy) * wo * c..][..wo * c];
                if self.max {
                    let x = &x[(img * self.h + oy * k) * row..][..k * row];
                    simd(
                        #[inline(always)]
                        || max_band(x, g, dx, c, k, row),
                    );
                } else {
                    simd(
                        #[inline(always)]
                        || mean_band(g, dx, c, k, row),
                    );
                }
            });
        });
    }
}

/// Adds the gradient of one row of windows to the rows they cover.
#[inline(always)]
fn max_band<T: Real>(x: &[T], g: &[T], dx: &mut [T], c: usize, k: usize, row: usize) {
    let mut best = vec![T::zero(); c];
    let mut at = vec![0u32; c];
    for (ox, g) in g.chunks_exact(c).enumerate() {
        let corner = ox * k * c;
        best.copy_from_slice(&x[corner..][..c]);
        at.fill(0);
        for t in 1..k * k {
            let from = corner + (t / k) * row + (t % k) * c;
            for ((best, at), &v) in best.iter_mut().zip(&mut at).zip(&x[from..][..c]) {
                let better = v > *best || (v.ne(&v) && (*best).eq(best));
                *best = if better { v } else { *best };
                *at = if better { t as u32 } else { *at };
            }
        }
        for t in 0..k * k {
            let to = corner + (t / k) * row + (t % k) * c;
            for ((d, &g), &at) in dx[to..][..c].iter_mut().zip(g).zip(&at) {
                *d += if at == t as u32 { g } else { T::zero() };
            }
        }
    }
}

#[inline(always)]
fn mean_band<T: Real>(g: &[T], dx: &mut [T], c: usize, k: usize, row: usize) {
    let scale = T::of(1.0 / (k * k) as f64);
    for (ox, g) in g.chunks_exact(c).enumerate() {
        for t in 0..k * k {
            let to = ox * k * c + (t / k) * row + (t % k) * c;
            for (d, &g) in dx[to..][..c].iter_mut().zip(g) {
                *d = g.fma(scale, *d);
            }
        }
    }
}

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        if self.max { "max_pool2d" } else { "avg_pool2d" }
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (ho, wo) = self.out();
        by_dtype!(s.dtype(), self.name(), T => {
            Ok(output(self.forward(&read::<T>(s, l)?), (self.n, ho, wo, self.c)))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        by_dtype!(x.dtype(), self.name(), T => {
            let dx = with_data::<T, _>(x, |x| with_data::<T, _>(g, |g| self.backward(x, g)))??;
            tensor(dx, x.shape()).map(Some)
        })
    }
}
