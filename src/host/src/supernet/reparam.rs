//! Re-parameterisation: the weights of a sub-network's deployed, single-branch form (thesis eq. 3.2, spec section 5).

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use inas_graph::{ConvSpec, ConvWeights, Weights};
use inas_space::Architecture;

use super::forward::{Statistics, kernel_weights};
use super::{BN_EPS, Error, Result, Supernet};

/// Weights of one sub-network for [`inas_graph::network`]: BNs folded, multi-scale branches merged.
#[derive(Debug)]
pub struct Deployed<'a> {
    net: &'a Supernet,
    statistics: &'a Statistics,
    /// Chosen kernels by the prefix of the multi-scale unit.
    kernels: BTreeMap<String, Vec<u32>>,
}

impl<'a> Deployed<'a> {
    /// The deployed form of `arch` with these BN statistics.
    pub fn new(net: &'a Supernet, arch: &Architecture, statistics: &'a Statistics) -> Result<Self> {
        net.space.validate(arch)?;
        let mut kernels = BTreeMap::new();
        for (i, layers) in arch.stages.iter().enumerate() {
            for (d, layer) in layers.iter().enumerate() {
                kernels.insert(format!("backbone.stage_{}.{d}.depth_conv", i + 1), layer.kernels.clone());
            }
        }
        for (part, levels) in [("transport", &arch.transport), ("decoder", &arch.decoder)] {
            for (i, level) in levels.iter().enumerate() {
                for unit in [1, 2] {
                    kernels.insert(format!("{part}.mainops.level_{i}.fusion.depthwise{unit}"), level.kernels.clone());
                }
            }
        }
        Ok(Self { net, statistics, kernels })
    }

    /// Scale gamma/sigma and shift beta - mu*gamma/sigma of a BN, `[channels]`.
    fn scale_shift(&self, bn: &str, channels: usize) -> Result<(Tensor, Tensor)> {
        let params = &self.net.params;
        let gamma = params.weight(&format!("{bn}.weight"))?.detach().narrow(0, 0, channels)?;
        let beta = params.weight(&format!("{bn}.bias"))?.detach().narrow(0, 0, channels)?;
        let (mean, var) = self.statistics.get(bn, channels)?;
        let scale = gamma.to_dtype(DType::F64)?.div(&(var.to_dtype(DType::F64)? + BN_EPS)?.sqrt()?)?;
        let shift = (beta.to_dtype(DType::F64)? - (mean.to_dtype(DType::F64)? * &scale)?)?;
        Ok((scale, shift))
    }

    fn sliced(&self, name: &str, out: usize, input: usize) -> Result<Tensor> {
        Ok(self.net.params.weight(name)?.detach().narrow(0, 0, out)?.narrow(1, 0, input)?)
    }

    /// Convolution followed by BN.
    fn folded(&self, conv: &str, bn: &str, spec: &ConvSpec) -> Result<ConvWeights> {
        let (out, input) = (spec.out_ch as usize, spec.in_ch as usize);
        let (scale, shift) = self.scale_shift(bn, out)?;
        let weight = self.sliced(&format!("{conv}.weight"), out, input)?.to_dtype(DType::F64)?;
        conv_weights(&weight.broadcast_mul(&scale.reshape((out, 1, 1, 1))?)?, Some(&shift))
    }

    /// Multi-scale unit: each branch is transformed, folded and padded to the largest kernel, then averaged.
    fn merged(&self, prefix: &str, kernels: &[u32], spec: &ConvSpec) -> Result<ConvWeights> {
        let (channels, largest) = (spec.out_ch as usize, spec.kernel as usize);
        let params = &self.net.params;
        let full = params.weight(&format!("{prefix}.conv.weight"))?.detach().to_dtype(DType::F64)?;
        let device = params.device();
        let mut weight = Tensor::zeros((channels, 1, largest, largest), DType::F64, device)?;
        let mut bias = Tensor::zeros(channels, DType::F64, device)?;
        for kernel in kernels {
            let transform = params.weight(&format!("{prefix}.ks_{kernel}"))?.detach().to_dtype(DType::F64)?;
            let branch = kernel_weights(&full, &transform, channels, *kernel as usize)?;
            let (scale, shift) = self.scale_shift(&format!("{prefix}.bn_dict.ks_{kernel}.bn"), channels)?;
            let branch = branch.broadcast_mul(&scale.reshape((channels, 1, 1, 1))?)?;
            let margin = (largest - *kernel as usize) / 2;
            let padded = branch.pad_with_zeros(2, margin, margin)?.pad_with_zeros(3, margin, margin)?;
            weight = (weight + padded)?;
            bias = (bias + shift)?;
        }
        let share = 1.0 / kernels.len() as f64;
        conv_weights(&weight.affine(share, 0.0)?, Some(&bias.affine(share, 0.0)?))
    }

    fn plain(&self, conv: &str, spec: &ConvSpec) -> Result<ConvWeights> {
        let (out, input) = (spec.out_ch as usize, spec.in_ch as usize);
        let weight = self.sliced(&format!("{conv}.weight"), out, input)?;
        let bias = if spec.bias {
            Some(self.net.params.weight(&format!("{conv}.bias"))?.detach().narrow(0, 0, out)?)
        } else {
            None
        };
        conv_weights(&weight, bias.as_ref())
    }

    fn weights_of(&self, spec: &ConvSpec) -> Result<ConvWeights> {
        let name = spec.name.as_str();
        if let Some(kernels) = self.kernels.get(name) {
            let prefix = if name.starts_with("backbone") { format!("{name}.convbn") } else { name.to_owned() };
            return self.merged(&prefix, kernels, spec);
        }
        if name == "backbone.stem" {
            return self.folded("backbone.stem.stemconv.conv", "backbone.stem.stemnorm.bn", spec);
        }
        let folded = |prefix: &str| self.folded(&format!("{prefix}.conv.conv"), &format!("{prefix}.bn.bn"), spec);
        if name.ends_with(".inverted_bottleneck") || name.ends_with(".point_linear") {
            return folded(name);
        }
        if let Some((fusion, unit)) = name.split_once(".pointwise") {
            return self.folded(&format!("{name}.conv"), &format!("{fusion}.bn{unit}.bn"), spec);
        }
        if name.contains(".branches.") {
            let known = |operator: &str| {
                let prefix = format!("{name}.{operator}");
                self.net.params.weight(&format!("{prefix}.conv.conv.weight")).is_ok().then_some(prefix)
            };
            let prefix = known("upsample").or_else(|| known("downsample"));
            return folded(&prefix.ok_or_else(|| Error::NoTensor { name: name.to_owned() })?);
        }
        if name.starts_with("decoder.decoder_dict.") {
            return self.plain(&format!("{name}.conv.conv"), spec);
        }
        // Squeeze-excite layers and the shortcut's 1x1 convolution.
        self.plain(&format!("{name}.conv"), spec)
    }
}

impl Weights for Deployed<'_> {
    fn conv(&mut self, spec: &ConvSpec) -> inas_graph::Result<ConvWeights> {
        self.weights_of(spec).map_err(|e| inas_graph::Error::Weights { conv: spec.name.clone(), reason: e.to_string() })
    }
}

fn conv_weights(weight: &Tensor, bias: Option<&Tensor>) -> Result<ConvWeights> {
    let flat = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    Ok(ConvWeights { weight: flat(weight)?, bias: bias.map(flat).transpose()? })
}
