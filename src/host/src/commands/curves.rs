//! `inas curves`

use std::path::PathBuf;

use inas_host::report;
use inas_host::train::TrainDir;

use super::write_file;
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a training run.
    run: PathBuf,
    /// Where to write the plot (SVG).
    #[arg(long, short, value_name = "FILE", default_value = "curves.svg")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let records = TrainDir::new(&args.run).validations();
    anyhow::ensure!(!records.is_empty(), "{} holds no validation", args.run.display());
    let points: Vec<_> = records.iter().map(|r| (r.network.as_str(), r.step as f64, r.score.main())).collect();
    let [(main, _), (second, _)] = records[0].score.named();
    write_file(&args.out, report::learning_curves(main, &points)?.as_bytes())?;
    printer.result(format_args!("{:>8}  {:<10} {main:>7} {second:>7}", "step", "network"))?;
    for r in &records {
        let [(_, a), (_, b)] = r.score.named();
        printer.result(format_args!("{:>8}  {:<10} {a:>7.4} {b:>7.4}", r.step, r.network))?;
    }
    Ok(true)
}
