//! The engine that writes networks down as layer graphs, batch norms folded into the convolutions before them.

use inas_graph::{Builder, ConvSpec, ConvWeights, Function, Op, Value, Window as GraphWindow};
use inas_nn::tape::Window;

use super::engine::{Bn, Conv, Engine, Part, PoolKind, Term};
use super::params::Params;
use super::run::EPS;
use crate::{Error, Result};

/// An activation; what a factorised reduction reads has a second one, without the first row and column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) value: Value,
    cropped: Option<Value>,
}

impl From<Value> for Layer {
    fn from(value: Value) -> Self {
        Self { value, cropped: None }
    }
}

/// Appends a network's layers to a graph.
pub(crate) struct Deploy<'a> {
    pub(crate) builder: Builder<'static>,
    params: &'a Params,
    nodes: usize,
}

/// A convolution to write.
struct Written<'a> {
    name: &'a str,
    depthwise: bool,
    stride: usize,
    dilation: usize,
    bn: Option<&'a Bn>,
    /// Channels of the norm that are this convolution's, from here on.
    from: usize,
}

fn size(v: usize) -> Result<u32> {
    u32::try_from(v).map_err(|_| Error::Config(format!("{v} is too large for a layer graph")))
}

impl<'a> Deploy<'a> {
    pub(crate) fn new(params: &'a Params) -> Self {
        Self { builder: Builder::default(), params, nodes: 0 }
    }

    pub(crate) fn input(&mut self, name: &str, channels: usize, px: usize) -> Result<Layer> {
        Ok(self.builder.input(name, size(channels)?, size(px)?).into())
    }

    /// A node without parameters.
    fn plain(&mut self, what: &str, op: Op, inputs: &[Value]) -> Result<Value> {
        self.nodes += 1;
        Ok(self.builder.op(&format!("{what}.{}", self.nodes), op, inputs)?)
    }

    fn function(&mut self, function: Function, x: Value) -> Result<Value> {
        self.plain(if function == Function::Relu { "relu" } else { "sigmoid" }, Op::Function(function), &[x])
    }

    fn values(&self, name: &str, statistic: bool) -> Result<Vec<f32>> {
        let tensor = if statistic { self.params.buffer(name)? } else { self.params.weight(name)? };
        Ok(tensor.flatten_all()?.to_vec1()?)
    }

    /// Scale and shift of a norm.
    fn affine(&self, bn: &Bn) -> Result<Vec<(f64, f64)>> {
        let name = &bn.name;
        let mean = self.values(&format!("{name}.running_mean"), true)?;
        let var = self.values(&format!("{name}.running_var"), true)?;
        let (gamma, beta) = if bn.affine {
            (self.values(&format!("{name}.weight"), false)?, self.values(&format!("{name}.bias"), false)?)
        } else {
            (vec![1.0; mean.len()], vec![0.0; mean.len()])
        };
        let channel = |c: usize| {
            let scale = f64::from(gamma[c]) / (f64::from(var[c]) + EPS).sqrt();
            (scale, f64::from(beta[c]) - scale * f64::from(mean[c]))
        };
        Ok((0..mean.len()).map(channel).collect())
    }

    fn convolution(&mut self, x: Value, c: &Written<'_>) -> Result<Value> {
        let weight = self.params.weight(&format!("{}.weight", c.name))?;
        let (out, inputs, kernel) = match *weight.dims() {
            [out, inputs, kernel, _] => (out, inputs, kernel),
            [out, inputs] => (out, inputs, 1),
            _ => return Err(Error::NoTensor { name: c.name.to_owned() }),
        };
        let mut weight: Vec<f32> = weight.flatten_all()?.to_vec1()?;
        let bias_name = format!("{}.bias", c.name);
        let bias = match c.bn {
            Some(bn) => {
                let affine = &self.affine(bn)?[c.from..][..out];
                for (row, (scale, _)) in weight.chunks_exact_mut(inputs * kernel * kernel).zip(affine) {
                    for w in row {
                        *w = (f64::from(*w) * scale) as f32;
                    }
                }
                Some(affine.iter().map(|(_, shift)| *shift as f32).collect())
            }
            None if self.params.weights.contains_key(&bias_name) => Some(self.values(&bias_name, false)?),
            None => None,
        };
        let spec = ConvSpec {
            name: c.name.to_owned(),
            out_ch: size(out)?,
            in_ch: size(inputs)?,
            kernel: size(kernel)?,
            groups: if c.depthwise { size(out)? } else { 1 },
            bias: bias.is_some(),
        };
        let (stride, dilation) = (size(c.stride)?, size(c.dilation)?);
        let op = Op::Conv { spec, stride, dilation, weights: Some(ConvWeights { weight, bias }) };
        Ok(self.builder.op(c.name, op, &[x])?)
    }

    fn dense(&mut self, x: Value, conv: &Conv<'_>) -> Result<Value> {
        let Conv { name, stride, bn, relu, .. } = *conv;
        let y = self.convolution(x, &Written { name, depthwise: false, stride, dilation: 1, bn, from: 0 })?;
        if relu { self.function(Function::Relu, y) } else { Ok(y) }
    }

    /// Sum of values; the shape is the first one's.
    fn sum(&mut self, values: &[Value]) -> Result<Value> {
        let (first, rest) = values.split_first().ok_or_else(|| Error::Config("nothing to add up".into()))?;
        rest.iter().try_fold(*first, |sum, x| self.plain("add", Op::Add, &[sum, *x]))
    }
}

fn only_in_search<T>(what: &str) -> Result<T> {
    Err(Error::Config(format!("{what} is a part of training and search alone and has no deployed form")))
}

