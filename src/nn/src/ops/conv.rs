//! Dense convolution as im2col and one matrix product.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::{composite, pointwise};
use crate::kernel::{alike, by_dtype, nhwc, output, read, tensor, with_data};
use crate::real::Real;

/// Dense convolution without bias or dilation: `x` `[N, H, W, I]`, `w` `[O, I, k, k]`,
/// zero padding on every side, result `[N, H', W', O]` with
/// `H' = (H + 2 padding - k) / stride + 1`.
///
/// # Errors
/// When shapes, dtypes or devices do not fit, or the kernel exceeds the padded input.
pub fn conv2d(x: &Tensor, w: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let op = "conv2d";
    let (n, h, wd, c) = nhwc(op, x)?;
    let k = match w.dims() {
        &[o, i, kh, kw] if i == c && kh == kw && kh > 0 && o > 0 => kh,
        d => bail!("{op}: weight of shape {d:?} does not fit an input of shape {:?}", x.dims()),
    };
    if stride == 0 || h.min(wd) + 2 * padding < k {
        bail!("{op}: stride {stride}, padding {padding}, kernel {k} do not fit shape {:?}", x.dims())
    }
    alike(op, x, w)?;
    if !x.device().is_cpu() {
        return composite::conv2d(x, w, stride, padding);
    }
    x.apply_op2(w, Conv { n, h, w: wd, c, k, stride, padding })
}

/// Shapes of one dense convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) k: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Conv {
    pub(crate) fn out(&self) -> (usize, usize) {
        let f = |v: usize| (v + 2 * self.padding - self.k) / self.stride + 1;
        (f(self.h), f(self.w))
    }

    /// Rows and columns of the patch matrix.
    pub(crate) fn patches(&self) -> (usize, usize) {
        let (ho, wo) = self.out();
        (self.n * ho * wo, self.k * self.k * self.c)
    }

    /// Patch matrix `[N H' W', k k I]`.
    fn im2col<T: Real>(&self, x: &[T]) -> Vec<T> {
        let (rows, cols) = self.patches();
        let mut out = vec![T::zero(); rows * cols];
        out.par_chunks_mut(cols).with_min_len(64).enumerate().for_each(|(i, patch)| self.patch(x, i, patch));
        out
    }

    /// One row of the patch matrix, over whatever is in `patch`.
    pub(crate) fn patch<T: Real>(&self, x: &[T], position: usize, patch: &mut [T]) {
        let (ho, wo) = self.out();
        let Self { h, w, c, k, stride, padding, .. } = *self;
        let (img, oy, ox) = (position / (ho * wo), position / wo % ho, position % wo);
        // The taps kx whose column lies inside the image are consecutive.
        let first = padding.saturating_sub(ox * stride).min(k);
        let last = (w + padding).saturating_sub(ox * stride).min(k);
        for (ky, row) in patch.chunks_exact_mut(k * c).enumerate() {
            let iy = oy * stride + ky;
            if iy < padding || iy >= h + padding || first >= last {
                row.fill(T::zero());
                continue;
            }
            let ix = ox * stride + first - padding;
            let from = ((img * h + iy - padding) * w + ix) * c;
            row[..first * c].fill(T::zero());
            row[first * c..last * c].copy_from_slice(&x[from..][..(last - first) * c]);
            row[last * c..].fill(T::zero());
        }
    }

    /// Transpose of [`Self::im2col`]: sums every entry back to its pixel.
    pub(crate) fn col2im<T: Real>(&self, cols: &[T]) -> Vec<T> {
        let (_, width) = self.patches();
        let (ho, wo) = self.out();
        let Self { n, h, w, c, k, stride, padding } = *self;
        let mut dx = vec![T::zero(); n * h * w * c];
        dx.par_chunks_mut(w * c).enumerate().for_each(|(row, dx)| {
            let (img, iy) = (row / h, row % h);
            for ky in 0..k {
                let Some(y) = (iy + padding).checked_sub(ky) else {
                    continue;
                };
                if y % stride != 0 || y / stride >= ho {
                    continue;
                }
                let base = (img * ho + y / stride) * wo;
                for ox in 0..wo {
                    let first = padding.saturating_sub(ox * stride).min(k);
                    let last = (w + padding).saturating_sub(ox * stride).min(k);
                    if first < last {
                        let to = (ox * stride + first - padding) * c;
                        let len = (last - first) * c;
                        let from = (base + ox) * width + (ky * k + first) * c;
                        for (d, &v) in dx[to..to + len].iter_mut().zip(&cols[from..from + len]) {
                            *d += v;
                        }
                    }
                }
            }
        });
        dx
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, cols) = self.patches();
        let (ho, wo) = self.out();
        let o = l2.dims()[0];
        by_dtype!(s1.dtype(), "conv2d", T => {
            let patches = T::to_cpu_storage_owned(self.im2col(&read::<T>(s1, l1)?));
            let kernel = T::to_cpu_storage_owned(read::<T>(s2, &l2.permute(&[2, 3, 1, 0])?)?.into_owned());
            let y = patches.matmul(
                &kernel,
                (1, rows, o, cols),
                &Layout::contiguous((rows, cols)),
                &Layout::contiguous((cols, o)),
            )?;
            Ok(output(T::cpu_storage_data(y)?, (self.n, ho, wo, o)))
        })
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, cols) = self.patches();
        let (o, i, k, _) = w.dims4()?;
        let g = g.detach().contiguous()?.reshape((rows, o))?;
        by_dtype!(x.dtype(), "conv2d", T => {
            let dx = if x.track_op() {
                let kernel = w.detach().permute((0, 2, 3, 1))?.contiguous()?.reshape((o, cols))?;
                let dx = with_data::<T, _>(&g.matmul(&kernel)?, |cols| self.col2im(cols))?;
                Some(tensor(dx, x.shape())?)
            } else {
                None
            };
            let dw = if w.track_op() {
                let patches = tensor(with_data::<T, _>(x, |x| self.im2col(x))?, (rows, cols))?;
                let dw = pointwise::weight_gradient(&g, &patches)?;
                Some(dw.reshape((o, k, k, i))?.permute((0, 3, 1, 2))?.contiguous()?)
            } else {
                None
            };
            Ok((dx, dw))
        })
    }
}
