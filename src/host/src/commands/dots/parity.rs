//! `inas dots parity`

use std::path::PathBuf;

use inas_dots::parity::{Check, compare};

use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of reference tensors: `meta.json`, `tensors.safetensors`, `weights.safetensors`,
    /// `op_weight_grads.safetensors`, `evaluation_net.safetensors`.
    dir: PathBuf,
    /// Print the checks as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let checks = compare(&args.dir)?;
    if args.json {
        printer.result(serde_json::to_string_pretty(&checks)?)?;
    } else {
        printer.result(format_args!("{:<50} {:>7} {:>11} {:>11}", "check", "tensors", "max |diff|", "allowed"))?;
        for check in &checks {
            let (name, verdict) = (&check.name, if check.passed() { "ok" } else { "DIFFERS" });
            let (difference, tolerance) = (check.max_difference, check.tolerance);
            printer.result(format_args!(
                "{name:<50} {:>7} {difference:>11.2e} {tolerance:>11.0e}  {verdict}",
                check.tensors
            ))?;
        }
    }
    Ok(checks.iter().all(Check::passed))
}
