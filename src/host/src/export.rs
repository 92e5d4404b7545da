//! A sub-network as a single-branch ONNX file, checked against the supernet (spec section 5).

use inas_graph::{Edge, OnnxOptions, Precision};
use inas_profiler::backend::{self, Backend, RuntimeKind};
use inas_space::Architecture;

use serde::{Deserialize, Serialize};

use crate::evaluate::{EvaluateError, Evaluator, pixels};
use crate::metrics::FastSummary;
use crate::quantize::calibrate;
use crate::supernet::Deployed;

/// Allowed difference between the exported network and the supernet on the saliency map.
pub const PARITY_TOLERANCE: f64 = 1e-4;

/// Calibration images for int8; more change the ranges little.
const CALIBRATION_IMAGES: usize = 32;

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
    /// The exported file computes something else.
    #[error("the exported network differs from the supernet by {difference:e} (allowed: {allowed:e})")]
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
    /// Largest difference to the supernet's eval output on a calibration image.
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
    let net = evaluator.net();
    let runtime = backend::open(RuntimeKind::Tract, 1, None)?;
    let statistics = evaluator.statistics(arch)?;
    let mut weights = Deployed::new(net, arch, &statistics)?;
    let graph = inas_graph::network(&net.space, arch, evaluator.px(), &mut weights)?;
    let precision = match wanted.format {
        Format::Fp32 => Precision::Fp32,
        Format::Fp16 => Precision::Fp16,
        Format::Int8 => {
            Precision::Int8(calibrate(&graph, &evaluator.calibration_planes(CALIBRATION_IMAGES)?, runtime.as_ref())?)
        }
    };
    let mut options = OnnxOptions { precision, dynamic_size: wanted.dynamic_size, ..OnnxOptions::default() };
    options.metadata = metadata(evaluator, arch, &graph, &wanted.card);
    let floats = graph.to_onnx(&options)?;

    let probe = evaluator.probe()?;
    let expected = net.eval_with(arch, &probe, &statistics)?.flatten_all()?.to_vec1::<f32>()?;
    let planes = &evaluator.calibration_planes(1)?[0];
    let size = [evaluator.px() as usize; 2];
    let mut session = runtime.load_sized(&floats, &size)?;
    session.set_inputs(&[planes])?;
    session.run()?;
    let got = session.output(0)?;
    let difference = largest_difference(&expected, &got);
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
    let mut session = runtime.load_sized(&onnx, &size)?;
    session.set_inputs(&[&pixels(planes)])?;
    session.run()?;
    let bytes: Vec<f32> = session.output(0)?.iter().map(|v| v / 255.0).collect();
    let (off, allowed) = (largest_difference(&got, &bytes), 1.01 / 255.0);
    if off.is_nan() || off > allowed {
        return Err(ExportError::NotEqual { difference: off, allowed });
    }
    Ok(Exported { onnx, difference, macs, params })
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
    evaluator: &Evaluator,
    arch: &Architecture,
    graph: &inas_graph::Graph,
    card: &serde_json::Map<String, serde_json::Value>,
) -> Vec<(String, String)> {
    let mut card = card.clone();
    card.insert("space".into(), evaluator.net().space.name.clone().into());
    card.insert("px".into(), evaluator.px().into());
    card.insert("macs".into(), graph.macs().into());
    card.insert("params".into(), graph.params().into());
    card.insert("tool".into(), concat!("inas ", env!("CARGO_PKG_VERSION")).into());
    let name = card.get("name").and_then(|n| n.as_str()).unwrap_or_default().to_owned();
    [
        ("inas.name", name),
        ("inas.hash", arch.hash()),
        ("inas.architecture", arch.to_json()),
        ("inas.space", evaluator.net().space.name.clone()),
        ("inas.card", serde_json::Value::Object(card).to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Scores of a model file on the evaluator's validation images, in each of `runtimes`.
pub fn verify(
    evaluator: &Evaluator,
    onnx: &[u8],
    runtimes: &[Box<dyn Backend>],
) -> Result<Vec<(String, FastSummary)>, ExportError> {
    let mut scores = Vec::with_capacity(runtimes.len());
    for runtime in runtimes {
        scores.push((
            runtime.info().name,
            evaluator.score_deployed(runtime.load_sized(onnx, &[evaluator.px() as usize; 2])?.as_mut())?,
        ));
    }
    Ok(scores)
}
