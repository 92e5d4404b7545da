//! The one error type of this crate.

/// What can be wrong with a graph.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The space, architecture or input size is wrong.
    #[error(transparent)]
    Space(#[from] inas_space::Error),
    /// A block key does not describe a block that can be built.
    #[error("block `{key}`: {reason}")]
    Key {
        /// Text form of the key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An operator does not fit its inputs.
    #[error("node `{node}`: {reason}")]
    Shape {
        /// Name of the node.
        node: String,
        /// What does not fit, with the shapes.
        reason: String,
    },
    /// A weight source could not give a convolution's weights.
    #[error("no weights for convolution `{conv}`: {reason}")]
    Weights {
        /// Name of the convolution.
        conv: String,
        /// Why.
        reason: String,
    },
    /// Calibration has no finite range for a tensor that is to be quantised.
    #[error("no finite range of tensor `{tensor}`: int8 needs calibration images")]
    Range {
        /// Name of the tensor.
        tensor: String,
    },
    /// Bytes are not an ONNX model of the form written here.
    #[error("not an ONNX model: {reason}")]
    Onnx {
        /// What is wrong.
        reason: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
