//! What a search produces.

use inas_space::{Architecture, LatencyBreakdown, Micros};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Score;
use super::pareto::{self, Point};

/// Where an architecture came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
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
    /// Share of the validation images that the score is of; less than 1 only under successive halving.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub share: f64,
    /// Hashes of the parents.
    pub parents: Vec<String>,
    /// Where it came from.
    pub origin: Origin,
}

fn whole() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_whole(share: &f64) -> bool {
    *share >= 1.0
}

impl Evaluated {
    /// Latency (us) and F-measure.
    pub fn point(&self) -> Point {
        Point { latency: self.latency.total().0, score: self.score.f_max }
    }
}

/// State after a generation.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
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
    /// The evaluated architectures of at least a score that no other dominates, latency increasing, equal ones as
    /// evaluated.
    pub(super) fn front_of(evaluated: &[Evaluated], min_score: Option<f64>) -> Vec<Evaluated> {
        let good: Vec<&Evaluated> =
            evaluated.iter().filter(|e| min_score.is_none_or(|min| e.score.f_max >= min)).collect();
        let points: Vec<Point> = good.iter().map(|e| e.point()).collect();
        pareto::front(&points).into_iter().map(|i| good[i].clone()).collect()
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
