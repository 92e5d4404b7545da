//! Placeholder.

pub mod preprocess;
