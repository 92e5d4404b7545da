//! `inas dots rank`

use std::path::PathBuf;

use inas_dots::train::rank::{Ranked, agreement, candidates};

use super::super::write_file;
use super::{RunArgs, search_result, train::train};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of a search over pairs of edges.
    search: PathBuf,
    #[command(flatten)]
    run: RunArgs,
    /// Folder of the ten trainings; those that are there are not repeated.
    #[arg(long, short, value_name = "DIR", default_value = "inas-dots-rank")]
    out: PathBuf,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let run = args.run.load()?;
    if args.run.show {
        printer.result(toml::to_string(&run)?.trim_end())?;
        return Ok(true);
    }
    let mut ranked = Vec::new();
    for candidate in candidates(&search_result(&args.search)?)? {
        let (a, b) = candidate.sources;
        let dir = args.out.join(format!("{a}-{b}"));
        let last = train(&run, candidate.genotype.clone(), &dir, true, printer)?;
        ranked.push(Ranked { candidate, accuracy: last.test });
        write_file(&args.out.join("rank.json"), &serde_json::to_vec_pretty(&ranked)?)?;
    }
    printer.result(format_args!("{:>5} {:>9} {:>10} {:>9}", "edges", "DARTS", "DOTS", "accuracy"))?;
    for r in &ranked {
        let (c, pair) = (&r.candidate, format!("{}, {}", r.candidate.sources.0, r.candidate.sources.1));
        printer.result(format_args!("{pair:>5} {:>9.4} {:>10.5} {:>9.4}", c.darts, c.dots, r.accuracy))?;
    }
    if let Some(tau) = agreement(&ranked) {
        let epochs = run.evaluation.epochs;
        printer.result(format_args!(
            "Kendall's tau with the accuracy after {epochs} epochs: DARTS {:.3}, DOTS {:.3}",
            tau.darts, tau.dots
        ))?;
    }
    Ok(true)
}
