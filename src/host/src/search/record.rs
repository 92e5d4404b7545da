//! What a search produces.

use inas_space::{Architecture, LatencyBreakdown, Micros};
use serde::{Deserialize, Serialize};

use super::pareto::{self, Point};

/// Quality of an architecture on a validation set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Maximal F-measure, 0..=1; the search maximises it.
    pub f_max: f64,
    /// Mean absolute error, 0..=1.
    pub mae: f64,
}

/// What judges architectures, e.g. the supernet on a validation set.
pub trait Objective {
    /// Scores an architecture; called once for each.
    fn evaluate(&mut self, arch: &Architecture) -> Result<Score, Box<dyn std::error::Error + Send + Sync>>;

    /// Names whatever the scores depend on (checkpoint, data, input size), so that a log is not resumed with another.
    fn identity(&self) -> String {
        String::new()
    }
}

/// Where an architecture came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Drawn for the first generation.
    Init,
    /// Two parents.
    Crossover,
    /// One parent.
    Mutation,
    /// Drawn by random search.
    Random,
}

/// An evaluated architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluated {
    /// Number in the order of evaluation, from 0.
    pub index: usize,
    /// Generation, from 0.
    pub generation: usize,
    /// The architecture.
    pub arch: Architecture,
    /// Its hash, [`Architecture::hash`].
    pub hash: String,
    /// Predicted latency, us.
    pub latency: LatencyBreakdown,
    /// Measured quality.
    pub score: Score,
    /// Hashes of the parents.
    pub parents: Vec<String>,
    /// Where it came from.
    pub origin: Origin,
}

impl Evaluated {
    /// Latency (us) and F-measure.
    pub fn point(&self) -> Point {
        Point { latency: self.latency.total().0, score: self.score.f_max }
    }
}

/// State after a generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Number, 0 the first.
    pub generation: usize,
    /// Architectures evaluated so far.
    pub evaluated: usize,
    /// Hypervolume of the front so far, see [`Progress::hypervolume`].
    pub hypervolume: f64,
    /// Architectures that the generation lacks, because no new one was found in a bounded number of tries.
    pub shortfall: usize,
}

/// Outcome of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchResult {
    /// Everything evaluated, in order.
    pub evaluated: Vec<Evaluated>,
    /// The Pareto front, latency increasing.
    pub front: Vec<Evaluated>,
    /// Each generation.
    pub generations: Vec<Generation>,
    /// Latency of the fastest and of the slowest architecture of the space, us.
    pub reachable: (Micros, Micros),
}

impl SearchResult {
    /// The evaluated architectures that no other dominates, latency increasing, equal ones as evaluated.
    pub(super) fn front_of(evaluated: &[Evaluated]) -> Vec<Evaluated> {
        let points: Vec<Point> = evaluated.iter().map(Evaluated::point).collect();
        pareto::front(&points).into_iter().map(|i| evaluated[i].clone()).collect()
    }
}

/// State of a running search, after an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Current generation, from 0.
    pub generation: usize,
    /// Architectures evaluated so far.
    pub evaluated: usize,
    /// Most architectures that will be evaluated.
    pub total: usize,
    /// Highest F-measure so far.
    pub best: f64,
    /// Hypervolume of the front so far: area between the front, F = 0 and the latency of the slowest architecture of
    /// the space, as a share of the reachable latency range times 1.
    pub hypervolume: f64,
}
