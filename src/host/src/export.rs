//! A sub-network as a single-branch ONNX file, checked against the supernet (spec section 5).

use inas_graph::OnnxOptions;
use inas_profiler::backend::{self, RuntimeKind};
use inas_space::Architecture;

use crate::evaluate::{EvaluateError, Evaluator};
use crate::supernet::Deployed;

/// Allowed difference between the exported network and the supernet on the saliency map.
pub const PARITY_TOLERANCE: f64 = 1e-4;

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
    Runtime(#[from] inas_profiler::Error),
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
    pub parity: f64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
}

/// Re-parameterises `arch` with recalibrated BN statistics and writes it as ONNX for one `px` x `px` image.
///
/// The file is run (by tract) and compared with the supernet before it is returned. `metadata` is kept in the file,
/// beside the architecture itself.
pub fn export(
    evaluator: &Evaluator,
    arch: &Architecture,
    metadata: &[(String, String)],
) -> Result<Exported, ExportError> {
    let net = evaluator.net();
    let statistics = evaluator.statistics(arch)?;
    let mut weights = Deployed::new(net, arch, &statistics)?;
    let graph = inas_graph::network(&net.space, arch, evaluator.px(), &mut weights)?;
    let mut options = OnnxOptions { metadata: metadata.to_vec(), ..OnnxOptions::default() };
    options.metadata.push(("inas.architecture".into(), arch.to_json()));
    options.metadata.push(("inas.space".into(), net.space.name.clone()));
    let onnx = graph.to_onnx(&options)?;

    let probe = evaluator.probe()?;
    let expected = net.eval_with(arch, &probe, &statistics)?.flatten_all()?.to_vec1::<f32>()?;
    let nchw = probe.permute((0, 3, 1, 2))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
    let mut session = backend::open(RuntimeKind::Tract, 1, None)?.load(&onnx)?;
    session.set_inputs(&[&nchw])?;
    session.run()?;
    let got = session.output(0)?;
    let parity = expected.iter().zip(got.iter()).fold(0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
    if parity.is_nan() || parity > PARITY_TOLERANCE || got.len() != expected.len() {
        return Err(ExportError::NotEqual { difference: parity });
    }
    Ok(Exported { onnx, parity, macs: graph.macs(), params: graph.params() })
}
