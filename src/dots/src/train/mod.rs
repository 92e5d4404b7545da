//! Search and evaluation training.

mod arch;
mod checkpoint;
mod config;
mod evaluate;
mod log;
pub mod rank;
pub mod schedule;
mod search;
mod state;
mod step;
#[cfg(test)]
mod tests;

pub use config::{ArchOptimizer, EdgeSearch, EvaluationConfig, Method, Phase, SearchConfig, WeightOptimizer};
pub use evaluate::{EvaluationRecord, Trainer};
pub use log::read_lines;
pub use search::{Operations, Search, SearchRecord, SearchResult};
pub use state::{Progress, accuracy};
