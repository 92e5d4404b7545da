//! `inas eval`

use std::path::PathBuf;

use inas_host::data::{Sample, decode_pair, read_list};
use inas_host::metrics::{DatasetMetrics, DatasetSummary, ImageMetrics, MapU8};
use inas_runtime::Model;
use rayon::prelude::*;
use serde::Serialize;

use super::profile::RuntimeArgs;
use super::{load, read_file};
use crate::printer::Printer;

/// Images whose maps are held at once.
const CHUNK: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model files (ONNX).
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// List of photos and ground-truth masks.
    #[arg(long, value_name = "LIST")]
    data: PathBuf,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Print one JSON object a model instead of the table.
    #[arg(long)]
    json: bool,
}

/// A model's scores on a list.
#[derive(Debug, Serialize)]
struct Row {
    model: String,
    runtime: String,
    images: usize,
    /// Median over images of the inference alone, ms.
    latency_ms: f64,
    scores: DatasetSummary,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let samples = read_list(&args.data, None)?;
    let runtime = args.runtime.open()?;
    let mut rows = Vec::with_capacity(args.models.len());
    for path in &args.models {
        let mut model = load(&path.display().to_string(), &read_file(path)?, runtime.as_ref())?;
        let bar = printer.bar("eval", samples.len() as u64);
        let (scores, latency_ms) = score(&mut model, &samples, &|| bar.inc(1))?;
        bar.finish_and_clear();
        let row = Row {
            model: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            runtime: runtime.info().name,
            images: samples.len(),
            latency_ms,
            scores,
        };
        if args.json {
            printer.result(serde_json::to_string(&row)?)?;
        }
        rows.push(row);
    }
    if !args.json {
        table(&rows, printer)?;
    }
    Ok(true)
}

/// Scores of a model on `samples`, each at its mask's size, and the median latency in ms.
fn score(model: &mut Model, samples: &[Sample], done: &dyn Fn()) -> anyhow::Result<(DatasetSummary, f64)> {
    let mut metrics = DatasetMetrics::default();
    let mut latencies = Vec::with_capacity(samples.len());
    for chunk in samples.chunks(CHUNK) {
        let mut maps = Vec::with_capacity(chunk.len());
        for sample in chunk {
            let (photo, label) = decode_pair(sample)?;
            let (width, height) = label.dimensions();
            let saliency = model.run(&photo)?;
            latencies.push(saliency.latency_ms());
            let mask = if saliency.mask.dimensions() == (width, height) {
                saliency.mask
            } else {
                image::imageops::resize(&saliency.mask, width, height, image::imageops::FilterType::Triangle)
            };
            maps.push((MapU8::from(mask), MapU8::from(label)));
            done();
        }
        let scored: Vec<_> = maps.par_iter().map(|(map, label)| ImageMetrics::of(map, label)).collect();
        for image in scored {
            metrics.push(&image?);
        }
    }
    latencies.sort_by(f64::total_cmp);
    Ok((metrics.finish()?, latencies[latencies.len() / 2]))
}

/// One line a model, the measures as columns.
fn table(rows: &[Row], printer: Printer) -> anyhow::Result<()> {
    let width = rows.iter().map(|r| r.model.len()).max().unwrap_or(0).max("model".len());
    printer.result(format_args!(
        "{:<width$} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "model", "ms", "max F", "max Fi", "mean F", "wF", "S", "max E", "MAE"
    ))?;
    for row in rows {
        let s = &row.scores;
        printer.result(format_args!(
            "{:<width$} {:>8.2} {:>7.4} {:>7.4} {:>7.4} {:>7.4} {:>7.4} {:>7.4} {:>7.4}",
            row.model, row.latency_ms, s.max_f_of_mean_precision_recall, s.max_f, s.mean_f, s.wfm, s.sm, s.max_e, s.mae
        ))?;
    }
    printer
        .note("max F: of mean precision and recall; max Fi: maximum of the mean F curve; --json prints every measure");
    Ok(())
}
