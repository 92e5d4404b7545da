//! Accuracy over a grid of backbone and head latencies (thesis fig. 3.14).

use std::fmt::Write as _;

use inas_host::accuracy::Accuracy;
use inas_host::search::{Cache, Lgs, TablePredictor, Workers, scores};
use inas_profiler::profile::Profile;
use inas_space::Architecture;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::Args;
use super::config::Grid;
use super::page::Page;
use super::tables::{Table, mean};
use crate::commands::cancel_flag;
use crate::printer::Printer;

pub(super) fn run(what: &Grid, args: &Args, page: &mut Page, printer: Printer) -> anyhow::Result<()> {
    let profile = Profile::read(&what.profile)?;
    let predictor = TablePredictor::new(profile.space(), &profile.model(false), profile.input_px())?;
    let evaluator = args.eval()?.evaluator(&profile)?;
    let accuracy = Accuracy::new(&evaluator)?;
    let cache = Cache::open(&args.cache, "evaluations")?;
    let workers =
        Workers { threads: args.jobs.unwrap_or(Workers::default().threads), cache: Some(&cache), shard: None };
    let lgs = Lgs::new(&predictor);
    let mut rng = ChaCha8Rng::seed_from_u64(what.seed);
    let mut drawn: Vec<((usize, usize), Architecture)> = Vec::new();
    for backbone in 0..what.cells {
        for head in 0..what.cells {
            for _ in 0..what.networks {
                drawn.push(((backbone, head), lgs.draw_parts((backbone, head), what.cells, &mut rng)));
            }
        }
    }
    let bar = printer.bar("grid", drawn.len() as u64);
    let archs: Vec<Architecture> = drawn.iter().map(|d| d.1.clone()).collect();
    let found = scores(&accuracy, &archs, workers, cancel_flag(), &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();

    let (images, calibration) = evaluator.sizes();
    page.scale(
        &format!(
            "{0} x {0} cells, {1} networks in each; space `{2}` at {3} px on `{4}`; F on {images} validation images after \
             recalibration on {calibration} training images.",
            what.cells,
            what.networks,
            profile.space().name,
            profile.input_px(),
            what.profile.file_name().unwrap_or_default().to_string_lossy(),
        ),
        true,
    );
    let mut raw = Table::new(["backbone_cell", "head_cell", "architecture", "backbone_ms", "head_ms", "f_max", "mae"]);
    let mut cells = vec![vec![Vec::new(); what.cells]; what.cells];
    for (((backbone, head), arch), score) in drawn.iter().zip(&found) {
        let latency = predictor.latency(arch)?;
        let (back, rest) = (latency.backbone.ms(), (latency.transport + latency.decoder).ms());
        raw.row([
            backbone.to_string(),
            head.to_string(),
            arch.hash(),
            format!("{back:.4}"),
            format!("{rest:.4}"),
            format!("{:.6}", score.f_max),
            format!("{:.6}", score.mae),
        ]);
        cells[*backbone][*head].push((back, rest, score.f_max));
    }
    let f: Vec<Vec<f64>> = cells
        .iter()
        .map(|row| row.iter().map(|c| mean(&c.iter().map(|n| n.2).collect::<Vec<_>>())).collect())
        .collect();
    let head_ms = |head: usize| mean(&cells.iter().flat_map(|r| &r[head]).map(|n| n.1).collect::<Vec<_>>());
    let backbone_ms = |b: usize| mean(&cells[b].iter().flatten().map(|n| n.0).collect::<Vec<_>>());
    let mut head = vec!["mean F; backbone down, head across".to_owned()];
    head.extend((0..what.cells).map(|h| format!("{:.2} ms", head_ms(h))));
    let mut table = Table::new(head);
    for (b, row) in f.iter().enumerate() {
        let mut line = vec![format!("{:.2} ms", backbone_ms(b))];
        line.extend(row.iter().map(|f| format!("{f:.4}")));
        table.row(line);
    }
    page.table(&table);
    page.plot("", "mean F by latency of backbone and head", heat(&f, &backbone_ms, &head_ms));
    let up = |pairs: Vec<(f64, f64)>| {
        let n = pairs.len();
        (pairs.iter().filter(|(a, b)| b > a).count(), n, mean(&pairs.iter().map(|(a, b)| b - a).collect::<Vec<_>>()))
    };
    let n = what.cells;
    let slower_backbone =
        up((0..n - 1).flat_map(|b| (0..n).map(move |h| (b, h))).map(|(b, h)| (f[b][h], f[b + 1][h])).collect());
    let slower_head =
        up((0..n).flat_map(|b| (0..n - 1).map(move |h| (b, h))).map(|(b, h)| (f[b][h], f[b][h + 1])).collect());
    page.paragraph(&format!(
        "**Here:** one step to a slower backbone raises F in {} of {} cases, by {:+.4} on average; one step to a slower \
         head in {} of {}, by {:+.4}.",
        slower_backbone.0, slower_backbone.1, slower_backbone.2, slower_head.0, slower_head.1, slower_head.2
    ));
    page.data(raw.csv());
    Ok(())
}

/// A heat map: dark is accurate.
fn heat(f: &[Vec<f64>], backbone_ms: &dyn Fn(usize) -> f64, head_ms: &dyn Fn(usize) -> f64) -> String {
    let all = f.iter().flatten().copied();
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let (side, left, top, n) = (72, 90, 20, f.len());
    let (width, height) = (left + side * n + 20, top + side * n + 50);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"><rect width="{width}" height="{height}" fill="#fff"/>"##
    );
    for (b, row) in f.iter().enumerate() {
        // Slow backbones on top, as on an axis.
        let y = top + side * (n - 1 - b);
        let _ = write!(
            svg,
            r#"<text x="{}" y="{}" text-anchor="end">{:.2}</text>"#,
            left - 8,
            y + side / 2 + 4,
            backbone_ms(b)
        );
        for (h, value) in row.iter().enumerate() {
            let share = if high > low { (value - low) / (high - low) } else { 0.5 };
            let mix = |from: f64, to: f64| (from + (to - from) * share) as u8;
            let (fill, ink) = (
                format!("rgb({},{},{})", mix(232.0, 22.0), mix(240.0, 72.0), mix(250.0, 134.0)),
                if share > 0.5 { "#fff" } else { "#1f2937" },
            );
            let x = left + side * h;
            let _ = write!(
                svg,
                r#"<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{fill}" stroke="white"/><text x="{}" y="{}" text-anchor="middle" fill="{ink}">{value:.4}</text>"#,
                x + side / 2,
                y + side / 2 + 4
            );
        }
    }
    for h in 0..n {
        let x = left + side * h + side / 2;
        let _ =
            write!(svg, r#"<text x="{x}" y="{}" text-anchor="middle">{:.2}</text>"#, top + side * n + 18, head_ms(h));
    }
    let _ = write!(
        svg,
        r#"<text x="{}" y="{}" text-anchor="middle">Latency of transport and decoder, ms</text><text transform="translate(16 {}) rotate(-90)" text-anchor="middle">Latency of the backbone, ms</text></svg>"#,
        left + side * n / 2,
        height - 10,
        top + side * n / 2
    );
    svg
}
