//! What judges architectures.

use inas_space::Architecture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an objective may fail with.
pub type ObjectiveError = Box<dyn std::error::Error + Send + Sync>;

/// Quality of an architecture on a validation set.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Score {
    /// Maximal F-measure, 0..=1; the search maximises it.
    pub f_max: f64,
    /// Mean absolute error, 0..=1.
    pub mae: f64,
}

/// What judges architectures, e.g. the supernet on a validation set. Several threads ask at the same time.
pub trait Objective: Sync {
    /// Begins to judge an architecture.
    fn start<'a>(&'a self, arch: &Architecture) -> Result<Box<dyn Trial + 'a>, ObjectiveError>;

    /// Names whatever the scores depend on (weights, contents of images, recalibration, input size), so that neither
    /// a log nor a cached score is taken for another's.
    fn identity(&self) -> String {
        String::new()
    }
}

/// An architecture that is being judged, on ever more validation images.
pub trait Trial: Send {
    /// Scores on the first `share` (0 to 1) of the validation images; what was computed for less is not repeated.
    fn advance(&mut self, share: f64) -> Result<Score, ObjectiveError>;
}
