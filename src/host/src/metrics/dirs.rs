use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::{DatasetMetrics, DatasetSummary, ImageMetrics, ImageScores, MapU8, MetricError, Result};

/// Images scored at once between two additions to the sums: bounds the curves held in memory.
const CHUNK: usize = 256;

/// One image of a [`Report`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageReport {
    /// File stem.
    pub name: String,
    /// Its measures.
    #[serde(flatten)]
    pub scores: ImageScores,
}

/// Measures of a folder of predictions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The whole data set.
    pub dataset: DatasetSummary,
    /// Every image, sorted by name.
    pub per_image: Vec<ImageReport>,
}

/// Scores every ground truth of `gt_dir` (PNG, JPEG) against the prediction of the same file stem in `pred_dir`.
///
/// Predictions without a ground truth are ignored. Runs on all threads of the current rayon pool; the result does not
/// depend on how many there are.
pub fn evaluate_dirs(pred_dir: &Path, gt_dir: &Path) -> Result<Report> {
    let truths = images_by_stem(gt_dir)?;
    let predictions = images_by_stem(pred_dir)?;
    if truths.is_empty() {
        return Err(MetricError::Empty { dir: Some(gt_dir.to_owned()) });
    }
    let mut pairs = Vec::with_capacity(truths.len());
    let mut missing = Vec::new();
    for (stem, gt) in &truths {
        match predictions.get(stem) {
            Some(pred) => pairs.push((stem, pred, gt)),
            None => missing.push(stem.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(MetricError::MissingPredictions { dir: pred_dir.to_owned(), stems: missing, total: truths.len() });
    }
    let mut sums = DatasetMetrics::default();
    let mut per_image = Vec::with_capacity(pairs.len());
    for chunk in pairs.chunks(CHUNK) {
        let scored: Vec<Result<ImageMetrics>> =
            chunk.par_iter().map(|(_, pred, gt)| evaluate_files(pred, gt)).collect();
        for ((stem, ..), image) in chunk.iter().zip(scored) {
            let image = image?;
            sums.push(&image);
            per_image.push(ImageReport { name: (*stem).clone(), scores: image.scores });
        }
    }
    Ok(Report { dataset: sums.finish()?, per_image })
}

fn evaluate_files(pred_path: &Path, gt_path: &Path) -> Result<ImageMetrics> {
    let (pred, gt) = (MapU8::open(pred_path)?, MapU8::open(gt_path)?);
    pred.check_size(&gt, &pred_path.display().to_string(), &gt_path.display().to_string())?;
    ImageMetrics::of(&pred, &gt)
}

/// PNG and JPEG files directly in a folder, by stem.
fn images_by_stem(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let io = |source| MetricError::Io { path: dir.to_owned(), source };
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_image = path
            .extension()
            .is_some_and(|extension| ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known)));
        let Some(stem) = path.file_stem().filter(|_| is_image && path.is_file()) else {
            continue;
        };
        let stem = stem.to_string_lossy().into_owned();
        if let Some(other) = found.insert(stem, path.clone()) {
            let (first, second) = if other < path { (other, path) } else { (path, other) };
            return Err(MetricError::DuplicateStem { first, second });
        }
    }
    Ok(found)
}
