//! A sub-network as a single-branch ONNX file, checked against what it was made of (spec section 5).

use inas_graph::{Edge, Graph, OnnxOptions, Precision, SeededWeights};
use inas_profiler::backend::{self, Backend, RuntimeKind};
use inas_space::{Architecture, Space};

use serde::{Deserialize, Serialize};

use crate::evaluate::{EvaluateError, Evaluator, Images, pixels};
use crate::metrics::FastSummary;
use crate::quantize::calibrate;
use crate::supernet::Deployed;

/// Allowed difference between the exported network and the supernet on the saliency map.
pub const PARITY_TOLERANCE: f64 = 1e-4;

/// Where a model file keeps the architecture that it is of (JSON).
pub const ARCHITECTURE: &str = "inas.architecture";

/// Calibration images for int8; more change the ranges little.
pub const CALIBRATION_IMAGES: usize = 32;

/// Number format of an exported model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 32-bit floats: equal to the supernet.
    #[default]
    Fp32,
    /// Weights stored as 16-bit floats, half the file; computes in 32 bits.
    Fp16,
    /// Static quantisation: int8 weights per channel, uint8 activations, calibrated on training images.
    Int8,
}

impl Format {
    /// Its name, e.g. in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

/// What can go wrong while exporting.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The sub-network could not be evaluated.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The supernet failed.
    #[error(transparent)]
    Supernet(#[from] crate::supernet::Error),
    /// The deployed graph could not be built.
    #[error(transparent)]
    Graph(#[from] inas_graph::Error),
    /// The exported file did not run.
    #[error(transparent)]
    Runtime(#[from] inas_profiler::backend::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed: {}", crate::supernet::short(.0))]
    Tensor(#[from] candle_core::Error),
    /// A model file was not written by [`export`].
    #[error("the model does not tell its architecture")]
    NoArchitecture,
    /// The exported file computes something else.
    #[error("the exported network differs from what it was made of by {difference:e} (allowed: {allowed:e})")]
    NotEqual {
        /// Largest difference on the saliency map.
        difference: f64,
        /// Largest difference that is allowed.
        allowed: f64,
    },
}

/// An exported network.
#[derive(Debug)]
pub struct Exported {
    /// The file's bytes.
    pub onnx: Vec<u8>,
    /// Largest difference to the map of the supernet, or of the file converted, on a calibration image.
    pub difference: f64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
}

/// What kind of file to write.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Number format.
    pub format: Format,
    /// Floats or pixels in and out.
    pub edge: Edge,
    /// Leave height and width open.
    pub dynamic_size: bool,
    /// The model's card, kept in the file as `inas.card` (JSON); what is known only here is added.
    pub card: serde_json::Map<String, serde_json::Value>,
}

/// Re-parameterises `arch` with recalibrated BN statistics and writes it as ONNX for one `px` x `px` image.
///
/// The file is run (by tract) and compared with the supernet before it is returned: a float32 file that differs by more
/// than [`PARITY_TOLERANCE`] is an error. With [`Edge::Pixels`] that is done with the same network between floats, which
/// the file must follow to one step of a byte.
pub fn export(evaluator: &Evaluator, arch: &Architecture, wanted: &ExportOptions) -> Result<Exported, ExportError> {
    let (net, images) = (evaluator.net(), evaluator.images());
    let statistics = evaluator.statistics(arch)?;
    let mut weights = Deployed::new(net, arch, &statistics)?;
    let graph = inas_graph::network(&net.space, arch, images.px(), &mut weights)?;
    let expected = net.eval_with(arch, &images.probe()?, &statistics)?.flatten_all()?.to_vec1::<f32>()?;
    write(&graph, &net.space, arch, images, &expected, wanted)
}

/// Writes a network whose weights a model file holds (of 32-bit or 16-bit floats, between floats, as [`export`] writes it)
/// once more as `wanted`; compared with that file as [`export`] compares with the supernet.
pub fn convert(onnx: &[u8], space: &Space, images: &Images, wanted: &ExportOptions) -> Result<Exported, ExportError> {
    let metadata = inas_graph::metadata(onnx)?;
    let arch = metadata.iter().find(|(key, _)| key == ARCHITECTURE).ok_or(ExportError::NoArchitecture)?;
    let arch = Architecture::from_json(&arch.1).map_err(inas_graph::Error::from)?;
    let graph = inas_graph::network(space, &arch, images.px(), &mut SeededWeights::new(0))?.with_weights_of(onnx)?;
    let expected = map(onnx, images.px(), &images.calibration_planes(1)?[0])?;
    write(&graph, space, &arch, images, &expected, wanted)
}

/// Writes a graph, and compares it with the map that it must give of the first calibration image.
fn write(
    graph: &Graph,
    space: &Space,
    arch: &Architecture,
    images: &Images,
    expected: &[f32],
    wanted: &ExportOptions,
) -> Result<Exported, ExportError> {
    let precision = match wanted.format {
        Format::Fp32 => Precision::Fp32,
        Format::Fp16 => Precision::Fp16,
        Format::Int8 => {
            let runtime = backend::open(RuntimeKind::Tract, 1, None)?;
            Precision::Int8(calibrate(graph, &images.calibration_planes(CALIBRATION_IMAGES)?, runtime.as_ref())?)
        }
    };
    let mut options = OnnxOptions { precision, dynamic_size: wanted.dynamic_size, ..OnnxOptions::default() };
    options.metadata = metadata(space, images.px(), arch, graph, &wanted.card);
    let floats = graph.to_onnx(&options)?;
    let planes = &images.calibration_planes(1)?[0];
    let got = map(&floats, images.px(), planes)?;
    let difference = largest_difference(expected, &got);
    let allowed = if wanted.format == Format::Fp32 { PARITY_TOLERANCE } else { 1.0 };
    if difference.is_nan() || difference > allowed {
        return Err(ExportError::NotEqual { difference, allowed });
    }
    let (macs, params) = (graph.macs(), graph.params());
    if wanted.edge == Edge::Floats {
        return Ok(Exported { onnx: floats, difference, macs, params });
    }
    options.edge = wanted.edge;
    let onnx = graph.to_onnx(&options)?;
    let bytes: Vec<f32> = map(&onnx, images.px(), &pixels(planes))?.iter().map(|v| v / 255.0).collect();
    let (off, allowed) = (largest_difference(&got, &bytes), 1.01 / 255.0);
    if off.is_nan() || off > allowed {
        return Err(ExportError::NotEqual { difference: off, allowed });
    }
    Ok(Exported { onnx, difference, macs, params })
}

/// What a model file gives of one `px` x `px` image.
fn map(onnx: &[u8], px: u32, image: &[f32]) -> Result<Vec<f32>, ExportError> {
    let mut session = backend::open(RuntimeKind::Tract, 1, None)?.load_sized(onnx, &[px as usize; 2])?;
    session.set_inputs(&[image])?;
    session.run()?;
    Ok(session.output(0)?)
}

/// The largest difference of two maps; infinite when their sizes differ, no number when a value is none.
fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let differences = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, |largest, d| if d.is_nan() || d > largest { d } else { largest })
}

/// What the file says of itself.
fn metadata(
    space: &Space,
    px: u32,
    arch: &Architecture,
    graph: &Graph,
    card: &serde_json::Map<String, serde_json::Value>,
) -> Vec<(String, String)> {
    let mut card = card.clone();
    card.insert("space".into(), space.name.clone().into());
    card.insert("px".into(), px.into());
    card.insert("macs".into(), graph.macs().into());
    card.insert("params".into(), graph.params().into());
    card.insert("tool".into(), concat!("inas ", env!("CARGO_PKG_VERSION")).into());
    let name = card.get("name").and_then(|n| n.as_str()).unwrap_or_default().to_owned();
    [
        ("inas.name", name),
        ("inas.hash", arch.hash()),
        (ARCHITECTURE, arch.to_json()),
        ("inas.space", space.name.clone()),
        ("inas.card", serde_json::Value::Object(card).to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Scores of a model file on the validation images, in each of `runtimes`.
pub fn verify(
    images: &Images,
    onnx: &[u8],
    runtimes: &[Box<dyn Backend>],
) -> Result<Vec<(String, FastSummary)>, ExportError> {
    let mut scores = Vec::with_capacity(runtimes.len());
    for runtime in runtimes {
        let mut session = runtime.load_sized(onnx, &[images.px() as usize; 2])?;
        scores.push((runtime.info().name, images.score_deployed(session.as_mut())?));
    }
    Ok(scores)
}
