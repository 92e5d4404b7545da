//! `inas profile verify`

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use inas_host::report::scatter_svg;
use inas_profiler::calibrate::{Fit, Verification, predict_all};
use inas_profiler::networks::{Turned, Turns, measure_in_turns, spread};
use inas_profiler::profile::Profile;
use inas_profiler::stats;
use inas_space::Architecture;

use super::load;
use crate::commands::write_file;
use crate::printer::{Printer, follow};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Profile folder.
    #[arg(long, value_name = "DIR")]
    profile: PathBuf,
    /// Fresh networks to measure.
    #[arg(long, default_value_t = 100)]
    nets: usize,
    /// Seed of the draw.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Folder for `verification.md`, `verification.csv` and `verification.svg`; default: the profile's.
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// ONNX Runtime's shared library; default: ORT_DYLIB_PATH, then a pip-installed onnxruntime.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    anyhow::ensure!(args.nets >= 2, "at least 2 networks are needed to compare");
    let profile = Profile::read(&args.profile)?;
    let runtime = super::open_as(&profile, args.ort_lib.as_deref(), printer)?;
    let (space, px) = (profile.space(), profile.input_px());
    // Networks that the model was fitted on would flatter it.
    let fitted: BTreeSet<String> =
        profile.calibration().iter().flat_map(|c| &c.networks).map(|n| n.arch.hash()).collect();
    let archs = spread(space, &profile.table(), px, args.nets, args.seed, &fitted)?;
    let bar = printer.bar("verify", archs.len() as u64);
    let before = load();
    let turned = measure_in_turns(&profile, &archs, runtime.as_ref(), &Turns::default(), args.seed, &mut follow(&bar))?;
    bar.finish_and_clear();
    let measured: Vec<f64> = turned.iter().map(|t| t.latency_us).collect();
    let verification = Verification::new(&profile, &archs, &measured)?;
    let page = Page { profile: &profile, archs: &archs, turned: &turned, load: [before, load()] };
    let folder = args.out.as_ref().unwrap_or(&args.profile);
    let (csv, svg) = page.files()?;
    write_file(&folder.join("verification.csv"), csv.as_bytes())?;
    write_file(&folder.join("verification.svg"), svg.as_bytes())?;
    let text = page.markdown(&verification);
    write_file(&folder.join("verification.md"), text.as_bytes())?;
    if args.json {
        printer.result(serde_json::to_string(&verification)?)?;
    } else {
        printer.result(text.trim_end())?;
    }
    Ok(true)
}

/// What was measured, and how to show it.
struct Page<'a> {
    profile: &'a Profile,
    archs: &'a [Architecture],
    turned: &'a [Turned],
    load: [f64; 2],
}

impl Page<'_> {
    /// The table of networks and the scatter plot.
    fn files(&self) -> anyhow::Result<(String, String)> {
        let predict = |table: &inas_space::LatencyTable| {
            predict_all(table, self.profile.space(), self.profile.input_px(), self.archs)
        };
        let sum = predict(&self.profile.table())?;
        let calibrated = self.profile.calibrated_table().map(|t| predict(&t)).transpose()?;
        let mut csv = "architecture,measured_us,visits,spread,sum_us,calibrated_us\n".to_owned();
        for (i, (arch, t)) in self.archs.iter().zip(self.turned).enumerate() {
            let model = calibrated.as_ref().map_or(String::new(), |c| format!("{:.1}", c[i]));
            let _ = writeln!(
                csv,
                "{},{:.1},{},{:.4},{:.1},{model}",
                arch.hash(),
                t.latency_us,
                t.visits_us.len(),
                t.spread(),
                sum[i]
            );
        }
        let pairs = |predicted: &[f64]| -> Vec<(f64, f64)> {
            predicted.iter().zip(self.turned).map(|(p, t)| (p / 1e3, t.latency_us / 1e3)).collect()
        };
        Ok((csv, scatter_svg(&pairs(&sum), &calibrated.as_deref().map(pairs).unwrap_or_default())?))
    }

    fn markdown(&self, verification: &Verification) -> String {
        let facts = self.profile.facts();
        let measured: Vec<f64> = self.turned.iter().map(|t| t.latency_us / 1e3).collect();
        let spreads: Vec<f64> = self.turned.iter().map(|t| t.spread() * 100.0).collect();
        let visits: usize = self.turned.iter().map(|t| t.visits_us.len()).sum();
        let mut text = format!(
            "{} fresh networks of `{}` at {} px, {:.2}..{:.2} ms; {} {}, {} thread(s); {visits} visits; the \
             latencies of a network in one half of them and in the other differ by {:.2} % (median), {:.2} % (90th percentile); load average {:.1} before, {:.1} \
             after\n\n| | MAPE % | bias % | within 5 % | within 10 % | Spearman | Kendall |\n|---|---|---|---|---|---|---|\n",
            self.archs.len(),
            facts.space_name,
            facts.input_px,
            stats::percentile(&measured, 0.0),
            stats::percentile(&measured, 100.0),
            facts.runtime.name,
            facts.runtime.version,
            facts.threads,
            stats::median(&spreads),
            stats::percentile(&spreads, 90.0),
            self.load[0],
            self.load[1],
        );
        let mut row = |name: &str, fit: &Fit| {
            let _ = writeln!(
                text,
                "| {name} | {:.2} | {:+.2} | {:.1} | {:.1} | {:.4} | {:.4} |",
                fit.mape_percent,
                fit.bias_percent,
                fit.within_5_percent,
                fit.within_10_percent,
                fit.spearman,
                fit.kendall
            );
        };
        row("sum of blocks", &verification.sum);
        match &verification.calibrated {
            Some(fit) => row("calibrated", fit),
            None => text += "\nThe profile has no calibration: `inas profile calibrate --profile DIR` makes one.\n",
        }
        if let Some(interval) = &verification.interval {
            let _ = writeln!(
                text,
                "\nThe {:.0} % interval of a prediction, +-{:.1} %, held {:.0} % of the networks.",
                interval.level_percent, interval.half_width_percent, interval.inside_percent
            );
        }
        text
    }
}
