use std::path::PathBuf;

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error("tensor operation failed: {}", first_line(.0))]
    Tensor(#[from] candle_core::Error),
    /// A parameter or statistic is not there.
    #[error("no tensor `{name}`")]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// A tensor of a file has another shape.
    #[error("tensor `{name}` has shape {got:?}, the network needs {want:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// As in the file.
        got: Vec<usize>,
        /// As in the network.
        want: Vec<usize>,
    },
    /// A genotype cannot be a network.
    #[error("genotype: {0}")]
    Genotype(String),
    /// No genotype of this name is built in.
    #[error("no built-in genotype `{name}`; there are {known}")]
    UnknownGenotype {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// No files of pictures are named.
    #[error("no files of {what} pictures: the run file has no `data.{what}`")]
    NoFiles {
        /// `train` or `test`.
        what: String,
    },
    /// Settings that make no network.
    #[error("{0}")]
    Config(String),
    /// Parameters of an architecture do not fit its relaxation.
    #[error("architecture parameters: {0}")]
    Architecture(String),
    /// A label or an image does not fit the network.
    #[error("batch: {0}")]
    Batch(String),
    /// A source of batches failed.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// A network has no deployed form.
    #[error(transparent)]
    Graph(#[from] inas_graph::Error),
    /// A file could not be read or written.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// candle's message without its backtrace.
pub(crate) fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
