//! The interactive report of a search: one HTML file that holds everything it shows.
//!
//! The page draws itself from the data inside it. It loads nothing; its security policy lets run only the one script
//! that it was made with.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use inas_space::{Architecture, Space};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::search::{Generation, Origin};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// Name of the page in a search's folder.
pub const PAGE_NAME: &str = "report.html";
/// Name of the data behind it.
pub const DATA_NAME: &str = "report.json";

/// What can go wrong with a report.
#[derive(Debug, thiserror::Error)]
pub enum ExplorerError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data could not be put into or taken from its text form.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Result of a report.
pub type Result<T> = std::result::Result<T, ExplorerError>;

/// What the page shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// Title.
    pub title: String,
    /// Command line of the search.
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// When the report was made, RFC 3339.
    pub created: String,
    /// Device, runtime, space, settings: label and value.
    pub facts: Vec<(String, String)>,
    /// The space, for the diagrams.
    pub space: Space,
    /// Latency range that the groups divide, ms, and their number.
    pub groups: (f64, f64, usize),
    /// Everything evaluated.
    pub networks: Vec<Network>,
    /// Each generation.
    pub generations: Vec<Generation>,
    /// Networks that were measured.
    pub measured: Vec<Measured>,
    /// Photos with the maps of some networks of the front.
    pub masks: Option<Masks>,
}

/// An evaluated network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Hash of the architecture.
    pub hash: String,
    /// Predicted latency of backbone, transport, and decoder with head, ms.
    pub parts_ms: [f64; 3],
    /// F-measure.
    pub f_max: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Share of the validation images that these are of.
    pub share: f64,
    /// Generation.
    pub generation: usize,
    /// How it was made.
    pub origin: Origin,
    /// Hashes of its parents.
    pub parents: Vec<String>,
    /// Whether it is on the front.
    pub front: bool,
    /// The architecture.
    pub arch: Architecture,
    /// Predicted latency of each block, us, in order of execution; of networks on the front.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<(String, f64)>,
}

/// A measured network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Hash of the architecture.
    pub hash: String,
    /// Predicted latency, ms.
    pub predicted_ms: f64,
    /// Measured latency, ms.
    pub measured_ms: f64,
    /// Whether it is on the front of the measured latencies.
    pub front: bool,
}

/// Photos and what networks make of them, as data URIs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Masks {
    /// The photos.
    pub photos: Vec<String>,
    /// What was labelled.
    pub labels: Vec<String>,
    /// For each network, by hash, its map of each photo.
    pub maps: Vec<(String, Vec<String>)>,
}

/// The page as one HTML text.
pub fn render(report: &SearchReport) -> std::result::Result<String, serde_json::Error> {
    // Inside a script element only `</` and `<!--` could end the data; JSON may write the sign in another way.
    let data = serde_json::to_string(report)?.replace('<', "\\u003c");
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    let title = minijinja::HtmlEscape(&report.title).to_string();
    Ok(PAGE
        .replace("%HASH%", &hash)
        .replace("%TITLE%", &title)
        .replace("%STYLE%", STYLE)
        .replace("%SCRIPT%", SCRIPT)
        .replace("%DATA%", &data))
}

/// Writes the data and the page in a folder; returns the path of the page.
pub fn write(report: &SearchReport, folder: &Path) -> Result<PathBuf> {
    let (data, page) = (folder.join(DATA_NAME), folder.join(PAGE_NAME));
    let json = |source| ExplorerError::Json { path: data.clone(), source };
    let (html, text) = (render(report).map_err(json)?, serde_json::to_vec(report).map_err(json)?);
    for (path, bytes) in [(&data, text.as_slice()), (&page, html.as_bytes())] {
        crate::files::replace(path, bytes).map_err(|source| ExplorerError::Io { path: path.clone(), source })?;
    }
    Ok(page)
}

/// Reads the data that [`write()`] left in a folder.
pub fn read(folder: &Path) -> Result<SearchReport> {
    let path = folder.join(DATA_NAME);
    let text = std::fs::read_to_string(&path).map_err(|source| ExplorerError::Io { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|source| ExplorerError::Json { path, source })
}

/// A PNG or JPEG file's bytes as a data URI.
pub fn data_uri(media: &str, bytes: &[u8]) -> String {
    format!("data:{media};base64,{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests;
