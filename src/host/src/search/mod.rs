//! Search for the Pareto front of latency and accuracy (thesis algorithm 1, latency group sampling evolution).
//!
//! A [`TablePredictor`] turns a measured latency table into predictions, an [`Objective`] scores architectures, and
//! [`run`] searches: [`Lgs`] draws the first generation evenly over the reachable latencies, then selection by group,
//! crossover and mutation improve it. Everything random comes from one seed; a [log](read_log) makes a search
//! resumable.

mod config;
mod error;
mod evolution;
mod exact;
mod guided;
mod hist;
mod latency;
mod log;
mod output;
pub mod pareto;
mod range;
mod record;
mod sampler;
mod vary;

pub use config::{SamplerKind, SearchConfig, Strategy};
pub use error::SearchError;
pub use evolution::{LatencyGroups, check, run};
pub use exact::Exact;
pub use latency::TablePredictor;
pub use log::{LogHeader, read_log};
pub use output::{write_front_csv, write_front_json, write_result_json};
pub use record::{Evaluated, Generation, Objective, Origin, Progress, Score, SearchResult};
pub use sampler::{Lgs, Sampler, Uniform};
pub use vary::{crossover, mutate};

/// What search functions return.
pub type Result<T> = std::result::Result<T, SearchError>;

#[cfg(test)]
mod tests;
