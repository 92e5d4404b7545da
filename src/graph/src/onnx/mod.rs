//! ONNX form of a graph: opset 17, float32 inputs and outputs, static shapes (the batch may be left open).

mod precision;
mod proto;
#[cfg(test)]
mod tests;
mod writer;

use prost::Message as _;

use crate::graph::{Graph, ValueInfo};
use crate::{Error, Result};
pub use precision::{Precision, Ranges};
use proto::DimensionValue;
use writer::Writer;

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// How to write a model.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// Leave the batch dimension open, named `N`. Runtimes are faster with a fixed one.
    pub dynamic_batch: bool,
    /// Number format.
    pub precision: Precision,
    /// Key-value pairs kept in the file.
    pub metadata: Vec<(String, String)>,
    /// Name of the program that writes the file.
    pub producer: String,
}

impl Default for OnnxOptions {
    /// One image at a time, float32, no metadata, written by `inas`.
    fn default() -> Self {
        Self { dynamic_batch: false, precision: Precision::Fp32, metadata: Vec::new(), producer: "inas".into() }
    }
}

impl Graph {
    /// The graph as an ONNX file. Every convolution must have weights, and for int8 every quantised tensor a range.
    pub fn to_onnx(&self, options: &OnnxOptions) -> Result<Vec<u8>> {
        let graph = proto::Graph {
            name: "inas".into(),
            input: self.inputs().map(|v| value_info(v, options.dynamic_batch)).collect(),
            output: self.outputs().map(|v| value_info(v, options.dynamic_batch)).collect(),
            ..Default::default()
        };
        let graph = Writer::new(self, &options.precision, graph)?.write()?;
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

/// Key-value pairs that [`OnnxOptions::metadata`] put into a model file.
pub fn metadata(onnx: &[u8]) -> Result<Vec<(String, String)>> {
    let model = proto::Model::decode(onnx).map_err(|e| Error::Onnx { reason: e.to_string() })?;
    // Protobuf takes an empty or cut file for a message with fields left out.
    if model.graph.is_none() || model.opset_import.is_empty() {
        return Err(Error::Onnx { reason: "no graph or no operator set: the file is empty or cut short".into() });
    }
    Ok(model.metadata_props.into_iter().map(|e| (e.key, e.value)).collect())
}

fn value_info(value: &ValueInfo, dynamic_batch: bool) -> proto::ValueInfo {
    let dimension = |(i, size): (usize, &u32)| {
        let open = i == 0 && dynamic_batch;
        let value = if open { DimensionValue::Parameter("N".into()) } else { DimensionValue::Value(i64::from(*size)) };
        proto::Dimension { value: Some(value) }
    };
    let shape = proto::TensorShape { dim: value.shape.iter().enumerate().map(dimension).collect() };
    let elem_type = proto::DataType::Float as i32;
    let tensor_type = proto::TensorType { elem_type, shape: Some(shape) };
    proto::ValueInfo { name: value.name.clone(), r#type: Some(proto::Type { tensor_type: Some(tensor_type) }) }
}
