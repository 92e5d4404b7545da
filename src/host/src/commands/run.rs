//! `inas run`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use inas_host::data::decode_photo;
use inas_runtime::{Model, preprocess};

use super::profile::RuntimeArgs;
use crate::printer::Printer;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Model file (ONNX) written by `inas export`.
    pub(super) model: PathBuf,
    /// Photos (PNG or JPEG).
    #[arg(required = true, value_name = "IMAGE")]
    pub(super) images: Vec<PathBuf>,
    /// Folder for `NAME_mask.png` and `NAME_cutout.png`.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) runtime: RuntimeArgs,
}

/// What was written for one photo.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) photo: PathBuf,
    pub(crate) mask: PathBuf,
    pub(crate) cut_out: PathBuf,
    pub(crate) latency_ms: f64,
}

/// What a run over photos did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) written: Vec<Written>,
    pub(crate) failed: usize,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<Outcome> {
    let runtime = args.runtime.open()?;
    let mut model = Model::load(&args.model, runtime.as_ref())?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let mut outcome = Outcome::default();
    for photo in &args.images {
        match one(&mut model, photo, &args.out) {
            Ok(written) => {
                printer.result(format_args!("{}  {:.2} ms", written.mask.display(), written.latency_ms))?;
                outcome.written.push(written);
            }
            // One bad photo must not stop the others.
            Err(error) => {
                Printer::error(&error);
                outcome.failed += 1;
            }
        }
    }
    printer.note(format_args!("{} ok, {} failed", outcome.written.len(), outcome.failed));
    Ok(outcome)
}

fn one(model: &mut Model, photo: &Path, out: &Path) -> anyhow::Result<Written> {
    let image = decode_photo(photo)?;
    let saliency = model.run(&image)?;
    let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
    let (mask, cut_out) = (out.join(format!("{stem}_mask.png")), out.join(format!("{stem}_cutout.png")));
    let save = |path: &Path, result: image::ImageResult<()>| {
        result.with_context(|| format!("cannot write {}", path.display()))
    };
    save(&mask, saliency.mask.save(&mask))?;
    save(&cut_out, preprocess::cut_out(&image, &saliency.mask)?.save(&cut_out))?;
    Ok(Written { photo: photo.to_owned(), mask, cut_out, latency_ms: saliency.latency.ms() })
}
