use serde::Serialize;

use super::counts::Counts;
use super::dataset::{add, max_f_of_sums};
use super::scores::Curve;
use super::{MapU8, MetricError, Result, THRESHOLDS};

/// The two measures a search needs, from one pass over each image.
///
/// Equal to [`super::DatasetSummary`]'s fields of the same meaning. Merging parts gives the same sums up to rounding;
/// push or merge in a fixed order where bits matter.
#[derive(Debug, Clone)]
pub struct FastScore {
    images: u64,
    precision: Curve,
    recall: Curve,
    mae: f64,
}

/// What [`FastScore`] comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FastSummary {
    /// Maximum over thresholds of F from mean precision and mean recall, 0..1.
    pub max_f: f64,
    /// Mean absolute error, 0..1.
    pub mae: f64,
}

impl Default for FastScore {
    fn default() -> Self {
        Self { images: 0, precision: [0.0; THRESHOLDS], recall: [0.0; THRESHOLDS], mae: 0.0 }
    }
}

impl FastScore {
    /// Adds one image.
    pub fn push(&mut self, pred: &MapU8, gt: &MapU8) -> Result<()> {
        pred.check_size(gt, "the prediction", "map")?;
        let counts = Counts::of(pred, gt)?;
        let (precision, recall) = counts.precision_recall();
        add(&mut self.precision, &precision);
        add(&mut self.recall, &recall);
        self.mae += counts.mae();
        self.images += 1;
        Ok(())
    }

    /// Adds another part's images.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.precision, &other.precision);
        add(&mut self.recall, &other.recall);
        self.mae += other.mae;
        self.images += other.images;
    }

    /// Images so far.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// The measures; an error without images.
    pub fn finish(&self) -> Result<FastSummary> {
        if self.images == 0 {
            return Err(MetricError::Empty { dir: None });
        }
        Ok(FastSummary {
            max_f: max_f_of_sums(&self.precision, &self.recall, self.images),
            mae: self.mae / self.images as f64,
        })
    }
}
