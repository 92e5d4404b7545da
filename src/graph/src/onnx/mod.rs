//! ONNX form of a graph: opset 17, float32 or byte inputs and outputs, static shapes (batch and size may be left open).

mod edge;
mod precision;
mod proto;
mod stored;
#[cfg(test)]
mod tests;
mod writer;

use prost::Message as _;

use crate::graph::Graph;
use crate::{Error, Result};
pub use precision::{Precision, Ranges};
use writer::Writer;

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// What a model takes and gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Edge {
    /// Normalised float32 planes `[N, C, H, W]` in, floats out.
    #[default]
    Floats,
    /// Red, green and blue bytes `[N, H, W, 3]` in, a byte mask `[N, 1, H, W]` out: normalisation and rounding are part of
    /// the graph, so that whoever runs it cannot do them wrong.
    Pixels,
}

/// How to write a model.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// Leave the batch dimension open, named `N`. Runtimes are faster with a fixed one.
    pub dynamic_batch: bool,
    /// Leave height and width open, named `H` and `W`; both must then be multiples of the network's coarsest stride. A
    /// runtime that is told them when it loads the model is as fast as with fixed ones.
    pub dynamic_size: bool,
    /// What the model takes and gives.
    pub edge: Edge,
    /// Number format.
    pub precision: Precision,
    /// Key-value pairs kept in the file.
    pub metadata: Vec<(String, String)>,
    /// Name of the program that writes the file.
    pub producer: String,
}

impl Default for OnnxOptions {
    /// One image of the graph's size at a time, float32, no metadata, written by `inas`.
    fn default() -> Self {
        Self {
            dynamic_batch: false,
            dynamic_size: false,
            edge: Edge::Floats,
            precision: Precision::Fp32,
            metadata: Vec::new(),
            producer: "inas".into(),
        }
    }
}

impl Graph {
    /// The graph as an ONNX file. Every convolution must have weights, and for int8 every quantised tensor a range.
    pub fn to_onnx(&self, options: &OnnxOptions) -> Result<Vec<u8>> {
        let (input, output) = edge::declared(self, options)?;
        let graph = proto::Graph { name: "inas".into(), input, output, ..Default::default() };
        let graph = Writer::new(self, &options.precision, graph)?.write(options.edge)?;
        let entry = |(key, value): &(String, String)| proto::Entry { key: key.clone(), value: value.clone() };
        let model = proto::Model {
            ir_version: IR_VERSION,
            producer_name: options.producer.clone(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
            opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
            metadata_props: options.metadata.iter().map(entry).collect(),
        };
        Ok(model.encode_to_vec())
    }
}

/// A model file of this crate.
fn decode(onnx: &[u8]) -> Result<proto::Model> {
    let model = proto::Model::decode(onnx).map_err(|e| Error::Onnx { reason: e.to_string() })?;
    // Protobuf takes an empty or cut file for a message with fields left out.
    if model.graph.is_none() || model.opset_import.is_empty() {
        return Err(Error::Onnx { reason: "no graph or no operator set: the file is empty or cut short".into() });
    }
    Ok(model)
}

/// Key-value pairs that [`OnnxOptions::metadata`] put into a model file.
pub fn metadata(onnx: &[u8]) -> Result<Vec<(String, String)>> {
    Ok(decode(onnx)?.metadata_props.into_iter().map(|e| (e.key, e.value)).collect())
}

/// A model file of this crate with its metadata replaced.
pub fn with_metadata(onnx: &[u8], pairs: &[(String, String)]) -> Result<Vec<u8>> {
    let mut model = decode(onnx)?;
    model.metadata_props =
        pairs.iter().map(|(key, value)| proto::Entry { key: key.clone(), value: value.clone() }).collect();
    Ok(model.encode_to_vec())
}
