//! Quality measures of saliency maps.
//!
//! Conventions are those of the public evaluation package `pysodmetrics` 1.6.2 (which follows the
//! authors' MATLAB code), so that numbers can be compared with published tables; the golden data in
//! `tests/golden/metrics` holds this module to it:
//!
//! * ground truth is foreground where the 8-bit value is above 128;
//! * the prediction is divided by 255 and stretched to `[0, 1]` (per image; left alone if constant);
//! * nothing is resized here: sizes must agree;
//! * thresholded curves have 256 points, index 0 is threshold 255 and index 255 is threshold 0, and
//!   a pixel is foreground if its value is at or above the threshold.

mod counts;
mod dataset;
mod dirs;
mod distance;
mod enhanced;
mod error;
mod fast;
mod map;
mod scores;
mod structure;
mod weighted;

pub use counts::{BETA_SQUARED, THRESHOLDS};
pub use dataset::{DatasetMetrics, DatasetSummary};
pub use dirs::{ImageReport, Report, evaluate_dirs};
pub use error::MetricError;
pub use fast::{FastScore, FastSummary};
pub use map::MapU8;
pub use scores::{Curve, Curves, ImageMetrics, ImageScores};

/// What metric functions return.
pub type Result<T> = std::result::Result<T, MetricError>;

/// Guard against division by zero: the distance from 1.0 to the next double, as in the reference.
pub(crate) const EPS: f64 = f64::EPSILON;

#[cfg(test)]
mod tests;
