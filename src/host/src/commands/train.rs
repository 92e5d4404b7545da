//! `inas train`

use std::path::PathBuf;

use candle_core::Device;
use inas_host::data::read_list;
use inas_host::supernet::Supernet;
use inas_host::train::{TrainConfig, TrainDir, Trainer};
use inas_space::Space;

use super::{cancel_flag, hint};
use crate::printer::Printer;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Preset or space file (.toml).
    #[arg(long, default_value = "nano")]
    pub(super) space: String,
    /// Training list: `image label` a line, paths relative to the list's folder.
    #[arg(long, value_name = "LIST")]
    pub(super) data: PathBuf,
    /// Folder of the run.
    #[arg(long, short, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Continue the run in the folder.
    #[arg(long)]
    pub(super) resume: bool,
    /// Start from this checkpoint (safetensors or the release's .pth).
    #[arg(long, value_name = "FILE")]
    pub(super) init: Option<PathBuf>,
    /// Optimiser steps.
    #[arg(long, default_value_t = TrainConfig::default().steps)]
    pub(super) steps: usize,
    /// Images a step.
    #[arg(long, default_value_t = TrainConfig::default().batch)]
    pub(super) batch: usize,
    /// Base learning rate.
    #[arg(long, default_value_t = TrainConfig::default().lr)]
    pub(super) lr: f64,
    /// Learning-rate factor of transport and decoder.
    #[arg(long, default_value_t = TrainConfig::default().head_lr_factor)]
    pub(super) head_lr_factor: f64,
    /// Steps of linear warm-up.
    #[arg(long, default_value_t = TrainConfig::default().warmup_steps)]
    pub(super) warmup_steps: usize,
    /// Image sides to draw from, px; default: the space's own.
    #[arg(long, value_delimiter = ',')]
    pub(super) px: Vec<u32>,
    /// Random sub-networks a step, beside the largest and the smallest.
    #[arg(long, default_value_t = TrainConfig::default().random_subnets)]
    pub(super) random_subnets: usize,
    /// Do not mirror images.
    #[arg(long)]
    pub(super) no_flip: bool,
    /// Seed of every draw.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = TrainConfig::default().checkpoint_every)]
    pub(super) checkpoint_every: usize,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<TrainDir> {
    let space = Space::load(&args.space)?;
    let px = if args.px.is_empty() { vec![space.input_px] } else { args.px.clone() };
    for side in &px {
        space.resolutions(*side)?;
    }
    let samples = hint(read_list(&args.data, None), "a list holds one `image label` pair of relative paths a line")?;
    let config = TrainConfig {
        steps: args.steps,
        batch: args.batch.min(samples.len()),
        lr: args.lr,
        head_lr_factor: args.head_lr_factor,
        warmup_steps: args.warmup_steps,
        px,
        random_subnets: args.random_subnets,
        flip: !args.no_flip,
        seed: args.seed,
        checkpoint_every: args.checkpoint_every,
        ..TrainConfig::default()
    };
    let net = match &args.init {
        Some(path) => Supernet::load(space, path, &Device::Cpu)?,
        None => Supernet::new(space, args.seed, &Device::Cpu)?,
    };
    let values = net.params.count() as f64 / 1e6;
    printer.note(format_args!(
        "Training supernet `{}`, {values:.2} M values, {} images",
        net.space.name,
        samples.len()
    ));
    let bar = printer.bar("train", config.steps as u64);
    let trainer = Trainer::open(net, config, &args.out, args.resume)?;
    let mut observer = |record: &inas_host::train::StepRecord, _: usize| {
        bar.set_position(record.step as u64 + 1);
        let (max, min) = (record.losses[0], record.losses.get(1).copied().unwrap_or(f32::NAN));
        bar.set_message(format!(
            "loss {max:.3}, smallest {min:.4}, waiting for data {:.0} ms",
            record.data_seconds * 1e3
        ));
    };
    trainer.run(samples, &mut observer, cancel_flag())?;
    bar.finish();
    let dir = TrainDir::new(&args.out);
    printer.note(format_args!("   Trained {}", dir.supernet().display()));
    Ok(dir)
}
