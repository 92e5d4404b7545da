//! `inas report`

use std::path::PathBuf;

use inas_host::{explorer, report};

use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a run with a `report.json`, e.g. the demo's or a search's.
    dir: PathBuf,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    // A search's report and that of a whole run have other data under the same name.
    let page = match explorer::read(&args.dir) {
        Ok(search) => explorer::write(&search, &args.dir)?,
        Err(_) => report::write(&report::read(&args.dir)?, &args.dir)?,
    };
    printer.result(page.display())?;
    Ok(true)
}
