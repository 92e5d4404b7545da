//! Search for the Pareto front of latency and accuracy (thesis algorithm 1, latency group sampling evolution).

mod error;
mod latency;
mod range;

pub use error::SearchError;
pub use latency::TablePredictor;

/// What search functions return.
pub type Result<T> = std::result::Result<T, SearchError>;
