//! What a sub-network is made of: the blocks that a device computes.

use candle_core::{Device, Result, Tensor};
use inas_nn::ops::{Activation, BatchStats};
use inas_nn::tape::{After, Branch, Gate, Norm, Tape, Value, Weight};

/// What follows a convolution: norm, residual, activation.
pub(super) struct Then<'a, X> {
    pub(super) norm: Option<&'a Norm>,
    pub(super) residual: Option<&'a X>,
    pub(super) act: Activation,
}

/// Blocks on activations `[N, H, W, C]`. Weights are whole; a block reads their first rows and columns.
pub(super) trait Engine {
    type X: Clone;
    fn input(&mut self, image: &Tensor) -> Result<Self::X>;
    fn dims(x: &Self::X) -> Result<[usize; 4]>;
    /// Dense convolution, padded by half the kernel.
    fn conv(
        &mut self,
        x: &Self::X,
        w: &Weight,
        out: usize,
        stride: usize,
        norm: &Norm,
        act: Activation,
    ) -> Result<Self::X>;
    /// 1x1 convolution of a gated input.
    fn pointwise(
        &mut self,
        x: &Self::X,
        gate: Option<&Gate>,
        w: &Weight,
        out: usize,
        then: Then<'_, Self::X>,
    ) -> Result<Self::X>;
    /// Mean of normed depthwise convolutions (thesis eq. 3.1).
    fn multi_scale(
        &mut self,
        x: &Self::X,
        w: &Weight,
        branches: &[Branch],
        stride: usize,
        act: Activation,
    ) -> Result<Self::X>;
    fn avg_pool(&mut self, x: &Self::X, k: usize) -> Result<Self::X>;
    fn max_pool(&mut self, x: &Self::X, k: usize) -> Result<Self::X>;
    /// Mean of maps of one size and of coarser ones, upsampled to it.
    fn fuse(&mut self, same: &[Self::X], coarse: &[Self::X], size: (usize, usize)) -> Result<Self::X>;
    fn output(&mut self, x: &Self::X) -> Result<Tensor>;
    /// Statistics of every norm that used those of the batch.
    fn seen(&mut self) -> Vec<(String, BatchStats)>;
}

/// Whether the tape of `inas-nn` computes on a device.
pub(super) fn has_tape(device: &Device) -> bool {
    device.is_cpu()
}

impl Engine for Tape<f32> {
    type X = Value<f32>;

    fn input(&mut self, image: &Tensor) -> Result<Self::X> {
        self.constant(image)
    }

    fn dims(x: &Self::X) -> Result<[usize; 4]> {
        Ok(x.dims())
    }

    fn conv(
        &mut self,
        x: &Self::X,
        w: &Weight,
        out: usize,
        stride: usize,
        norm: &Norm,
        act: Activation,
    ) -> Result<Self::X> {
        self.conv(x, w, out, stride, After { norm: Some(norm), residual: None, act })
    }

    fn pointwise(
        &mut self,
        x: &Self::X,
        gate: Option<&Gate>,
        w: &Weight,
        out: usize,
        then: Then<'_, Self::X>,
    ) -> Result<Self::X> {
        let Then { norm, residual, act } = then;
        self.pointwise(x, gate, w, out, After { norm, residual, act })
    }

    fn multi_scale(
        &mut self,
        x: &Self::X,
        w: &Weight,
        branches: &[Branch],
        stride: usize,
        act: Activation,
    ) -> Result<Self::X> {
        self.multi_scale(x, w, branches, stride, act)
    }

    fn avg_pool(&mut self, x: &Self::X, k: usize) -> Result<Self::X> {
        self.avg_pool(x, k)
    }

    fn max_pool(&mut self, x: &Self::X, k: usize) -> Result<Self::X> {
        self.max_pool(x, k)
    }

    fn fuse(&mut self, same: &[Self::X], coarse: &[Self::X], size: (usize, usize)) -> Result<Self::X> {
        self.fuse(same, coarse, size)
    }

    fn output(&mut self, x: &Self::X) -> Result<Tensor> {
        x.to_tensor()
    }

    fn seen(&mut self) -> Vec<(String, BatchStats)> {
        std::mem::take(&mut self.seen)
    }
}
