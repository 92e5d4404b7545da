//! What the template shows: a report with its numbers as text and its pictures embedded.

use std::path::Path;

use serde::Serialize;

use super::Result;
use super::images::{self, Picture};
use super::model::{Fact, Model, Prediction, Report, Sample, Search, Training};
use super::plots::{self, Size};

/// What stands for a missing number.
const NONE: &str = "–";

/// The page.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    css: &'static str,
    title: &'a str,
    command: &'a str,
    version: &'a str,
    created: &'a str,
    facts: &'a [Fact],
    tiles: Vec<Tile>,
    search: SearchView<'a>,
    models: Vec<ModelView<'a>>,
    predictions: Option<PredictionsView>,
    training: Option<TrainingView<'a>>,
    samples: Vec<SampleView>,
}

#[derive(Serialize)]
struct Tile {
    label: &'static str,
    value: String,
    note: String,
}

#[derive(Serialize)]
struct SearchView<'a> {
    strategy: &'a str,
    evaluated: usize,
    generations: usize,
    front: Vec<FrontRow<'a>>,
    pareto: Responsive,
    hypervolume: Option<String>,
}

#[derive(Serialize)]
struct FrontRow<'a> {
    hash: &'a str,
    latency_ms: String,
    f_max: String,
    generation: u32,
}

#[derive(Serialize)]
struct ModelView<'a> {
    name: &'a str,
    hash: &'a str,
    short_hash: String,
    file: &'a str,
    predicted_ms: String,
    measured_ms: String,
    interval_ms: Option<String>,
    error_percent: String,
    macs_m: String,
    params_m: String,
    file_mb: String,
    f_max: String,
    mae: String,
    parity: String,
}

#[derive(Serialize)]
struct PredictionsView {
    plot: String,
    count: usize,
    mean_percent: String,
    worst_percent: String,
}

#[derive(Serialize)]
struct TrainingView<'a> {
    notes: &'a str,
    plot: Option<Responsive>,
    group: usize,
}

#[derive(Serialize)]
struct SampleView {
    name: String,
    photo: Picture,
    results: Vec<ResultView>,
}

#[derive(Serialize)]
struct ResultView {
    model: String,
    mask: Picture,
    cut_out: Picture,
    latency_ms: String,
}

/// A plot drawn twice, so that its text stays readable on a phone; the style sheet shows one.
#[derive(Serialize)]
struct Responsive {
    wide: String,
    narrow: String,
}

impl Responsive {
    fn draw(wide: Size, draw: impl Fn(Size, &str) -> Result<String>) -> Result<Self> {
        Ok(Self { wide: draw(wide, "plot wide")?, narrow: draw(Size::HALF, "plot narrow")? })
    }
}

impl<'a> Page<'a> {
    /// Draws the plots and reads the pictures, relative ones from `base_dir`.
    pub(super) fn new(report: &'a Report, base_dir: &Path) -> Result<Self> {
        Ok(Self {
            css: include_str!("style.css"),
            title: &report.title,
            command: &report.command,
            version: &report.version,
            created: &report.created,
            facts: &report.device,
            tiles: tiles(report),
            search: search(&report.search, &report.models)?,
            models: report.models.iter().map(model).collect(),
            predictions: predictions(&report.predictions)?,
            training: report.training.as_ref().map(training).transpose()?,
            samples: report.samples.iter().map(|s| sample(s, base_dir)).collect::<Result<_>>()?,
        })
    }
}

fn tiles(report: &Report) -> Vec<Tile> {
    let search = &report.search;
    let on_front = search.points.iter().filter(|p| p.on_front).count();
    let (low, high) = search.reachable_ms;
    let mut tiles = vec![
        Tile {
            label: "Architectures evaluated",
            value: search.points.len().to_string(),
            note: format!("{on_front} on the Pareto front"),
        },
        Tile {
            label: "Latencies the space reaches",
            value: format!("{} – {} ms", ms(low), ms(high)),
            note: "predicted, on this device".into(),
        },
    ];
    let latency = |m: &&Model| m.measured_ms.unwrap_or(m.predicted_ms);
    if let Some(best) = report.models.iter().min_by(|a, b| latency(a).total_cmp(&latency(b))) {
        let how = if best.measured_ms.is_some() { "measured" } else { "predicted" };
        tiles.push(Tile {
            label: "Fastest model",
            value: format!("{} ms", ms(latency(&best))),
            note: format!("{how}, {}, max F {}", best.name, fixed(best.f_max, 3)),
        });
    }
    let accuracy = |m: &Model| if m.f_max.is_finite() { m.f_max } else { f64::NEG_INFINITY };
    if let Some(best) = report.models.iter().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b))) {
        tiles.push(Tile {
            label: "Most accurate model",
            value: format!("max F {}", fixed(best.f_max, 3)),
            note: format!("{}, {} ms", best.name, ms(latency(&best))),
        });
    }
    tiles
}

