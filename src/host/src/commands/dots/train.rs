//! `inas dots train`

use std::path::{Path, PathBuf};

use inas_dots::Genotype;
use inas_dots::run::DotsRun;
use inas_dots::train::{EvaluationRecord, Progress, Trainer};

use super::super::{cancel_flag, write_file};
use super::{RunArgs, continues, genotype, hold, pictures, stopped};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Genotype: file (.json), folder of a search, or name of a published one.
    genotype: String,
    #[command(flatten)]
    run: RunArgs,
    /// Folder of the training.
    #[arg(long, short, value_name = "DIR", default_value = "inas-dots-train")]
    out: PathBuf,
    /// Continue the training in the folder, if there is one.
    #[arg(long)]
    resume: bool,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let run = args.run.load()?;
    if args.run.show {
        printer.result(toml::to_string(&run)?.trim_end())?;
        return Ok(true);
    }
    let last = train(&run, genotype(&args.genotype)?, &args.out, args.resume, printer)?;
    printer.result(format_args!("test accuracy {:.4} after epoch {}", last.test, last.epoch))?;
    Ok(true)
}

/// Trains a network in a folder; gives its last epoch.
pub(super) fn train(
    run: &DotsRun,
    genotype: Genotype,
    out: &Path,
    resume: bool,
    printer: Printer,
) -> anyhow::Result<EvaluationRecord> {
    let _held = hold(out)?;
    let (config, data) =
        (run.evaluation.clone(), (pictures(run.data.train(), "--data")?, pictures(run.data.test(), "--test-data")?));
    let px = data.0.px;
    let json = genotype.to_json();
    let mut trainer = if continues(out, resume)? {
        Trainer::resume(config, genotype, data, out)?
    } else {
        Trainer::new(config, genotype, data, out)?
    };
    write_file(&out.join("genotype.json"), json.as_bytes())?;
    let cost = trainer.net.cost(px)?;
    printer.note(format_args!(
        "Training {:.3} M values, {:.1} M multiply-accumulates (without an auxiliary head), in {}",
        cost.params as f64 / 1e6,
        cost.macs as f64 / 1e6,
        out.display()
    ));
    let bar = printer.bar("train", run.evaluation.epochs as u64);
    let mut observer = |progress: &Progress, record: Option<&EvaluationRecord>| {
        bar.set_position(progress.epoch as u64);
        bar.set_message(format!("step {}/{}, loss {:.3}", progress.step + 1, progress.steps, progress.loss));
        if let Some(r) = record {
            bar.suspend(|| {
                printer.note(format_args!(
                    "  epoch {:>3} lr {:.4} loss {:.3} accuracy {:.3} test {:.4}  {:.0} s",
                    r.epoch, r.lr, r.loss, r.accuracy, r.test, r.seconds
                ));
            });
        }
    };
    let last = trainer.run(&mut observer, cancel_flag())?.ok_or_else(stopped)?;
    bar.finish();
    Ok(last)
}
