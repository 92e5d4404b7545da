//! A made-up report with pictures, for tests.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

use super::{Fact, LossPoint, Model, Point, Prediction, Report, Sample, SampleResult, Search, Training};

/// Names of the models.
pub(super) const MODELS: [&str; 3] = ["swift", "balanced", "precise"];

/// A report whose pictures lie in `dir`.
pub(super) fn report(dir: &Path) -> Report {
    let photos = ["disc", "ball"].map(|name| pictures(dir, name));
    Report {
        title: "iNAS on a test bench".into(),
        command: "inas search --seed 7 --space nano".into(),
        version: "0.1.0".into(),
        created: "2025-01-02T03:04:05Z".into(),
        device: [
            ("device", "test bench, 2 cores"),
            ("runtime", "tract"),
            ("threads", "1"),
            ("input size", "224 × 224 px"),
        ]
        .map(|(label, value)| Fact { label: label.into(), value: value.into() })
        .into(),
        training: Some(Training {
            notes: "Sandwich rule on 2000 photos, 6000 steps, batches of 8.".into(),
            losses: (0..600).map(losses).collect(),
        }),
        search: search(),
        models: MODELS.iter().enumerate().map(|(i, name)| model(name, i)).collect(),
        predictions: (0..24).map(prediction).collect(),
        samples: photos.into(),
    }
}

/// A number in 0 to 1 that looks random.
fn noise(n: u32) -> f64 {
    (hash(n) >> 11) as f64 / (1_u64 << 53) as f64
}

fn hash(n: u32) -> u64 {
    let mut z = (u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn losses(i: u32) -> LossPoint {
    let fall = |floor: f64, seed: u32| floor + 2.2 * (-f64::from(i) / 90.0).exp() + 0.2 * noise(i * 3 + seed);
    LossPoint { step: u64::from(i) * 10, max: fall(0.5, 0), min: fall(0.9, 1), random: fall(0.7, 2) }
}

fn search() -> Search {
    let mut points: Vec<Point> = (0..60)
        .map(|i| {
            let generation = i / 10;
            let latency_ms = 6.0 + 30.0 * noise(i);
            let reach = 0.9 - 0.9 / latency_ms;
            let f_max = reach - 0.1 * noise(i + 1000) * (1.0 - f64::from(generation) / 7.0);
            Point { hash: format!("{:016x}", hash(i)), latency_ms, f_max, generation, on_front: false }
        })
        .collect();
    for i in 0..points.len() {
        let (ms, f) = (points[i].latency_ms, points[i].f_max);
        points[i].on_front = !points.iter().any(|p| p.latency_ms < ms && p.f_max > f);
    }
    Search {
        strategy: "NSGA-II, population 10".into(),
        points,
        hypervolume: vec![0.612, 0.684, 0.709, 0.716, 0.721, 0.722],
        reachable_ms: (4.31, 41.9),
    }
}

fn model(name: &str, i: usize) -> Model {
    let (points, n) = (search().points, i as f64);
    let mut front: Vec<Point> = points.into_iter().filter(|p| p.on_front).collect();
    front.sort_by(|a, b| a.latency_ms.total_cmp(&b.latency_ms));
    let point = front[i * (front.len() - 1) / (MODELS.len() - 1)].clone();
    let measured = point.latency_ms * (1.03 - 0.025 * n);
    // The last model was never measured.
    let known = i + 1 < MODELS.len();
    Model {
        name: name.into(),
        hash: point.hash,
        file: format!("models/{name}.onnx"),
        predicted_ms: point.latency_ms,
        measured_ms: known.then_some(measured),
        measured_ci_ms: known.then_some((measured * 0.99, measured * 1.012)),
        macs: 182_400_000 * (i as u64 + 1),
        params: 912_345 * (i as u64 + 1),
        file_bytes: 3_701_228 * (i as u64 + 1),
        f_max: point.f_max,
        mae: 0.081 - 0.012 * n,
        parity: 2.4e-6 * (n + 1.0),
    }
}

fn prediction(i: u32) -> Prediction {
    let predicted_ms = 5.0 + 32.0 * noise(i + 50);
    let measured_ms = predicted_ms * (0.97 + 0.07 * noise(i + 400));
    Prediction { hash: format!("{i:016x}"), predicted_ms, measured_ms }
}

/// A photo of a disc with a mask and a cut-out for each model.
fn pictures(dir: &Path, name: &str) -> Sample {
    let (width, height) = (480, 360);
    let inside = |x: u32, y: u32| {
        let (dx, dy) = (f64::from(x) - 250.0, f64::from(y) - 170.0);
        (110.0 - dx.hypot(dy)).clamp(0.0, 1.0)
    };
    let colour = |x: u32, y: u32| if inside(x, y) > 0.0 { [214, (y / 2) as u8, 60] } else { [(x / 3) as u8, 120, 170] };
    let photo = format!("{name}.jpg");
    RgbImage::from_fn(width, height, |x, y| Rgb(colour(x, y))).save(dir.join(&photo)).unwrap();
    let result = |model: &&str| {
        let (mask, cut_out) = (format!("{name}-{model}-mask.png"), format!("{name}-{model}-cut-out.png"));
        let alpha = |x, y| (inside(x, y) * 255.0) as u8;
        GrayImage::from_fn(width, height, |x, y| Luma([alpha(x, y)])).save(dir.join(&mask)).unwrap();
        let cut = |x, y| {
            let [r, g, b] = colour(x, y);
            Rgba([r, g, b, alpha(x, y)])
        };
        RgbaImage::from_fn(width, height, cut).save(dir.join(&cut_out)).unwrap();
        SampleResult { model: (*model).into(), mask: mask.into(), cut_out: cut_out.into(), latency_ms: 7.31 }
    };
    Sample { photo: photo.into(), results: MODELS.iter().map(result).collect() }
}
