//! `inas dots search`

use std::path::PathBuf;

use anyhow::Context as _;
use inas_dots::train::{Operations, Progress, Search, SearchRecord, read_lines};

use super::super::{cancel_flag, read_text, write_file};
use super::{RunArgs, continues, hold, pictures, stopped};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Folder of the search.
    #[arg(long, short, value_name = "DIR", default_value = "inas-dots")]
    out: PathBuf,
    /// Continue the search in the folder, if there is one.
    #[arg(long)]
    resume: bool,
    /// Search edges only, among the operations of this file (`operations.json` of another search). With `--resume` they
    /// are in the folder already.
    #[arg(long, value_name = "FILE")]
    operations: Option<PathBuf>,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let run = args.run.load()?;
    if args.run.show {
        printer.result(toml::to_string(&run)?.trim_end())?;
        return Ok(true);
    }
    let _held = hold(&args.out)?;
    let (config, data) = (run.search.clone(), pictures(run.data.train(), "--data")?);
    printer.note(format_args!(
        "Searching on {} pictures of {} px, {} classes, {} epochs",
        data.len(),
        data.px,
        data.classes,
        config.epochs()
    ));
    let mut search = match &args.operations {
        _ if continues(&args.out, args.resume)? => Search::resume(config, data, &args.out)?,
        None => Search::new(config, data, &args.out)?,
        Some(path) => {
            let found: Operations = serde_json::from_str(&read_text(path)?)
                .with_context(|| format!("{} holds no operations of a search", path.display()))?;
            Search::of_edges(config, data, &args.out, found)?
        }
    };
    let bar = printer.bar("search", run.search.epochs() as u64);
    let mut observer = |progress: &Progress, record: Option<&SearchRecord>| {
        bar.set_position(progress.epoch as u64);
        bar.set_message(format!("step {}/{}, loss {:.3}", progress.step + 1, progress.steps, progress.loss));
        if let Some(r) = record {
            let phase = serde_json::to_value(r.phase).unwrap_or_default();
            bar.suspend(|| {
                printer.note(format_args!(
                    "  epoch {:>3} {:<16} lr {:.4} T {:<7.4} loss {:.3} accuracy {:.3} validation {:.3}  {:.0} s",
                    r.epoch,
                    phase.as_str().unwrap_or_default(),
                    r.lr,
                    r.temperature,
                    r.loss,
                    r.accuracy,
                    r.validation,
                    r.seconds
                ));
            });
        }
    };
    let result = search.run(&mut observer, cancel_flag())?.ok_or_else(stopped)?;
    bar.finish();
    for (kind, edges) in inas_dots::CellKind::ALL.iter().zip(&result.muted_edges) {
        if !edges.is_empty() {
            printer.note(format_args!(
                "note: on edges {edges:?} of the {kind} cell `none` outweighs the operation that is derived"
            ));
        }
    }
    let seconds: f64 = read_lines::<SearchRecord>(&Search::records(&args.out)).iter().map(|r| r.seconds).sum();
    printer.note(format_args!("  Searched for {:.2} h", seconds / 3600.0));
    let json = result.genotype.to_json();
    write_file(&args.out.join("genotype.json"), json.as_bytes())?;
    write_file(&args.out.join("genotype.svg"), result.genotype.to_svg().as_bytes())?;
    printer.result(json.trim_end())?;
    Ok(true)
}
