//! `inas export`

use std::path::PathBuf;

use anyhow::Context as _;
use inas_graph::Edge;
use inas_host::export::{self, ExportError, ExportOptions, Format, PARITY_TOLERANCE};
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
    let verifying = if args.format.iter().all(|f| *f == Format::Fp32) { vec![] } else { runtimes(args, printer)? };
    let mut models: Vec<Model> = Vec::with_capacity(archs.len() * args.format.len());
    for arch in archs {
        let predicted_ms = profile.model(false).latency(profile.space(), &arch, profile.input_px())?.total().ms();
        let score = evaluator.score(&arch)?;
        let mut base = format!("{device}_lat@{predicted_ms:.2}ms_F@{:.4}", score.max_f);
        if models.iter().any(|m| m.name == base) {
            base = format!("{base}_{}", arch.hash());
        }
        for &format in &args.format {
            let name = format!("{base}{}{}", suffix(format), if args.pixels { "_u8" } else { "" });
            let facts = profile.facts();
            let card = json!({
                "name": name, "hash": arch.hash(), "format": format, "device": device, "predicted_ms": predicted_ms,
                "f_max": score.max_f, "mae": score.mae,
                "profile": { "runtime": facts.runtime.name, "threads": facts.threads, "fingerprint": facts.fingerprint },
            });
            let options = ExportOptions {
                format,
                edge: if args.pixels { Edge::Pixels } else { Edge::Floats },
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
            for (runtime, found) in export::verify(&evaluator, &exported.onnx, &verifying)? {
                printer.result(format_args!(
                    "  {runtime:<12} max F {:.4} ({:+.4})  MAE {:.4} ({:+.4})",
                    found.max_f,
                    found.max_f - score.max_f,
                    found.mae,
                    found.mae - score.mae,
                ))?;
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

fn suffix(format: Format) -> &'static str {
    match format {
        Format::Fp32 => "",
        Format::Fp16 => "_fp16",
        Format::Int8 => "_int8",
    }
}

/// tract, and ONNX Runtime where it is installed.
fn runtimes(args: &Args, printer: Printer) -> anyhow::Result<Vec<Box<dyn Backend>>> {
    let mut runtimes = vec![backend::open(RuntimeKind::Tract, 1, None)?];
    match backend::open(RuntimeKind::Ort, 1, args.ort_lib.as_deref()) {
        Ok(runtime) => runtimes.push(runtime),
        Err(error) if args.ort_lib.is_some() => return Err(error.into()),
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
                let arch = metadata.into_iter().find(|(key, _)| key == "inas.architecture");
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
