//! ONNX form of a graph: opset 17, float32, static shapes (the batch may be left open).

mod proto;
#[cfg(test)]
mod tests;

use prost::Message as _;

use crate::graph::{Function, Graph, Node, Op, ValueInfo};
use crate::{Error, Result};
use proto::{AttributeType, DimensionValue};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// How to write a model.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// Leave the batch dimension open, named `N`. Runtimes are faster with a fixed one.
    pub dynamic_batch: bool,
    /// Key-value pairs kept in the file.
    pub metadata: Vec<(String, String)>,
    /// Name of the program that writes the file.
    pub producer: String,
}

impl Default for OnnxOptions {
    /// One image at a time, no metadata, written by `inas`.
    fn default() -> Self {
        Self { dynamic_batch: false, metadata: Vec::new(), producer: "inas".into() }
    }
}

impl Graph {
    /// The graph as an ONNX file. Every convolution must have weights.
    pub fn to_onnx(&self, options: &OnnxOptions) -> Result<Vec<u8>> {
        let mut graph = proto::Graph {
            name: "inas".into(),
            input: self.inputs().map(|v| value_info(v, options.dynamic_batch)).collect(),
            output: self.outputs().map(|v| value_info(v, options.dynamic_batch)).collect(),
            ..Default::default()
        };
        for node in &self.nodes {
            self.push_node(node, &mut graph)?;
        }
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

    fn push_node(&self, node: &Node, graph: &mut proto::Graph) -> Result<()> {
        let mut out = proto::Node {
            input: node.inputs.iter().map(|v| self.info(*v).name.clone()).collect(),
            output: vec![self.info(node.output).name.clone()],
            name: node.name.clone(),
            op_type: node.op.onnx_type().to_owned(),
            ..Default::default()
        };
        let mut constant = |name: String, dims: &[usize], data: &[f32]| {
            graph.initializer.push(tensor(&name, dims, data));
            name
        };
        match &node.op {
            Op::Conv { spec, stride, weights } => {
                let weights = weights.as_ref().ok_or_else(|| Error::Weights {
                    conv: spec.name.clone(),
                    reason: "the graph was built for cost only".into(),
                })?;
                let (o, i, k) = (spec.out_ch as usize, spec.in_ch as usize, spec.kernel as usize);
                out.input.push(constant(format!("{}.weight", node.name), &[o, i, k, k], &weights.weight));
                if let Some(bias) = &weights.bias {
                    out.input.push(constant(format!("{}.bias", node.name), &[o], bias));
                }
                let (kernel, stride, pad) = (i64::from(spec.kernel), i64::from(*stride), i64::from(spec.kernel / 2));
                out.attribute = vec![
                    int("group", i64::from(spec.groups)),
                    ints("kernel_shape", vec![kernel; 2]),
                    ints("pads", vec![pad; 4]),
                    ints("strides", vec![stride; 2]),
                ];
            }
            Op::Function(Function::Relu6) => {
                out.input.push(constant(format!("{}.min", node.name), &[], &[0.0]));
                out.input.push(constant(format!("{}.max", node.name), &[], &[6.0]));
            }
            Op::Function(Function::HardSigmoid) => {
                out.attribute = vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)];
            }
            Op::Function(_) | Op::Add | Op::Mul | Op::GlobalAvgPool | Op::Identity => {}
            Op::Scale(factor) => {
                out.input.push(constant(format!("{}.factor", node.name), &[], &[*factor]));
            }
            Op::MaxPool(k) | Op::AvgPool(k) => {
                let k = i64::from(*k);
                out.attribute = vec![ints("kernel_shape", vec![k; 2]), ints("strides", vec![k; 2])];
            }
            Op::Upsample(factor) => {
                // Inputs are X, roi (unused), scales.
                out.input.push(String::new());
                let factor = *factor as f32;
                out.input.push(constant(format!("{}.scales", node.name), &[4], &[1.0, 1.0, factor, factor]));
                out.attribute =
                    vec![string("coordinate_transformation_mode", "align_corners"), string("mode", "linear")];
            }
        }
        graph.node.push(out);
        Ok(())
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
    let tensor_type = proto::TensorType { elem_type: proto::FLOAT, shape: Some(shape) };
    proto::ValueInfo { name: value.name.clone(), r#type: Some(proto::Type { tensor_type: Some(tensor_type) }) }
}

fn tensor(name: &str, dims: &[usize], data: &[f32]) -> proto::Tensor {
    proto::Tensor {
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: proto::FLOAT,
        name: name.to_owned(),
        raw_data: data.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn attribute(name: &str, kind: AttributeType) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), r#type: kind as i32, ..Default::default() }
}

fn int(name: &str, i: i64) -> proto::Attribute {
    proto::Attribute { i, ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, ints: Vec<i64>) -> proto::Attribute {
    proto::Attribute { ints, ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, f: f32) -> proto::Attribute {
    proto::Attribute { f, ..attribute(name, AttributeType::Float) }
}

fn string(name: &str, s: &str) -> proto::Attribute {
    proto::Attribute { s: s.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}
