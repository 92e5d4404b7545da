//! Errors of the report.

use std::path::PathBuf;

/// What can go wrong with a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A picture cannot be decoded, or not encoded again at its smaller size.
    #[error("picture {path}: {source}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: image::ImageError,
    },
    /// The data file is not a report.
    #[error("report data {path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A plot cannot be drawn.
    #[error("cannot draw the plot of {plot}: {reason}")]
    Plot {
        /// What it shows.
        plot: &'static str,
        /// Why.
        reason: String,
    },
    /// The page's template failed.
    #[error("cannot render the page: {0:#}")]
    Template(#[from] minijinja::Error),
}

/// Result of a report function.
pub type Result<T> = std::result::Result<T, ReportError>;
