//! `inas doctor`

use std::path::PathBuf;

use inas_device::Target;
use inas_device::doctor::{Check, Programs, Verdict, examine};

use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Device to examine: local, adb, adb:SERIAL, ssh:USER@HOST or ssh:USER@HOST:PORT.
    #[arg(long = "target", value_name = "DEVICE", default_value = "local")]
    targets: Vec<Target>,
    /// `inas-profiler` for the device; default: beside this program, or what scripts/build-device made.
    #[arg(long, value_name = "FILE")]
    profiler_bin: Option<PathBuf>,
    /// ONNX Runtime's library for the device, to be tried too.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
    /// Folder on the device to work in.
    #[arg(long, value_name = "DIR")]
    remote_folder: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Examines devices; false when measuring would not work on one.
pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let programs = Programs { profiler: args.profiler_bin.clone(), ort_lib: args.ort_lib.clone() };
    let mut worst = Verdict::Ok;
    for target in &args.targets {
        let checks = examine(target, args.remote_folder.clone(), &programs);
        worst = checks.iter().map(|c| c.verdict).max().unwrap_or(worst).max(worst);
        if args.json {
            let report = serde_json::json!({ "target": target.to_string(), "checks": checks });
            printer.result(serde_json::to_string_pretty(&report)?)?;
            continue;
        }
        printer.result(target)?;
        for check in &checks {
            printer.result(line(check))?;
        }
    }
    Ok(worst < Verdict::Failure)
}

fn line(check: &Check) -> String {
    let mark = match check.verdict {
        Verdict::Ok => "ok     ",
        Verdict::Unknown => "unknown",
        Verdict::Warning => "warning",
        Verdict::Failure => "FAILED ",
    };
    let remedy = if check.remedy.is_empty() { String::new() } else { format!("\n            {}", check.remedy) };
    format!("  {mark}  {}: {}{remedy}", check.what, check.found)
}
