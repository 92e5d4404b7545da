//! The engine that computes, on the tape of `inas-nn`.

use candle_core::{DType, Tensor};
use inas_nn::ops::Activation;
use inas_nn::tape::{After, Factor, Norm, Part as TapePart, Raw, Real, Tape, Term as TapeTerm, Value, Weight, Window};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::engine::{Bn, Conv, Engine, FactorAt, Part, PoolKind, Term};
use super::params::Params;
use crate::relax::Factors;
use crate::{CellKind, EDGES, Result};

/// Added to variances.
pub(super) const EPS: f64 = 1e-5;

/// Random dropping of operations of single images.
#[derive(Debug)]
pub(crate) struct DropPath {
    pub(crate) probability: f64,
    pub(crate) rng: ChaCha8Rng,
}

/// The factors of a cell type as tensors for the tape.
pub(crate) struct FactorTensors {
    ops: Weight,
    edges: Weight,
    values: Factors,
}

impl FactorTensors {
    pub(crate) fn new(kind: CellKind, values: &Factors, dtype: DType) -> Result<Self> {
        let tensor = |v: Vec<f64>| Tensor::new(v, &candle_core::Device::Cpu)?.to_dtype(dtype);
        let ops = tensor(values.ops.iter().flatten().copied().collect())?;
        let edges = tensor(values.edges.to_vec())?;
        Ok(Self {
            ops: Weight { name: format!("factors.{kind}.ops"), tensor: ops },
            edges: Weight { name: format!("factors.{kind}.edges"), tensor: edges },
            values: values.clone(),
        })
    }

    fn at(&self, at: FactorAt) -> Factor {
        match at {
            FactorAt::Op(i) => Factor { weight: self.ops.clone(), index: i, value: self.values.ops[i / 8][i % 8] },
            FactorAt::Edge(i) => Factor { weight: self.edges.clone(), index: i, value: self.values.edges[i] },
        }
    }

    /// Takes the derivatives by the factors out of the gradients.
    pub(crate) fn take(kind: CellKind, grads: &mut std::collections::BTreeMap<String, Tensor>) -> Result<Factors> {
        let mut out = Factors::default();
        let mut values = |what: &str| -> Result<Option<Vec<f64>>> {
            let Some(t) = grads.remove(&format!("factors.{kind}.{what}")) else { return Ok(None) };
            Ok(Some(t.to_dtype(DType::F64)?.to_vec1()?))
        };
        if let Some(ops) = values("ops")? {
            for (row, v) in out.ops.iter_mut().zip(ops.chunks_exact(8)) {
                row.copy_from_slice(v);
            }
        }
        if let Some(edges) = values("edges")? {
            out.edges.copy_from_slice(&edges[..EDGES]);
        }
        Ok(out)
    }
}

/// A pass over a network.
pub(crate) struct Pass<'a, T: Real> {
    pub(crate) tape: Tape<T>,
    pub(crate) params: &'a Params,
    /// Use running statistics.
    pub(crate) fixed: bool,
    pub(crate) factors: Option<[FactorTensors; 2]>,
    pub(crate) drop_path: Option<DropPath>,
}

impl<'a, T: Real> Pass<'a, T> {
    /// A pass over the network of a genotype that drops nothing.
    pub(crate) fn forward(tape: Tape<T>, params: &'a Params, fixed: bool) -> Self {
        Self { tape, params, fixed, factors: None, drop_path: None }
    }

    fn weight(&self, name: String) -> Result<Weight> {
        Ok(Weight { tensor: self.params.weight(&name)?.clone(), name })
    }

    fn bn(&self, bn: &Bn) -> Result<Norm> {
        let name = &bn.name;
        let affine = if bn.affine {
            Some((self.weight(format!("{name}.weight"))?, self.weight(format!("{name}.bias"))?))
        } else {
            None
        };
        let fixed = if self.fixed {
            let buffer = |what: &str| self.params.buffer(&format!("{name}.{what}")).cloned();
            Some((buffer("running_mean")?, buffer("running_var")?))
        } else {
            None
        };
        Ok(Norm { name: name.clone(), affine, fixed, eps: EPS })
    }

    /// Factor of each image of an operation that may be dropped (spec section 4.3).
    fn images(&mut self, n: usize) -> Option<Vec<f64>> {
        let drop = self.drop_path.as_mut().filter(|d| d.probability > 0.0)?;
        let keep = 1.0 - drop.probability;
        Some((0..n).map(|_| if drop.rng.random::<f64>() < keep { 1.0 / keep } else { 0.0 }).collect())
    }
}

