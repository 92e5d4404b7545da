//! The one error type of this crate.

use std::path::PathBuf;

/// What can go wrong when opening a runtime, loading a model and running it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A runtime does not take a model.
    #[error("{runtime} cannot load the model: {reason}")]
    Load {
        /// The runtime's name.
        runtime: &'static str,
        /// What it said.
        reason: String,
    },
    /// A model has an input or output that is no float32 or uint8 tensor of a known shape.
    #[error("{what} of the model is {found}; needed is float32 or uint8 of a known shape (only the batch may be open)")]
    Unsupported {
        /// Which input or output.
        what: String,
        /// Its type and shape.
        found: String,
    },
    /// A model has a tensor that no honest network needs.
    #[error("{what} of the model has shape {shape:?}, which is more than {limit} values")]
    TooLarge {
        /// Which input, output or operator.
        what: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values allowed.
        limit: usize,
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
    /// A runtime was asked for no thread or for too many, or a pool of that size cannot be made.
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
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
