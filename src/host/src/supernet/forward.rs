//! Running a sub-network in training form.

use std::collections::BTreeMap;

use candle_core::Tensor;
use inas_nn::ops::{self, Activation, BatchStats};
use inas_space::{ActivationKind, Architecture, LevelChoice};

use super::layout::branch_operator;
use super::params::Params;
use super::{BN_EPS, Result, Supernet};

/// Mean and variance of every BN, `[C]` each.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    by_name: BTreeMap<String, (Tensor, Tensor)>,
}

impl Statistics {
    /// The running statistics that the supernet carries.
    pub fn running(params: &Params) -> Self {
        let mut by_name = BTreeMap::new();
        for (name, mean) in &params.buffers {
            if let Some(prefix) = name.strip_suffix(".running_mean")
                && let Some(var) = params.buffers.get(&format!("{prefix}.running_var"))
            {
                by_name.insert(prefix.to_owned(), (mean.clone(), var.clone()));
            }
        }
        Self { by_name }
    }

    pub(crate) fn insert(&mut self, name: String, mean: Tensor, var: Tensor) {
        self.by_name.insert(name, (mean, var));
    }

    /// Statistics of the first `channels` channels of a BN.
    pub(crate) fn get(&self, name: &str, channels: usize) -> Result<(Tensor, Tensor)> {
        let missing = || super::Error::NoTensor { name: format!("{name}.running_mean") };
        let (mean, var) = self.by_name.get(name).ok_or_else(missing)?;
        Ok((mean.narrow(0, 0, channels)?, var.narrow(0, 0, channels)?))
    }
}

