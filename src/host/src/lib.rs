//! Host side of iNAS: supernet, data, training, search, export and reports.

pub mod supernet;
