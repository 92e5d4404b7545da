//! 1x1 convolution as one matrix product.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::composite;
use crate::kernel::{alike, by_dtype, nhwc, part_len, read, tensor};

/// 1x1 convolution without bias: `x` `[N, H, W, I]`, `w` `[O, I, 1, 1]`, result `[N, H, W, O]`.
///
/// # Errors
/// When shapes, dtypes or devices do not fit.
pub fn pointwise_conv(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (_, _, _, c) = nhwc("pointwise_conv", x)?;
    if !matches!(w.dims(), &[o, i, 1, 1] if i == c && o > 0) {
        bail!("pointwise_conv: weight of shape {:?} does not fit an input of shape {:?}", w.dims(), x.dims())
    }
    alike("pointwise_conv", x, w)?;
    if x.device().is_cpu() { x.apply_op2(w, Pointwise) } else { composite::pointwise_conv(x, w) }
}

struct Pointwise;

impl CustomOp2 for Pointwise {
    fn name(&self) -> &'static str {
        "pointwise_conv"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, h, w, i) = l1.shape().dims4()?;
        let o = l2.dims()[0];
        let m = n * h * w;
        let weight = Layout::new((i, o).into(), vec![l2.stride()[1], l2.stride()[0]], l2.start_offset());
        let y = if l1.is_contiguous() {
            let rows = Layout::contiguous_with_offset((m, i), l1.start_offset());
            s1.matmul(s2, (1, m, o, i), &rows, &weight)?
        } else {
            let copy = by_dtype!(s1.dtype(), "pointwise_conv", T => {
                T::to_cpu_storage_owned(read::<T>(s1, l1)?.into_owned())
            });
            copy.matmul(s2, (1, m, o, i), &Layout::contiguous((m, i)), &weight)?
        };
        Ok((y, (n, h, w, o).into()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (o, i, _, _) = w.dims4()?;
        let m = x.elem_count() / i;
        let g = g.detach().contiguous()?.reshape((m, o))?;
        let dx = x
            .track_op()
            .then(|| g.matmul(&w.detach().contiguous()?.reshape((o, i))?)?.reshape(x.shape()))
            .transpose()?;
        let dw = w
            .track_op()
            .then(|| {
                let x = x.detach().contiguous()?.reshape((m, i))?;
                weight_gradient(&g, &x)?.reshape((o, i, 1, 1))
            })
            .transpose()?;
        Ok((dx, dw))
    }
}

/// `g^T x` for contiguous `g` `[M, O]` and `x` `[M, I]`: `[O, I]`.
///
/// The result is small and `M` long, which leaves a matrix product nothing to divide
/// among threads: parts of `M` are multiplied in parallel and added in order.
pub(super) fn weight_gradient(g: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ((m, o), i) = (g.dims2()?, x.dim(1)?);
    let part = part_len(m).max(256);
    let ((gs, gl), (xs, xl)) = (g.storage_and_layout(), x.storage_and_layout());
    let (Storage::Cpu(gs), Storage::Cpu(xs)) = (&*gs, &*xs) else { bail!("weight_gradient: expected CPU tensors") };
    by_dtype!(g.dtype(), "weight_gradient", T => {
        let parts = (0..m.div_ceil(part))
            .into_par_iter()
            .map(|p| {
                let from = p * part;
                let len = part.min(m - from);
                let left = Layout::new((o, len).into(), vec![1, o], gl.start_offset() + from * o);
                let right = Layout::contiguous_with_offset((len, i), xl.start_offset() + from * i);
                T::cpu_storage_data(gs.matmul(xs, (1, o, i, len), &left, &right)?)
            })
            .collect::<Result<Vec<Vec<T>>>>()?;
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_default();
        for part in parts {
            for (a, b) in sum.iter_mut().zip(part) {
                *a += b;
            }
        }
        tensor(sum, (o, i))
    })
}
