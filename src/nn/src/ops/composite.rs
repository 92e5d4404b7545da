//! The same operators composed of stock candle operators with right gradients: used on
//! devices without a kernel here, and as the reference the kernels are tested against.

use candle_core::{D, DType, Result, Tensor};

use super::bilinear::Source;
use super::{Activation, BatchStats};

pub(crate) fn pointwise_conv(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (n, h, wd, i) = x.dims4()?;
    let o = w.dim(0)?;
    let w = w.reshape((o, i))?.t()?;
    x.reshape((n * h * wd, i))?.matmul(&w)?.reshape((n, h, wd, o))
}

/// `count` slices of width one along `dim`, from `start`, `step` apart; `x` must reach
/// to `start + count * step`.
fn every(x: &Tensor, dim: usize, start: usize, step: usize, count: usize) -> Result<Tensor> {
    let x = x.narrow(dim, start, count * step)?;
    if step == 1 {
        return Ok(x);
    }
    let mut dims = x.dims().to_vec();
    dims[dim] = count;
    dims.insert(dim + 1, step);
    x.contiguous()?.reshape(dims)?.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)
}

/// What each tap of a `k` x `k` window reads, `[N, out, out, C]`, in row-major order.
fn taps(x: &Tensor, k: usize, stride: usize, dilation: usize, padding: usize) -> Result<Vec<Tensor>> {
    let (_, h, w, _) = x.dims4()?;
    let reach = dilation * (k - 1) + 1;
    let (ho, wo) = ((h + 2 * padding - reach) / stride + 1, (w + 2 * padding - reach) / stride + 1);
    // Room for whole steps behind the last position.
    let x = x.pad_with_zeros(1, padding, padding + stride)?.pad_with_zeros(2, padding, padding + stride)?;
    (0..k * k)
        .map(|t| {
            let rows = every(&x, 1, t / k * dilation, stride, ho)?;
            every(&rows, 2, t % k * dilation, stride, wo)
        })
        .collect()
}

pub(crate) fn conv2d(x: &Tensor, w: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let (o, i, k, _) = w.dims4()?;
    let patches = Tensor::cat(&taps(x, k, stride, 1, padding)?, 3)?;
    let kernel = w.permute((0, 2, 3, 1))?.contiguous()?.reshape((o, k * k * i, 1, 1))?;
    pointwise_conv(&patches, &kernel)
}

pub(crate) fn depthwise_conv2d(x: &Tensor, w: &Tensor, stride: usize, dilation: usize) -> Result<Tensor> {
    let (c, _, k, _) = w.dims4()?;
    let w = w.reshape((c, k * k))?;
    let mut sum: Option<Tensor> = None;
    for (t, x) in taps(x, k, stride, dilation, dilation * (k - 1) / 2)?.iter().enumerate() {
        let term = x.broadcast_mul(&w.narrow(1, t, 1)?.reshape(c)?)?;
        sum = Some(match sum {
            Some(sum) => (sum + term)?,
            None => term,
        });
    }
    sum.ok_or_else(|| candle_core::Error::Msg("depthwise_conv2d: empty kernel".into()))
}

pub(crate) fn batch_norm_train(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    act: Activation,
) -> Result<(Tensor, BatchStats)> {
    let c = gamma.dim(0)?;
    let n = x.elem_count() / c;
    let rows = x.reshape((n, c))?;
    let mean = rows.mean_keepdim(0)?;
    let centred = rows.broadcast_sub(&mean)?;
    let var = centred.sqr()?.mean_keepdim(0)?;
    let xhat = centred.broadcast_div(&(&var + eps)?.sqrt()?)?;
    let z = xhat.broadcast_mul(gamma)?.broadcast_add(beta)?;
    let stats =
        BatchStats { mean: mean.detach().reshape(c)?, var: (var.detach().reshape(c)? * (n as f64 / (n - 1) as f64))? };
    Ok((activation(&z, act)?.reshape(x.shape())?, stats))
}

pub(crate) fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let xhat = x.broadcast_sub(&mean.detach())?.broadcast_div(&(var.detach() + eps)?.sqrt()?)?;
    activation(&xhat.broadcast_mul(gamma)?.broadcast_add(beta)?, act)
}

/// `x` where it lies in `(lo, hi)`, the nearer bound elsewhere; no gradient at the bounds.
fn clamp(x: &Tensor, lo: f64, hi: f64) -> Result<Tensor> {
    let fixed = x.detach();
    let inside = (fixed.gt(lo)?.to_dtype(DType::U8)? * fixed.lt(hi)?)?;
    let zeros = fixed.zeros_like()?;
    // The constant part, so that the masked sum below is the clamped value.
    let rest = inside.where_cond(&zeros, &fixed.clamp(lo, hi)?)?;
    inside.where_cond(x, &zeros)? + rest
}

