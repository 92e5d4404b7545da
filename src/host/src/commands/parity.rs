//! `inas parity`

use std::path::PathBuf;

use inas_host::parity::compare;

use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of reference tensors: `archs.json`, `supernet.safetensors`, `supernet.pth`, `tensors.safetensors`,
    /// `grads.safetensors`, `after_step.safetensors`.
    dir: PathBuf,
    /// Print the checks as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let checks = compare(&args.dir)?;
    if args.json {
        printer.result(serde_json::to_string_pretty(&checks)?)?;
    } else {
        printer.result(format_args!("{:<70} {:>7} {:>11} {:>11}", "check", "tensors", "max |diff|", "allowed"))?;
        for check in &checks {
            let (name, verdict) = (&check.name, if check.passed() { "ok" } else { "DIFFERS" });
            let (difference, tolerance) = (check.max_difference, check.tolerance);
            printer.result(format_args!(
                "{name:<70} {:>7} {difference:>11.2e} {tolerance:>11.0e}  {verdict}",
                check.tensors
            ))?;
        }
    }
    Ok(checks.iter().all(inas_host::parity::Check::passed))
}
