//! `inas export`

use std::path::PathBuf;

use anyhow::Context as _;
use inas_host::export::{self, ExportError, PARITY_TOLERANCE};
use inas_space::Architecture;
use serde::{Deserialize, Serialize};

use super::search::SupernetArgs;
use super::{read_text, write_file};
use crate::printer::{Hint, Printer};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) supernet: SupernetArgs,
    /// Architecture files (JSON), or a front.json of a search.
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
    pub(crate) predicted_ms: f64,
    pub(crate) f_max: f64,
    pub(crate) mae: f64,
    pub(crate) macs: u64,
    pub(crate) params: u64,
    pub(crate) file_bytes: u64,
    /// Largest difference to the supernet's map.
    pub(crate) parity: f64,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<Vec<Model>> {
    let archs = read_architectures(args)?;
    let (profile, evaluator) = args.supernet.open()?;
    let device = args.device.clone().unwrap_or_else(|| {
        let facts = profile.facts();
        format!("{}-{}t", facts.runtime.name, facts.threads)
    });
    let mut models = Vec::with_capacity(archs.len());
    for arch in archs {
        let predicted_ms = profile.model(false).latency(profile.space(), &arch, profile.input_px())?.total().ms();
        let score = evaluator.score(&arch)?;
        let mut name = format!("{device}_lat@{predicted_ms:.2}ms_F@{:.4}", score.max_f);
        if models.iter().any(|m: &Model| m.name == name) {
            name = format!("{name}_{}", arch.hash());
        }
        let metadata = [("inas.name".to_owned(), name.clone()), ("inas.hash".to_owned(), arch.hash())];
        let exported = export::export(&evaluator, &arch, &metadata).map_err(|e| match e {
            ExportError::NotEqual { .. } => {
                let dead = "channels that are off for every image amplify tract's rounding of SiLU: \
                            train longer, or take another network of the front";
                anyhow::Error::new(e).context(Hint(dead.into()))
            }
            e => e.into(),
        })?;
        let file = PathBuf::from(format!("{name}.onnx"));
        write_file(&args.out.join(&file), &exported.onnx)?;
        printer.result(format_args!(
            "{}  equals the supernet to {:.1e} (allowed {PARITY_TOLERANCE:.0e})",
            args.out.join(&file).display(),
            exported.parity
        ))?;
        models.push(Model {
            name,
            file,
            hash: arch.hash(),
            arch,
            predicted_ms,
            f_max: score.max_f,
            mae: score.mae,
            macs: exported.macs,
            params: exported.params,
            file_bytes: exported.onnx.len() as u64,
            parity: exported.parity,
        });
    }
    write_file(&args.out.join("models.json"), &serde_json::to_vec_pretty(&models)?)?;
    Ok(models)
}

fn read_architectures(args: &Args) -> anyhow::Result<Vec<Architecture>> {
    let mut archs = Vec::new();
    for path in &args.archs {
        let json: serde_json::Value =
            serde_json::from_str(&read_text(path)?).with_context(|| path.display().to_string())?;
        let entries = match json {
            serde_json::Value::Array(entries) => entries,
            one => vec![one],
        };
        for entry in entries {
            let arch = entry.get("arch").unwrap_or(&entry).clone();
            archs.push(Architecture::from_value(arch).with_context(|| path.display().to_string())?);
        }
    }
    let picked = args.pick.unwrap_or(archs.len()).min(archs.len());
    Ok(spread(archs.len(), picked).map(|i| archs[i].clone()).collect())
}

/// `n` indices spread evenly over `0..len`, first and last among them when `n > 1`.
fn spread(len: usize, n: usize) -> impl Iterator<Item = usize> {
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
