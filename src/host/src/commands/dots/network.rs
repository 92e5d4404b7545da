//! Which network of a genotype, with which weights.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use candle_core::Device;
use inas_dots::data::{Normalise, noise};
use inas_dots::net::{Form, Network, Size};
use inas_dots::train::Trainer;

use super::genotype;

/// Images whose statistics the norms of an untrained network get.
const SETTLING: usize = 2;

#[derive(Debug, clap::Args)]
pub(super) struct NetworkArgs {
    /// Folder of a training, whose network it is, with its weights; or the cells of a network: genotype file (.json),
    /// folder of a search, or name of a published one.
    pub(super) source: String,
    /// Weights of a network of these cells (.safetensors); without them they are random.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Shape of the network of the cells: imagenet or cifar.
    #[arg(long, value_parser = form, default_value = "imagenet")]
    form: Form,
    /// Channels of a node of its first cells.
    #[arg(long, default_value_t = 48)]
    channels: usize,
    /// Its cells.
    #[arg(long, default_value_t = 14)]
    cells: usize,
    /// Its classes.
    #[arg(long, default_value_t = 1000)]
    classes: usize,
    /// Seed of random weights.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

fn form(text: &str) -> Result<Form, String> {
    match text {
        "imagenet" => Ok(Form::ImageNet),
        "cifar" => Ok(Form::Cifar),
        other => Err(format!("`{other}` is neither imagenet nor cifar")),
    }
}

/// A network and how its pictures are normalised.
pub(super) struct Loaded {
    pub(super) net: Network,
    pub(super) normalise: Normalise,
    pub(super) trained: bool,
}

impl NetworkArgs {
    /// The network; norms of an untrained one have the statistics of random images of side `px`.
    pub(super) fn load(&self, px: usize) -> anyhow::Result<Loaded> {
        let dir = Path::new(&self.source);
        if Trainer::is_in(dir) {
            let (net, config) = Trainer::trained(dir)?;
            return Ok(Loaded { net, normalise: config.normalise, trained: true });
        }
        let normalise = if self.form == Form::ImageNet { Normalise::IMAGENET } else { Normalise::default() };
        let size = Size { form: self.form, channels: self.channels, cells: self.cells, classes: self.classes };
        let mut net = Network::new(size, genotype(&self.source)?, false, self.seed)?;
        match &self.weights {
            Some(path) => {
                let tensors = candle_core::safetensors::load(path, &Device::Cpu)
                    .with_context(|| format!("cannot read weights from {}", path.display()))?;
                net.params.load(&tensors).with_context(|| format!("{} has other weights", path.display()))?;
            }
            None => net.settle(&noise(SETTLING, px, self.seed)?)?,
        }
        Ok(Loaded { net, normalise, trained: self.weights.is_some() })
    }
}
