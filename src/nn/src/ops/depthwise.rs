//! Depthwise convolution.

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};

use super::composite;
use super::depthwise_kernel::Geometry;
use crate::gemm::transposed;
use crate::kernel::{alike, by_dtype, nhwc, output, read, tensor, with_data};

/// Depthwise convolution without bias: `x` `[N, H, W, C]`, `w` `[C, 1, k, k]` with odd
/// `k`, zero padding `dilation (k - 1) / 2`, result `[N, ceil(H / stride), ceil(W / stride), C]`.
///
/// # Errors
/// When shapes, dtypes or devices do not fit, for an even kernel, or a stride or
/// dilation of zero.
pub fn depthwise_conv2d(x: &Tensor, w: &Tensor, stride: usize, dilation: usize) -> Result<Tensor> {
    let op = "depthwise_conv2d";
    let (n, h, wd, c) = nhwc(op, x)?;
    let k = match w.dims() {
        &[o, 1, kh, kw] if o == c && kh == kw && kh % 2 == 1 => kh,
        d => bail!(
            "{op}: weight of shape {d:?} does not fit an input of shape {:?} (expected [C, 1, k, k], odd k)",
            x.dims()
        ),
    };
    if stride == 0 || dilation == 0 {
        bail!("{op}: stride {stride} and dilation {dilation} must be positive")
    }
    alike(op, x, w)?;
    let geometry = Geometry { n, h, w: wd, c, k, s: stride, d: dilation };
    match x.device() {
        Device::Cpu => x.apply_op2(w, Depthwise(geometry)),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) if x.dtype() == DType::F32 => crate::cuda::depthwise_conv2d(x, w, geometry),
        _ => composite::depthwise_conv2d(x, w, stride, dilation),
    }
}

struct Depthwise(Geometry);

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = &self.0;
        by_dtype!(s1.dtype(), "depthwise_conv2d", T => {
            let w = transposed(&read::<T>(s2, l2)?, g.k * g.k);
            let y = g.forward(&read::<T>(s1, l1)?, &w);
            Ok(output(y, (g.n, g.ho(), g.wo(), g.c)))
        })
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = &self.0;
        let grad = grad.detach().contiguous()?;
        by_dtype!(x.dtype(), "depthwise_conv2d", T => {
            let dx = if x.track_op() {
                let w = with_data::<T, _>(w, |w| transposed(w, g.k * g.k))?;
                let dx = with_data::<T, _>(&grad, |grad| g.input_gradient(grad, &w))?;
                Some(tensor(dx, x.shape())?)
            } else {
                None
            };
            let dw = if w.track_op() {
                let dw = with_data::<T, _>(x, |x| {
                    with_data::<T, _>(&grad, |grad| g.weight_gradient(x, grad))
                })??;
                Some(tensor(transposed(&dw, g.c), w.shape())?)
            } else {
                None
            };
            Ok((dx, dw))
        })
    }
}
