//! From the operators of a graph to ONNX nodes and initializers in the wanted precision.

use half::f16;

use super::Edge;
use super::edge;
use super::precision::{Affine, Precision, Ranges};
use super::proto::{self, AttributeType, DataType};
use crate::graph::{Function, Graph, Node, Op, Value};
use crate::{ConvSpec, ConvWeights, Error, Result};

pub(super) struct Writer<'a> {
    graph: &'a Graph,
    precision: &'a Precision,
    out: proto::Graph,
    /// Mapping of each value that is quantised.
    affine: Vec<Option<Affine>>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(graph: &'a Graph, precision: &'a Precision, out: proto::Graph) -> Result<Self> {
        let mut affine = vec![None; graph.values.len()];
        if let Precision::Int8(Ranges(ranges)) = precision {
            let wanted = graph.quantised();
            for (value, affine) in graph.values.iter().zip(&mut affine).filter(|(v, _)| wanted.contains(&v.name)) {
                let range = ranges.get(&value.name).filter(|(low, high)| low.is_finite() && high.is_finite());
                let range = range.ok_or_else(|| Error::Range { tensor: value.name.clone() })?;
                *affine = Some(Affine::of(*range));
            }
        }
        Ok(Self { graph, precision, out, affine })
    }

    pub(super) fn write(mut self, edge: Edge) -> Result<proto::Graph> {
        for input in &self.graph.inputs {
            if edge == Edge::Pixels {
                let graph = self.graph;
                edge::from_pixels(&mut self, &graph.info(*input).name);
            }
            self.quantise(*input);
        }
        for node in &self.graph.nodes {
            self.node(node)?;
            self.quantise(node.output);
        }
        if edge == Edge::Pixels {
            let output = self.graph.outputs().next().map(|v| v.name.clone()).unwrap_or_default();
            edge::to_pixels(&mut self, &output);
        }
        Ok(self.out)
    }

    /// Name by which later nodes read a value.
    fn read(&self, value: Value) -> String {
        let name = &self.graph.info(value).name;
        if self.affine[value.0].is_some() { format!("{name}/dequantised") } else { name.clone() }
    }

    /// The pair of nodes that rounds a value to 8 bits.
    fn quantise(&mut self, value: Value) {
        let Some(affine) = self.affine[value.0] else { return };
        let name = self.graph.info(value).name.clone();
        let scale = self.constant(format!("{name}/scale"), &[], DataType::Float, affine.scale.to_le_bytes().into());
        let zero = self.constant(format!("{name}/zero_point"), &[], DataType::Uint8, vec![affine.zero_point]);
        let quantised = format!("{name}/quantised");
        self.push("QuantizeLinear", &quantised, vec![name, scale.clone(), zero.clone()], vec![]);
        self.push("DequantizeLinear", &self.read(value), vec![quantised, scale, zero], vec![]);
    }

    /// Appends a node whose only output has the node's name.
    pub(super) fn push(&mut self, op: &str, name: &str, input: Vec<String>, attribute: Vec<proto::Attribute>) {
        let (op_type, name) = (op.to_owned(), name.to_owned());
        self.out.node.push(proto::Node { input, output: vec![name.clone()], name, op_type, attribute });
    }

    fn constant(&mut self, name: String, dims: &[usize], kind: DataType, raw_data: Vec<u8>) -> String {
        let dims = dims.iter().map(|d| *d as i64).collect();
        self.out.initializer.push(proto::Tensor { dims, data_type: kind as i32, name: name.clone(), raw_data });
        name
    }

    pub(super) fn floats(&mut self, name: String, dims: &[usize], data: &[f32]) -> String {
        self.constant(name, dims, DataType::Float, data.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Weights as the precision stores them; the name of the float tensor that they become.
    fn weights(&mut self, name: String, dims: &[usize], data: &[f32]) -> Result<String> {
        if *self.precision != Precision::Fp16 {
            return Ok(self.floats(name, dims, data));
        }
        let stored: Vec<f16> = data.iter().map(|x| f16::from_f32(*x)).collect();
        if let Some(large) = data.iter().zip(&stored).find_map(|(x, s)| (!s.is_finite()).then_some(x)) {
            return Err(Error::Weights { conv: name, reason: format!("{large} has no 16-bit float") });
        }
        let bytes = stored.iter().flat_map(|x| x.to_le_bytes()).collect();
        let half = self.constant(half_name(&name), dims, DataType::Float16, bytes);
        self.push("Cast", &name, vec![half], vec![int("to", DataType::Float as i64)]);
        Ok(name)
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        let mut input: Vec<String> = node.inputs.iter().map(|v| self.read(*v)).collect();
        let mut attribute = vec![];
        match &node.op {
            Op::Conv { spec, stride, dilation, weights } => {
                let weights = weights.as_ref().ok_or_else(|| Error::Weights {
                    conv: spec.name.clone(),
                    reason: "the graph was built for cost only".into(),
                })?;
                let parameters = match self.affine[node.inputs[0].0] {
                    Some(affine) => self.quantised_parameters(&node.name, spec, weights, affine),
                    None => self.parameters(&node.name, spec, weights)?,
                };
                input.extend(parameters);
                let (kernel, pad) = (i64::from(spec.kernel), i64::from(dilation * (spec.kernel / 2)));
                if *dilation != 1 {
                    attribute.push(ints("dilations", vec![i64::from(*dilation); 2]));
                }
                attribute.extend([
                    int("group", i64::from(spec.groups)),
                    ints("kernel_shape", vec![kernel; 2]),
                    ints("pads", vec![pad; 4]),
                    ints("strides", vec![i64::from(*stride); 2]),
                ]);
            }
            Op::Function(Function::Relu6) => {
                input.push(self.floats(format!("{}.min", node.name), &[], &[0.0]));
                input.push(self.floats(format!("{}.max", node.name), &[], &[6.0]));
            }
            Op::Function(Function::HardSigmoid) => attribute = vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)],
            Op::Function(_) | Op::Add | Op::Mul | Op::GlobalAvgPool | Op::Identity => {}
            Op::Scale(factor) => input.push(self.floats(format!("{}.factor", node.name), &[], &[*factor])),
            Op::MaxPool(window) | Op::AvgPool(window) => {
                let [side, stride, pad] = [window.side, window.stride, window.padding].map(i64::from);
                attribute = vec![ints("kernel_shape", vec![side; 2]), ints("strides", vec![stride; 2])];
                if pad > 0 {
                    attribute.push(ints("pads", vec![pad; 4]));
                }
            }
            Op::Concat => attribute = vec![int("axis", 1)],
            Op::Crop => {
                for (what, values) in [("starts", [1, 1]), ("ends", [i64::MAX; 2]), ("axes", [2, 3])] {
                    let bytes = values.iter().flat_map(|v: &i64| v.to_le_bytes()).collect();
                    input.push(self.constant(format!("{}.{what}", node.name), &[2], DataType::Int64, bytes));
                }
            }
            Op::Upsample(factor) => {
                // Inputs are X, roi (unused), scales.
                input.push(String::new());
                let factor = *factor as f32;
                input.push(self.floats(format!("{}.scales", node.name), &[4], &[1.0, 1.0, factor, factor]));
                attribute = vec![string("coordinate_transformation_mode", "align_corners"), string("mode", "linear")];
            }
        }
        let output = vec![self.graph.info(node.output).name.clone()];
        self.out.node.push(proto::Node {
            input,
            output,
            name: node.name.clone(),
            op_type: node.op.onnx_type().to_owned(),
            attribute,
        });
        Ok(())
    }

    /// Weight and bias of a convolution as float tensors.
    fn parameters(&mut self, node: &str, spec: &ConvSpec, weights: &ConvWeights) -> Result<Vec<String>> {
        let mut names = vec![self.weights(format!("{node}.weight"), &dims(spec), &weights.weight)?];
        if let Some(bias) = &weights.bias {
            names.push(self.weights(format!("{node}.bias"), &[bias.len()], bias)?);
        }
        Ok(names)
    }

    /// Weight as int8 with a scale for each output channel, bias as int32 in units of the products; both dequantised.
    fn quantised_parameters(
        &mut self,
        node: &str,
        spec: &ConvSpec,
        weights: &ConvWeights,
        input: Affine,
    ) -> Vec<String> {
        let channels = spec.out_ch as usize;
        let rows = weights.weight.chunks_exact(weights.weight.len() / channels);
        let scales: Vec<f32> = rows
            .clone()
            .map(|row| {
                let largest = row.iter().fold(0f32, |m, w| m.max(w.abs()));
                // So large that bias / (scale * input scale) stays an int32 for a channel of tiny weights.
                if largest > 0.0 { (largest / 127.0).max(f32::EPSILON) } else { 1.0 }
            })
            .collect();
        let integers =
            rows.zip(&scales).flat_map(|(row, scale)| row.iter().map(move |w| (w / scale).round() as i8 as u8));
        let dequantised = |this: &mut Self, what: &str, dims: &[usize], kind, bytes, scales: &[f32]| {
            let name = format!("{node}.{what}");
            let stored = this.constant(format!("{name}/quantised"), dims, kind, bytes);
            let scale = this.floats(format!("{name}/scale"), &[channels], scales);
            let zeros = vec![0; channels * if kind == DataType::Int32 { 4 } else { 1 }];
            let zero = this.constant(format!("{name}/zero_point"), &[channels], kind, zeros);
            this.push("DequantizeLinear", &name, vec![stored, scale, zero], vec![int("axis", 0)]);
            name
        };
        let bytes = integers.collect();
        let mut names = vec![dequantised(self, "weight", &dims(spec), DataType::Int8, bytes, &scales)];
        if let Some(bias) = &weights.bias {
            let scales: Vec<f32> = scales.iter().map(|s| s * input.scale).collect();
            let integers = bias.iter().zip(&scales).flat_map(|(b, s)| ((b / s).round() as i32).to_le_bytes());
            let bytes = integers.collect();
            names.push(dequantised(self, "bias", &[channels], DataType::Int32, bytes, &scales));
        }
        names
    }
}

pub(super) fn dims(spec: &ConvSpec) -> [usize; 4] {
    [spec.out_ch, spec.in_ch, spec.kernel, spec.kernel].map(|d| d as usize)
}

/// Name under which a tensor is stored in 16 bits.
pub(super) fn half_name(name: &str) -> String {
    format!("{name}/half")
}

fn attribute(name: &str, kind: AttributeType) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), r#type: kind as i32, ..Default::default() }
}

pub(super) fn int(name: &str, i: i64) -> proto::Attribute {
    proto::Attribute { i, ..attribute(name, AttributeType::Int) }
}

pub(super) fn ints(name: &str, ints: Vec<i64>) -> proto::Attribute {
    proto::Attribute { ints, ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, f: f32) -> proto::Attribute {
    proto::Attribute { f, ..attribute(name, AttributeType::Float) }
}

fn string(name: &str, s: &str) -> proto::Attribute {
    proto::Attribute { s: s.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}
