//! The nested weight-sharing supernet in training form (thesis section 3.2.2, spec section 2).
//!
//! Only the largest network's tensors exist; a sub-network reads their first rows, columns, layers and centre crops.
//! Activations are `[N, H, W, C]`.

mod classify;
mod composed;
mod engine;
mod error;
mod forward;
mod layout;
mod params;
mod recalibrate;
mod reparam;
mod sandwich;
#[cfg(test)]
mod tests;

use std::path::Path;

use candle_core::{Device, Tensor};
use inas_space::{Architecture, Space};

pub use error::{Error, Result};
pub use forward::{BatchNorm, Outputs, Statistics};
pub use params::Params;
pub(crate) use params::short;
pub use recalibrate::recalibrate;
pub(crate) use recalibrate::recalibrate_part;
pub use reparam::Deployed;
pub use sandwich::{Sandwich, Step};

/// BN epsilon of the system.
pub const BN_EPS: f64 = 1e-5;
/// Share of a new batch in the running statistics.
pub const BN_MOMENTUM: f64 = 0.1;
/// Weight of each auxiliary (coarser level) loss.
pub const AUX_WEIGHT: f64 = 0.4;

/// A supernet: a space and its tensors.
#[derive(Debug, Clone)]
pub struct Supernet {
    /// What it holds.
    pub space: Space,
    /// Its tensors.
    pub params: Params,
}

impl Supernet {
    /// A fresh supernet.
    pub fn new(space: Space, seed: u64, device: &Device) -> Result<Self> {
        let params = Params::init(&space, None, seed, device)?;
        Ok(Self { space, params })
    }

    /// A fresh supernet with a classifier, to pre-train its backbone.
    pub fn classifier(space: Space, classes: usize, seed: u64, device: &Device) -> Result<Self> {
        let params = Params::init(&space, Some(classes), seed, device)?;
        Ok(Self { space, params })
    }

    /// A supernet to train further; of a pre-training, or of a backbone alone, only the backbone is taken; of a
    /// larger space's supernet, what this space's networks read of it.
    pub fn start_from(space: Space, path: &Path, seed: u64, device: &Device) -> Result<Self> {
        let params = Params::start_from(&space, path, seed, device)?;
        Ok(Self { space, params })
    }

    /// A supernet from a checkpoint (safetensors or the release's `.pth`).
    pub fn load(space: Space, path: &Path, device: &Device) -> Result<Self> {
        let params = Params::load(&space, path, device)?;
        Ok(Self { space, params })
    }

    /// Saliency map `[N, H, W, 1]` of a sub-network in eval mode, with the supernet's own running statistics.
    pub fn eval(&self, arch: &Architecture, image: &Tensor) -> Result<Tensor> {
        self.eval_with(arch, image, &Statistics::running(&self.params))
    }

    /// As [`Supernet::eval`], with other BN statistics, e.g. recalibrated ones.
    pub fn eval_with(&self, arch: &Architecture, image: &Tensor, statistics: &Statistics) -> Result<Tensor> {
        let mut maps = self.forward(arch, image, &mut BatchNorm::Eval(statistics), Outputs::Finest)?;
        Ok(maps.remove(0))
    }
}
