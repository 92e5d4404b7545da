//! `inas convert`: other number formats and edges of models that were exported, without their supernet.

use std::path::PathBuf;

use anyhow::Context as _;
use candle_core::Device;
use inas_graph::Edge;
use inas_host::data::read_list;
use inas_host::evaluate::Images;
use inas_host::export::{self, CALIBRATION_IMAGES, ExportOptions, Format};
use inas_space::Space;
use serde_json::{Map, Value};

use super::export::{ending, runtimes, scored};
use super::{hint, read_file, write_file};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Models of `inas export` (ONNX), of 32-bit or 16-bit floats and between floats, e.g. those of `models/`.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Number formats to write.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "int8")]
    format: Vec<Format>,
    /// List of photos like those to come: int8 takes its ranges from them.
    #[arg(long, value_name = "LIST")]
    train_data: PathBuf,
    /// Validation list to score the models before and after on, in tract and ONNX Runtime.
    #[arg(long, value_name = "LIST")]
    val_data: Option<PathBuf>,
    /// Space of the models, a preset or a file; default: the preset that they name.
    #[arg(long, value_name = "NAME")]
    space: Option<String>,
    /// Put normalisation and rounding into the file: red, green and blue bytes `[1, h, w, 3]` in, a byte mask out.
    #[arg(long)]
    pixels: bool,
    /// Leave height and width open in the file; who loads it says them.
    #[arg(long)]
    open_size: bool,
    /// Folder of the models, `MODEL_FORMAT.onnx`.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// ONNX Runtime's shared library; default: ORT_DYLIB_PATH, then a pip-installed onnxruntime.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let training = read_list(&args.train_data, None)?;
    let validation = args.val_data.as_deref().map_or(Ok(vec![]), |list| read_list(list, None))?;
    let runtimes = if validation.is_empty() { vec![] } else { runtimes(args.ort_lib.as_deref(), printer)? };
    for path in &args.models {
        let onnx = read_file(path)?;
        let card = card(&onnx).with_context(|| path.display().to_string())?;
        let px = card.get("px").and_then(Value::as_u64).and_then(|px| u32::try_from(px).ok());
        let (Some(px), Some(space)) = (px, card.get("space").and_then(Value::as_str)) else {
            anyhow::bail!("the card of {} tells no space or size", path.display());
        };
        let space = Space::load(args.space.as_deref().unwrap_or(space));
        let space = hint(space, "name the file of the model's space with --space")?;
        let images = Images::new(training.clone(), CALIBRATION_IMAGES, &validation, px, 0, &Device::Cpu)?;
        let before = export::verify(&images, &onnx, &runtimes)?;
        printer.result(path.display())?;
        for (runtime, score) in &before {
            printer.result(scored(runtime, score, score))?;
        }
        let edge = if args.pixels { Edge::Pixels } else { Edge::Floats };
        for &format in &args.format {
            let mut card = card.clone();
            let name = card.get("name").and_then(Value::as_str).unwrap_or_default();
            // Only a model of 16-bit floats has an ending: the others cannot be converted.
            let name = format!("{}{}", name.trim_end_matches("_fp16"), ending(format, edge));
            card.insert("name".into(), name.into());
            card.insert("format".into(), format.name().into());
            // Measured of the file before.
            card.remove("shipped");
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let file = args.out.join(format!("{stem}_{}.onnx", format.name()));
            let options = ExportOptions { format, edge, dynamic_size: args.open_size, card };
            let converted = export::convert(&onnx, &space, &images, &options)
                .with_context(|| format!("cannot convert {}", path.display()))?;
            write_file(&file, &converted.onnx)?;
            let (shown, most) = (file.display(), converted.difference);
            printer.result(format_args!("{shown}  {} bytes, differs by at most {most:.1e}", converted.onnx.len()))?;
            for ((runtime, after), (_, before)) in
                export::verify(&images, &converted.onnx, &runtimes)?.iter().zip(&before)
            {
                printer.result(scored(runtime, after, before))?;
            }
        }
    }
    Ok(true)
}

/// The card that `inas export` put into a model.
fn card(onnx: &[u8]) -> anyhow::Result<Map<String, Value>> {
    let card = inas_graph::metadata(onnx)?.into_iter().find(|(key, _)| key == "inas.card");
    Ok(serde_json::from_str(&card.context("it has no card: it is no model of `inas export`")?.1)?)
}
