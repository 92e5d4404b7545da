//! A sub-network as a single-branch ONNX file, checked against the supernet (spec section 5).

use inas_graph::{OnnxOptions, Precision};
use inas_profiler::backend::{self, Backend, RuntimeKind};
use inas_space::Architecture;

use serde::{Deserialize, Serialize};

use crate::evaluate::{EvaluateError, Evaluator};
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
    #[error("the exported network differs from the supernet by {difference:e} (allowed: {PARITY_TOLERANCE:e})")]
    NotEqual {
        /// Largest difference on the saliency map.
        difference: f64,
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

/// Re-parameterises `arch` with recalibrated BN statistics and writes it as ONNX for one `px` x `px` image.
///
/// The file is run (by tract) and compared with the supernet before it is returned: a float32 file that differs by more
/// than [`PARITY_TOLERANCE`] is an error. `metadata` is kept in the file, beside the architecture itself.
pub fn export(
    evaluator: &Evaluator,
    arch: &Architecture,
    format: Format,
    metadata: &[(String, String)],
) -> Result<Exported, ExportError> {
    let net = evaluator.net();
    let runtime = backend::open(RuntimeKind::Tract, 1, None)?;
    let statistics = evaluator.statistics(arch)?;
    let mut weights = Deployed::new(net, arch, &statistics)?;
    let graph = inas_graph::network(&net.space, arch, evaluator.px(), &mut weights)?;
    let precision = match format {
        Format::Fp32 => Precision::Fp32,
        Format::Fp16 => Precision::Fp16,
        Format::Int8 => {
            Precision::Int8(calibrate(&graph, &evaluator.calibration_planes(CALIBRATION_IMAGES)?, runtime.as_ref())?)
        }
    };
    let mut options = OnnxOptions { precision, metadata: metadata.to_vec(), ..OnnxOptions::default() };
    options.metadata.push(("inas.architecture".into(), arch.to_json()));
    options.metadata.push(("inas.space".into(), net.space.name.clone()));
    let onnx = graph.to_onnx(&options)?;

    let probe = evaluator.probe()?;
    let expected = net.eval_with(arch, &probe, &statistics)?.flatten_all()?.to_vec1::<f32>()?;
    let mut session = runtime.load(&onnx)?;
    session.set_inputs(&[&evaluator.calibration_planes(1)?[0]])?;
    session.run()?;
    let got = session.output(0)?;
    let difference = expected.iter().zip(got.iter()).fold(0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
    let allowed = if format == Format::Fp32 { PARITY_TOLERANCE } else { 1.0 };
    if difference.is_nan() || difference > allowed || got.len() != expected.len() {
        return Err(ExportError::NotEqual { difference });
    }
    Ok(Exported { onnx, difference, macs: graph.macs(), params: graph.params() })
}

/// Scores of a model file on the evaluator's validation images, in each of `runtimes`.
pub fn verify(
    evaluator: &Evaluator,
    onnx: &[u8],
    runtimes: &[Box<dyn Backend>],
) -> Result<Vec<(String, FastSummary)>, ExportError> {
    let mut scores = Vec::with_capacity(runtimes.len());
    for runtime in runtimes {
        scores.push((runtime.info().name, evaluator.score_deployed(runtime.load(onnx)?.as_mut())?));
    }
    Ok(scores)
}
