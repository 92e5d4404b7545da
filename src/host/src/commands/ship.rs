//! `inas ship`: from a trained supernet and a profile to a measured model, in one command.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use inas_host::export::Format;
use inas_host::search::SearchConfig;
use inas_profiler::profile::Profile;
use inas_space::{Architecture, LatencyBreakdown};
use serde_json::{Value, json};

use super::archs::{self, Entry};
use super::on_device::DeviceArgs;
use super::search::SupernetArgs;
use super::{export, hint, read_file, search, write_file};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    supernet: SupernetArgs,
    /// The latency that the shipped network keeps on the device, measured, ms.
    #[arg(long, value_name = "MS")]
    max_latency: f64,
    /// Folder of the model; a search is kept below it and continued.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Take this front.json instead of searching.
    #[arg(long, value_name = "FILE")]
    front: Option<PathBuf>,
    /// Architectures of the search's first generation.
    #[arg(long, default_value_t = SearchConfig::default().population)]
    population: usize,
    /// Generations of the search after the first.
    #[arg(long, default_value_t = SearchConfig::default().iterations)]
    iterations: usize,
    /// Networks that are measured at most, the most accurate first.
    #[arg(long, default_value_t = 5)]
    tries: usize,
    /// Number format of the model.
    #[arg(long, value_enum, default_value = "fp32")]
    format: Format,
    /// Put normalisation and rounding into the model: bytes in, a byte mask out.
    #[arg(long)]
    pixels: bool,
    /// Leave the measuring program on the device for the next time.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A network of the front with what is known of it.
struct Candidate {
    arch: Architecture,
    f_max: f64,
    predicted_ms: f64,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let profile = Profile::read(&args.supernet.profile)?;
    let target = args.device.target();
    let front = match &args.front {
        Some(front) => front.clone(),
        None => searched(args, printer)?,
    };
    let mut candidates = read_front(&front, &profile)?;
    candidates.retain(|c| c.predicted_ms <= args.max_latency);
    candidates.sort_by(|a, b| b.f_max.total_cmp(&a.f_max));
    if candidates.is_empty() {
        let none = Err(anyhow::anyhow!("no network of {} is predicted below {} ms", front.display(), args.max_latency));
        return hint(none, "search longer, or allow more");
    }
    for candidate in candidates.iter().take(args.tries) {
        let model = exported(args, candidate, printer)?;
        let path = args.out.join(&model.file);
        let found = args.device.measure(&profile, std::slice::from_ref(&path), args.keep, printer)?;
        let benched = found.fastest().next().context("nothing was measured")?;
        let ms = benched.latency.median_us / 1e3;
        let kept = ms <= args.max_latency;
        printer.result(format_args!(
            "{}  max F {:.4}, predicted {:.2} ms, measured {ms:.2} ms on {}: {}",
            path.display(),
            model.f_max,
            model.predicted_ms,
            target,
            if kept { "shipped" } else { "too slow, the next one" }
        ))?;
        if kept {
            with_card(&path, &json!({ "target": target.to_string(), "device": found.facts, "measured": benched }))?;
            printer.note(format_args!("its card: {} (also in the model, `inas.card`)", card_file(&path).display()));
            return Ok(true);
        }
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let tried = candidates.len().min(args.tries);
    let failed = anyhow::anyhow!("none of {tried} networks keeps {} ms on {target}", args.max_latency);
    hint(Err(failed), "calibrate the profile (`inas profile calibrate`), allow more, or raise --tries")
}

/// The front of a search in the folder, begun or continued.
fn searched(args: &Args, printer: Printer) -> anyhow::Result<PathBuf> {
    let out = args.out.join("search");
    let resume = out.join("evaluated.jsonl").exists();
    let search = search::Args {
        resume,
        population: args.population,
        // As many parents as the usual search has for its population.
        keep: args.population.div_ceil(10),
        iterations: args.iterations,
        max_latency: Some(args.max_latency),
        ..search::Args::usual(args.supernet.clone(), out.clone())
    };
    search::run(&search, printer)?;
    Ok(out.join("front.json"))
}

fn read_front(path: &Path, profile: &Profile) -> anyhow::Result<Vec<Candidate>> {
    let rows = archs::latencies(path, &profile.model(false), profile.space(), profile.input_px())?;
    let candidate = |(Entry { arch, json }, sum): (Entry, LatencyBreakdown)| {
        let predicted_ms = sum.total().ms();
        // Without a score, the slower one is taken for the more accurate.
        let f_max = json.pointer("/score/f_max").or_else(|| json.get("f_max")).and_then(Value::as_f64);
        Candidate { arch, f_max: f_max.unwrap_or(predicted_ms / 1e6), predicted_ms }
    };
    Ok(rows.into_iter().map(candidate).collect())
}

fn exported(args: &Args, candidate: &Candidate, printer: Printer) -> anyhow::Result<export::Model> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let arch = args.out.join("architecture.json");
    write_file(&arch, candidate.arch.to_json().as_bytes())?;
    let export = export::Args {
        supernet: args.supernet.clone(),
        archs: vec![arch],
        pick: None,
        out: args.out.clone(),
        device: None,
        format: vec![args.format],
        pixels: args.pixels,
        open_size: false,
        ort_lib: None,
    };
    printer.note(format_args!("exporting {}, predicted {:.2} ms", candidate.arch.hash(), candidate.predicted_ms));
    let models = export::run(&export, Printer::silent())?;
    models.into_iter().next().context("nothing was exported")
}

fn card_file(model: &Path) -> PathBuf {
    model.with_file_name(format!("{}.card.json", model.file_stem().unwrap_or_default().to_string_lossy()))
}

/// Adds what was measured to the card in the model, and writes the card beside it.
fn with_card(model: &Path, found: &Value) -> anyhow::Result<()> {
    let onnx = read_file(model)?;
    let mut pairs = inas_graph::metadata(&onnx)?;
    let entry = pairs.iter_mut().find(|(key, _)| key == "inas.card").context("the model has no card")?;
    let mut card: Value = serde_json::from_str(&entry.1)?;
    card["shipped"] = found.clone();
    entry.1 = card.to_string();
    write_file(model, &inas_graph::with_metadata(&onnx, &pairs)?)?;
    write_file(&card_file(model), &serde_json::to_vec_pretty(&card)?)
}
