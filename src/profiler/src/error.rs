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
    /// A runtime does not take a model.
    #[error("{runtime} cannot load the model: {reason}")]
    Load {
        /// The runtime's name.
        runtime: &'static str,
        /// What it said.
        reason: String,
    },
    /// A model has an input or output that is not float32 of a fixed shape.
    #[error("{what} of the model is {found}; needed is float32 of a fixed shape (only the batch may be open)")]
    Unsupported {
        /// Which input or output.
        what: String,
        /// Its type and shape.
        found: String,
    },
    /// Input data does not fit the model.
    #[error("the model takes {expected}, but got {got}")]
    Input {
        /// Numbers of inputs or values wanted.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A runtime failed while it ran a model.
    #[error("{runtime} failed to run the model: {reason}")]
    Run {
        /// The runtime's name.
        runtime: &'static str,
        /// What it said.
        reason: String,
    },
    /// A runtime was asked for 0 threads, or a pool of that size cannot be made.
    #[error("cannot run with {threads} threads: {reason}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// Why not.
        reason: String,
    },
    /// This build has no ONNX Runtime backend.
    #[error("this build has no ONNX Runtime backend; use runtime `tract`, or build with the cargo feature `ort`")]
    OrtNotBuilt,
    /// No ONNX Runtime library on this machine.
    #[error(
        "ONNX Runtime library not found; looked at: {looked}. Remedy: `pip install onnxruntime`, or name the library with `--ort-lib PATH`"
    )]
    OrtNotFound {
        /// Places in order.
        looked: String,
    },
    /// A file is not a usable ONNX Runtime library.
    #[error("{path} is not a usable ONNX Runtime library: {reason}")]
    OrtLibrary {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An execution provider cannot be used.
    #[error("execution provider `{name}`: {reason}")]
    Provider {
        /// Its name.
        name: &'static str,
        /// Why not.
        reason: String,
    },
    /// Another ONNX Runtime library is already in use; a process can hold only one.
    #[error("cannot load {wanted}: this process already runs with {loaded}")]
    OrtLoaded {
        /// Library asked for.
        wanted: PathBuf,
        /// Library in use.
        loaded: PathBuf,
    },
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
