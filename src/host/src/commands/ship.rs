//! `inas ship`: from a trained supernet and a profile to a measured model, in one command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use inas_device::{Bench, Target, bench_on};
use inas_host::export::Format;
use inas_host::search::SearchConfig;
use inas_profiler::measure::Protocol;
use inas_profiler::profile::Profile;
use inas_space::Architecture;
use serde_json::{Value, json};

use super::search::SupernetArgs;
use super::{cancel_flag, export, hint, read_file, read_text, search, write_file};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    supernet: SupernetArgs,
    /// The latency that the shipped network keeps on the device, measured, ms.
    #[arg(long, value_name = "MS")]
    max_latency: f64,
    /// Device: local, adb, adb:SERIAL, ssh:USER@HOST or ssh:USER@HOST:PORT.
    #[arg(long, default_value = "local", value_name = "DEVICE")]
    target: Target,
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
    /// ONNX Runtime's library for the device, when the profile was measured with it.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
    /// `inas-profiler` for the device; default: beside this program, or what scripts/build-device made.
    #[arg(long, value_name = "FILE")]
    profiler_bin: Option<PathBuf>,
    /// Folder on the device to work in.
    #[arg(long, value_name = "DIR")]
    remote_folder: Option<String>,
    /// Leave the measuring program on the device for the next time.
    #[arg(long)]
    keep: bool,
}

/// A network of the front with what is known of it.
struct Candidate {
    arch: Architecture,
    f_max: f64,
    predicted_ms: f64,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let profile = Profile::read(&args.supernet.profile)?;
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
        let (device, benched) = measured(args, &profile, &path)?;
        let ms = benched.latency.median_us / 1e3;
        let kept = ms <= args.max_latency;
        printer.result(format_args!(
            "{}  max F {:.4}, predicted {:.2} ms, measured {ms:.2} ms on {}: {}",
            path.display(),
            model.f_max,
            model.predicted_ms,
            args.target,
            if kept { "shipped" } else { "too slow, the next one" }
        ))?;
        if kept {
            with_card(&path, &json!({ "target": args.target.to_string(), "device": device, "measured": benched }))?;
            printer.note(format_args!("its card: {} (also in the model, `inas.card`)", card_file(&path).display()));
            return Ok(true);
        }
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let tried = candidates.len().min(args.tries);
    let failed = anyhow::anyhow!("none of {tried} networks keeps {} ms on {}", args.max_latency, args.target);
    hint(Err(failed), "calibrate the profile (`inas profile calibrate`), allow more, or raise --tries")
}

/// The front of a search in the folder, begun or continued.
fn searched(args: &Args, printer: Printer) -> anyhow::Result<PathBuf> {
    let out = args.out.join("search");
    let resume = out.join("evaluated.jsonl").exists();
    let search = search::Args {
        resume,
        population: args.population,
        iterations: args.iterations,
        max_latency: Some(args.max_latency),
        ..search::Args::usual(args.supernet.clone(), out.clone())
    };
    search::run(&search, printer)?;
    Ok(out.join("front.json"))
}

fn read_front(path: &Path, profile: &Profile) -> anyhow::Result<Vec<Candidate>> {
    let context = || path.display().to_string();
    let entries: Vec<Value> = serde_json::from_str(&read_text(path)?).with_context(context)?;
    let model = profile.model(false);
    let candidate = |entry: &Value| -> anyhow::Result<Candidate> {
        let arch = Architecture::from_value(entry.get("arch").unwrap_or(entry).clone())?;
        let predicted_ms = model.latency(profile.space(), &arch, profile.input_px())?.total().ms();
        // Without a score, the slower one is taken for the more accurate.
        let f_max = entry.pointer("/score/f_max").or_else(|| entry.get("f_max")).and_then(Value::as_f64);
        Ok(Candidate { arch, f_max: f_max.unwrap_or(predicted_ms / 1e6), predicted_ms })
    };
    entries.iter().map(candidate).collect::<Result<_, _>>().with_context(context)
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

/// The latency on the device, in the profile's runtime.
fn measured(
    args: &Args,
    profile: &Profile,
    model: &Path,
) -> anyhow::Result<(inas_device::Facts, inas_device::Benched)> {
    let facts = profile.facts();
    let with_ort = facts.runtime.name == "onnxruntime";
    let runtime = if with_ort { "ort" } else { "tract" };
    let mut options: Vec<String> = ["--runtime", runtime, "--threads"].map(str::to_owned).to_vec();
    options.push(facts.threads.max(1).to_string());
    let providers = inas_profiler::backend::ExecutionProvider::of(&facts.runtime);
    options.extend(providers.iter().flat_map(|p| ["--ep".to_owned(), p.name().to_owned()]));
    let protocol = Protocol::default();
    let bench = Bench {
        model: model.to_owned(),
        options,
        profiler: args.profiler_bin.clone(),
        ort_lib: args.ort_lib.clone(),
        keep: args.keep,
        silence: Duration::from_secs_f64(protocol.max_wait_seconds + 4.0 * protocol.max_seconds + 60.0),
    };
    let mut device = args.target.open(args.remote_folder.clone())?;
    Ok(bench_on(device.as_mut(), &bench, cancel_flag())?)
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
