//! Host side of iNAS: supernet, data, training, search, export and reports.

pub mod data;
pub mod metrics;
pub mod parity;
pub mod supernet;
pub mod train;
