//! A static single-branch layer graph with inferred shapes.

use std::collections::BTreeMap;

use crate::{ConvSpec, ConvWeights, Error, Result, Weights};

/// `[N, C, H, W]` of one image (N = 1).
pub type Shape = [u32; 4];

/// A tensor of a [`Graph`], by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(pub(crate) usize);

/// Pointwise functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// max(0, x)
    Relu,
    /// min(6, max(0, x))
    Relu6,
    /// max(0, min(1, x / 6 + 1/2))
    HardSigmoid,
    /// x * HardSigmoid(x)
    HardSwish,
}

/// An operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Convolution with square kernel and padding `kernel / 2`.
    Conv {
        /// Name, channels, kernel and groups.
        spec: ConvSpec,
        /// Stride.
        stride: u32,
        /// Absent in a graph that only counts cost.
        weights: Option<ConvWeights>,
    },
    /// Pointwise function.
    Function(Function),
    /// Sum of two equal shapes.
    Add,
    /// Product; the second input may be `[1, C, 1, 1]`.
    Mul,
    /// Product with a constant.
    Scale(f32),
    /// Maximum over `k x k` windows with stride `k`.
    MaxPool(u32),
    /// Mean over `k x k` windows with stride `k`.
    AvgPool(u32),
    /// Mean over height and width.
    GlobalAvgPool,
    /// Bilinear upsampling by an integer factor, corners aligned.
    Upsample(u32),
    /// Nothing: the block passes its input through.
    Identity,
}

impl Op {
    /// The ONNX operator that it is written as.
    pub fn onnx_type(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "Conv",
            Self::Function(Function::Sigmoid) => "Sigmoid",
            Self::Function(Function::Relu) => "Relu",
            Self::Function(Function::Relu6) => "Clip",
            Self::Function(Function::HardSigmoid) => "HardSigmoid",
            Self::Function(Function::HardSwish) => "HardSwish",
            Self::Add => "Add",
            Self::Mul | Self::Scale(_) => "Mul",
            Self::MaxPool(_) => "MaxPool",
            Self::AvgPool(_) => "AveragePool",
            Self::GlobalAvgPool => "GlobalAveragePool",
            Self::Upsample(_) => "Resize",
            Self::Identity => "Identity",
        }
    }
}

/// An operator with its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique name, `block/operator`.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Inputs.
    pub inputs: Vec<Value>,
    /// Output.
    pub output: Value,
}

/// A tensor's name and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    /// Unique name.
    pub name: String,
    /// `[N, C, H, W]`.
    pub shape: Shape,
}

/// Layer graph of a block or of a whole network in deployed form.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) inputs: Vec<Value>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<Value>,
}

impl Graph {
    /// Inputs, in order.
    pub fn inputs(&self) -> impl Iterator<Item = &ValueInfo> {
        self.inputs.iter().map(|v| self.info(*v))
    }

    /// Outputs, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &ValueInfo> {
        self.outputs.iter().map(|v| self.info(*v))
    }

    /// Operators in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Name and shape of a tensor.
    pub fn info(&self, value: Value) -> &ValueInfo {
        &self.values[value.0]
    }

    /// How many operators of each ONNX type there are.
    pub fn op_counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for node in &self.nodes {
            *counts.entry(node.op.onnx_type()).or_default() += 1;
        }
        counts
    }

    /// Multiply-accumulates of one image, convolutions only.
    pub fn macs(&self) -> u64 {
        self.convs().fold(0, |sum, (node, spec)| {
            let [_, _, h, w] = self.info(node.output).shape.map(u64::from);
            sum.saturating_add(spec.weights().saturating_mul(h).saturating_mul(w))
        })
    }

    /// Number of weights and biases.
    pub fn params(&self) -> u64 {
        self.convs().fold(0, |sum, (_, spec)| {
            let bias = if spec.bias { u64::from(spec.out_ch) } else { 0 };
            sum.saturating_add(spec.weights()).saturating_add(bias)
        })
    }

    fn convs(&self) -> impl Iterator<Item = (&Node, &ConvSpec)> {
        self.nodes.iter().filter_map(|node| match &node.op {
            Op::Conv { spec, .. } => Some((node, spec)),
            _ => None,
        })
    }
}

