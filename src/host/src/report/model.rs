//! What a report says, as data; `report.json` holds exactly this.
//!
//! A number that is not finite is written as `null` and read back as NaN; the page shows it as a dash.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

/// A report of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Title of the page.
    pub title: String,
    /// Command line that made the run.
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// When the report was made, RFC 3339.
    pub created: String,
    /// Facts on the device and the setting: device, runtime, threads, space, input size, blocks measured, …
    pub device: Vec<Fact>,
    /// Training of the supernet, if the run had one.
    pub training: Option<Training>,
    /// The search.
    pub search: Search,
    /// Exported models.
    pub models: Vec<Model>,
    /// Predicted and measured latency of whole networks.
    pub predictions: Vec<Prediction>,
    /// Photos with what the models make of them.
    pub samples: Vec<Sample>,
}

/// A labelled fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is, for example `threads`.
    pub label: String,
    /// Its value with its unit, as shown.
    pub value: String,
}

/// Training of the supernet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// A sentence on data, schedule and length.
    pub notes: String,
    /// Losses, by ascending step.
    pub losses: Vec<LossPoint>,
}

/// Losses of one training step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// The optimiser step.
    pub step: u64,
    /// Loss of the largest sub-network.
    #[serde(deserialize_with = "number")]
    pub max: f64,
    /// Loss of the smallest sub-network.
    #[serde(deserialize_with = "number")]
    pub min: f64,
    /// Mean loss of the random sub-networks.
    #[serde(deserialize_with = "number")]
    pub random: f64,
}

/// A search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Name of the strategy.
    pub strategy: String,
    /// Every architecture evaluated.
    pub points: Vec<Point>,
    /// Hypervolume of the front after each generation; unit as the search defines it.
    #[serde(deserialize_with = "numbers")]
    pub hypervolume: Vec<f64>,
    /// Lowest and highest latency the space can reach on the device, milliseconds.
    #[serde(deserialize_with = "pair")]
    pub reachable_ms: (f64, f64),
}

/// An evaluated architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Hash of the architecture.
    pub hash: String,
    /// Predicted latency, milliseconds.
    #[serde(deserialize_with = "number")]
    pub latency_ms: f64,
    /// Maximal F-measure, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub f_max: f64,
    /// Generation that evaluated it, from 0.
    pub generation: u32,
    /// Whether it is on the final Pareto front.
    pub on_front: bool,
}

/// An exported model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Name.
    pub name: String,
    /// Hash of the architecture.
    pub hash: String,
    /// File, as shown.
    pub file: String,
    /// Latency predicted from the profile, milliseconds.
    #[serde(deserialize_with = "number")]
    pub predicted_ms: f64,
    /// Latency measured on the device, milliseconds.
    pub measured_ms: Option<f64>,
    /// Confidence interval of the measured latency, milliseconds.
    pub measured_ci_ms: Option<(f64, f64)>,
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Parameters.
    pub params: u64,
    /// Size of the file, bytes.
    pub file_bytes: u64,
    /// Maximal F-measure, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub f_max: f64,
    /// Mean absolute error of the saliency, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub mae: f64,
    /// Largest absolute difference of the saliency to the supernet's, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub parity: f64,
}

/// Predicted and measured latency of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Hash of the architecture.
    pub hash: String,
    /// Latency predicted from the profile, milliseconds.
    #[serde(deserialize_with = "number")]
    pub predicted_ms: f64,
    /// Latency measured on the device, milliseconds.
    #[serde(deserialize_with = "number")]
    pub measured_ms: f64,
}

/// A photo and what the models make of it; relative paths start at the report's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The photo.
    pub photo: PathBuf,
    /// One result per model.
    pub results: Vec<SampleResult>,
}

/// What one model makes of a photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleResult {
    /// Name of the model.
    pub model: String,
    /// The saliency map, a grey picture.
    pub mask: PathBuf,
    /// The salient object on a transparent ground.
    pub cut_out: PathBuf,
    /// Latency of this inference, milliseconds.
    #[serde(deserialize_with = "number")]
    pub latency_ms: f64,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let values: Vec<Option<f64>> = Vec::deserialize(from)?;
    Ok(values.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect())
}

fn pair<'de, D: Deserializer<'de>>(from: D) -> Result<(f64, f64), D::Error> {
    let (low, high): (Option<f64>, Option<f64>) = Deserialize::deserialize(from)?;
    Ok((low.unwrap_or(f64::NAN), high.unwrap_or(f64::NAN)))
}
