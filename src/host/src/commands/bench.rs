//! `inas bench`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use inas_profiler::bench::{self, Report, Rounds, SCHEMA, Verdict};

use super::profile::RuntimeArgs;
use super::{read_text, write_file};
use crate::printer::Printer;

/// Runs in which operators are timed.
const TRACED_RUNS: usize = 50;

/// Operators that are shown one by one, the slowest.
const SLOWEST: usize = 15;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model (ONNX); inputs must be float32, a batch left open is 1.
    model: PathBuf,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Rounds; how much they differ tells what a difference between models is worth.
    #[arg(long, default_value_t = Rounds::default().rounds)]
    rounds: usize,
    /// Runs of a round.
    #[arg(long, default_value_t = Rounds::default().runs)]
    runs: usize,
    /// Run without pause for this long, e.g. 30m or 90s, in rounds of a minute (of a tenth when shorter than 10 min).
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    sustained: Option<f64>,
    /// Also time every operator, over 50 further runs.
    #[arg(long)]
    operators: bool,
    /// Compare with an earlier JSON report; exit code 1 when the model is slower or the two cannot be compared.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Form of the result; the JSON is what `--compare` reads.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// The same as `--format json`.
    #[arg(long)]
    json: bool,
    /// Also write the JSON report to a file.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Form {
    Text,
    Json,
    Csv,
    Markdown,
}

