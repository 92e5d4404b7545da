//! Tests of the report.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::fixture::{MODELS, report};
use super::{HTML_NAME, JSON_NAME, ReportError, read, render, write};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("inas-report-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn shows_every_model_with_its_numbers() {
    let dir = Folder::new();
    let report = report(dir.path());
    let html = render(&report, dir.path()).unwrap();
    for name in MODELS {
        assert!(html.contains(&format!("<th scope=\"row\">{name}<span")), "no row of {name}");
    }
    let model = &report.models[0];
    assert!(html.contains(&format!("<td class=\"n\">{:.2}</td>", model.predicted_ms)));
    // Predicted 1 against measured 1.03.
    assert!(html.contains("<td class=\"n\">−2.9</td>"));
    assert!(html.contains("182.4") && html.contains("0.912") && html.contains("3.70") && html.contains("2.4e−6"));
    // The last model was never measured.
    assert!(html.contains("<td class=\"n\">–</td>"));
}

#[test]
fn escapes_text_in_page_and_plots() {
    let dir = Folder::new();
    let mut report = report(dir.path());
    let hostile = "<script>alert('x')</script>\" onload=\"y";
    report.title = hostile.into();
    report.command = hostile.into();
    report.models[0].name = hostile.into();
    report.device[0].value = hostile.into();
    report.samples[0].results[0].model = hostile.into();
    let html = render(&report, dir.path()).unwrap();
    assert!(!html.contains("<script"));
    assert!(!html.contains("\" onload=\""));
    assert!(html.contains("&lt;script&gt;"));
}

#[test]
fn loads_nothing_from_elsewhere() {
    let dir = Folder::new();
    let html = render(&report(dir.path()), dir.path()).unwrap();
    for outside in ["http://", "https://", "url(", "@import", "<link", "<script", "<iframe"] {
        assert!(!html.contains(outside), "{outside} in the page");
    }
    assert_eq!(html.matches("src=\"").count(), html.matches("src=\"data:image/").count());
    assert!(!html.contains("href="));
    // Two photos, each with a mask and a cut-out by three models.
    assert_eq!(html.matches("<img ").count(), 2 * (1 + 2 * MODELS.len()));
    assert_eq!(html.matches("<svg ").count(), 6);
}

#[test]
fn embeds_pictures_at_most_320_pixels_long() {
    let dir = Folder::new();
    let html = render(&report(dir.path()), dir.path()).unwrap();
    assert!(html.contains("width=\"320\" height=\"240\" alt=\"Photo disc\""));
    assert!(!html.contains("width=\"480\""));
}

#[test]
fn a_missing_picture_is_named() {
    let dir = Folder::new();
    let mut report = report(dir.path());
    report.samples[1].results[2].cut_out = "nowhere/gone.png".into();
    let error = render(&report, dir.path()).unwrap_err();
    assert!(matches!(&error, ReportError::Read { path, .. } if *path == dir.path().join("nowhere/gone.png")));
    assert!(error.to_string().contains("nowhere/gone.png"), "{error}");
    // Nothing is left half done.
    assert!(write(&report, dir.path()).is_err());
    assert!(!dir.path().join(HTML_NAME).exists() && !dir.path().join(JSON_NAME).exists());
}

#[test]
fn a_broken_picture_is_named() {
    let dir = Folder::new();
    let report = report(dir.path());
    fs::write(dir.path().join("disc.jpg"), "no picture").unwrap();
    let error = render(&report, dir.path()).unwrap_err();
    assert!(matches!(&error, ReportError::Picture { path, .. } if path.ends_with("disc.jpg")));
}

#[test]
fn written_data_renders_to_the_same_page() {
    let dir = Folder::new();
    let report = report(dir.path());
    let page = write(&report, dir.path()).unwrap();
    let again = read(dir.path()).unwrap();
    assert_eq!(again, report);
    assert_eq!(fs::read_to_string(page).unwrap(), render(&again, dir.path()).unwrap());
    let left = fs::read_dir(dir.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "tmp"));
    assert_eq!(left.count(), 0);
}

#[test]
fn numbers_that_are_not_finite_survive_as_dashes() {
    let dir = Folder::new();
    let mut report = report(dir.path());
    report.training.as_mut().unwrap().losses[3].max = f64::NAN;
    report.search.hypervolume[0] = f64::NAN;
    report.search.points[0].f_max = f64::NAN;
    report.search.reachable_ms = (f64::NAN, f64::INFINITY);
    report.models[0].mae = f64::NAN;
    let page = write(&report, dir.path()).unwrap();
    assert!(read(dir.path()).unwrap().models[0].mae.is_nan());
    let html = fs::read_to_string(page).unwrap();
    assert!(!html.contains("NaN") && !html.contains("inf ms") && html.contains("– – – ms"));
}

#[test]
fn an_empty_report_is_a_page() {
    let dir = Folder::new();
    let mut report = report(dir.path());
    report.training = None;
    report.search.points.clear();
    report.search.hypervolume.clear();
    report.models.clear();
    report.predictions.clear();
    report.samples.clear();
    let html = render(&report, dir.path()).unwrap();
    assert!(html.contains("Provenance") && !html.contains("Supernet training") && !html.contains("Samples"));
}

#[test]
fn missing_data_is_named() {
    let dir = Folder::new();
    assert!(read(dir.path()).unwrap_err().to_string().contains(JSON_NAME));
    fs::write(dir.path().join(JSON_NAME), "{}").unwrap();
    assert!(matches!(read(dir.path()).unwrap_err(), ReportError::Json { .. }));
}
