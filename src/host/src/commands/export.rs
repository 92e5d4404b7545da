//! `inas export`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use inas_graph::Edge;
use inas_host::export::{self, ARCHITECTURE, ExportError, ExportOptions, Format, PARITY_TOLERANCE};
use inas_host::metrics::FastSummary;
use inas_profiler::backend::{self, Backend, RuntimeKind};
use inas_space::Architecture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::search::SupernetArgs;
use super::{archs, read_file, write_file};
use crate::printer::{Hint, Printer};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) supernet: SupernetArgs,
    /// Architecture files (JSON), a front.json of a search, or models that were exported before.
    #[arg(required = true, value_name = "ARCH")]
    pub(super) archs: Vec<PathBuf>,
    /// Of a front, take this many networks spread evenly over its latencies; default: all.
    #[arg(long, value_name = "N")]
    pub(super) pick: Option<usize>,
    /// Folder of the models.
    #[arg(long, short, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Name of the device, the first part of the models' names; default: runtime and threads of the profile.
    #[arg(long)]
    pub(super) device: Option<String>,
    /// Number formats to write; others than fp32 are scored on the validation list in tract and ONNX Runtime.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "fp32")]
    pub(super) format: Vec<Format>,
    /// Put normalisation and rounding into the file: red, green and blue bytes `[1, h, w, 3]` in, a byte mask out.
    #[arg(long)]
    pub(super) pixels: bool,
    /// Leave height and width open in the file; who loads it says them.
    #[arg(long)]
    pub(super) open_size: bool,
    /// ONNX Runtime's shared library; default: ORT_DYLIB_PATH, then a pip-installed onnxruntime.
    #[arg(long, value_name = "FILE")]
    pub(super) ort_lib: Option<PathBuf>,
}

/// A model that was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Model {
    /// `device_lat@…ms_F@…`
    pub(crate) name: String,
    /// File, relative to the folder.
    pub(crate) file: PathBuf,
    pub(crate) hash: String,
    pub(crate) arch: Architecture,
    pub(crate) format: Format,
    pub(crate) predicted_ms: f64,
    pub(crate) f_max: f64,
    pub(crate) mae: f64,
    pub(crate) macs: u64,
    pub(crate) params: u64,
    pub(crate) file_bytes: u64,
    /// Largest difference to the supernet's map on a calibration image.
    pub(crate) parity: f64,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<Vec<Model>> {
    let archs = read_architectures(args)?;
    let (profile, evaluator) = args.supernet.open()?;
    let device = args.device.clone().unwrap_or_else(|| {
        let facts = profile.facts();
        format!("{}-{}t", facts.runtime.name, facts.threads)
    });
    let verifying = if args.format.iter().all(|f| *f == Format::Fp32) {
        vec![]
    } else {
        runtimes(args.ort_lib.as_deref(), printer)?
    };
    let mut models: Vec<Model> = Vec::with_capacity(archs.len() * args.format.len());
    for arch in archs {
        let predicted_ms = profile.model(false).latency(profile.space(), &arch, profile.input_px())?.total().ms();
        let score = evaluator.score(&arch)?;
        let mut base = format!("{device}_lat@{predicted_ms:.2}ms_F@{:.4}", score.max_f);
        if models.iter().any(|m| m.name == base) {
            base = format!("{base}_{}", arch.hash());
        }
        for &format in &args.format {
            let edge = if args.pixels { Edge::Pixels } else { Edge::Floats };
            let name = format!("{base}{}", ending(format, edge));
            let facts = profile.facts();
            let card = json!({
                "name": name, "hash": arch.hash(), "format": format, "device": device, "predicted_ms": predicted_ms,
                "f_max": score.max_f, "mae": score.mae,
                "profile": { "runtime": facts.runtime.name, "threads": facts.threads, "fingerprint": facts.fingerprint },
            });
            let options = ExportOptions {
                format,
                edge,
                dynamic_size: args.open_size,
                card: card.as_object().cloned().unwrap_or_default(),
            };
            let exported = export::export(&evaluator, &arch, &options).map_err(explain)?;
            let file = PathBuf::from(format!("{name}.onnx"));
            write_file(&args.out.join(&file), &exported.onnx)?;
            let shown = args.out.join(&file).display().to_string();
            printer.result(if format == Format::Fp32 {
                format!("{shown}  equals the supernet to {:.1e} (allowed {PARITY_TOLERANCE:.0e})", exported.difference)
            } else {
                format!("{shown}  differs from the supernet by at most {:.1e}", exported.difference)
            })?;
            for (runtime, found) in export::verify(evaluator.images(), &exported.onnx, &verifying)? {
                printer.result(scored(&runtime, &found, &score))?;
            }
            models.push(Model {
                name,
                file,
                hash: arch.hash(),
                arch: arch.clone(),
                format,
                predicted_ms,
                f_max: score.max_f,
                mae: score.mae,
                macs: exported.macs,
                params: exported.params,
                file_bytes: exported.onnx.len() as u64,
                parity: exported.difference,
            });
        }
    }
    write_file(&args.out.join("models.json"), &serde_json::to_vec_pretty(&models)?)?;
    Ok(models)
}

