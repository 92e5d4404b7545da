//! `inas train`

use std::path::PathBuf;

use candle_core::Device;
use inas_host::data::{Sample, read_list, read_list_leniently};
use inas_host::supernet::Supernet;
use inas_host::train::{Progress, RUN_PRESETS, RunFile, StepRecord, TrainConfig, TrainDir, Trainer};
use inas_space::Space;

use super::{cancel_flag, hint};
use crate::printer::{Hint, Printer};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Run file (TOML) or preset of one (thesis, iccv21, nano); default: the space's preset, if it has one.
    #[arg(long, value_name = "RUN")]
    pub(super) run: Option<String>,
    /// Preset or space file (.toml); default: the run file's, else nano.
    #[arg(long)]
    pub(super) space: Option<String>,
    /// Training list: `image label` a line, paths relative to the list's folder; default: the run file's.
    #[arg(long, value_name = "LIST")]
    pub(super) data: Option<PathBuf>,
    /// Validation list; without one nothing is validated.
    #[arg(long, value_name = "LIST")]
    pub(super) val_data: Option<PathBuf>,
    /// Folder of the run.
    #[arg(long, short, value_name = "DIR", default_value = "inas-run")]
    pub(super) out: PathBuf,
    /// Continue the run in the folder.
    #[arg(long)]
    pub(super) resume: bool,
    /// Start from this checkpoint (safetensors or the release's .pth).
    #[arg(long, value_name = "FILE")]
    pub(super) init: Option<PathBuf>,
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
            out,
            resume: false,
            init: None,
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
        let space = Space::load(run.space.as_deref().unwrap_or("nano"))?;
        if run.train.px.is_empty() {
            run.train.px = vec![space.input_px];
        }
        for side in &run.train.px {
            space.resolutions(*side)?;
        }
        Ok((run, space))
    }

    fn samples(&self, list: &std::path::Path, printer: Printer) -> anyhow::Result<Vec<Sample>> {
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
    let config = TrainConfig { batch: run.train.batch.min(samples.len()), ..run.train };
    let net = match &args.init {
        Some(path) => Supernet::load(space, path, &Device::Cpu)?,
        None => Supernet::new(space, config.seed, &Device::Cpu)?,
    };
    let values = net.params.count() as f64 / 1e6;
    printer.note(format_args!(
        "Training supernet `{}`, {values:.2} M values, {} images",
        net.space.name,
        samples.len()
    ));
    let bar = printer.bar("train", config.steps as u64);
    let images = (config.batch * config.accumulate) as f64;
    let trainer = Trainer::open(net, config, &args.out, args.resume)?;
    bar.set_position(trainer.step() as u64);
    bar.reset_eta();
    let mut observer = |progress: &Progress<'_>| match progress {
        Progress::Step(record) => {
            bar.set_position(record.step as u64 + 1);
            bar.set_message(step_message(record, images));
        }
        Progress::Validated(records) => {
            let networks: Vec<String> =
                records.iter().map(|r| format!("{} max F {:.4} MAE {:.4}", r.network, r.max_f, r.mae)).collect();
            bar.suspend(|| printer.note(format_args!("  after step {}: {}", records[0].step, networks.join(", "))));
        }
    };
    trainer.run(samples, &validation, &mut observer, cancel_flag())?;
    bar.finish();
    printer.note(format_args!("   Trained {}", dir.supernet().display()));
    Ok(dir)
}

fn step_message(record: &StepRecord, images: f64) -> String {
    let (max, min) = (record.losses[0], record.losses.get(1).copied().unwrap_or(f32::NAN));
    let (rate, waited) = (images / record.seconds, record.data_seconds / record.seconds * 100.0);
    format!("{rate:.1} images/s, loss {max:.3}, smallest {min:.4}, data wait {waited:.0} %")
}
