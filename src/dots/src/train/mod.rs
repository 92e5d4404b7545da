//! Search and evaluation training.

mod arch;
pub(crate) mod checkpoint;
mod config;
pub(crate) mod epochs;
mod evaluate;
mod found;
mod log;
pub mod rank;
pub mod schedule;
mod search;
mod stage;
mod state;
mod step;
#[cfg(test)]
mod tests;

pub use checkpoint::started;
pub use config::{
    ArchOptimizer, EdgeSearch, EvaluationConfig, Method, OwnSchedule, Phase, SearchConfig, WeightOptimizer,
};
pub use evaluate::{EvaluationRecord, Trainer};
pub use found::{Operations, SearchRecord, SearchResult};
pub use log::read_lines;
pub use schedule::poly;
pub use search::Search;
pub use state::{Progress, accuracy};
pub(crate) use step::{descend, sgd};