impl<T: Real> Engine for Pass<'_, T> {
    type X = Value<T>;
    type Branch = Raw<T>;

    fn runs(&self, kind: CellKind, at: FactorAt) -> bool {
        self.factors.as_ref().is_none_or(|f| f[kind as usize].at(at).value != 0.0)
    }

    fn zeros(&mut self, x: &Value<T>, stride: usize) -> Result<Value<T>> {
        let [n, h, w, c] = x.dims();
        let shape = (n, h.div_ceil(stride), w.div_ceil(stride), c);
        Ok(self.tape.constant(&Tensor::zeros(shape, T::DTYPE, &candle_core::Device::Cpu)?)?)
    }

    fn relu(&mut self, x: &Value<T>) -> Result<Value<T>> {
        Ok(self.tape.relu(x))
    }

    fn conv(&mut self, x: &Value<T>, conv: &Conv<'_>) -> Result<Value<T>> {
        let w = self.weight(format!("{}.weight", conv.name))?;
        let norm = conv.bn.map(|bn| self.bn(bn)).transpose()?;
        let act = if conv.relu { Activation::Relu } else { Activation::Identity };
        let after = After { norm: norm.as_ref(), residual: None, act };
        Ok(if conv.kernel == 1 && conv.stride == 1 {
            self.tape.pointwise(x, None, &w, conv.out, after)?
        } else {
            self.tape.conv(x, &w, conv.out, conv.stride, after)?
        })
    }

    fn conv_whole(&mut self, x: &Value<T>, conv: &Conv<'_>) -> Result<Value<T>> {
        let w = self.weight(format!("{}.weight", conv.name))?;
        let norm = conv.bn.map(|bn| self.bn(bn)).transpose()?;
        let act = if conv.relu { Activation::Relu } else { Activation::Identity };
        Ok(self.tape.conv_whole(x, &w, conv.out, After { norm: norm.as_ref(), residual: None, act })?)
    }

    fn depthwise(&mut self, x: &Value<T>, name: &str, _: usize, stride: usize, dilation: usize) -> Result<Value<T>> {
        let w = self.weight(format!("{name}.weight"))?;
        Ok(self.tape.depthwise(x, &w, stride, dilation)?)
    }

    fn branch(&mut self, x: &Value<T>, name: &str, out: usize, bn: &Bn) -> Result<Raw<T>> {
        let (w, norm) = (self.weight(format!("{name}.weight"))?, self.bn(bn)?);
        Ok(self.tape.raw_pointwise(x, &w, out, norm)?)
    }

    fn halves(&mut self, x: &Value<T>) -> Result<Value<T>> {
        Ok(self.tape.halves(x)?)
    }

    fn branch_halves(&mut self, halves: &Value<T>, prefix: &str, _: usize, bn: &Bn) -> Result<Raw<T>> {
        let a = self.weight(format!("{prefix}.conv_1.weight"))?;
        let b = self.weight(format!("{prefix}.conv_2.weight"))?;
        let norm = self.bn(bn)?;
        Ok(self.tape.raw_halves(halves, (&a, &b), norm)?)
    }

    fn norm(&mut self, x: &Value<T>, bn: &Bn, relu: bool) -> Result<Value<T>> {
        let norm = self.bn(bn)?;
        Ok(self.tape.norm(x, &norm, if relu { Activation::Relu } else { Activation::Identity })?)
    }

    fn pool(&mut self, x: &Value<T>, kind: PoolKind, window: Window) -> Result<Value<T>> {
        Ok(match kind {
            PoolKind::Max => self.tape.max_window(x, window)?,
            PoolKind::Mean => self.tape.mean_window(x, window)?,
        })
    }

    fn mix(&mut self, parts: Vec<Part<Value<T>, Raw<T>>>) -> Result<Value<T>> {
        let mut all = Vec::with_capacity(parts.len());
        for part in parts {
            let factor = match (&self.factors, part.factor) {
                (Some(factors), Some((kind, at))) => Some(factors[kind as usize].at(at)),
                _ => None,
            };
            let n = match &part.term {
                Term::Value(x) => x.dims()[0],
                Term::Branch(raw) => raw.dims()[0],
            };
            let images = if part.drops { self.images(n) } else { None };
            let term = match part.term {
                Term::Value(x) => TapeTerm::Value(x),
                // The factor of an image is applied to values: a convolution is normed first.
                Term::Branch(raw) if images.is_some() => {
                    let alone = TapePart { term: TapeTerm::Raw(raw), factor: None, images: None };
                    TapeTerm::Value(self.tape.mix(vec![alone])?)
                }
                Term::Branch(raw) => TapeTerm::Raw(raw),
            };
            all.push(TapePart { term, factor, images });
        }
        Ok(self.tape.mix(all)?)
    }

    fn concat(&mut self, xs: &[Value<T>]) -> Result<Value<T>> {
        Ok(self.tape.concat(xs)?)
    }

    fn slice(&mut self, x: &Value<T>, from: usize, len: usize) -> Result<Value<T>> {
        Ok(self.tape.channels(x, from, len)?)
    }

    fn shuffle(&mut self, x: &Value<T>, groups: usize) -> Result<Value<T>> {
        Ok(self.tape.shuffle(x, groups)?)
    }

    fn global_mean(&mut self, x: &Value<T>) -> Result<Value<T>> {
        Ok(self.tape.global_mean(x))
    }

    fn linear(&mut self, x: &Value<T>, name: &str, _: usize) -> Result<Value<T>> {
        let (w, b) = (self.weight(format!("{name}.weight"))?, self.weight(format!("{name}.bias"))?);
        Ok(self.tape.linear(x, &w, &b)?)
    }

    fn gate(&mut self, x: &Value<T>, z: &Value<T>) -> Result<Value<T>> {
        Ok(self.tape.gate(x, z)?)
    }

    fn fuse(&mut self, same: &[&Value<T>], coarse: &[&Value<T>], like: &Value<T>) -> Result<Value<T>> {
        let owned = |xs: &[&Value<T>]| xs.iter().map(|x| (*x).clone()).collect::<Vec<_>>();
        let [_, h, w, _] = like.dims();
        Ok(self.tape.fuse(&owned(same), &owned(coarse), (h, w))?)
    }
}
