//! The one error type of this crate besides that of its module `preprocess`.

use std::path::PathBuf;

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
    Runtime(#[from] inas_backend::Error),
    /// The model is no saliency network.
    #[error(
        "not a saliency network: needed is one input and one output, float32 [1, 3, h, w] and [1, 1, h, w] or uint8 [1, h, w, 3] and [1, 1, h, w] or [1, h, w, 1]; the model has inputs {inputs:?} and outputs {outputs:?}"
    )]
    Shapes {
        /// Shapes of its inputs.
        inputs: Vec<Vec<usize>>,
        /// Shapes of its outputs.
        outputs: Vec<Vec<usize>>,
    },
    /// A size at which no network of open size runs.
    #[error(
        "a network cannot run at {width}x{height} px: each side must be a multiple of {} up to {} px",
        crate::SIZE_STEP,
        crate::MAX_SIDE
    )]
    OpenSize {
        /// Width, px.
        width: u32,
        /// Height, px.
        height: u32,
    },
    /// A photo or frame without pixels, or one larger than any camera's.
    #[error("a frame of {width}x{height} px: each side must have 1 to {} px", crate::MAX_SIDE)]
    FrameSize {
        /// Width, px.
        width: u32,
        /// Height, px.
        height: u32,
    },
    /// A plane of a frame, or the mask's buffer, is shorter than its size and strides say.
    #[error("the {plane} needs {needed} bytes, but {len} were given")]
    ShortBuffer {
        /// Which plane or buffer.
        plane: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        len: usize,
    },
    /// Rows or pixels of a plane overlap.
    #[error(
        "the {plane} has a row stride of {row_stride} and a pixel stride of {pixel_stride} bytes, too few for its width"
    )]
    Stride {
        /// Which plane or buffer.
        plane: &'static str,
        /// Bytes from one row to the next.
        row_stride: usize,
        /// Bytes from one pixel to the next.
        pixel_stride: usize,
    },
    /// A smoothing weight outside its range.
    #[error("smoothing of {weight}: it is the weight of the frames before, at least 0 and below 1")]
    Smoothing {
        /// The weight asked for.
        weight: f32,
    },
    /// A network gave another number of values than its shape says.
    #[error("the network gave {got} values instead of {expected}")]
    Output {
        /// Values its shape promises.
        expected: usize,
        /// Values that came.
        got: usize,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
