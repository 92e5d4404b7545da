//! The blocks as compositions of candle operators with candle's own differentiation, on any device.

use candle_core::{Result, Tensor};
use inas_nn::ops::{self, Activation, BatchStats};
use inas_nn::tape::{Branch, Gate, Norm, Weight};

use super::engine::{Engine, Then};
use super::forward::kernel_weights;

/// Candle's graph; it is recorded when `training`.
#[derive(Debug, Default)]
pub(super) struct Composed {
    pub(super) training: bool,
    seen: Vec<(String, BatchStats)>,
}

impl Composed {
    pub(super) fn new(training: bool) -> Self {
        Self { training, seen: Vec::new() }
    }

    fn tensor(&self, w: &Weight) -> Tensor {
        if self.training { w.tensor.clone() } else { w.tensor.detach() }
    }

    fn first(&self, w: &Weight, out: usize, input: usize) -> Result<Tensor> {
        self.tensor(w).narrow(0, 0, out)?.narrow(1, 0, input)?.contiguous()
    }

    fn norm(&mut self, norm: &Norm, x: &Tensor, act: Activation) -> Result<Tensor> {
        let channels = x.dim(3)?;
        let Some((gamma, beta)) = &norm.affine else {
            candle_core::bail!("`{}` has neither scale nor shift", norm.name)
        };
        let (gamma, beta) = (self.tensor(gamma).narrow(0, 0, channels)?, self.tensor(beta).narrow(0, 0, channels)?);
        if let Some((mean, var)) = &norm.fixed {
            return ops::batch_norm_eval(x, &gamma, &beta, mean, var, norm.eps, act);
        }
        let (y, stats) = ops::batch_norm_train(x, &gamma, &beta, norm.eps, act)?;
        self.seen.push((norm.name.clone(), stats));
        Ok(y)
    }

    fn gate(&self, gate: &Gate, x: &Tensor) -> Result<Tensor> {
        let channels = x.dim(3)?;
        let dense = |(w, b): &(Weight, Weight), x: &Tensor, out: usize, input: usize| -> Result<Tensor> {
            let w = self.first(w, out, input)?.reshape((out, input))?;
            x.matmul(&w.t()?)?.broadcast_add(&self.tensor(b).narrow(0, 0, out)?)
        };
        let hidden = dense(&gate.reduce, &ops::global_avg_pool(x)?, gate.squeezed, channels)?;
        let hidden = ops::activation(&hidden, Activation::Relu)?;
        let factors = dense(&gate.expand, &hidden, channels, gate.squeezed)?;
        ops::scale_channels(x, &ops::activation(&factors, Activation::HardSigmoid)?)
    }
}

impl Engine for Composed {
    type X = Tensor;

    fn input(&mut self, image: &Tensor) -> Result<Tensor> {
        Ok(image.clone())
    }

    fn dims(x: &Tensor) -> Result<[usize; 4]> {
        x.dims4().map(|(n, h, w, c)| [n, h, w, c])
    }

    fn conv(
        &mut self,
        x: &Tensor,
        w: &Weight,
        out: usize,
        stride: usize,
        norm: &Norm,
        act: Activation,
    ) -> Result<Tensor> {
        let w = self.first(w, out, x.dim(3)?)?;
        let y = ops::conv2d(x, &w, stride, w.dim(2)? / 2)?;
        self.norm(norm, &y, act)
    }

    fn pointwise(
        &mut self,
        x: &Tensor,
        gate: Option<&Gate>,
        w: &Weight,
        out: usize,
        then: Then<'_, Tensor>,
    ) -> Result<Tensor> {
        let x = gate.map_or_else(|| Ok(x.clone()), |gate| self.gate(gate, x))?;
        let y = ops::pointwise_conv(&x, &self.first(w, out, x.dim(3)?)?)?;
        match (then.norm, then.residual) {
            (Some(norm), None) => self.norm(norm, &y, then.act),
            (Some(norm), Some(r)) => ops::activation(&(self.norm(norm, &y, Activation::Identity)? + r)?, then.act),
            (None, Some(r)) => ops::activation(&(y + r)?, then.act),
            (None, None) => ops::activation(&y, then.act),
        }
    }

    fn multi_scale(
        &mut self,
        x: &Tensor,
        w: &Weight,
        branches: &[Branch],
        stride: usize,
        act: Activation,
    ) -> Result<Tensor> {
        let mut ys = Vec::with_capacity(branches.len());
        for branch in branches {
            let weight = kernel_weights(&self.tensor(w), &self.tensor(&branch.transform), x.dim(3)?, branch.kernel)?;
            let y = ops::depthwise_conv2d(x, &weight, stride, 1)?;
            ys.push(self.norm(&branch.norm, &y, Activation::Identity)?);
        }
        ops::activation(&ops::mean_of(&ys)?, act)
    }

    fn avg_pool(&mut self, x: &Tensor, k: usize) -> Result<Tensor> {
        ops::avg_pool2d(x, k)
    }

    fn max_pool(&mut self, x: &Tensor, k: usize) -> Result<Tensor> {
        ops::max_pool2d(x, k)
    }

    fn fuse(&mut self, same: &[Tensor], coarse: &[Tensor], size: (usize, usize)) -> Result<Tensor> {
        let up = |x: &Tensor| ops::upsample_bilinear2d(x, size.0, size.1, true);
        let coarse = coarse.iter().map(up).collect::<Result<Vec<_>>>()?;
        ops::mean_of(&[same, &coarse].concat())
    }

    fn output(&mut self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }

    fn seen(&mut self) -> Vec<(String, BatchStats)> {
        std::mem::take(&mut self.seen)
    }
}