/// Scores of a file in a runtime, with their difference to what they should be.
pub(super) fn scored(runtime: &str, found: &FastSummary, wanted: &FastSummary) -> String {
    let (max_f, mae) = (found.max_f - wanted.max_f, found.mae - wanted.mae);
    format!("  {runtime:<12} max F {:.4} ({max_f:+.4})  MAE {:.4} ({mae:+.4})", found.max_f, found.mae)
}

/// What follows the name of a network in the name of a file: its format, unless that is fp32, and its edge.
pub(super) fn ending(format: Format, edge: Edge) -> String {
    let format = if format == Format::Fp32 { String::new() } else { format!("_{}", format.name()) };
    format + if edge == Edge::Pixels { "_u8" } else { "" }
}

/// tract, and ONNX Runtime where it is installed.
pub(super) fn runtimes(ort_lib: Option<&Path>, printer: Printer) -> anyhow::Result<Vec<Box<dyn Backend>>> {
    let mut runtimes = vec![backend::open(RuntimeKind::Tract, 1, None)?];
    match backend::open(RuntimeKind::Ort, 1, ort_lib) {
        Ok(runtime) => runtimes.push(runtime),
        Err(error) if ort_lib.is_some() => return Err(error.into()),
        Err(error) => printer.note(format_args!("verified by tract only: {error}")),
    }
    Ok(runtimes)
}

fn explain(error: ExportError) -> anyhow::Error {
    match error {
        ExportError::NotEqual { .. } => anyhow::Error::new(error).context(Hint(
            "channels that are off for every image amplify tract's rounding of SiLU: train longer, or take another \
             network of the front"
                .into(),
        )),
        error => error.into(),
    }
}

fn read_architectures(args: &Args) -> anyhow::Result<Vec<Architecture>> {
    let mut found = Vec::new();
    for path in &args.archs {
        let entries = match path.extension() {
            Some(onnx) if onnx.eq_ignore_ascii_case("onnx") => {
                let metadata = inas_graph::metadata(&read_file(path)?)?;
                let arch = metadata.into_iter().find(|(key, _)| key == ARCHITECTURE);
                let arch = arch.with_context(|| format!("{} does not tell its architecture", path.display()))?.1;
                archs::parse(&arch).with_context(|| path.display().to_string())?
            }
            _ => archs::read(path)?,
        };
        found.extend(entries.into_iter().map(|entry| entry.arch));
    }
    let picked = args.pick.unwrap_or(found.len()).min(found.len());
    Ok(spread(found.len(), picked).map(|i| found[i].clone()).collect())
}

/// `n` indices spread evenly over `0..len`, first and last among them when `n > 1`.
pub(crate) fn spread(len: usize, n: usize) -> impl Iterator<Item = usize> {
    (0..n).map(move |i| if n == 1 { len / 2 } else { i * (len - 1) / (n - 1) })
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn picks_span_the_front() {
        assert_eq!(spread(10, 3).collect::<Vec<_>>(), [0, 4, 9]);
        assert_eq!(spread(3, 3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(5, 1).collect::<Vec<_>>(), [2]);
        assert_eq!(spread(0, 0).count(), 0);
    }
}
