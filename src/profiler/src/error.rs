//! The one error type of this crate.

use std::path::PathBuf;

/// What can go wrong when loading, timing or profiling.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The space, a key or the input size is wrong, or a table lacks a block.
    #[error(transparent)]
    Space(#[from] inas_space::Error),
    /// A block's graph cannot be built.
    #[error(transparent)]
    Graph(#[from] inas_graph::Error),
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, e.g. `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A runtime cannot be opened, or does not load or run a model.
    #[error(transparent)]
    Backend(#[from] inas_backend::Error),
    /// The process cannot be kept on the cores that were asked for.
    #[error("cannot stay on cores {cores}: {reason}")]
    Pinning {
        /// The cores.
        cores: String,
        /// Why not.
        reason: String,
    },
    /// Profiles that were measured differently do not mix.
    #[error("profiles cannot be merged, since they were measured differently: {differences}")]
    Merge {
        /// What differs.
        differences: String,
    },
    /// A latency model cannot be fitted.
    #[error("cannot calibrate: {reason}")]
    Calibration {
        /// Why not.
        reason: String,
    },
    /// A measuring protocol contradicts itself.
    #[error("measuring protocol: {reason}")]
    Protocol {
        /// What is wrong.
        reason: &'static str,
    },
    /// A block could not be measured.
    #[error("block `{key}`: {source}")]
    Block {
        /// The block's key.
        key: String,
        /// Why not.
        source: Box<Error>,
    },
    /// A folder holds files, and going on with it was not asked for or is not possible.
    #[error("folder {path} is not empty; {hint}")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// A line of a record file cannot be read.
    #[error("{path}, line {line}: {reason}; profile into a new folder instead")]
    Record {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The records of a folder belong to another machine, runtime, space or protocol.
    #[error(
        "cannot resume in {path}, since its records were measured differently: {differences}; use the same settings or a new folder"
    )]
    Mixed {
        /// The folder.
        path: PathBuf,
        /// What differs, as `name: recorded value, now value`.
        differences: String,
    },
    /// Measuring was interrupted; what was measured is kept.
    #[error("interrupted after {done} of {total} blocks; resume to measure the rest into {path}")]
    Interrupted {
        /// The folder.
        path: PathBuf,
        /// Blocks measured.
        done: usize,
        /// Blocks in all.
        total: usize,
    },
    /// A file of a profile is missing.
    #[error("no {file} in {folder}: not a latency profile, or its measuring has not ended (`profile --resume`)")]
    ProfileFile {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// A file of a profile is damaged.
    #[error("{path}: {reason}")]
    ProfileDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place.
        reason: String,
    },
    /// A profile was written by a newer version.
    #[error("{path} has schema version {found}, but this version knows {known} only; update the program")]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// Newest version known.
        known: u64,
    },
    /// The rows of a profile are not the blocks of its space.
    #[error(
        "{path}: rows do not match the blocks of space `{space}` at {px} px: {missing} missing, {unknown} unknown (e.g. `{example}`)"
    )]
    Rows {
        /// The file.
        path: PathBuf,
        /// Name of the space.
        space: String,
        /// Input side, px.
        px: u32,
        /// Blocks without a row.
        missing: usize,
        /// Rows that are no block.
        unknown: usize,
        /// One of either.
        example: String,
    },
}

impl Error {
    /// Turns an I/O error into one that names the file and what was tried.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
