//! `inas lut`: look into latency profiles, and take them from and to the release's text form.

mod explain;
mod tables;

use std::path::PathBuf;

use inas_profiler::profile::Profile;
use inas_space::BlockKind;

use crate::commands::profile::DOUBTFUL_PERCENT;
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    /// Print the measured blocks
    Show(ShowArgs),
    /// Print what an architecture's latency is made of
    Explain(explain::ExplainArgs),
    /// Compare two profiles block by block
    Diff(tables::DiffArgs),
    /// Put profiles that were measured alike together: each block keeps its fastest measurement
    Merge(tables::MergeArgs),
    /// Check that a profile is whole and quiet; exit code 1 when not
    Check(CheckArgs),
    /// Make a profile from a table in the release's text form
    Import(tables::ImportArgs),
    /// Write a profile as a table in the release's text form
    Export(tables::ExportArgs),
    /// Predict the latencies of architectures in the release's JSON form
    Predict(explain::PredictArgs),
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    match &args.step {
        Step::Show(args) => show(args, printer),
        Step::Explain(args) => explain::explain(args, printer),
        Step::Diff(args) => tables::diff(args, printer),
        Step::Merge(args) => tables::merge(args, printer),
        Step::Check(args) => check(args, printer),
        Step::Import(args) => tables::import(args, printer),
        Step::Export(args) => tables::export(args, printer),
        Step::Predict(args) => explain::predict(args, printer),
    }
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Profile folder.
    #[arg(value_name = "DIR", required_unless_present = "profile")]
    dir: Option<PathBuf>,
    /// Profile folder, by name.
    #[arg(long, value_name = "DIR", conflicts_with = "dir")]
    profile: Option<PathBuf>,
    /// Only blocks whose key contains this, e.g. `mbconv` or `k7`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Slowest first instead of by key.
    #[arg(long)]
    slowest: bool,
    /// Print a JSON line for each block.
    #[arg(long)]
    json: bool,
}

fn show(args: &ShowArgs, printer: Printer) -> anyhow::Result<bool> {
    let profile = Profile::read(one_of(args.dir.as_ref(), args.profile.as_ref())?)?;
    let mut rows: Vec<_> = profile.rows().iter().filter(|(key, _)| key.to_string().contains(&args.filter)).collect();
    if args.slowest {
        rows.sort_by(|a, b| b.1.measurement.median_us.total_cmp(&a.1.measurement.median_us));
    }
    if !args.json {
        printer.result(
            "block                                        median us   +-%    cold us   first us   load us  mem KB      MACs  state",
        )?;
    }
    for (key, row) in rows {
        let m = &row.measurement;
        if args.json {
            let line = serde_json::json!({ "key": key, "measurement": m, "passes": row.passes, "drift": row.drift });
            printer.result(line)?;
            continue;
        }
        let half = 50.0 * (m.ci_high_us - m.ci_low_us) / m.median_us.max(1e-9);
        let optional = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.1}"));
        let drifted = row.drift > Some(profile.facts().protocol.drift);
        let state = match (m.noisy, drifted) {
            (false, false) => "",
            (true, false) => "noisy",
            (false, true) => "drifted",
            (true, true) => "noisy, drifted",
        };
        printer.result(format_args!(
            "{:<44} {:>9.1} {half:>5.1} {:>10} {:>10.1} {:>9} {:>7} {:>9}  {state}",
            key.to_string(),
            m.median_us,
            optional(m.cold_us),
            m.first_us,
            optional(m.load_us),
            m.memory_kb.map_or("-".into(), |kb| kb.to_string()),
            row.cost.macs,
        ))?;
    }
    Ok(true)
}

fn one_of<'a>(a: Option<&'a PathBuf>, b: Option<&'a PathBuf>) -> anyhow::Result<&'a PathBuf> {
    a.or(b).ok_or_else(|| anyhow::anyhow!("no profile folder given"))
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Profile folder.
    #[arg(value_name = "DIR", required_unless_present = "profile")]
    dir: Option<PathBuf>,
    /// Profile folder, by name.
    #[arg(long, value_name = "DIR", conflicts_with = "dir")]
    profile: Option<PathBuf>,
    /// Share of noisy or drifted blocks that is allowed, percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    allow: f64,
}

fn check(args: &CheckArgs, printer: Printer) -> anyhow::Result<bool> {
    // Reading checks schema, hash, completeness, duplicates and numbers.
    let profile = Profile::read(one_of(args.dir.as_ref(), args.profile.as_ref())?)?;
    let facts = profile.facts();
    let measured: Vec<_> = profile.rows().iter().filter(|(key, _)| !key.is_identity()).collect();
    let share = |n: usize| 100.0 * n as f64 / measured.len().max(1) as f64;
    let noisy = measured.iter().filter(|(_, r)| r.measurement.noisy).count();
    let drifted = measured.iter().filter(|(_, r)| r.drift > Some(facts.protocol.drift)).count();
    // A larger kernel on the same block costs no less, so a clear step down says that something disturbed one of them.
    let odd = measured.iter().filter(|(key, row)| {
        let smaller =
            (1..key.kernel).rev().find_map(|k| profile.rows().get(&inas_space::BlockKey { kernel: k, ..**key }));
        key.kind == BlockKind::MbConv
            && smaller.is_some_and(|s| s.measurement.median_us > 1.25 * row.measurement.median_us)
    });
    let odd = odd.count();
    let fitted = profile.calibration().is_none_or(|c| c.cross_validated_mape_percent <= DOUBTFUL_PERCENT);
    let quiet = share(noisy) <= args.allow && share(drifted) <= args.allow;
    let verdict = match (quiet, fitted) {
        (false, _) => "NOT GOOD: measure again on a quieter machine and `inas lut merge` the two",
        (true, false) => "NOT GOOD: something disturbed the calibration: `inas profile calibrate` again",
        (true, true) => "good",
    };
    printer.result(format_args!(
        "{} blocks of `{}` at {} px on {} {}, {} thread(s): whole\n\
         noisy {noisy} ({:.1} %), beside a slow sentinel {drifted} ({:.1} %), faster by a quarter than with a smaller \
         kernel {odd}\ncalibration: {}\n{}",
        measured.len(),
        facts.space_name,
        facts.input_px,
        facts.runtime.name,
        facts.runtime.version,
        facts.threads,
        share(noisy),
        share(drifted),
        profile.calibration().map_or("none".to_owned(), |c| format!(
            "{} networks, error {:.2} % left out of the fit",
            c.networks.len(),
            c.cross_validated_mape_percent
        )),
        verdict,
    ))?;
    Ok(quiet && fitted)
}
