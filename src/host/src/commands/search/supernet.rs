//! What tells which supernet is judged, and on which images.

use std::path::PathBuf;

use candle_core::Device;
use inas_host::data::read_list;
use inas_host::evaluate::Evaluator;
use inas_host::supernet::Supernet;
use inas_profiler::profile::Profile;

/// A trained supernet with the images to evaluate it on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EvalArgs {
    /// Trained supernet (safetensors or the release's .pth) of the profile's space.
    #[arg(long, value_name = "FILE")]
    pub(crate) supernet: PathBuf,
    /// Training list, for BN recalibration.
    #[arg(long, value_name = "LIST")]
    pub(crate) train_data: PathBuf,
    /// Validation list.
    #[arg(long, value_name = "LIST")]
    pub(crate) val_data: PathBuf,
    /// Training images for the BN recalibration of each sub-network.
    #[arg(long, default_value_t = 100)]
    pub(crate) calibration: usize,
}

impl EvalArgs {
    /// Loads the supernet and decodes the images at the size that latency was measured at.
    pub(crate) fn evaluator(&self, profile: &Profile) -> anyhow::Result<Evaluator> {
        let net = Supernet::load(profile.space().clone(), &self.supernet, &Device::Cpu)?;
        let (training, validation) = (read_list(&self.train_data, None)?, read_list(&self.val_data, None)?);
        Ok(Evaluator::new(net, training, self.calibration, &validation, profile.input_px(), 0)?)
    }
}

/// The same for one device.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SupernetArgs {
    #[command(flatten)]
    pub(crate) eval: EvalArgs,
    /// Profile folder of the device.
    #[arg(long, value_name = "DIR")]
    pub(crate) profile: PathBuf,
}

impl SupernetArgs {
    pub(crate) fn open(&self) -> anyhow::Result<(Profile, Evaluator)> {
        let profile = Profile::read(&self.profile)?;
        let evaluator = self.eval.evaluator(&profile)?;
        Ok((profile, evaluator))
    }
}
