//! The one error type of this crate.

use std::path::PathBuf;

/// What can be wrong with a space file, an architecture, a block key or a latency table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A space file is not valid TOML, or a field is missing or of the wrong type.
    #[error("space file is not valid: {0}")]
    SpaceSyntax(String),
    /// A space file is wrong.
    #[error("{path}: {source}")]
    SpaceFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A space file parses, but what it describes cannot be built.
    #[error("space `{space}`: {reason}")]
    SpaceInvalid {
        /// Name of the space.
        space: String,
        /// What is wrong, with the place.
        reason: String,
    },
    /// The input size does not fit the strides of the space.
    #[error("input size {px} px must be a positive multiple of {stride}, the total stride of space `{space}`")]
    InputSize {
        /// Name of the space.
        space: String,
        /// Requested input size, px.
        px: u32,
        /// Product of all strides.
        stride: u32,
    },
    /// No preset of that name.
    #[error("no preset space named `{name}`; presets are {known}, and a space file's name ends in .toml")]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// JSON of an architecture does not parse.
    #[error("architecture JSON is not valid: {0}")]
    ArchitectureSyntax(String),
    /// An architecture does not belong to the space.
    #[error("architecture is outside space `{space}`: {place}: {reason}")]
    ArchitectureOutside {
        /// Name of the space.
        space: String,
        /// Where, e.g. `stage 3 layer 0`.
        place: String,
        /// Why.
        reason: String,
    },
    /// A partial space offers what the whole one lacks.
    #[error("space `{part}` is no part of `{whole}`: {place}")]
    NotPart {
        /// Name of the partial space.
        part: String,
        /// Name of the whole one.
        whole: String,
        /// What does not fit, with the place.
        place: String,
    },
    /// Text is not a block key.
    #[error("`{text}` is not a block key: {reason}")]
    KeySyntax {
        /// The text.
        text: String,
        /// What was expected.
        reason: &'static str,
    },
    /// A latency table has no row for a block.
    #[error("latency table has no row for block `{key}`")]
    MissingBlock {
        /// The block's key.
        key: String,
    },
    /// A line of a latency table cannot be read.
    #[error("latency table line {line}: {reason}")]
    TableSyntax {
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// What is wrong with a TOML file and where, in one line.
pub fn toml_reason(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let place = text.lines().next().and_then(|line| line.strip_prefix("TOML parse error at "));
    place.map_or_else(|| error.message().to_owned(), |place| format!("{place}: {}", error.message()))
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