impl Engine for Deploy<'_> {
    type X = Layer;
    type Branch = Value;

    fn zeros(&mut self, _: &Layer, _: usize) -> Result<Layer> {
        only_in_search("a node without operations")
    }

    fn relu(&mut self, x: &Layer) -> Result<Layer> {
        Ok(self.function(Function::Relu, x.value)?.into())
    }

    fn conv(&mut self, x: &Layer, conv: &Conv<'_>) -> Result<Layer> {
        Ok(self.dense(x.value, conv)?.into())
    }

    fn conv_whole(&mut self, _: &Layer, _: &Conv<'_>) -> Result<Layer> {
        only_in_search("the auxiliary head")
    }

    fn depthwise(&mut self, x: &Layer, name: &str, _: usize, stride: usize, dilation: usize) -> Result<Layer> {
        let written = Written { name, depthwise: true, stride, dilation, bn: None, from: 0 };
        Ok(self.convolution(x.value, &written)?.into())
    }

    fn branch(&mut self, x: &Layer, name: &str, out: usize, bn: &Bn) -> Result<Value> {
        self.dense(x.value, &Conv { name, out, kernel: 1, stride: 1, bn: Some(bn), relu: false })
    }

    fn halves(&mut self, x: &Layer) -> Result<Layer> {
        let [_, _, h, w] = self.builder.shape(x.value);
        if h % 2 + w % 2 > 0 {
            return Err(Error::Config(format!("a factorised reduction needs even sides, not {h} x {w}")));
        }
        Ok(Layer { cropped: Some(self.plain("crop", Op::Crop, &[x.value])?), ..*x })
    }

    fn branch_halves(&mut self, halves: &Layer, prefix: &str, out: usize, bn: &Bn) -> Result<Value> {
        let cropped = halves.cropped.unwrap_or(halves.value);
        let mut values = Vec::new();
        for (x, part, from) in [(halves.value, "conv_1", 0), (cropped, "conv_2", out / 2)] {
            let name = format!("{prefix}.{part}");
            let written = Written { name: &name, depthwise: false, stride: 2, dilation: 1, bn: Some(bn), from };
            values.push(self.convolution(x, &written)?);
        }
        self.plain("concat", Op::Concat, &values)
    }

    fn norm(&mut self, _: &Layer, _: &Bn, _: bool) -> Result<Layer> {
        only_in_search("a norm without a convolution")
    }

    fn pool(&mut self, x: &Layer, kind: PoolKind, window: Window) -> Result<Layer> {
        let Window { side, stride, padding } = window;
        let window = GraphWindow { side: size(side)?, stride: size(stride)?, padding: size(padding)? };
        Ok(match kind {
            PoolKind::Max => self.plain("max_pool", Op::MaxPool(window), &[x.value])?.into(),
            PoolKind::Mean => self.plain("avg_pool", Op::AvgPool(window), &[x.value])?.into(),
        })
    }

    fn mix(&mut self, parts: Vec<Part<Layer, Value>>) -> Result<Layer> {
        if parts.iter().any(|p| p.factor.is_some()) {
            return only_in_search("a weighted sum of operations");
        }
        let values = parts.into_iter().map(|p| match p.term {
            Term::Value(x) => x.value,
            Term::Branch(x) => x,
        });
        let values: Vec<Value> = values.collect();
        Ok(self.sum(&values)?.into())
    }

    fn concat(&mut self, xs: &[Layer]) -> Result<Layer> {
        let values: Vec<Value> = xs.iter().map(|x| x.value).collect();
        Ok(self.plain("concat", Op::Concat, &values)?.into())
    }

    fn slice(&mut self, _: &Layer, _: usize, _: usize) -> Result<Layer> {
        only_in_search("a part of the channels")
    }

    fn shuffle(&mut self, _: &Layer, _: usize) -> Result<Layer> {
        only_in_search("a shuffle of channels")
    }

    fn global_mean(&mut self, x: &Layer) -> Result<Layer> {
        Ok(self.plain("mean", Op::GlobalAvgPool, &[x.value])?.into())
    }

    fn linear(&mut self, x: &Layer, name: &str, _: usize) -> Result<Layer> {
        let written = Written { name, depthwise: false, stride: 1, dilation: 1, bn: None, from: 0 };
        Ok(self.convolution(x.value, &written)?.into())
    }

    fn gate(&mut self, x: &Layer, z: &Layer) -> Result<Layer> {
        let z = self.function(Function::Sigmoid, z.value)?;
        Ok(self.plain("gate", Op::Mul, &[x.value, z])?.into())
    }

    fn fuse(&mut self, same: &[&Layer], coarse: &[&Layer], like: &Layer) -> Result<Layer> {
        let to = self.builder.shape(like.value)[2];
        let mut values: Vec<Value> = same.iter().map(|x| x.value).collect();
        for x in coarse {
            let px = self.builder.shape(x.value)[2];
            // A single position is added everywhere by itself.
            let spread = px == to || (px == 1 && !values.is_empty());
            let factor = if spread || to.is_multiple_of(px) { to / px } else { 0 };
            values.push(match factor {
                _ if spread => x.value,
                0 => return Err(Error::Config(format!("{px} positions cannot be made {to} by a whole factor"))),
                factor => self.plain("upsample", Op::Upsample(factor), &[x.value])?,
            });
        }
        let sum = self.sum(&values)?;
        if values.len() == 1 {
            return Ok(sum.into());
        }
        Ok(self.plain("mean", Op::Scale(1.0 / values.len() as f32), &[sum])?.into())
    }
}
