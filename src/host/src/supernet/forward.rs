//! Running a sub-network in training form.

use std::collections::BTreeMap;

use candle_core::Tensor;
use inas_nn::ops::{Activation, BatchStats};
use inas_nn::tape::{Branch, Gate, Norm, Tape, Weight};
use inas_space::{ActivationKind, Architecture, LevelChoice};

use super::composed::Composed;
use super::engine::{Engine, Then, has_tape};
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
    /// The batch; what was seen is appended, by BN name.
    Observe(&'a mut Vec<(String, BatchStats)>),
    /// Given statistics.
    Eval(&'a Statistics),
}

/// Which saliency maps to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// Every level, finest first (deep supervision).
    All,
    /// Level 0 only, as deployed.
    Finest,
    /// The coarsest features of the backbone `[N, h, w, C]`, before transport and decoder.
    Features,
}

impl Supernet {
    /// Saliency maps `[N, H, W, 1]` in [0, 1], at the input's size, of the sub-network `arch`, without gradients; or its
    /// features.
    ///
    /// `image`: `[N, H, W, 3]`, normalised.
    pub fn forward(
        &self,
        arch: &Architecture,
        image: &Tensor,
        bn: &mut BatchNorm<'_>,
        outputs: Outputs,
    ) -> Result<Vec<Tensor>> {
        if has_tape(image.device()) {
            self.observe(&mut Tape::new(false), arch, image, bn, outputs)
        } else {
            self.observe(&mut Composed::new(false), arch, image, bn, outputs)
        }
    }

    fn observe<E: Engine>(
        &self,
        engine: &mut E,
        arch: &Architecture,
        image: &Tensor,
        bn: &mut BatchNorm<'_>,
        outputs: Outputs,
    ) -> Result<Vec<Tensor>> {
        let fixed = match bn {
            BatchNorm::Observe(_) => None,
            BatchNorm::Eval(statistics) => Some(*statistics),
        };
        let maps = self.run(engine, arch, image, fixed, outputs)?;
        if let BatchNorm::Observe(seen) = bn {
            seen.extend(engine.seen());
        }
        Ok(maps.iter().map(|map| engine.output(map)).collect::<candle_core::Result<_>>()?)
    }

    /// The maps as values of the engine, with the statistics of the batch unless others are given.
    pub(super) fn run<E: Engine>(
        &self,
        engine: &mut E,
        arch: &Architecture,
        image: &Tensor,
        fixed: Option<&Statistics>,
        outputs: Outputs,
    ) -> Result<Vec<E::X>> {
        self.space.validate(arch)?;
        let mut pass = Pass { net: self, act: activation(self.space.activation), fixed, engine };
        let mut levels = pass.backbone(arch, image)?;
        if outputs == Outputs::Features {
            return Ok(levels.split_off(levels.len() - 1));
        }
        let mut decoded =
            (0..levels.len()).map(|i| pass.transport(&arch.transport[i], i, &levels)).collect::<Result<Vec<_>>>()?;
        drop(levels);
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
pub(crate) fn kernel_weights(
    full: &Tensor,
    transform: &Tensor,
    channels: usize,
    kernel: usize,
) -> candle_core::Result<Tensor> {
    let margin = (full.dim(2)? - kernel) / 2;
    let crop = full.narrow(0, 0, channels)?.narrow(2, margin, kernel)?.narrow(3, margin, kernel)?;
    let flat = crop.contiguous()?.reshape((channels, kernel * kernel))?;
    flat.matmul(&transform.t()?)?.reshape((channels, 1, kernel, kernel))
}

struct Pass<'a, E> {
    net: &'a Supernet,
    act: Activation,
    fixed: Option<&'a Statistics>,
    engine: &'a mut E,
}

impl<E: Engine> Pass<'_, E> {
    fn weight(&self, name: String) -> Result<Weight> {
        Ok(Weight { tensor: self.net.params.weight(&name)?.clone(), name })
    }

