//! The front on the device: exported, measured, ranked again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use inas_device::{ModelJob, Target, bench_models};
use inas_host::evaluate::Evaluator;
use inas_host::explorer::Measured;
use inas_host::export::{self, ExportOptions};
use inas_host::search::Evaluated;
use inas_host::search::pareto::{self, Point};
use inas_profiler::backend::ExecutionProvider;
use inas_profiler::profile::Profile;

use super::SupernetArgs;
use crate::commands::{cancel_flag, read_text, write_file};
use crate::printer::Printer;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Measuring the front")]
pub(crate) struct Options {
    /// Export and measure so many networks of the front, spread evenly, and rank them again.
    #[arg(long, value_name = "N")]
    pub(super) measure: Option<usize>,
    /// Measure there: local, adb, adb:SERIAL, ssh:USER@HOST or ssh:USER@HOST:PORT.
    #[arg(long, value_name = "DEVICE", default_value = "local")]
    pub(super) target: Option<Target>,
    /// Rounds over the networks; the fastest counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) rounds: usize,
    /// `inas-profiler` for the device; default: beside this program, or what scripts/build-device made.
    #[arg(long, value_name = "FILE")]
    pub(super) profiler_bin: Option<PathBuf>,
    /// Folder on the device to work in.
    #[arg(long, value_name = "DIR")]
    pub(super) remote_folder: Option<String>,
    /// ONNX Runtime's shared library for the device.
    #[arg(long, value_name = "FILE")]
    pub(super) ort_lib: Option<PathBuf>,
}

/// `inas search measure`
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folder of a finished search.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    supernet: SupernetArgs,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let path = args.folder.join("front.json");
    let front: Vec<Evaluated> = serde_json::from_str(&read_text(&path)?).with_context(|| path.display().to_string())?;
    let (profile, evaluator) = args.supernet.open()?;
    let measured = front_on_device(&args.folder, &profile, &evaluator, &front, &args.options, printer)?;
    // The report is of the search; it learns what was measured since.
    if let Ok(mut report) = inas_host::explorer::read(&args.folder) {
        report.measured = measured;
        inas_host::explorer::write(&report, &args.folder)?;
    }
    Ok(true)
}

/// Exports and measures networks of the front with the profile's runtime and threads; writes `measured.csv` and
/// `measured.json`, prints the table.
pub(super) fn front_on_device(
    out: &Path,
    profile: &Profile,
    evaluator: &Evaluator,
    front: &[Evaluated],
    options: &Options,
    printer: Printer,
) -> anyhow::Result<Vec<Measured>> {
    let picked = options.measure.unwrap_or(front.len()).clamp(1, front.len().max(1));
    let chosen: Vec<&Evaluated> =
        crate::commands::export::spread(front.len(), picked.min(front.len())).map(|i| &front[i]).collect();
    let mut files = Vec::new();
    for network in &chosen {
        let exported = export::export(evaluator, &network.arch, &ExportOptions::default())
            .with_context(|| format!("exporting {}", network.hash))?;
        let file = out.join("models").join(format!("{}.onnx", network.hash));
        write_file(&file, &exported.onnx)?;
        files.push(file);
    }
    let target = options.target.clone().unwrap_or(Target::Local);
    let mut device = target.open(options.remote_folder.clone())?;
    let job = ModelJob {
        options: bench_options(profile)?,
        profiler: options.profiler_bin.clone(),
        ort_lib: options.ort_lib.clone(),
        rounds: options.rounds.max(1),
        silence: Duration::from_mins(5),
        reconnect: Duration::from_mins(10),
        pause: Duration::from_secs(1),
    };
    let bar = printer.bar("measure", (files.len() * job.rounds) as u64);
    let found = bench_models(device.as_mut(), &files, &job, &mut |done| bar.set_position(done as u64), cancel_flag())?;
    bar.finish_and_clear();
    // Only a disturbance adds time.
    let fastest = |rounds: &Vec<inas_profiler::Measurement>| {
        rounds.iter().map(|m| m.median_us).fold(f64::INFINITY, f64::min) / 1e3
    };
    let measured_ms: Vec<f64> = found.iter().map(fastest).collect();
    let points: Vec<Point> =
        measured_ms.iter().zip(&chosen).map(|(ms, e)| Point { latency: *ms, score: e.score.f_max }).collect();
    let on_front = pareto::front(&points);
    let rows: Vec<Measured> = chosen
        .iter()
        .zip(&measured_ms)
        .enumerate()
        .map(|(i, (e, ms))| {
            // The front may hold a mean over devices: this one's own prediction is what to compare.
            let predicted = profile.model(false).latency(profile.space(), &e.arch, profile.input_px())?;
            Ok(Measured {
                hash: e.hash.clone(),
                predicted_ms: predicted.total().ms(),
                measured_ms: *ms,
                front: on_front.contains(&i),
            })
        })
        .collect::<anyhow::Result<_>>()?;
    tell(out, &rows, &chosen, &target, printer)?;
    let noisy = found.iter().filter(|rounds| rounds.iter().all(|m| m.noisy)).count();
    if noisy > 0 {
        printer.note(format_args!(
            "warning: the device was busy: {noisy} of {} networks had no quiet round; their latencies are too high",
            rows.len()
        ));
    }
    Ok(rows)
}