/// Seconds of a time such as `90s`, `30m` or `1h`.
fn seconds(text: &str) -> Result<f64, String> {
    let bad = || format!("`{text}` is no time such as 90s, 30m or 1h");
    let unit = text.chars().last().ok_or_else(bad)?;
    let factor = [('s', 1.0), ('m', 60.0), ('h', 3600.0)].iter().find(|u| u.0 == unit).ok_or_else(bad)?.1;
    let number: f64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    if number.is_finite() && number > 0.0 { Ok(number * factor) } else { Err(bad()) }
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let baseline = args.compare.as_deref().map(read_report).transpose()?;
    let onnx = std::fs::read(&args.model).with_context(|| format!("cannot read {}", args.model.display()))?;
    let runtime = args.runtime.open()?;
    let traced_runs = if args.operators { TRACED_RUNS } else { 0 };
    let usual = Rounds { rounds: args.rounds, runs: args.runs, traced_runs, ..Rounds::default() };
    let plan = match args.sustained {
        Some(total) => {
            let round = if total >= 600.0 { 60.0 } else { total / 10.0 };
            let rounds = (total / round).round() as usize;
            Rounds { rounds, runs: 1, round_seconds: Some(round), pause_seconds: 0.0, ..usual }
        }
        None => usual,
    };
    let mut observer = |round: usize, median: f64| {
        if args.sustained.is_some() {
            printer.note(format_args!("round {:>3}: median {:.3} ms", round + 1, median / 1e3));
        }
    };
    let report = bench::bench(&onnx, runtime.as_ref(), &plan, &mut observer)
        .with_context(|| args.model.display().to_string())?;
    if let Some(path) = &args.out {
        write_file(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    let form = if args.json { Form::Json } else { args.format };
    let comparison = baseline.map(|b| report.compare(&b));
    match form {
        Form::Json => {
            let mut json = serde_json::to_value(&report)?;
            if let Some(comparison) = &comparison {
                json["comparison"] = serde_json::to_value(comparison)?;
            }
            printer.result(json)?;
        }
        Form::Csv => {
            printer.result(
                "p50_us,ci_low_us,ci_high_us,p90_us,p95_us,p99_us,min_us,max_us,mean_us,first_us,load_us,runs",
            )?;
            printer.result(numbers(&report).map(|n| format!("{n:.1}")).join(",") + &format!(",{}", report.runs))?;
        }
        Form::Markdown => {
            printer.result("| p50 ms | 95 % interval | p90 | p95 | p99 | min | max | mean | first | load |")?;
            printer.result("|---|---|---|---|---|---|---|---|---|---|")?;
            let [p50, low, high, rest @ ..] = numbers(&report).map(|n| format!("{:.3}", n / 1e3));
            printer.result(format_args!("| {p50} | {low}..{high} | {} |", rest.join(" | ")))?;
        }
        Form::Text => text(&report, printer)?,
    }
    if matches!(form, Form::Markdown | Form::Text) && !report.operators.is_empty() {
        operators(&report, printer)?;
    }
    let Some(comparison) = comparison else { return Ok(true) };
    if form != Form::Json {
        let verdict = serde_json::to_value(comparison.verdict)?;
        printer.result(format_args!(
            "{}: {:+.1} % (counts from {:.1} %) {}",
            verdict.as_str().unwrap_or_default(),
            comparison.change_percent,
            comparison.threshold_percent,
            comparison.differences
        ))?;
    }
    Ok(!matches!(comparison.verdict, Verdict::Worse | Verdict::Incomparable))
}

fn numbers(r: &Report) -> [f64; 11] {
    let [p50, p90, p95, p99] = r.percentiles_us;
    let ([low, high], [min, max]) = (r.median_ci_us, r.range_us);
    [p50, low, high, p90, p95, p99, min, max, r.mean_us, r.first_us, r.load_us]
}

fn text(r: &Report, printer: Printer) -> anyhow::Result<()> {
    let [p50, low, high, p90, p95, p99, min, max, mean, first, load] = numbers(r).map(|us| us / 1e3);
    printer.result(format_args!("{} {}, {} thread(s)", r.runtime.name, r.runtime.version, r.threads))?;
    printer.result(format_args!("median {p50:.3} ms, 95 % interval {low:.3}..{high:.3}"))?;
    printer
        .result(format_args!("p90 {p90:.3}  p95 {p95:.3}  p99 {p99:.3}  min {min:.3}  max {max:.3}  mean {mean:.3}"))?;
    printer.result(format_args!("load {load:.1} ms, first run {first:.3} ms; {} runs", r.runs))?;
    let rounds: Vec<String> = r.rounds_us.iter().map(|us| format!("{:.3}", us / 1e3)).collect();
    printer.result(format_args!("rounds {} ms: they differ by {:.1} %", rounds.join(" "), r.noise() * 100.0))?;
    Ok(())
}

/// Where the time goes: by what operators do, then the slowest ones. The tables are Markdown, which reads well in a
/// terminal too.
fn operators(r: &Report, printer: Printer) -> anyhow::Result<()> {
    let sum: f64 = r.operators.iter().map(|o| o.us).sum();
    let share = |us: f64| 100.0 * us / sum.max(f64::MIN_POSITIVE);
    let mut kinds: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for operator in &r.operators {
        let kind = kinds.entry(&operator.op).or_default();
        *kind = (kind.0 + 1, kind.1 + operator.us);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    printer.result("\n| what it does | operators | us | % |\n|---|---|---|---|")?;
    for (op, (count, us)) in kinds {
        printer.result(format_args!("| {op} | {count} | {us:.1} | {:.1} |", share(us)))?;
    }
    let mut slowest: Vec<_> = r.operators.iter().collect();
    slowest.sort_by(|a, b| b.us.total_cmp(&a.us));
    printer.result("\n| slowest operators | what it does | us | % |\n|---|---|---|---|")?;
    for operator in slowest.into_iter().take(SLOWEST) {
        let (name, op, us) = (&operator.name, &operator.op, operator.us);
        printer.result(format_args!("| {name} | {op} | {us:.1} | {:.1} |", share(us)))?;
    }
    let wall = r.median_us();
    printer.result(format_args!(
        "\nsum of operators {:.3} ms / wall {:.3} ms = {:.2}: below 1 is time between operators (dispatch, threads), \
         above 1 the cost of looking",
        sum / 1e3,
        wall / 1e3,
        sum / wall.max(f64::MIN_POSITIVE)
    ))?;
    Ok(())
}

fn read_report(path: &std::path::Path) -> anyhow::Result<Report> {
    let value: serde_json::Value =
        serde_json::from_str(&read_text(path)?).with_context(|| path.display().to_string())?;
    let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
    anyhow::ensure!(schema <= SCHEMA, "{} has schema version {schema}, known is {SCHEMA}", path.display());
    serde_json::from_value(value).with_context(|| format!("{} is no report of `inas bench --json`", path.display()))
}
