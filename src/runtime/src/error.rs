//! The one error type of this crate besides that of [`crate::preprocess`].

use std::path::PathBuf;

use crate::preprocess::PreprocessError;

/// What can go wrong when loading or running a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model file cannot be read.
    #[error("cannot read model {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The model file is there, but is not a usable model.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<Error>,
    },
    /// The runtime does not load or run the model.
    #[error(transparent)]
    Runtime(#[from] inas_profiler::Error),
    /// The model is no saliency network.
    #[error(
        "not a saliency network: needed is one input [1, 3, h, w] and one output [1, 1, h, w], h = w; the model has inputs {inputs:?} and outputs {outputs:?}"
    )]
    Shapes {
        /// Shapes of its inputs.
        inputs: Vec<Vec<usize>>,
        /// Shapes of its outputs.
        outputs: Vec<Vec<usize>>,
    },
    /// A photo without pixels.
    #[error("a photo of {width}x{height} px has no pixels")]
    EmptyPhoto {
        /// Width, px.
        width: u32,
        /// Height, px.
        height: u32,
    },
    /// The network's map does not fit the photo.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
