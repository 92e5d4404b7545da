//! Errors of training.

use std::path::{Path, PathBuf};

/// What can go wrong in a training run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The supernet failed.
    #[error(transparent)]
    Supernet(#[from] crate::supernet::Error),
    /// A space is wrong.
    #[error(transparent)]
    Space(#[from] inas_space::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed: {}", crate::supernet::short(.0))]
    Tensor(#[from] candle_core::Error),
    /// An image or list could not be read.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A setting that no run can use.
    #[error("train.{field} {reason}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A run file or an override of it is wrong.
    #[error("run file `{name}`: {reason}")]
    RunFile {
        /// The preset or file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The other processes of the run.
    #[error(transparent)]
    Peers(#[from] super::parallel::PeerError),
    /// Validation failed.
    #[error(transparent)]
    Evaluate(#[from] crate::evaluate::EvaluateError),
    /// One step failed.
    #[error(
        "step {step}: {source} (images: {}; last good state: {})",
        .files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
        .checkpoint.as_ref().map_or("none yet".to_owned(), |c| c.display().to_string())
    )]
    Step {
        /// Step number, from 0.
        step: usize,
        /// Images of the batch.
        files: Vec<PathBuf>,
        /// The last checkpoint.
        checkpoint: Option<PathBuf>,
        /// What failed.
        source: Box<crate::supernet::Error>,
    },
    /// An update made a weight infinite or no number.
    #[error(
        "after step {step} the values of `{name}` are not finite (last good state: {})",
        .checkpoint.as_ref().map_or("none yet".to_owned(), |c| c.display().to_string())
    )]
    WeightNotFinite {
        /// Steps done.
        step: usize,
        /// The tensor.
        name: String,
        /// The last checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// The folder holds a run already.
    #[error("{dir} holds a training run already; continue it with --resume or choose another folder")]
    AlreadyStarted {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds another run.
    #[error("{path} was written for another run: {what}; use the same settings or choose another folder")]
    OtherRun {
        /// The file that differs.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The checkpoint does not fit.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Stopped on request; the state is saved.
    #[error("interrupted after step {step}; continue with --resume")]
    Interrupted {
        /// Steps done.
        step: usize,
        /// The folder.
        dir: PathBuf,
    },
}

impl TrainError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// Result of training.
pub type Result<T> = std::result::Result<T, TrainError>;