fn search<'a>(search: &'a Search, models: &[Model]) -> Result<SearchView<'a>> {
    let mut front: Vec<_> = search.points.iter().filter(|p| p.on_front).collect();
    front.sort_by(|a, b| a.latency_ms.total_cmp(&b.latency_ms));
    let generations = search.points.iter().map(|p| p.generation as usize + 1).max().unwrap_or(0);
    let hypervolume = (!search.hypervolume.is_empty()).then(|| plots::hypervolume(&search.hypervolume));
    Ok(SearchView {
        strategy: &search.strategy,
        evaluated: search.points.len(),
        generations,
        front: front
            .into_iter()
            .map(|p| FrontRow {
                hash: &p.hash,
                latency_ms: ms(p.latency_ms),
                f_max: fixed(p.f_max, 4),
                generation: p.generation,
            })
            .collect(),
        pareto: Responsive::draw(Size::WIDE, |size, class| plots::pareto(search, models, size, class))?,
        hypervolume: hypervolume.transpose()?,
    })
}

fn model(model: &Model) -> ModelView<'_> {
    let error = model.measured_ms.map(|measured| error_percent(model.predicted_ms, measured));
    ModelView {
        name: &model.name,
        hash: &model.hash,
        short_hash: model.hash.chars().take(12).collect(),
        file: &model.file,
        predicted_ms: ms(model.predicted_ms),
        measured_ms: model.measured_ms.map_or(NONE.into(), ms),
        interval_ms: model.measured_ci_ms.map(|(low, high)| format!("{} – {}", ms(low), ms(high))),
        error_percent: error.map_or(NONE.into(), signed),
        macs_m: fixed(model.macs as f64 / 1e6, 1),
        params_m: fixed(model.params as f64 / 1e6, 3),
        file_mb: fixed(model.file_bytes as f64 / 1e6, 2),
        f_max: fixed(model.f_max, 4),
        mae: fixed(model.mae, 4),
        parity: if model.parity.is_finite() {
            format!("{:.1e}", model.parity).replace('-', "−")
        } else {
            NONE.into()
        },
    }
}

fn predictions(predictions: &[Prediction]) -> Result<Option<PredictionsView>> {
    if predictions.is_empty() {
        return Ok(None);
    }
    let errors: Vec<f64> = predictions
        .iter()
        .map(|p| error_percent(p.predicted_ms, p.measured_ms).abs())
        .filter(|e| e.is_finite())
        .collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    let worst = errors.iter().copied().fold(f64::NAN, f64::max);
    Ok(Some(PredictionsView {
        plot: plots::predictions(predictions)?,
        count: predictions.len(),
        mean_percent: fixed(mean, 1),
        worst_percent: fixed(worst, 1),
    }))
}

fn training(training: &Training) -> Result<TrainingView<'_>> {
    let losses = &training.losses;
    let plot = || Responsive::draw(Size::BAND, |size, class| plots::losses(losses, size, class));
    Ok(TrainingView {
        notes: &training.notes,
        plot: (!losses.is_empty()).then(plot).transpose()?,
        group: plots::group(losses.len()),
    })
}

fn sample(sample: &Sample, base_dir: &Path) -> Result<SampleView> {
    let results = sample.results.iter().map(|result| {
        Ok(ResultView {
            model: result.model.clone(),
            mask: images::mask(&base_dir.join(&result.mask))?,
            cut_out: images::cut_out(&base_dir.join(&result.cut_out))?,
            latency_ms: ms(result.latency_ms),
        })
    });
    Ok(SampleView {
        name: sample.photo.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        photo: images::photo(&base_dir.join(&sample.photo))?,
        results: results.collect::<Result<_>>()?,
    })
}

/// Error of a prediction, percent of the measurement.
fn error_percent(predicted: f64, measured: f64) -> f64 {
    (predicted - measured) / measured * 100.0
}

/// Milliseconds, to about a microsecond where that matters.
fn ms(value: f64) -> String {
    fixed(value, if value.abs() < 1.0 { 3 } else { 2 })
}

fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { NONE.into() }
}

fn signed(value: f64) -> String {
    if value.is_finite() { format!("{value:+.1}").replace('-', "−") } else { NONE.into() }
}
