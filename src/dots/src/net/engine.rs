//! What networks are made of. A network is described once, over an [`Engine`]; it is run, counted and exported by
//! different ones.

use inas_nn::tape::Window;

use crate::{CellKind, Result};

/// A batch norm by name.
#[derive(Debug, Clone)]
pub(crate) struct Bn {
    pub(crate) name: String,
    /// Whether it has scale and shift.
    pub(crate) affine: bool,
}

/// Which element of the factors of a cell type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FactorAt {
    /// `edge * 8 + column`
    Op(usize),
    /// Edge.
    Edge(usize),
}

/// What is added up.
pub(crate) enum Term<X, B> {
    Value(X),
    Branch(B),
}

/// A term with what it is multiplied by.
pub(crate) struct Part<X, B> {
    pub(crate) term: Term<X, B>,
    pub(crate) factor: Option<(CellKind, FactorAt)>,
    /// Whether images may drop it while training.
    pub(crate) drops: bool,
}

/// A dense convolution, padded by half its kernel.
#[derive(Clone, Copy)]
pub(crate) struct Conv<'a> {
    pub(crate) name: &'a str,
    pub(crate) out: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) bn: Option<&'a Bn>,
    pub(crate) relu: bool,
}

/// Which pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PoolKind {
    Max,
    /// Of the positions inside the input.
    Mean,
}

/// Layers on activations `[N, H, W, C]`.
pub(crate) trait Engine {
    /// An activation.
    type X: Clone;
    /// A convolution and its norm, to be added up.
    type Branch;
    /// Whether an operation of this factor is run at all.
    fn runs(&self, _: CellKind, _: FactorAt) -> bool {
        true
    }
    /// Zeros of the size that an operation of this stride gives.
    fn zeros(&mut self, x: &Self::X, stride: usize) -> Result<Self::X>;
    fn relu(&mut self, x: &Self::X) -> Result<Self::X>;
    fn conv(&mut self, x: &Self::X, conv: &Conv<'_>) -> Result<Self::X>;
    /// Convolution of an input that is as large as the kernel.
    fn conv_whole(&mut self, x: &Self::X, conv: &Conv<'_>) -> Result<Self::X>;
    fn depthwise(&mut self, x: &Self::X, name: &str, kernel: usize, stride: usize, dilation: usize) -> Result<Self::X>;
    /// 1x1 convolution and norm.
    fn branch(&mut self, x: &Self::X, name: &str, out: usize, bn: &Bn) -> Result<Self::Branch>;
    /// What the two convolutions of a factorised reduction read.
    fn halves(&mut self, x: &Self::X) -> Result<Self::X>;
    /// Factorised reduction of halves.
    fn branch_halves(&mut self, halves: &Self::X, prefix: &str, out: usize, bn: &Bn) -> Result<Self::Branch>;
    fn norm(&mut self, x: &Self::X, bn: &Bn, relu: bool) -> Result<Self::X>;
    fn pool(&mut self, x: &Self::X, kind: PoolKind, window: Window) -> Result<Self::X>;
    fn mix(&mut self, parts: Vec<Part<Self::X, Self::Branch>>) -> Result<Self::X>;
    fn concat(&mut self, xs: &[Self::X]) -> Result<Self::X>;
    fn slice(&mut self, x: &Self::X, from: usize, len: usize) -> Result<Self::X>;
    fn shuffle(&mut self, x: &Self::X, groups: usize) -> Result<Self::X>;
    fn global_mean(&mut self, x: &Self::X) -> Result<Self::X>;
    fn linear(&mut self, x: &Self::X, name: &str, out: usize) -> Result<Self::X>;
    /// `x` times the sigmoid of `z`, which has one position.
    fn gate(&mut self, x: &Self::X, z: &Self::X) -> Result<Self::X>;
    /// Mean of `same` and of `coarse`, the latter resampled bilinearly with aligned corners to the size of `like`.
    fn fuse(&mut self, same: &[&Self::X], coarse: &[&Self::X], like: &Self::X) -> Result<Self::X>;
}
