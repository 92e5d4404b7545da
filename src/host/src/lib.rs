//! Host side of iNAS: supernet, data, training, search, export and reports.

pub mod accuracy;
pub mod data;
pub mod evaluate;
pub mod explorer;
pub mod export;
pub mod metrics;
pub mod parity;
pub mod picture;
pub mod quantize;
pub mod report;
pub mod schema;
pub mod search;
pub mod serve;
pub mod supernet;
pub mod train;

pub use inas_dots::files;
