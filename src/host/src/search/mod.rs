//! Search for the Pareto front of latency and accuracy (thesis algorithm 1, latency group sampling evolution).
//!
//! [`Devices`] turn measured latency tables into predictions, an [`Objective`] scores architectures, and
//! [`run`] searches: [`Lgs`] draws the first generation evenly over the reachable latencies, then selection by group,
//! crossover and mutation improve it. Everything random comes from one seed; a [log](read_log) makes a search
//! resumable.

mod breed;
mod cache;
mod compiled;
mod config;
mod devices;
mod error;
mod evolution;
mod exact;
mod guided;
mod hist;
mod latency;
mod log;
mod nsga;
mod objective;
mod output;
pub mod pareto;
mod pool;
mod range;
mod record;
mod sampler;
mod shared;
mod vary;

pub use cache::{Cache, CacheLine};
pub use config::{SamplerKind, SearchConfig, Strategy};
pub use devices::Devices;
pub use error::SearchError;
pub use evolution::{LatencyGroups, Setting, check, run};
pub use exact::Exact;
pub use latency::TablePredictor;
pub use log::{LogHeader, read_log};
pub use objective::{Objective, ObjectiveError, Score, Trial};
pub use output::{write_front_csv, write_front_json};
pub use pool::{Shard, Workers, scores};
pub use record::{Evaluated, Generation, Origin, Progress, SearchResult};
pub use sampler::{Lgs, Sampler, Uniform};
pub use shared::{Ancestor, SharedNetwork, device_front, hypervolume_of, lineage, shared_networks};
pub use vary::{crossover, mutate};

/// What search functions return.
pub type Result<T> = std::result::Result<T, SearchError>;

#[cfg(test)]
mod strategy_tests;
#[cfg(test)]
mod tests;
