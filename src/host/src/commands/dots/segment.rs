//! `inas dots segment`

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use inas_dots::Error;
use inas_dots::data::noise;
use inas_dots::segment::{
    PixelBatch, PixelBatches, PixelSource, SegmentConfig, SegmentRecord, SegmentTrainer, Segmenter,
};
use inas_dots::train::{Progress, Trainer};
use inas_graph::OnnxOptions;
use inas_host::data::{Batch, Loader, LoaderOptions, read_list};
use inas_host::train::run_from_toml;

use super::super::profile::RuntimeArgs;
use super::super::{cancel_flag, write_file};
use super::export::{TOLERANCE, difference};
use super::{continues, genotype, hold, stopped};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of a training in ImageNet's form, whose backbone is where the weights start; or cells for random weights:
    /// genotype file (.json), folder of a search, or name of a published one.
    source: String,
    /// List of photos and label maps. With two classes a map is bright where the second one is; with more its values
    /// are the classes, and 255 counts for nothing.
    #[arg(long, value_name = "LIST")]
    data: PathBuf,
    /// List of validation photos and label maps.
    #[arg(long, value_name = "LIST")]
    val_data: PathBuf,
    /// Side that photos are scaled to, px; a multiple of 32.
    #[arg(long, default_value_t = 256)]
    px: u32,
    /// Smallest share of a photo's area that a random part of it has; 1: photos are not cut.
    #[arg(long, default_value_t = 0.5)]
    least_area: f64,
    /// Override a setting, e.g. `epochs=20`; can be repeated. `--show` prints all.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the settings that result, and stop.
    #[arg(long)]
    show: bool,
    /// Continue the training in the folder, if there is one.
    #[arg(long)]
    resume: bool,
    /// The runtime that checks the exported network.
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Folder of the training, and of network.safetensors and network.onnx in the end.
    #[arg(long, short, value_name = "DIR", default_value = "inas-dots-segment")]
    out: PathBuf,
}

/// Photos and label maps in batches.
struct Photos {
    train: Loader,
    val: Loader,
    px: u32,
    classes: usize,
}

impl Photos {
    /// What is no class is an error of the training.
    fn pixels(&self, batch: Batch) -> inas_dots::Result<PixelBatch> {
        let side = batch.px as usize;
        let images = Tensor::from_vec(batch.images, (batch.n, side, side, 3), &Device::Cpu)?;
        let class = |v: &f32| if self.classes == 2 { u32::from(*v >= 0.5) } else { (v * 255.0).round() as u32 };
        Ok(PixelBatch { images, classes: batch.labels.iter().map(class).collect() })
    }

    fn batches(&self, loader: &Loader, epoch: usize) -> PixelBatches<'_> {
        let px = self.px;
        let batches = loader.epoch(epoch as u64, move |_| Some(px));
        Box::new(batches.map(|batch| self.pixels(batch.map_err(|e| Error::Source(Box::new(e)))?)))
    }
}

impl PixelSource for Photos {
    fn steps(&self) -> usize {
        self.train.batches()
    }

    fn training(&self, epoch: usize) -> PixelBatches<'_> {
        self.batches(&self.train, epoch)
    }

    fn validation(&self) -> PixelBatches<'_> {
        self.batches(&self.val, 0)
    }
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let dir = Path::new(&args.source);
    let backbone = if Trainer::is_in(dir) { Some(Trainer::trained(dir)?) } else { None };
    let mut config: SegmentConfig = run_from_toml("", "settings", &args.set)?;
    let cells = match &backbone {
        Some((net, _)) => {
            (config.channels, config.cells) = (net.size().channels, net.size().cells);
            net.genotype().clone()
        }
        None => genotype(&args.source)?,
    };
    if args.show {
        printer.result(toml::to_string(&config)?.trim_end())?;
        return Ok(true);
    }
    let _held = hold(&args.out)?;
    anyhow::ensure!(args.px.is_multiple_of(32), "{} px is no multiple of 32", args.px);
    let options = LoaderOptions {
        batch: config.batch,
        seed: config.seed,
        shuffle: true,
        flip: true,
        least_area: args.least_area,
        drop_last: true,
        ..LoaderOptions::default()
    };
    let train = Loader::new(read_list(&args.data, None)?, options)?;
    let usual = LoaderOptions { batch: config.batch, ..LoaderOptions::default() };
    let val = Loader::new(read_list(&args.val_data, None)?, usual)?;
    anyhow::ensure!(train.batches() > 0, "fewer photos than a batch of {}", config.batch);
    let photos = Photos { train, val, px: args.px, classes: config.classes };
    let bar = printer.bar("segment", config.epochs as u64);
    let mut trainer = if continues(&args.out, args.resume)? {
        SegmentTrainer::resume(config, cells, &photos, &args.out)?
    } else {
        let mut trainer = SegmentTrainer::new(config, cells, &photos, &args.out)?;
        if let Some((net, _)) = &backbone {
            trainer.net.load_backbone(&net.params.tensors())?;
        }
        trainer
    };
    printer.note(format_args!("Training {} values in {}", trainer.net.params.count(), args.out.display()));
    let mut observer = |progress: &Progress, record: Option<&SegmentRecord>| {
        bar.set_position(progress.epoch as u64);
        bar.set_message(format!("step {}/{}, loss {:.3}", progress.step + 1, progress.steps, progress.loss));
        if let Some(r) = record {
            bar.suspend(|| {
                printer.note(format_args!(
                    "  epoch {:>3} lr {:.4} loss {:.3} mIoU {:.4} pixels {:.4}",
                    r.epoch, r.lr, r.loss, r.mean_iou, r.accuracy
                ));
            });
        }
    };
    let last = trainer.run(&mut observer, cancel_flag())?.ok_or_else(stopped)?;
    bar.finish();
    export(args, &trainer.net, printer)?;
    printer.result(format_args!("mIoU {:.4} after epoch {}", last.mean_iou, last.epoch))?;
    Ok(true)
}

/// Writes the network as ONNX, checked in the runtime.
fn export(args: &Args, net: &Segmenter, printer: Printer) -> anyhow::Result<()> {
    let px = args.px as usize;
    let image = noise(1, px, 0)?;
    let graph = net.graph(px)?;
    let onnx = graph.to_onnx(&OnnxOptions::default())?;
    let difference = difference(args.runtime.open()?.as_ref(), &onnx, &image, &[net.logits(&image)?])?;
    anyhow::ensure!(difference <= TOLERANCE, "the exported network differs by {difference:e} (allowed: {TOLERANCE:e})");
    let path = args.out.join("network.onnx");
    write_file(&path, &onnx)?;
    printer.note(format_args!("  Wrote {}; it differs from the network by {difference:.1e}", path.display()));
    Ok(())
}
