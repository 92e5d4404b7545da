//! `inas train`

use std::path::{Path, PathBuf};

use candle_core::Device;
use inas_host::data::{Sample, read_classes, read_list, read_list_leniently};
use inas_host::supernet::Supernet;
use inas_host::train::parallel::{Peers, World};
use inas_host::train::{Lesson, Progress, RUN_PRESETS, RunFile, StepRecord, TrainConfig, TrainDir, Trainer};
use inas_space::Space;

use super::{cancel_flag, hint, hold};
use crate::printer::{Hint, Printer};

#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Args {
    /// Run file (TOML) or preset of one (thesis, iccv21, nano, lite); default: the space's preset, if it has one.
    #[arg(long, value_name = "RUN")]
    pub(super) run: Option<String>,
    /// Preset or space file (.toml); default: the run file's, else nano.
    #[arg(long)]
    pub(super) space: Option<String>,
    /// Training list: `image label` a line, paths relative to the list's folder; default: the run file's.
    #[arg(long, visible_alias = "train-data", value_name = "LIST")]
    pub(super) data: Option<PathBuf>,
    /// Validation list; without one nothing is validated.
    #[arg(long, value_name = "LIST")]
    pub(super) val_data: Option<PathBuf>,
    /// Photos to pre-train the backbone on first: one folder a class, or `train` and `val` of such; default: the run
    /// file's.
    #[arg(long, value_name = "DIR")]
    pub(super) pretrain_data: Option<PathBuf>,
    /// Folder of the run.
    #[arg(long, short, value_name = "DIR", default_value = "inas-run")]
    pub(super) out: PathBuf,
    /// Continue the run in the folder.
    #[arg(long)]
    pub(super) resume: bool,
    /// Start from this checkpoint (safetensors or the release's .pth), which may hold the backbone alone or be a
    /// larger space's; of a pre-training the backbone is taken.
    #[arg(long, value_name = "FILE", conflicts_with = "pretrain_data")]
    pub(super) init: Option<PathBuf>,
    /// Where to train: `cpu`, or `cuda` or `cuda:N` (the program must be built with --features cuda).
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
    /// Train together with other processes, which torchrun or srun starts: one a GPU or machine, on a folder that all see.
    #[arg(long)]
    pub(super) parallel: bool,
    /// Threads that compute; default: the run file's, else one a core.
    #[arg(long)]
    pub(super) threads: Option<usize>,
    /// Override a field of the run file, e.g. `train.ema_teacher=0.999`; can be repeated. `--show` prints all fields.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Print the run file that results, and stop.
    #[arg(long)]
    pub(super) show: bool,
    /// Leave out bad lines of the lists and images that cannot be decoded, instead of stopping there.
    #[arg(long)]
    pub(super) skip_bad: bool,
    /// Optimiser steps (train.steps).
    #[arg(long)]
    pub(super) steps: Option<usize>,
    /// Images at once (train.batch).
    #[arg(long)]
    pub(super) batch: Option<usize>,
    /// Base learning rate (train.lr).
    #[arg(long)]
    pub(super) lr: Option<f64>,
    /// Image sides to draw from, px (train.px).
    #[arg(long, value_delimiter = ',')]
    pub(super) px: Option<Vec<u32>>,
    /// Seed of every draw (train.seed).
    #[arg(long)]
    pub(super) seed: Option<u64>,
}

impl Args {
    /// Arguments that set nothing but where the run is.
    pub(super) fn into_folder(out: PathBuf) -> Self {
        Self {
            run: None,
            space: None,
            data: None,
            val_data: None,
            pretrain_data: None,
            out,
            resume: false,
            init: None,
            device: "cpu".into(),
            parallel: false,
            threads: None,
            set: Vec::new(),
            show: false,
            skip_bad: false,
            steps: None,
            batch: None,
            lr: None,
            px: None,
            seed: None,
        }
    }

