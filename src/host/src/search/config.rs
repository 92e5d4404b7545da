//! Settings of a search.

use inas_space::Micros;
use serde::{Deserialize, Serialize};

use super::{Result, SearchError};

/// How architectures are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Every choice uniformly random.
    Uniform,
    /// Latency group sampling.
    #[default]
    Lgs,
    /// Exactly uniform among the architectures of a group of total latency, by dynamic programming.
    Exact,
}

/// How the search goes on after the first generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Selection, crossover, mutation (thesis algorithm 1).
    #[default]
    Evolution,
    /// Non-dominated sorting with crowding distance, binary tournaments, children by crossover and mutation.
    Nsga2,
    /// As many further draws of the sampler: the baseline.
    Random,
}

/// Settings of a search; the defaults are those of the thesis (algorithm 1 and its experiments).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// Architectures of the first generation, N.
    pub population: usize,
    /// Latency groups, G.
    pub groups: usize,
    /// Architectures selected as parents in each generation, k.
    pub keep: usize,
    /// Generations after the first.
    pub iterations: usize,
    /// Probability that a stage or level comes from the other parent, p_c.
    pub crossover: f64,
    /// Probability that a choice is redrawn, p_m.
    pub mutation: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// How architectures are drawn.
    pub sampler: SamplerKind,
    /// How the search goes on after the first generation.
    pub strategy: Strategy,
    /// Keep only architectures that take at most so long, us.
    pub max_latency: Option<Micros>,
    /// Least F-measure that a network of the front has.
    pub min_score: Option<f64>,
    /// Successive halving: judge a generation on this share of the validation images, its better half on twice as
    /// many, and so on; the front is judged on all. 1 judges every network on all.
    pub first_share: f64,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            population: 1000,
            groups: 10,
            keep: 100,
            iterations: 20,
            crossover: 0.2,
            mutation: 0.2,
            seed: 0,
            sampler: SamplerKind::default(),
            strategy: Strategy::default(),
            max_latency: None,
            min_score: None,
            first_share: 1.0,
        }
    }
}

impl SearchConfig {
    /// Most architectures that the search evaluates: N, and for each further generation k children by crossover and k
    /// by mutation (or as many draws).
    pub fn budget(&self) -> usize {
        self.population + self.iterations * 2 * self.keep
    }

    /// Checks that every setting is in its range.
    pub fn check(&self) -> Result<()> {
        let fail = |field, value: String, allowed| Err(SearchError::Config { field, value, allowed });
        for (field, value) in [("population", self.population), ("groups", self.groups), ("keep", self.keep)] {
            if value == 0 {
                return fail(field, value.to_string(), "at least 1");
            }
        }
        for (field, value) in [("crossover", self.crossover), ("mutation", self.mutation)] {
            if !(0.0..=1.0).contains(&value) {
                return fail(field, value.to_string(), "a probability in 0..=1");
            }
        }
        if !(self.first_share > 0.0 && self.first_share <= 1.0) {
            return fail("first_share", self.first_share.to_string(), "above 0 and at most 1");
        }
        if let Some(min) = self.min_score.filter(|min| !(0.0..=1.0).contains(min)) {
            return fail("min_score", min.to_string(), "an F-measure in 0..=1");
        }
        match self.max_latency {
            Some(max) if !max.0.is_finite() || max.0 <= 0.0 => {
                fail("max_latency", format!("{} us", max.0), "positive and finite")
            }
            _ => Ok(()),
        }
    }
}

/// Part `index` of `total` things shared out over `parts` as evenly as possible.
pub(super) fn share(total: usize, parts: usize, index: usize) -> usize {
    total * (index + 1) / parts - total * index / parts
}
