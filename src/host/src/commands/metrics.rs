//! `inas metrics`

use std::path::PathBuf;

use inas_host::metrics::evaluate_dirs;

use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of predicted maps (PNG or JPEG), one for each ground truth, same file stem and size.
    #[arg(long)]
    pred: PathBuf,
    /// Folder of ground-truth masks.
    #[arg(long)]
    gt: PathBuf,
    /// Print the data-set scores as one JSON object.
    #[arg(long)]
    json: bool,
    /// Print the scores of every image too.
    #[arg(long)]
    per_image: bool,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let report = evaluate_dirs(&args.pred, &args.gt)?;
    if args.json {
        printer.result(if args.per_image {
            serde_json::to_string_pretty(&report)?
        } else {
            serde_json::to_string_pretty(&report.dataset)?
        })?;
        return Ok(true);
    }
    if args.per_image {
        for image in &report.per_image {
            printer.result(serde_json::to_string(image)?)?;
        }
    }
    let scores = serde_json::to_value(report.dataset)?;
    for (name, score) in scores.as_object().into_iter().flatten() {
        printer.result(format_args!("{name:<32} {:.4}", score.as_f64().unwrap_or(f64::NAN)))?;
    }
    Ok(true)
}