    /// The run file with every override.
    fn resolve(&self) -> anyhow::Result<(RunFile, Space)> {
        let named = self.run.clone().or_else(|| {
            let space = self.space.as_deref().unwrap_or("nano");
            RUN_PRESETS.iter().any(|(preset, _)| *preset == space).then(|| space.to_owned())
        });
        let mut run = match named {
            Some(name) => {
                hint(RunFile::load(&name, &self.set), "`inas train --show` prints every field with its value")?
            }
            None if self.set.is_empty() => RunFile::default(),
            None => anyhow::bail!("--set needs a run file: name one with --run"),
        };
        let config = &mut run.train;
        let options = [(&mut config.steps, self.steps), (&mut config.batch, self.batch)];
        for (field, given) in options {
            *field = given.unwrap_or(*field);
        }
        config.lr = self.lr.unwrap_or(config.lr);
        config.seed = self.seed.unwrap_or(config.seed);
        config.px = self.px.clone().unwrap_or_else(|| config.px.clone());
        run.space = self.space.clone().or(run.space).or(Some("nano".into()));
        run.data = self.data.clone().or(run.data);
        run.val_data = self.val_data.clone().or(run.val_data);
        run.pretrain_data = self.pretrain_data.clone().or(run.pretrain_data);
        run.threads = self.threads.or(run.threads);
        let space = Space::load(run.space.as_deref().unwrap_or("nano"))?;
        for config in [&mut run.train, &mut run.pretrain] {
            if config.px.is_empty() {
                config.px = vec![space.input_px];
            }
            for side in &config.px {
                space.resolutions(*side)?;
            }
        }
        Ok((run, space))
    }

    fn samples(&self, list: &Path, printer: Printer) -> anyhow::Result<Vec<Sample>> {
        if !self.skip_bad {
            let form =
                "a list holds one `image label` pair of relative paths a line; --skip-bad leaves out what is bad";
            return hint(read_list(list, None), form);
        }
        let (samples, left_out) = read_list_leniently(list, None)?;
        for error in left_out {
            printer.note(format_args!("left out: {error}"));
        }
        Ok(samples)
    }
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<TrainDir> {
    let (run, space) = args.resolve()?;
    let dir = TrainDir::new(&args.out);
    if args.show {
        printer.result(toml::to_string(&run)?.trim_end())?;
        return Ok(dir);
    }
    let list = run.data.ok_or_else(|| {
        anyhow::anyhow!("no training list").context(Hint("name one with --data, or as `data` in the run file".into()))
    })?;
    let samples = args.samples(&list, printer)?;
    let validation = run.val_data.map(|list| args.samples(&list, printer)).transpose()?.unwrap_or_default();
    if let Some(threads) = run.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1));
        pool.build_global().map_err(|e| anyhow::anyhow!("cannot use {threads} threads: {e}"))?;
    }
    let config = run.train;
    let place = Place::of(args)?;
    let device = place.device.clone();
    let printer = if place.world.as_ref().is_some_and(|w| w.rank > 0) { Printer::new(true) } else { printer };
    let net = match (&args.init, &run.pretrain_data) {
        (Some(path), _) => Supernet::start_from(space, path, config.seed, &device)?,
        (None, Some(photos)) => {
            let backbone = pretrain(args, &space, photos, run.pretrain, &place, printer)?;
            Supernet::start_from(space, &backbone, config.seed, &device)?
        }
        (None, None) => Supernet::new(space, config.seed, &device)?,
    };
    train(net, "train", config, samples, &validation, args, &args.out, &place, printer)?;
    printer.note(format_args!("   Trained {}", dir.supernet().display()));
    Ok(dir)
}

/// Pre-trains a backbone, unless that was done; the checkpoint's file.
fn pretrain(
    args: &Args,
    space: &Space,
    photos: &Path,
    config: TrainConfig,
    place: &Place,
    printer: Printer,
) -> anyhow::Result<PathBuf> {
    let dir = TrainDir::new(&args.out).pretraining();
    let pretrained = dir.supernet();
    if args.resume && pretrained.exists() {
        return Ok(pretrained);
    }
    let split = |name: &str| Some(photos.join(name)).filter(|folder| folder.is_dir());
    let form = "photos are looked for in one folder a class, or in `train` and `val` of such folders";
    let (samples, classes) = hint(read_classes(&split("train").unwrap_or_else(|| photos.to_owned())), form)?;
    let validation = match split("val").filter(|_| split("train").is_some()) {
        Some(folder) => {
            let (photos, found) = hint(read_classes(&folder), form)?;
            anyhow::ensure!(found == classes, "`train` and `val` of {} hold different classes", folder.display());
            photos
        }
        None => Vec::new(),
    };
    let net = Supernet::classifier(space.clone(), classes.len(), config.seed, &place.device)?;
    train(net, "pre-train", config, samples, &validation, args, dir.path(), place, printer)?;
    Ok(pretrained)
}

