//! Host side of iNAS: supernet, data, training, search, export and reports.

pub mod data;
pub mod metrics;
pub mod search;
pub mod supernet;
