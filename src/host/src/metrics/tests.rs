#![allow(clippy::float_cmp)] // equal by construction: the same operations in the same order

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/metrics")
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden_dir().join("expected.json")).unwrap()).unwrap()
}

fn golden_pair(i: usize) -> (MapU8, MapU8) {
    let open = |kind: &str| MapU8::open(&golden_dir().join(format!("{kind}_{i}.png"))).unwrap();
    (open("pred"), open("gt"))
}

/// An empty folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("inas-metrics-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("pred")).unwrap();
        std::fs::create_dir_all(path.join("gt")).unwrap();
        Self(path)
    }

    fn put(&self, sub: &str, name: &str, from: &str) {
        std::fs::copy(golden_dir().join(from), self.0.join(sub).join(name)).unwrap();
    }

    fn evaluate(&self) -> Result<Report> {
        evaluate_dirs(&self.0.join("pred"), &self.0.join("gt"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Every key of `expected` is in `got`, in the same order, within 1e-6.
fn assert_close(got: &impl serde::Serialize, expected: &Value, what: &str) {
    let got: Value = serde_json::from_str(&serde_json::to_string(got).unwrap()).unwrap();
    let (got, expected) = (got.as_object().unwrap(), expected.as_object().unwrap());
    assert_eq!(got.len(), expected.len(), "{what}");
    for (key, value) in expected {
        let (a, b) = (got[key].as_f64().unwrap(), value.as_f64().unwrap());
        assert!((a - b).abs() < 1e-6, "{what} {key}: {a}, reference {b}");
    }
}

#[test]
fn equals_the_reference_per_image_and_for_the_set() {
    let expected = expected();
    let mut set = DatasetMetrics::default();
    let mut fast = FastScore::default();
    for (i, reference) in expected["per_image"].as_array().unwrap().iter().enumerate() {
        let (pred, gt) = golden_pair(i);
        let image = ImageMetrics::of(&pred, &gt).unwrap();
        assert_close(&image.scores, reference, &format!("image {i}"));
        set.push(&image);
        fast.push(&pred, &gt).unwrap();
    }
    let summary = set.finish().unwrap();
    assert_close(&summary, &expected["dataset"], "dataset");
    let fast = fast.finish().unwrap();
    assert_eq!(fast.max_f, summary.max_f_of_mean_precision_recall);
    assert_eq!(fast.mae, summary.mae);
}

#[test]
fn summary_keys_keep_the_reference_order() {
    let (pred, gt) = golden_pair(0);
    let mut set = DatasetMetrics::default();
    set.push(&ImageMetrics::of(&pred, &gt).unwrap());
    let json = serde_json::to_string(&set.finish().unwrap()).unwrap();
    let keys: Vec<&str> = json.split('"').skip(1).step_by(2).collect();
    assert_eq!(
        keys,
        ["adp_f", "max_f", "mean_f", "max_f_of_mean_precision_recall", "wfm", "sm", "adp_e", "max_e", "mean_e", "mae"]
    );
}

#[test]
fn merged_fast_scores_equal_one_pass() {
    let (mut left, mut right, mut whole) = (FastScore::default(), FastScore::default(), FastScore::default());
    for i in 0..10 {
        let (pred, gt) = golden_pair(i);
        whole.push(&pred, &gt).unwrap();
        if i < 4 { &mut left } else { &mut right }.push(&pred, &gt).unwrap();
    }
    left.merge(&right);
    assert_eq!(left.images(), 10);
    let (a, b) = (left.finish().unwrap(), whole.finish().unwrap());
    assert!((a.max_f - b.max_f).abs() < 1e-12 && (a.mae - b.mae).abs() < 1e-12);
}

#[test]
fn folders_equal_the_reference_on_any_number_of_threads() {
    let folder = Folder::new("golden");
    for i in 0..10 {
        folder.put("pred", &format!("{i}.png"), &format!("pred_{i}.png"));
        folder.put("gt", &format!("{i}.PNG"), &format!("gt_{i}.png"));
    }
    folder.put("pred", "extra.png", "pred_0.png");
    let report = folder.evaluate().unwrap();
    assert_close(&report.dataset, &expected()["dataset"], "dataset");
    assert_eq!(report.per_image.len(), 10);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| folder.evaluate()).unwrap(), report);
    }
}

#[test]
fn missing_predictions_are_all_named() {
    let folder = Folder::new("missing");
    for name in ["a", "b", "c"] {
        folder.put("gt", &format!("{name}.png"), "gt_0.png");
    }
    folder.put("pred", "b.png", "pred_0.png");
    let error = folder.evaluate().unwrap_err().to_string();
    assert!(error.starts_with("2 of 3 ") && error.ends_with(": a, c"), "{error}");
}

#[test]
fn size_mismatch_names_files_and_sizes() {
    let folder = Folder::new("sizes");
    folder.put("gt", "a.png", "gt_0.png");
    let (_, gt) = golden_pair(0);
    image::GrayImage::new(3, 2).save(folder.0.join("pred/a.png")).unwrap();
    let error = folder.evaluate().unwrap_err().to_string();
    let wanted = format!("gt/a.png is {}x{}", gt.width(), gt.height());
    assert!(error.contains("pred/a.png is 3x2") && error.contains(&wanted), "{error}");
}

#[test]
fn ambiguous_empty_and_broken_input_is_refused() {
    let folder = Folder::new("refused");
    assert!(matches!(folder.evaluate().unwrap_err(), MetricError::Empty { dir: Some(_) }));
    folder.put("gt", "a.png", "gt_0.png");
    folder.put("gt", "a.jpg", "gt_0.png");
    assert!(matches!(folder.evaluate().unwrap_err(), MetricError::DuplicateStem { .. }));
    std::fs::remove_file(folder.0.join("gt/a.jpg")).unwrap();
    std::fs::write(folder.0.join("pred/a.png"), b"not an image").unwrap();
    let error = folder.evaluate().unwrap_err();
    assert!(error.to_string().contains("pred/a.png"), "{error}");
    assert!(matches!(MapU8::new(2, 2, vec![0; 3]).unwrap_err(), MetricError::BadMap { len: 3, .. }));
    assert!(matches!(DatasetMetrics::default().finish().unwrap_err(), MetricError::Empty { dir: None }));
    assert!(FastScore::default().finish().is_err());
}

#[test]
fn a_perfect_map_scores_best_and_tiny_maps_do_not_break() {
    let (_, gt) = golden_pair(0);
    let binary: Vec<u8> = gt.data().iter().map(|&v| if v > 128 { 255 } else { 0 }).collect();
    let pred = MapU8::new(gt.width(), gt.height(), binary).unwrap();
    let scores = ImageMetrics::of(&pred, &gt).unwrap().scores;
    for (name, value) in [("max_f", scores.max_f), ("wfm", scores.wfm), ("sm", scores.sm)] {
        assert!((value - 1.0).abs() < 1e-9, "{name} {value}");
    }
    assert_eq!(scores.mae, 0.0);
    // Foreground in the last column: an empty quadrant.
    let corner = MapU8::new(2, 2, vec![0, 0, 0, 255]).unwrap();
    let scores = ImageMetrics::of(&corner, &corner).unwrap().scores;
    assert!(scores.sm.is_finite() && scores.sm > 0.9, "{}", scores.sm);
    let empty = MapU8::from(image::GrayImage::new(0, 0));
    assert!(ImageMetrics::of(&empty, &empty).is_err());
}
