//! Predicted against measured latency (thesis fig. 3.13).

use std::collections::BTreeSet;

use inas_host::report::{Corner, Mark, Series, series_svg};
use inas_profiler::calibrate::{Fit, predict_all};
use inas_profiler::networks::{Turns, measure_in_turns, spread};
use inas_profiler::profile::Profile;

use super::Args;
use super::config::Prediction;
use super::page::Page;
use super::tables::Table;
use crate::commands::profile::open_as;
use crate::printer::{Printer, follow};

/// Few visits: experiments have many networks.
pub(super) const TURNS: Turns = Turns { visits: 20, runs: 3, visit_ms: 10.0, together: 100 };

pub(super) fn run(what: &Prediction, args: &Args, page: &mut Page, printer: Printer) -> anyhow::Result<()> {
    page.scale(
        &format!(
            "{} random networks spread over the latencies, other than those that the calibration was fitted on, measured \
             in turns on the device of each profile, {} visits each. Load average {:.1} before.",
            what.networks,
            TURNS.visits,
            crate::commands::profile::load()
        ),
        false,
    );
    let mut raw = Table::new(["profile", "architecture", "measured_ms", "sum_ms", "calibrated_ms"]);
    let mut table =
        Table::new(["profile", "prediction", "MAPE %", "bias %", "within 5 %", "within 10 %", "Spearman", "Kendall"]);
    let mut shown = Vec::new();
    for dir in &what.profiles {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let profile = Profile::read(dir)?;
        let runtime = open_as(&profile, args.ort_lib.as_deref(), printer)?;
        let (space, px) = (profile.space(), profile.input_px());
        let fitted: BTreeSet<String> =
            profile.calibration().iter().flat_map(|c| &c.networks).map(|n| n.arch.hash()).collect();
        let archs = spread(space, &profile.table(), px, what.networks, what.seed, &fitted)?;
        let bar = printer.bar("measure", archs.len() as u64);
        let turned = measure_in_turns(&profile, &archs, runtime.as_ref(), &TURNS, what.seed, &mut follow(&bar))?;
        bar.finish_and_clear();
        let measured: Vec<f64> = turned.iter().map(|t| t.latency_us).collect();
        let sum = predict_all(&profile.table(), space, px, &archs)?;
        let calibrated = profile.calibrated_table().map(|t| predict_all(&t, space, px, &archs)).transpose()?;
        for (kind, predicted) in [("sum of blocks", Some(&sum)), ("calibrated", calibrated.as_ref())] {
            let Some(predicted) = predicted else { continue };
            let fit = Fit::new(predicted, &measured);
            table.row([
                name.clone(),
                kind.into(),
                format!("{:.2}", fit.mape_percent),
                format!("{:+.2}", fit.bias_percent),
                format!("{:.0}", fit.within_5_percent),
                format!("{:.0}", fit.within_10_percent),
                format!("{:.4}", fit.spearman),
                format!("{:.4}", fit.kendall),
            ]);
            let points = predicted.iter().zip(&measured).map(|(p, m)| (p / 1e3, m / 1e3)).collect();
            shown.push(Series { name: format!("{name}, {kind}"), points, mark: Mark::Dots });
        }
        for (i, arch) in archs.iter().enumerate() {
            raw.row([
                name.clone(),
                arch.hash(),
                format!("{:.4}", measured[i] / 1e3),
                format!("{:.4}", sum[i] / 1e3),
                calibrated.as_ref().map_or(String::new(), |c| format!("{:.4}", c[i] / 1e3)),
            ]);
        }
    }
    page.table(&table);
    let svg = series_svg(("Predicted latency, ms", "Measured latency, ms"), &shown, Corner::TopLeft, true)?;
    page.plot("", "measured against predicted latency", svg);
    page.data(raw.csv());
    Ok(())
}
