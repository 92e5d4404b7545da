//! `inas report`

use std::path::PathBuf;

use inas_host::report;

use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a run with a `report.json`, e.g. the demo's.
    dir: PathBuf,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let page = report::write(&report::read(&args.dir)?, &args.dir)?;
    printer.result(page.display())?;
    Ok(true)
}
