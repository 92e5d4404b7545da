//! The front on the device: exported, measured, ranked again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use inas_device::Target;
use inas_host::evaluate::Evaluator;
use inas_host::explorer::Measured;
use inas_host::export::{self, ExportOptions};
use inas_host::search::Evaluated;
use inas_host::search::pareto::{self, Point};
use inas_profiler::profile::Profile;

use super::SupernetArgs;
use crate::commands::on_device::DeviceArgs;
use crate::commands::{read_text, write_file};
use crate::printer::Printer;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Measuring the front")]
pub(crate) struct Options {
    /// Export and measure so many networks of the front, spread evenly, and rank them again.
    #[arg(long, value_name = "N")]
    pub(super) measure: Option<usize>,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
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
    let found = options.device.measure(profile, &files, false, printer)?;
    let measured_ms: Vec<f64> = found.fastest().map(|m| m.latency.median_us / 1e3).collect();
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
    tell(out, &rows, &chosen, &options.device.target(), printer)?;
    Ok(rows)
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