pub(crate) fn activation(x: &Tensor, act: Activation) -> Result<Tensor> {
    // Through tanh: neither the value nor the gradient overflows.
    let sigmoid = |x: &Tensor| (x * 0.5)?.tanh()?.affine(0.5, 0.5);
    let hard_sigmoid = |x: &Tensor| clamp(x, -3.0, 3.0)?.affine(1.0 / 6.0, 0.5);
    match act {
        Activation::Identity => Ok(x.clone()),
        Activation::Relu => clamp(x, 0.0, f64::INFINITY),
        Activation::Relu6 => clamp(x, 0.0, 6.0),
        Activation::HardSwish => x * hard_sigmoid(x)?,
        Activation::Silu => x * sigmoid(x)?,
        Activation::Sigmoid => sigmoid(x),
        Activation::HardSigmoid => hard_sigmoid(x),
    }
}

pub(crate) fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    x.reshape((n, h * w, c))?.mean(1)
}

pub(crate) fn scale_channels(x: &Tensor, s: &Tensor) -> Result<Tensor> {
    let (n, c) = s.dims2()?;
    x.broadcast_mul(&s.reshape((n, 1, 1, c))?)
}

/// `[N, H / k, W / k, C, k k]`
fn windows(x: &Tensor, k: usize) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let (ho, wo) = (h / k, w / k);
    x.narrow(1, 0, ho * k)?
        .narrow(2, 0, wo * k)?
        .contiguous()?
        .reshape(&[n, ho, k, wo, k, c][..])?
        .permute(vec![0, 1, 3, 5, 2, 4])?
        .contiguous()?
        .reshape((n, ho, wo, c, k * k))
}

pub(crate) fn max_pool2d(x: &Tensor, k: usize) -> Result<Tensor> {
    let windows = windows(x, k)?;
    let at = windows.detach().argmax_keepdim(D::Minus1)?;
    windows.gather(&at, D::Minus1)?.squeeze(D::Minus1)
}

pub(crate) fn avg_pool2d(x: &Tensor, k: usize) -> Result<Tensor> {
    windows(x, k)?.mean(D::Minus1)
}

/// The `[out, len]` matrix that interpolates along one axis.
fn matrix(sources: &[Source], len: usize, like: &Tensor) -> Result<Tensor> {
    let mut m = vec![0.0; sources.len() * len];
    for (row, &(low, high, t)) in m.chunks_exact_mut(len).zip(sources) {
        row[low] += 1.0 - t;
        row[high] += t;
    }
    Tensor::from_vec(m, (sources.len(), len), like.device())?.to_dtype(like.dtype())
}

pub(crate) fn upsample_bilinear2d(x: &Tensor, ys: &[Source], xs: &[Source]) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let (ho, wo) = (ys.len(), xs.len());
    let rows = matrix(ys, h, x)?.broadcast_as((n, ho, h))?.contiguous()?;
    let tall = rows.matmul(&x.reshape((n, h, w * c))?)?.reshape((n * ho, w, c))?;
    let cols = matrix(xs, w, x)?.broadcast_as((n * ho, wo, w))?.contiguous()?;
    cols.matmul(&tall)?.reshape((n, ho, wo, c))
}

pub(crate) fn mean_of(xs: &[Tensor]) -> Result<Tensor> {
    let mut sum = xs[0].clone();
    for x in &xs[1..] {
        sum = (sum + x)?;
    }
    sum.affine(1.0 / xs.len() as f64, 0.0)
}

pub(crate) fn bce_loss(p: &Tensor, label: &Tensor) -> Result<Tensor> {
    let (q, y) = (p.detach(), label.detach());
    let rest = q.affine(-1.0, 1.0)?;
    let log = |t: &Tensor| t.log()?.maximum(-100.0);
    let value = ((&y * log(&q)?)? + (y.affine(-1.0, 1.0)? * log(&rest)?)?)?.neg()?.mean_all()?;
    // The slope is clamped as PyTorch's: attach it to `p` by a term whose value is zero.
    let slope = ((&q - &y)? / (&q * rest)?.maximum(1e-12)?)?;
    value + (slope * (p - q)?)?.mean_all()?
}

pub(crate) fn mse_loss(p: &Tensor, target: &Tensor) -> Result<Tensor> {
    (p - target.detach())?.sqr()?.mean_all()
}
