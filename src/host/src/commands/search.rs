//! `inas search`

use std::path::PathBuf;

use anyhow::Context as _;
use candle_core::Device;
use inas_host::data::read_list;
use inas_host::evaluate::Evaluator;
use inas_host::search::{self, Objective, SamplerKind, Score, SearchConfig, SearchResult, Strategy, TablePredictor};
use inas_host::supernet::Supernet;
use inas_profiler::profile::Profile;
use inas_space::{Architecture, Micros};
use sha2::{Digest as _, Sha256};

use super::{cancel_flag, write_file};
use crate::printer::Printer;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) supernet: SupernetArgs,
    /// Folder of the search.
    #[arg(long, short, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Continue the search in the folder.
    #[arg(long)]
    pub(super) resume: bool,
    /// Architectures of the first generation (N).
    #[arg(long, default_value_t = SearchConfig::default().population)]
    pub(super) population: usize,
    /// Latency groups (G).
    #[arg(long, default_value_t = SearchConfig::default().groups)]
    pub(super) groups: usize,
    /// Architectures kept, and made, a generation (k).
    #[arg(long, default_value_t = SearchConfig::default().keep)]
    pub(super) keep: usize,
    /// Generations after the first.
    #[arg(long, default_value_t = SearchConfig::default().iterations)]
    pub(super) iterations: usize,
    /// Crossover probability per stage and level.
    #[arg(long, default_value_t = SearchConfig::default().crossover)]
    pub(super) crossover: f64,
    /// Mutation probability per choice.
    #[arg(long, default_value_t = SearchConfig::default().mutation)]
    pub(super) mutation: f64,
    /// How the first generation is drawn.
    #[arg(long, value_enum, default_value_t = SearchConfig::default().sampler)]
    pub(super) sampler: SamplerKind,
    /// How the search goes on.
    #[arg(long, value_enum, default_value_t = SearchConfig::default().strategy)]
    pub(super) strategy: Strategy,
    /// Keep only architectures predicted to be at most this slow, ms.
    #[arg(long, value_name = "MS")]
    pub(super) max_latency: Option<f64>,
    /// Predict by the sum over the blocks even when the profile is calibrated.
    #[arg(long)]
    pub(super) plain_sum: bool,
    /// Seed of every draw.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

/// A trained supernet with the images to evaluate it on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SupernetArgs {
    /// Trained supernet (safetensors or the release's .pth) of the profile's space.
    #[arg(long, value_name = "FILE")]
    pub(super) supernet: PathBuf,
    /// Profile folder of the device.
    #[arg(long, value_name = "DIR")]
    pub(super) profile: PathBuf,
    /// Training list, for BN recalibration.
    #[arg(long, value_name = "LIST")]
    pub(super) train_data: PathBuf,
    /// Validation list.
    #[arg(long, value_name = "LIST")]
    pub(super) val_data: PathBuf,
    /// Training images for the BN recalibration of each sub-network.
    #[arg(long, default_value_t = 100)]
    pub(super) calibration: usize,
}

impl SupernetArgs {
    /// Hash over the weights, the lists and the number of calibration images.
    fn identity(&self) -> anyhow::Result<String> {
        let mut hasher = Sha256::new();
        for path in [&self.supernet, &self.train_data, &self.val_data] {
            hasher.update(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        hasher.update(self.calibration.to_le_bytes());
        Ok(hasher.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat())
    }

    pub(super) fn open(&self) -> anyhow::Result<(Profile, Evaluator)> {
        let profile = Profile::read(&self.profile)?;
        let evaluator = self.evaluator(&profile)?;
        Ok((profile, evaluator))
    }

    fn evaluator(&self, profile: &Profile) -> anyhow::Result<Evaluator> {
        let net = Supernet::load(profile.space().clone(), &self.supernet, &Device::Cpu)?;
        let (training, validation) = (read_list(&self.train_data, None)?, read_list(&self.val_data, None)?);
        // Accuracy is measured at the size that latency was measured at.
        Ok(Evaluator::new(net, training, self.calibration, &validation, profile.input_px(), 0)?)
    }
}

/// Inherited-weight accuracy on the validation list.
struct Accuracy<'a> {
    evaluator: &'a Evaluator,
    /// Names weights, data and recalibration, so that a log is not resumed with others.
    identity: String,
}

impl Objective for Accuracy<'_> {
    fn evaluate(&mut self, arch: &Architecture) -> Result<Score, Box<dyn std::error::Error + Send + Sync>> {
        let score = self.evaluator.score(arch)?;
        Ok(Score { f_max: score.max_f, mae: score.mae })
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<SearchResult> {
    let profile = Profile::read(&args.supernet.profile)?;
    let space = profile.space();
    let predictor = TablePredictor::new(space, &profile.model(args.plain_sum), profile.input_px())?;
    let config = SearchConfig {
        population: args.population,
        groups: args.groups,
        keep: args.keep,
        iterations: args.iterations,
        crossover: args.crossover,
        mutation: args.mutation,
        seed: args.seed,
        sampler: args.sampler,
        strategy: args.strategy,
        max_latency: args.max_latency.map(Micros::from_ms),
    };
    // Before any image is read.
    search::check(&predictor, &config)?;
    let evaluator = args.supernet.evaluator(&profile)?;
    let log = args.out.join("evaluated.jsonl");
    if log.exists() && !args.resume {
        return super::hint(
            Err(anyhow::anyhow!("{} holds a search already", args.out.display())),
            "continue it with --resume, or choose another folder",
        );
    }
    std::fs::create_dir_all(&args.out)?;
    let bar = printer.bar("search", 0);
    let mut observer = |p: &search::Progress| {
        bar.set_length(p.total as u64);
        bar.set_position(p.evaluated as u64);
        bar.set_message(format!("generation {}, best F {:.4}", p.generation, p.best));
    };
    let mut accuracy = Accuracy { evaluator: &evaluator, identity: args.supernet.identity()? };
    let result = search::run(space, &predictor, &mut accuracy, &config, Some(&log), &mut observer, cancel_flag())?;
    bar.finish_and_clear();
    search::write_front_csv(&args.out.join("front.csv"), &result.front)?;
    search::write_front_json(&args.out.join("front.json"), &result.front)?;
    write_file(&args.out.join("search.json"), &serde_json::to_vec(&result)?)?;
    printer.note(format_args!(
        "  Searched {} architectures, {} on the front: {}",
        result.evaluated.len(),
        result.front.len(),
        args.out.join("front.csv").display()
    ));
    Ok(result)
}
