//! Errors of the supernet.

use std::path::PathBuf;

/// What can go wrong with a supernet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error("tensor operation failed: {}", super::params::short(.0))]
    Tensor(#[from] candle_core::Error),
    /// An architecture or space is wrong.
    #[error(transparent)]
    Space(#[from] inas_space::Error),
    /// A checkpoint cannot be read or does not fit.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The supernet has no tensor of that name.
    #[error("the supernet has no tensor `{name}`")]
    NoTensor {
        /// The name.
        name: String,
    },
    /// BN recalibration was given nothing to work on.
    #[error("BN recalibration needs at least one batch")]
    NoBatches,
    /// The loss is not finite.
    #[error("the loss is {loss} (sub-network {which} of the sandwich step)")]
    LossNotFinite {
        /// Its value.
        loss: f32,
        /// 0 = max, 1 = min, then the random ones.
        which: usize,
    },
}

/// Result of the supernet.
pub type Result<T> = std::result::Result<T, Error>;