/// Appends operators to a graph; the scope is the name of the block being built.
pub(crate) struct Builder<'a> {
    pub(crate) graph: Graph,
    /// None: shapes and cost only.
    weights: Option<&'a mut dyn Weights>,
    pub(crate) scope: String,
    /// Kernels of the multi-scale unit to build as branches of their own; empty builds the merged form.
    pub(crate) branches: Vec<u32>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(weights: Option<&'a mut dyn Weights>) -> Self {
        Self { graph: Graph::default(), weights, scope: String::new(), branches: Vec::new() }
    }

    pub(crate) fn input(&mut self, name: &str, channels: u32, px: u32) -> Value {
        let value = self.value(name.to_owned(), [1, channels, px, px]);
        self.graph.inputs.push(value);
        value
    }

    /// Ends the graph; the output tensor takes `name`.
    pub(crate) fn finish(mut self, output: Value, name: &str) -> Graph {
        name.clone_into(&mut self.graph.values[output.0].name);
        self.graph.outputs.push(output);
        self.graph
    }

    pub(crate) fn shape(&self, value: Value) -> Shape {
        self.graph.info(value).shape
    }

    fn value(&mut self, name: String, shape: Shape) -> Value {
        self.graph.values.push(ValueInfo { name, shape });
        Value(self.graph.values.len() - 1)
    }

    fn node(&mut self, name: &str, op: Op, inputs: &[Value]) -> Result<Value> {
        let name = format!("{}/{name}", self.scope);
        let shapes: Vec<Shape> = inputs.iter().map(|v| self.shape(*v)).collect();
        let shape = output_shape(&op, &shapes).map_err(|reason| Error::Shape { node: name.clone(), reason })?;
        let output = self.value(name.clone(), shape);
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    pub(crate) fn conv(&mut self, x: Value, conv: Conv<'_>) -> Result<Value> {
        let channels = self.shape(x)[1];
        let spec = ConvSpec {
            name: format!("{}{}", self.scope, conv.suffix),
            out_ch: conv.out_ch,
            in_ch: if conv.depthwise { 1 } else { channels },
            kernel: conv.kernel,
            groups: if conv.depthwise { channels } else { 1 },
            bias: conv.bias,
        };
        let weights = self.weights.as_mut().map(|w| w.conv(&spec)).transpose()?;
        if let Some(given) = &weights {
            let bias = given.bias.as_ref().map(Vec::len);
            if given.weight.len() != spec.weight_len() || bias != spec.bias.then_some(spec.out_ch as usize) {
                let reason = format!("expected {} weights and bias {}", spec.weight_len(), spec.bias);
                return Err(Error::Weights { conv: spec.name, reason });
            }
        }
        let name = conv.suffix.trim_start_matches('.').replace('.', "_");
        let name = if name.is_empty() { "conv" } else { &name };
        self.node(name, Op::Conv { spec, stride: conv.stride, weights }, &[x])
    }

    pub(crate) fn function(&mut self, name: &str, function: Function, x: Value) -> Result<Value> {
        self.node(name, Op::Function(function), &[x])
    }

    pub(crate) fn op(&mut self, name: &str, op: Op, inputs: &[Value]) -> Result<Value> {
        self.node(name, op, inputs)
    }
}

/// A convolution to append; its name is the scope plus `suffix`.
#[derive(Clone, Copy)]
pub(crate) struct Conv<'a> {
    pub(crate) suffix: &'a str,
    pub(crate) out_ch: u32,
    pub(crate) kernel: u32,
    pub(crate) stride: u32,
    pub(crate) depthwise: bool,
    pub(crate) bias: bool,
}

impl<'a> Conv<'a> {
    pub(crate) fn pointwise(suffix: &'a str, out_ch: u32) -> Self {
        Self { suffix, out_ch, kernel: 1, stride: 1, depthwise: false, bias: true }
    }
}

fn output_shape(op: &Op, inputs: &[Shape]) -> std::result::Result<Shape, String> {
    let [n, c, h, w] = *inputs.first().ok_or("no input")?;
    let windows = |k: u32| {
        if k == 0 || !h.is_multiple_of(k) || !w.is_multiple_of(k) {
            return Err(format!("windows of {k} do not tile {h} x {w}"));
        }
        Ok([n, c, h / k, w / k])
    };
    match op {
        Op::Conv { spec, stride, .. } => {
            if spec.in_ch * spec.groups != c {
                return Err(format!("{} channels given, {} expected", c, spec.in_ch * spec.groups));
            }
            Ok([n, spec.out_ch, h.div_ceil(*stride), w.div_ceil(*stride)])
        }
        Op::Function(_) | Op::Scale(_) | Op::Identity => Ok(inputs[0]),
        Op::Add if inputs.len() == 2 && inputs[0] == inputs[1] => Ok(inputs[0]),
        Op::Mul if inputs.len() == 2 && (inputs[1] == inputs[0] || inputs[1] == [n, c, 1, 1]) => Ok(inputs[0]),
        Op::Add | Op::Mul => Err(format!("shapes {inputs:?} do not combine")),
        Op::MaxPool(k) | Op::AvgPool(k) => windows(*k),
        Op::GlobalAvgPool => Ok([n, c, 1, 1]),
        Op::Upsample(factor) => Ok([n, c, h * factor, w * factor]),
    }
}