/// One training run with its progress.
#[expect(clippy::too_many_arguments, reason = "each is one thing that a run is made of")]
fn train<S: Lesson>(
    net: Supernet,
    what: &'static str,
    config: TrainConfig,
    samples: Vec<S>,
    validation: &[S],
    args: &Args,
    dir: &Path,
    place: &Place,
    printer: Printer,
) -> anyhow::Result<()> {
    let config = TrainConfig { batch: config.batch.min(samples.len()), ..config };
    let (values, images) = (net.params.count() as f64 / 1e6, samples.len());
    printer.note(format_args!("{what}: supernet `{}`, {values:.2} M values, {images} images", net.space.name));
    let bar = printer.bar(what, config.steps as u64);
    let images = (config.batch * config.accumulate) as f64;
    let second = if config.smallest { "smallest" } else { "random" };
    let first = place.world.as_ref().is_none_or(|world| world.rank == 0);
    let _held = first.then(|| hold(dir)).transpose()?;
    let peers = place.world.as_ref().map(|world| Peers::connect(world, &place.device)).transpose()?.unwrap_or_default();
    let trainer = Trainer::open(net, config, dir, args.resume, peers)?;
    bar.set_position(trainer.step() as u64);
    bar.reset_eta();
    let mut observer = |progress: &Progress<'_>| match progress {
        Progress::Step(record) => {
            bar.set_position(record.step as u64 + 1);
            bar.set_message(step_message(record, images, second));
        }
        Progress::Validated(records) => {
            let networks: Vec<String> =
                records.iter().map(|r| format!("{} {}", full_name(&r.network), r.score)).collect();
            bar.suspend(|| printer.note(format_args!("  after step {}: {}", records[0].step, networks.join("; "))));
        }
    };
    trainer.run(samples, validation, &mut observer, cancel_flag())?;
    bar.finish();
    Ok(())
}

/// Where a run computes.
struct Place {
    device: Device,
    world: Option<World>,
}

impl Place {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let world = args.parallel.then(World::from_environment).transpose()?;
        let (kind, number) = args.device.split_once(':').map_or((&*args.device, None), |(kind, n)| (kind, Some(n)));
        let device = match (kind, number) {
            ("cpu", None) => Device::Cpu,
            ("cuda", number) => {
                let number = number.map(str::parse).transpose().map_err(|_| wrong_device(&args.device))?;
                let number = number.or(world.as_ref().map(|w| w.local_rank)).unwrap_or(0);
                let hint_text = "build with `--features cuda` on a machine with an NVIDIA GPU, or leave --device out";
                hint(Device::new_cuda(number), hint_text)?
            }
            _ => return Err(wrong_device(&args.device)),
        };
        Ok(Self { device, world })
    }
}

fn wrong_device(device: &str) -> anyhow::Error {
    anyhow::anyhow!("no device `{device}`").context(Hint("cpu, cuda or cuda:N".into()))
}

/// What people call a validated network.
fn full_name(network: &str) -> &str {
    match network {
        "max" => "largest:",
        "min" => "smallest:",
        random => random,
    }
}

/// `second` is the kind of network whose loss follows that of the largest one.
fn step_message(record: &StepRecord, images: f64, second: &str) -> String {
    let max = record.losses[0];
    let second = record.losses.get(1).map(|loss| format!(", {second} {loss:.4}")).unwrap_or_default();
    let (rate, waited) = (images / record.seconds, record.data_seconds / record.seconds * 100.0);
    format!("{rate:.1} images/s, loss {max:.3}{second}, data wait {waited:.0} %")
}