    fn conv_weight(&self, name: &str) -> Result<Weight> {
        self.weight(format!("{name}.weight"))
    }

    /// The BN `name` over `channels` channels.
    fn norm(&self, name: &str, channels: usize) -> Result<Norm> {
        Ok(Norm {
            name: name.to_owned(),
            affine: Some((self.conv_weight(name)?, self.weight(format!("{name}.bias"))?)),
            fixed: self.fixed.map(|statistics| statistics.get(name, channels)).transpose()?,
            eps: BN_EPS,
        })
    }

    fn pointwise(&mut self, name: &str, x: &E::X, out: usize, act: Activation) -> Result<E::X> {
        let w = self.conv_weight(name)?;
        Ok(self.engine.pointwise(x, None, &w, out, Then { norm: None, residual: None, act })?)
    }

    fn pointwise_bn(&mut self, conv: &str, bn: &str, x: &E::X, out: usize, act: Activation) -> Result<E::X> {
        let (w, norm) = (self.conv_weight(conv)?, self.norm(bn, out)?);
        Ok(self.engine.pointwise(x, None, &w, out, Then { norm: Some(&norm), residual: None, act })?)
    }

    /// Searchable multi-scale unit: mean of the chosen branches (thesis eq. 3.1), then an activation.
    fn smsu(&mut self, prefix: &str, x: &E::X, kernels: &[u32], stride: usize, act: Activation) -> Result<E::X> {
        let channels = E::dims(x)?[3];
        let full = self.weight(format!("{prefix}.conv.weight"))?;
        let branches = kernels
            .iter()
            .map(|kernel| {
                Ok(Branch {
                    kernel: *kernel as usize,
                    transform: self.weight(format!("{prefix}.ks_{kernel}"))?,
                    norm: self.norm(&format!("{prefix}.bn_dict.ks_{kernel}.bn"), channels)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(self.engine.multi_scale(x, &full, &branches, stride, act)?)
    }

    fn squeeze_excite(&self, prefix: &str, mid: usize, reduction: usize) -> Result<Gate> {
        let dense = |name: &str| -> Result<(Weight, Weight)> {
            let name = format!("{prefix}.fc.{name}.conv");
            Ok((self.conv_weight(&name)?, self.weight(format!("{name}.bias"))?))
        };
        Ok(Gate { reduce: dense("reduce")?, expand: dense("expand")?, squeezed: (mid / reduction).max(1) })
    }

    fn mbconv(&mut self, prefix: &str, x: &E::X, layer: MbConv<'_>) -> Result<E::X> {
        let (input, out) = (E::dims(x)?[3], layer.channels);
        let mid = input * layer.expand;
        let (conv, bn) =
            (format!("{prefix}.inverted_bottleneck.conv.conv"), format!("{prefix}.inverted_bottleneck.bn.bn"));
        let y = self.pointwise_bn(&conv, &bn, x, mid, self.act)?;
        let y = self.smsu(&format!("{prefix}.depth_conv.convbn"), &y, layer.kernels, layer.stride, self.act)?;
        let gate = self
            .net
            .space
            .squeeze_excite
            .map(|se| self.squeeze_excite(&format!("{prefix}.depth_conv.se"), mid, se.reduction as usize));
        let gate = gate.transpose()?;
        let mut shortcut = x.clone();
        if layer.stride > 1 {
            shortcut = self.engine.avg_pool(&shortcut, layer.stride)?;
        }
        if input != out {
            shortcut = self.pointwise(&format!("{prefix}.identity_conv.conv"), &shortcut, out, Activation::Identity)?;
        }
        let w = self.conv_weight(&format!("{prefix}.point_linear.conv.conv"))?;
        let norm = self.norm(&format!("{prefix}.point_linear.bn.bn"), out)?;
        let then = Then { norm: Some(&norm), residual: Some(&shortcut), act: Activation::Identity };
        Ok(self.engine.pointwise(&y, gate.as_ref(), &w, out, then)?)
    }

    /// Backbone outputs at the pyramid levels, finest first.
    fn backbone(&mut self, arch: &Architecture, image: &Tensor) -> Result<Vec<E::X>> {
        let space = &self.net.space;
        let (w, out) = (self.conv_weight("backbone.stem.stemconv.conv")?, arch.stem as usize);
        let norm = self.norm("backbone.stem.stemnorm.bn", out)?;
        let x = self.engine.input(image)?;
        let mut x = self.engine.conv(&x, &w, out, space.stem.stride as usize, &norm, self.act)?;
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

    /// Mean of the chosen sources, brought to the level's channels and size.
    fn fuse(
        &mut self,
        part: &str,
        choice: &LevelChoice,
        level: usize,
        levels: &[E::X],
        act: Activation,
    ) -> Result<E::X> {
        let [_, height, width, channels] = E::dims(&levels[level])?;
        let (mut same, mut coarse) = (Vec::new(), Vec::new());
        for source in choice.sources.iter().map(|source| *source as usize) {
            let x = &levels[source];
            if source == level {
                same.push(x.clone());
                continue;
            }
            let prefix = format!("{part}.branches.level_{level}.{source}.{}", branch_operator(level, source));
            let (conv, bn) = (format!("{prefix}.conv.conv"), format!("{prefix}.bn.bn"));
            if source > level {
                coarse.push(self.pointwise_bn(&conv, &bn, x, channels, act)?);
            } else {
                let pooled = self.engine.max_pool(x, E::dims(x)?[1] / height)?;
                same.push(self.pointwise_bn(&conv, &bn, &pooled, channels, act)?);
            }
        }
        Ok(self.engine.fuse(&same, &coarse, (height, width))?)
    }

    /// One multi-scale unit and pointwise convolution of a fusion, with what follows.
    fn fusion_unit(
        &mut self,
        prefix: &str,
        unit: u32,
        x: &E::X,
        kernels: &[u32],
        residual: Option<&E::X>,
    ) -> Result<E::X> {
        let y = self.smsu(&format!("{prefix}.depthwise{unit}"), x, kernels, 1, Activation::Identity)?;
        let channels = E::dims(x)?[3];
        let w = self.conv_weight(&format!("{prefix}.pointwise{unit}.conv"))?;
        let norm = self.norm(&format!("{prefix}.bn{unit}.bn"), channels)?;
        Ok(self.engine.pointwise(&y, None, &w, channels, Then { norm: Some(&norm), residual, act: self.act })?)
    }

    fn transport(&mut self, choice: &LevelChoice, level: usize, levels: &[E::X]) -> Result<E::X> {
        let x = self.fuse("transport", choice, level, levels, Activation::Identity)?;
        let prefix = format!("transport.mainops.level_{level}.fusion");
        let y = self.fusion_unit(&prefix, 1, &x, &choice.kernels, None)?;
        self.fusion_unit(&prefix, 2, &y, &choice.kernels, Some(&x))
    }

    fn decoder(&mut self, choice: &LevelChoice, level: usize, levels: &[E::X]) -> Result<E::X> {
        let x = self.fuse("decoder", choice, level, levels, self.act)?;
        self.fusion_unit(&format!("decoder.mainops.level_{level}.fusion"), 1, &x, &choice.kernels, None)
    }

    fn head(&mut self, level: usize, x: &E::X, size: (usize, usize)) -> Result<E::X> {
        let name = format!("decoder.decoder_dict.level_{level}.conv.conv");
        let y = self.pointwise(&name, x, 1, Activation::Sigmoid)?;
        Ok(self.engine.fuse(&[], &[y], size)?)
    }
}

#[derive(Clone, Copy)]
struct MbConv<'a> {
    channels: usize,
    kernels: &'a [u32],
    expand: usize,
    stride: usize,
}
