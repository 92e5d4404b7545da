//! The report of a run: one HTML file that holds everything it shows, and the data behind it as JSON.
//!
//! [`write()`] puts `report.html` and `report.json` in the run's folder; [`read`] takes the JSON back, so that a report
//! can be rendered again without the run. The page loads nothing from elsewhere: pictures are data URIs, plots are
//! inline SVG.

mod error;
#[cfg(test)]
mod fixture;
mod images;
mod model;
mod plots;
#[cfg(test)]
mod tests;
mod view;

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};

pub use error::{ReportError, Result};
pub use model::{Fact, LossPoint, Model, Point, Prediction, Report, Sample, SampleResult, Search, Training};
pub use plots::{Corner, Mark, Series};

/// Name of the data file of a report.
pub const JSON_NAME: &str = "report.json";
/// Name of the page of a report.
pub const HTML_NAME: &str = "report.html";

/// The page as one HTML string; pictures named by relative paths are read from `base_dir`.
pub fn render(report: &Report, base_dir: &Path) -> Result<String> {
    let page = view::Page::new(report, base_dir)?;
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    let mut syntax = SyntaxConfig::builder();
    env.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    Ok(env.render_str(include_str!("template.html"), Serde(page))?)
}

/// Scatter plot of measured against predicted latency (pairs of predicted and measured, ms) as an SVG file.
pub fn scatter_svg(sum: &[(f64, f64)], calibrated: &[(f64, f64)]) -> Result<String> {
    plots::verification(sum, calibrated)
}

/// Learning curves as an SVG file: maximum F of validated sub-networks by step. Points are network, step, value.
pub fn learning_curves(score: &'static str, points: &[(&str, f64, f64)]) -> Result<String> {
    plots::learning_curves(score, points)
}

/// Named series over common axes as an SVG file; `diagonal` gives both axes one range and draws the line of equality.
pub fn series_svg(
    labels: (&'static str, &'static str),
    series: &[Series],
    corner: Corner,
    diagonal: bool,
) -> Result<String> {
    plots::series(labels, series, corner, diagonal)
}

/// Writes `report.json` and `report.html` in `dir`, which is made if need be; returns the path of the page.
///
/// Pictures named by relative paths are read from `dir`. Each file is replaced as a whole or not at all, and neither
/// is touched when the page cannot be rendered.
pub fn write(report: &Report, dir: &Path) -> Result<PathBuf> {
    let html = render(report, dir)?;
    let json = serde_json::to_string_pretty(report)
        .map_err(|source| ReportError::Json { path: dir.join(JSON_NAME), source })?;
    replace(&dir.join(JSON_NAME), json.as_bytes())?;
    let page = dir.join(HTML_NAME);
    replace(&page, html.as_bytes())?;
    Ok(page)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    crate::files::replace(path, bytes).map_err(|source| ReportError::Write { path: path.to_path_buf(), source })
}

/// Reads the data of the report in `dir`, as [`write()`] left it.
pub fn read(dir: &Path) -> Result<Report> {
    let path = dir.join(JSON_NAME);
    let text = std::fs::read_to_string(&path).map_err(|source| ReportError::Read { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|source| ReportError::Json { path, source })
}