/// Runtime, threads, cores and providers of a profile as options of `inas-profiler bench`.
fn bench_options(profile: &Profile) -> anyhow::Result<Vec<String>> {
    let facts = profile.facts();
    let runtime = match facts.runtime.name.as_str() {
        "tract" => "tract",
        "onnxruntime" => "ort",
        other => anyhow::bail!("the profile was measured with `{other}`, which inas-profiler does not have"),
    };
    let mut options: Vec<String> =
        ["--runtime", runtime, "--threads", &facts.threads.to_string()].map(str::to_owned).into();
    if !facts.cores.is_empty() {
        let cores: Vec<String> = facts.cores.iter().map(usize::to_string).collect();
        options.extend(["--cores".into(), cores.join(",")]);
    }
    for provider in ExecutionProvider::of(&facts.runtime) {
        options.extend(["--ep".into(), provider.name().to_owned()]);
    }
    Ok(options)
}

/// Place of each value in rising order, from 1.
fn ranks(values: &[f64]) -> Vec<usize> {
    values.iter().map(|v| 1 + values.iter().filter(|w| *w < v).count()).collect()
}

fn tell(out: &Path, rows: &[Measured], chosen: &[&Evaluated], target: &Target, printer: Printer) -> anyhow::Result<()> {
    let predicted = ranks(&rows.iter().map(|r| r.predicted_ms).collect::<Vec<_>>());
    let measured = ranks(&rows.iter().map(|r| r.measured_ms).collect::<Vec<_>>());
    let mut csv =
        "architecture,predicted_ms,measured_ms,error_percent,predicted_rank,measured_rank,f_max,on_measured_front\n"
            .to_owned();
    printer.result(format_args!(
        "{:<18} {:>12} {:>12} {:>8} {:>12} {:>8}  measured on {target}",
        "architecture", "predicted ms", "measured ms", "error %", "rank", "max F"
    ))?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows[*a].measured_ms.total_cmp(&rows[*b].measured_ms));
    for i in order {
        let (r, f) = (&rows[i], chosen[i].score.f_max);
        let error = (r.predicted_ms / r.measured_ms - 1.0) * 100.0;
        let _ = writeln!(
            csv,
            "{},{:.4},{:.4},{error:.2},{},{},{f},{}",
            r.hash,
            r.predicted_ms,
            r.measured_ms,
            predicted[i],
            measured[i],
            u8::from(r.front)
        );
        printer.result(format_args!(
            "{:<18} {:>12.3} {:>12.3} {error:>+8.1} {:>12} {f:>8.4}{}",
            r.hash,
            r.predicted_ms,
            r.measured_ms,
            format!("{} -> {}", predicted[i], measured[i]),
            if r.front { "" } else { "  beaten by another when measured" }
        ))?;
    }
    write_file(&out.join("measured.csv"), csv.as_bytes())?;
    write_file(&out.join("measured.json"), &serde_json::to_vec_pretty(rows)?)
}

#[cfg(test)]
mod tests {
    use super::ranks;

    #[test]
    fn ranks_count_what_is_smaller() {
        assert_eq!(ranks(&[3.0, 1.0, 2.0, 2.0]), [4, 1, 2, 2]);
    }
}
