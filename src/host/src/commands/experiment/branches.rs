//! Latency with and without re-parameterisation (thesis table 3.7).

use std::collections::BTreeSet;

use inas_graph::{OnnxOptions, SeededWeights, network, network_with_branches};
use inas_profiler::networks::{measure_models_in_turns, spread};
use inas_profiler::profile::Profile;

use super::Args;
use super::config::Branches;
use super::page::Page;
use super::prediction::TURNS;
use super::tables::{Table, mean};
use crate::commands::profile::open_as;
use crate::printer::{Printer, follow};
use inas_host::report::{Corner, Mark, Series, series_svg};

pub(super) fn run(what: &Branches, args: &Args, page: &mut Page, printer: Printer) -> anyhow::Result<()> {
    page.scale(
        &format!(
            "{} random networks spread over the latencies, each as it is deployed (one depthwise convolution of the \
             largest kernel) and with one depthwise convolution for each chosen kernel and their mean, measured in turns. \
             BN is folded in both forms, so that the branches alone make the difference. Load average {:.1} before.",
            what.networks,
            crate::commands::profile::load()
        ),
        false,
    );
    let mut raw = Table::new(["profile", "architecture", "branches", "units", "merged_ms", "branches_ms"]);
    let mut table = Table::new(["profile", "merged, mean ms", "branches, mean ms", "branches cost", "least", "most"]);
    let mut shown = Vec::new();
    for dir in &what.profiles {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let profile = Profile::read(dir)?;
        let runtime = open_as(&profile, args.ort_lib.as_deref(), printer)?;
        let (space, px) = (profile.space(), profile.input_px());
        let archs = spread(space, &profile.table(), px, what.networks, what.seed, &BTreeSet::new())?;
        // Each network in both forms, one after the other.
        let onnx = |i: usize| {
            let build = if i.is_multiple_of(2) { network } else { network_with_branches };
            let graph = build(space, &archs[i / 2], px, &mut SeededWeights::new(what.seed))?;
            Ok(graph.to_onnx(&OnnxOptions::default())?)
        };
        let models = 2 * archs.len();
        let bar = printer.bar("measure", models as u64);
        let turned = measure_models_in_turns((models, &onnx), runtime.as_ref(), &TURNS, what.seed, &mut follow(&bar))?;
        bar.finish_and_clear();
        let ms: Vec<(f64, f64)> =
            turned.chunks(2).map(|pair| (pair[0].latency_us / 1e3, pair[1].latency_us / 1e3)).collect();
        let ratios: Vec<f64> = ms.iter().map(|(merged, branches)| branches / merged - 1.0).collect();
        let (least, most) =
            ratios.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), r| (low.min(*r), high.max(*r)));
        table.row([
            name.clone(),
            format!("{:.2}", mean(&ms.iter().map(|m| m.0).collect::<Vec<_>>())),
            format!("{:.2}", mean(&ms.iter().map(|m| m.1).collect::<Vec<_>>())),
            format!("{:+.1} %", 100.0 * mean(&ratios)),
            format!("{:+.1} %", 100.0 * least),
            format!("{:+.1} %", 100.0 * most),
        ]);
        for (arch, (merged, branches)) in archs.iter().zip(&ms) {
            let layers = arch.stages.iter().flatten().map(|l| l.kernels.len());
            // A transport fusion holds two units.
            let transport = arch.transport.iter().flat_map(|l| [l.kernels.len(); 2]);
            let units: Vec<usize> =
                layers.chain(transport).chain(arch.decoder.iter().map(|l| l.kernels.len())).collect();
            raw.row([
                name.clone(),
                arch.hash(),
                units.iter().sum::<usize>().to_string(),
                units.len().to_string(),
                format!("{merged:.4}"),
                format!("{branches:.4}"),
            ]);
        }
        shown.push(Series { name, points: ms, mark: Mark::Dots });
    }
    page.table(&table);
    let svg = series_svg(("Merged, ms", "With branches, ms"), &shown, Corner::TopLeft, true)?;
    page.plot("", "latency with branches against merged", svg);
    page.data(raw.csv());
    Ok(())
}
