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

/// Square windows of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Side.
    pub side: u32,
    /// Stride.
    pub stride: u32,
    /// Padding on every side; padded positions are no part of a mean or a maximum. Without it windows must fit exactly.
    pub padding: u32,
}

impl Window {
    /// Windows that lie side by side.
    pub fn tiles(side: u32) -> Self {
        Self { side, stride: side, padding: 0 }
    }

    fn out(self, extent: u32) -> Option<u32> {
        let Self { side, stride, padding } = self;
        let room = (extent + 2 * padding).checked_sub(side)?;
        let fits = stride > 0 && padding < side && (padding > 0 || room.is_multiple_of(stride));
        fits.then(|| room / stride + 1)
    }
}

/// An operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Convolution with square kernel and padding `dilation * (kernel / 2)`.
    Conv {
        /// Name, channels, kernel and groups.
        spec: ConvSpec,
        /// Stride.
        stride: u32,
        /// Distance of the positions that a kernel sees; 1: neighbours.
        dilation: u32,
        /// Absent in a graph that only counts cost.
        weights: Option<ConvWeights>,
    },
    /// Pointwise function.
    Function(Function),
    /// Sum of two equal shapes; the second input may be `[1, C, 1, 1]`.
    Add,
    /// Product; the second input may be `[1, C, 1, 1]`.
    Mul,
    /// Product with a constant.
    Scale(f32),
    /// Maximum over windows.
    MaxPool(Window),
    /// Mean over windows, of the positions inside the input.
    AvgPool(Window),
    /// Mean over height and width.
    GlobalAvgPool,
    /// Bilinear upsampling by an integer factor, corners aligned.
    Upsample(u32),
    /// The inputs' channels one after the other.
    Concat,
    /// All but the first row and the first column.
    Crop,
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
            Self::Concat => "Concat",
            Self::Crop => "Slice",
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
pub struct Builder<'a> {
    pub(crate) graph: Graph,
    /// None: shapes and cost only.
    weights: Option<&'a mut dyn Weights>,
    pub(crate) scope: String,
    /// Kernels of the multi-scale unit to build as branches of their own; empty builds the merged form.
    pub(crate) branches: Vec<u32>,
}

impl std::fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("graph", &self.graph).field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Default for Builder<'_> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<'a> Builder<'a> {
    /// An empty graph whose convolutions take their weights from there.
    pub(crate) fn new(weights: Option<&'a mut dyn Weights>) -> Self {
        Self { graph: Graph::default(), weights, scope: String::new(), branches: Vec::new() }
    }

    /// Appends an input `[1, channels, px, px]`.
    pub fn input(&mut self, name: &str, channels: u32, px: u32) -> Value {
        let value = self.value(name.to_owned(), [1, channels, px, px]);
        self.graph.inputs.push(value);
        value
    }

    /// Ends the graph; the output tensor takes `name`.
    pub(crate) fn finish(self, output: Value, name: &str) -> Graph {
        self.finish_all(&[(output, name)])
    }

    /// Ends the graph; the output tensors, all different, take their names.
    pub fn finish_all(mut self, outputs: &[(Value, &str)]) -> Graph {
        for (output, name) in outputs {
            (*name).clone_into(&mut self.graph.values[output.0].name);
            self.graph.outputs.push(*output);
        }
        self.graph
    }

    /// Shape of a tensor.
    pub fn shape(&self, value: Value) -> Shape {
        self.graph.info(value).shape
    }

    fn value(&mut self, name: String, shape: Shape) -> Value {
        self.graph.values.push(ValueInfo { name, shape });
        Value(self.graph.values.len() - 1)
    }

    fn node(&mut self, name: &str, op: Op, inputs: &[Value]) -> Result<Value> {
        let name = if self.scope.is_empty() { name.to_owned() } else { format!("{}/{name}", self.scope) };
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
        self.node(name, Op::Conv { spec, stride: conv.stride, dilation: 1, weights }, &[x])
    }

    pub(crate) fn function(&mut self, name: &str, function: Function, x: Value) -> Result<Value> {
        self.node(name, Op::Function(function), &[x])
    }

    /// Appends an operator by a unique name.
    pub fn op(&mut self, name: &str, op: Op, inputs: &[Value]) -> Result<Value> {
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
    let windows = |window: Window| match (window.out(h), window.out(w)) {
        (Some(h), Some(w)) => Ok([n, c, h, w]),
        _ => Err(format!("{window:?} does not fit {h} x {w}")),
    };
    match op {
        Op::Conv { spec, stride, .. } => {
            if spec.in_ch * spec.groups != c {
                return Err(format!("{} channels given, {} expected", c, spec.in_ch * spec.groups));
            }
            Ok([n, spec.out_ch, h.div_ceil(*stride), w.div_ceil(*stride)])
        }
        Op::Function(_) | Op::Scale(_) | Op::Identity => Ok(inputs[0]),
        Op::Add | Op::Mul if inputs.len() == 2 && (inputs[1] == inputs[0] || inputs[1] == [n, c, 1, 1]) => {
            Ok(inputs[0])
        }
        Op::Add | Op::Mul => Err(format!("shapes {inputs:?} do not combine")),
        Op::MaxPool(k) | Op::AvgPool(k) => windows(*k),
        Op::GlobalAvgPool => Ok([n, c, 1, 1]),
        Op::Upsample(factor) => Ok([n, c, h * factor, w * factor]),
        Op::Concat if inputs.iter().any(|i| [i[0], i[2], i[3]] != [n, h, w]) => {
            Err(format!("shapes {inputs:?} do not combine"))
        }
        Op::Concat => Ok([n, inputs.iter().map(|i| i[1]).sum(), h, w]),
        Op::Crop if h < 2 || w < 2 => Err(format!("nothing is left of {h} x {w}")),
        Op::Crop => Ok([n, c, h - 1, w - 1]),
    }
}