/// Where BN takes its statistics from.
#[derive(Debug)]
pub enum BatchNorm<'a> {
    /// The batch; what was seen is appended, by BN name, and gradients are recorded.
    Train(&'a mut Vec<(String, BatchStats)>),
    /// The batch, appended as in training, but without gradients.
    Observe(&'a mut Vec<(String, BatchStats)>),
    /// Given statistics, without gradients.
    Eval(&'a Statistics),
}

/// Which saliency maps to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// Every level, finest first (deep supervision).
    All,
    /// Level 0 only, as deployed.
    Finest,
}

impl Supernet {
    /// Saliency maps `[N, H, W, 1]` in [0, 1], at the input's size, of the sub-network `arch`.
    ///
    /// `image`: `[N, H, W, 3]`, normalised.
    pub fn forward(
        &self,
        arch: &Architecture,
        image: &Tensor,
        bn: &mut BatchNorm<'_>,
        outputs: Outputs,
    ) -> Result<Vec<Tensor>> {
        self.space.validate(arch)?;
        let mut pass = Pass { net: self, act: activation(self.space.activation), bn };
        let levels = pass.backbone(arch, image)?;
        let transported =
            (0..levels.len()).map(|i| pass.transport(&arch.transport[i], i, &levels)).collect::<Result<Vec<_>>>()?;
        let mut decoded = transported;
        for i in (0..decoded.len()).rev() {
            decoded[i] = pass.decoder(&arch.decoder[i], i, &decoded)?;
        }
        let (_, height, width, _) = image.dims4()?;
        let heads = if outputs == Outputs::All { decoded.len() } else { 1 };
        (0..heads).map(|i| pass.head(i, &decoded[i], (height, width))).collect()
    }
}

/// The operator of an activation choice.
pub(crate) fn activation(kind: ActivationKind) -> Activation {
    match kind {
        ActivationKind::Silu => Activation::Silu,
        ActivationKind::Relu => Activation::Relu,
        ActivationKind::Relu6 => Activation::Relu6,
        ActivationKind::HardSwish => Activation::HardSwish,
    }
}

/// Transformed centre crop of a multi-scale unit's depthwise tensor, `[channels, 1, kernel, kernel]`.
pub(crate) fn kernel_weights(full: &Tensor, transform: &Tensor, channels: usize, kernel: usize) -> Result<Tensor> {
    let margin = (full.dim(2)? - kernel) / 2;
    let crop = full.narrow(0, 0, channels)?.narrow(2, margin, kernel)?.narrow(3, margin, kernel)?;
    let flat = crop.contiguous()?.reshape((channels, kernel * kernel))?;
    Ok(flat.matmul(&transform.t()?)?.reshape((channels, 1, kernel, kernel))?)
}

struct Pass<'a, 'b> {
    net: &'a Supernet,
    act: Activation,
    bn: &'a mut BatchNorm<'b>,
}

impl Pass<'_, '_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let tensor = self.net.params.weight(name)?;
        Ok(if matches!(self.bn, BatchNorm::Train(_)) { tensor.clone() } else { tensor.detach() })
    }

    /// First `out` rows and `input` columns of a convolution.
    fn conv_weight(&self, name: &str, out: usize, input: usize) -> Result<Tensor> {
        Ok(self.tensor(&format!("{name}.weight"))?.narrow(0, 0, out)?.narrow(1, 0, input)?.contiguous()?)
    }

    fn pointwise(&self, name: &str, x: &Tensor, out: usize) -> Result<Tensor> {
        Ok(ops::pointwise_conv(x, &self.conv_weight(name, out, x.dim(3)?)?)?)
    }

    fn batch_norm(&mut self, name: &str, x: &Tensor, act: Activation) -> Result<Tensor> {
        let channels = x.dim(3)?;
        let gamma = self.tensor(&format!("{name}.weight"))?.narrow(0, 0, channels)?;
        let beta = self.tensor(&format!("{name}.bias"))?.narrow(0, 0, channels)?;
        match &mut *self.bn {
            BatchNorm::Train(seen) | BatchNorm::Observe(seen) => {
                let (y, stats) = ops::batch_norm_train(x, &gamma, &beta, BN_EPS, act)?;
                seen.push((name.to_owned(), stats));
                Ok(y)
            }
            BatchNorm::Eval(statistics) => {
                let (mean, var) = statistics.get(name, channels)?;
                Ok(ops::batch_norm_eval(x, &gamma, &beta, &mean, &var, BN_EPS, act)?)
            }
        }
    }

    fn pointwise_bn(&mut self, conv: &str, bn: &str, x: &Tensor, out: usize, act: Activation) -> Result<Tensor> {
        let y = self.pointwise(conv, x, out)?;
        self.batch_norm(bn, &y, act)
    }

    /// Searchable multi-scale unit: mean of the chosen branches (thesis eq. 3.1).
    fn smsu(&mut self, prefix: &str, x: &Tensor, kernels: &[u32], stride: usize) -> Result<Tensor> {
        let channels = x.dim(3)?;
        let full = self.tensor(&format!("{prefix}.conv.weight"))?;
        let mut branches = Vec::with_capacity(kernels.len());
        for kernel in kernels {
            let transform = self.tensor(&format!("{prefix}.ks_{kernel}"))?;
            let weight = kernel_weights(&full, &transform, channels, *kernel as usize)?;
            let y = ops::depthwise_conv2d(x, &weight, stride, 1)?;
            branches.push(self.batch_norm(&format!("{prefix}.bn_dict.ks_{kernel}.bn"), &y, Activation::Identity)?);
        }
        Ok(ops::mean_of(&branches)?)
    }

    fn squeeze_excite(&self, prefix: &str, x: &Tensor, reduction: usize) -> Result<Tensor> {
        let mid = x.dim(3)?;
        let squeezed = (mid / reduction).max(1);
        let pooled = ops::global_avg_pool(x)?;
        let dense = |name: &str, x: &Tensor, out: usize, input: usize| -> Result<Tensor> {
            let name = format!("{prefix}.fc.{name}.conv");
            let weight = self.conv_weight(&name, out, input)?.reshape((out, input))?;
            let bias = self.tensor(&format!("{name}.bias"))?.narrow(0, 0, out)?;
            Ok(x.matmul(&weight.t()?)?.broadcast_add(&bias)?)
        };
        let hidden = ops::activation(&dense("reduce", &pooled, squeezed, mid)?, Activation::Relu)?;
        let scale = ops::activation(&dense("expand", &hidden, mid, squeezed)?, Activation::HardSigmoid)?;
        Ok(ops::scale_channels(x, &scale)?)
    }

    fn mbconv(&mut self, prefix: &str, x: &Tensor, layer: MbConv<'_>) -> Result<Tensor> {
        let (input, out) = (x.dim(3)?, layer.channels);
        let (conv, bn) =
            (format!("{prefix}.inverted_bottleneck.conv.conv"), format!("{prefix}.inverted_bottleneck.bn.bn"));
        let y = self.pointwise_bn(&conv, &bn, x, input * layer.expand, self.act)?;
        let y = self.smsu(&format!("{prefix}.depth_conv.convbn"), &y, layer.kernels, layer.stride)?;
        let mut y = ops::activation(&y, self.act)?;
        if let Some(se) = self.net.space.squeeze_excite {
            y = self.squeeze_excite(&format!("{prefix}.depth_conv.se"), &y, se.reduction as usize)?;
        }
        let (conv, bn) = (format!("{prefix}.point_linear.conv.conv"), format!("{prefix}.point_linear.bn.bn"));
        let y = self.pointwise_bn(&conv, &bn, &y, out, Activation::Identity)?;
        let mut shortcut = x.clone();
        if layer.stride > 1 {
            shortcut = ops::avg_pool2d(&shortcut, layer.stride)?;
        }
        if input != out {
            shortcut = self.pointwise(&format!("{prefix}.identity_conv.conv"), &shortcut, out)?;
        }
        Ok((y + shortcut)?)
    }

    /// Backbone outputs at the pyramid levels, finest first.
    fn backbone(&mut self, arch: &Architecture, image: &Tensor) -> Result<Vec<Tensor>> {
        let space = &self.net.space;
        let weight = self.conv_weight("backbone.stem.stemconv.conv", arch.stem as usize, image.dim(3)?)?;
        let x = ops::conv2d(image, &weight, space.stem.stride as usize, space.stem.kernel as usize / 2)?;
        let mut x = self.batch_norm("backbone.stem.stemnorm.bn", &x, self.act)?;
        let mut levels = Vec::with_capacity(space.levels.len());
        for (i, (layers, stage)) in arch.stages.iter().zip(&space.stages).enumerate() {
            for (d, layer) in layers.iter().enumerate() {
                let layer = MbConv {
                    channels: layer.channels as usize,
                    kernels: &layer.kernels,
                    expand: stage.expand as usize,
                    stride: if d == 0 { stage.stride as usize } else { 1 },
                };
                x = self.mbconv(&format!("backbone.stage_{}.{d}", i + 1), &x, layer)?;
            }
            if space.levels.iter().any(|l| l.stage as usize == i + 1) {
                levels.push(x.clone());
            }
        }
        Ok(levels)
    }

    fn branch(
        &mut self,
        part: &str,
        level: usize,
        source: usize,
        levels: &[Tensor],
        act: Activation,
    ) -> Result<Tensor> {
        if source == level {
            return Ok(levels[level].clone());
        }
        let prefix = format!("{part}.branches.level_{level}.{source}.{}", branch_operator(level, source));
        let (conv, bn) = (format!("{prefix}.conv.conv"), format!("{prefix}.bn.bn"));
        let (_, height, width, channels) = levels[level].dims4()?;
        if source > level {
            let y = self.pointwise_bn(&conv, &bn, &levels[source], channels, act)?;
            Ok(ops::upsample_bilinear2d(&y, height, width, true)?)
        } else {
            let ratio = levels[source].dim(1)? / height;
            let pooled = ops::max_pool2d(&levels[source], ratio)?;
            self.pointwise_bn(&conv, &bn, &pooled, channels, act)
        }
    }

    fn fuse(
        &mut self,
        part: &str,
        choice: &LevelChoice,
        level: usize,
        levels: &[Tensor],
        act: Activation,
    ) -> Result<Tensor> {
        let branches = choice
            .sources
            .iter()
            .map(|source| self.branch(part, level, *source as usize, levels, act))
            .collect::<Result<Vec<_>>>()?;
        Ok(ops::mean_of(&branches)?)
    }

    /// One multi-scale unit and pointwise convolution of a fusion.
    fn fusion_unit(&mut self, prefix: &str, unit: u32, x: &Tensor, kernels: &[u32], act: Activation) -> Result<Tensor> {
        let y = self.smsu(&format!("{prefix}.depthwise{unit}"), x, kernels, 1)?;
        let channels = x.dim(3)?;
        self.pointwise_bn(
            &format!("{prefix}.pointwise{unit}.conv"),
            &format!("{prefix}.bn{unit}.bn"),
            &y,
            channels,
            act,
        )
    }

    fn transport(&mut self, choice: &LevelChoice, level: usize, levels: &[Tensor]) -> Result<Tensor> {
        let x = self.fuse("transport", choice, level, levels, Activation::Identity)?;
        let prefix = format!("transport.mainops.level_{level}.fusion");
        let y = self.fusion_unit(&prefix, 1, &x, &choice.kernels, self.act)?;
        let y = self.fusion_unit(&prefix, 2, &y, &choice.kernels, Activation::Identity)?;
        Ok(ops::activation(&(x + y)?, self.act)?)
    }

    fn decoder(&mut self, choice: &LevelChoice, level: usize, levels: &[Tensor]) -> Result<Tensor> {
        let x = self.fuse("decoder", choice, level, levels, self.act)?;
        self.fusion_unit(&format!("decoder.mainops.level_{level}.fusion"), 1, &x, &choice.kernels, self.act)
    }

    fn head(&self, level: usize, x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
        let y = self.pointwise(&format!("decoder.decoder_dict.level_{level}.conv.conv"), x, 1)?;
        let y = ops::activation(&y, Activation::Sigmoid)?;
        Ok(ops::upsample_bilinear2d(&y, size.0, size.1, true)?)
    }
}

#[derive(Clone, Copy)]
struct MbConv<'a> {
    channels: usize,
    kernels: &'a [u32],
    expand: usize,
    stride: usize,
}
