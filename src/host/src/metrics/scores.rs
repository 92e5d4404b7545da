use serde::Serialize;

use super::counts::{Counts, curve_max, curve_mean, f_measure};
use super::{MapU8, Result, THRESHOLDS, enhanced, structure, weighted};

/// One value per threshold, from 255 (index 0) down to 0.
pub type Curve = [f64; THRESHOLDS];

/// The single-number measures of one image, all in 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ImageScores {
    /// F at twice the mean prediction.
    pub adp_f: f64,
    /// Largest F over the thresholds.
    pub max_f: f64,
    /// Mean F over the thresholds.
    pub mean_f: f64,
    /// Weighted F.
    pub wfm: f64,
    /// S-measure.
    pub sm: f64,
    /// E at twice the mean prediction.
    pub adp_e: f64,
    /// Largest E over the thresholds (the measure divides by pixels - 1, so it may pass 1 by a little).
    pub max_e: f64,
    /// Mean E over the thresholds.
    pub mean_e: f64,
    /// Mean absolute error, lower is better.
    pub mae: f64,
}

/// The thresholded curves of one image, needed for the data set's own maxima.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Precision.
    pub precision: Curve,
    /// Recall.
    pub recall: Curve,
    /// F-measure.
    pub f: Curve,
    /// E-measure.
    pub e: Curve,
}

/// All measures of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageMetrics {
    /// Single numbers.
    pub scores: ImageScores,
    /// Curves.
    pub curves: Box<Curves>,
}

impl ImageMetrics {
    /// Scores a prediction against a ground truth of the same size.
    pub fn of(pred: &MapU8, gt: &MapU8) -> Result<Self> {
        pred.check_size(gt, "the prediction", "map")?;
        let counts = Counts::of(pred, gt)?;
        let (precision, recall) = counts.precision_recall();
        let f = std::array::from_fn(|i| f_measure(precision[i], recall[i]));
        let e = enhanced::curve(&counts);
        let scores = ImageScores {
            adp_f: counts.adaptive_f(),
            max_f: curve_max(&f),
            mean_f: curve_mean(&f),
            wfm: weighted::measure(&counts, pred, gt),
            sm: structure::measure(&counts, pred, gt),
            adp_e: enhanced::adaptive(&counts),
            max_e: curve_max(&e),
            mean_e: curve_mean(&e),
            mae: counts.mae(),
        };
        let curves = Box::new(Curves { precision, recall, f, e });
        Ok(Self { scores, curves })
    }
}
