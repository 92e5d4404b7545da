//! One cell, of a supernet or of a derived network.

use std::collections::BTreeMap;

use inas_nn::tape::Window;

use super::engine::{Bn, Conv, Engine, FactorAt, Part, PoolKind, Term};
use crate::{CellKind, Error, NODES, Op, Result};

/// An operation on the way into a node.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) op: Op,
    pub(crate) source: usize,
    /// Prefix of its parameters.
    pub(crate) name: String,
    /// In a supernet, the index of its edge.
    pub(crate) edge: Option<usize>,
}

/// What a cell is made of.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) kind: CellKind,
    /// Channels of a node.
    pub(crate) width: usize,
    /// Whether the cell before halved its input.
    pub(crate) after_reduction: bool,
    /// Whether norms have scale and shift.
    pub(crate) affine: bool,
    /// Whether pools are normed.
    pub(crate) pool_norm: bool,
    /// Operations see one of this many parts of the channels.
    pub(crate) parts: usize,
    /// The operations into each node.
    pub(crate) places: Vec<Vec<Place>>,
}

/// A node with what several of its readers share.
pub(super) struct Feature<X> {
    x: X,
    relu: Option<X>,
    halves: Option<X>,
    pools: BTreeMap<(PoolKind, usize), X>,
}

impl<X: Clone> Feature<X> {
    pub(super) fn new(x: X) -> Self {
        Self { x, relu: None, halves: None, pools: BTreeMap::new() }
    }

    fn relu<E: Engine<X = X>>(&mut self, e: &mut E) -> Result<X> {
        if self.relu.is_none() {
            self.relu = Some(e.relu(&self.x)?);
        }
        self.relu.clone().ok_or_else(unreachable_value)
    }

    fn halves<E: Engine<X = X>>(&mut self, e: &mut E) -> Result<X> {
        if self.halves.is_none() {
            let relu = self.relu(e)?;
            self.halves = Some(e.halves(&relu)?);
        }
        self.halves.clone().ok_or_else(unreachable_value)
    }
}

fn unreachable_value() -> Error {
    Error::Config("a value that was just made is missing".into())
}

/// An output of a cell: as it is and rectified, since both cells after it read the latter.
pub(crate) struct State<X>(Feature<X>);

impl<X: Clone> State<X> {
    pub(crate) fn new(x: X) -> Self {
        Self(Feature::new(x))
    }

    pub(crate) fn value(&self) -> &X {
        &self.0.x
    }
}

impl Cell {
    fn bn(&self, name: String) -> Bn {
        Bn { name, affine: self.affine }
    }

    pub(super) fn stride(&self, source: usize) -> usize {
        if self.kind == CellKind::Reduce && source < 2 { 2 } else { 1 }
    }

    /// The output, `[N, H, W, 4 width]`.
    pub(crate) fn forward<E: Engine>(
        &self,
        e: &mut E,
        before: &mut State<E::X>,
        last: &mut State<E::X>,
    ) -> Result<E::X> {
        let first = self.preprocess(e, before, 0, self.after_reduction)?;
        let second = self.preprocess(e, last, 1, false)?;
        let mut whole = vec![first, second];
        let mut nodes: Vec<Feature<E::X>> =
            whole.iter().map(|x| self.seen(e, x).map(Feature::new)).collect::<Result<_>>()?;
        for node in 0..NODES {
            let mut x = self.node(e, &mut nodes, node)?;
            if self.parts > 1 {
                let rest = self.bypass(e, &whole, node)?;
                let all = e.concat(&[x, rest])?;
                x = e.shuffle(&all, self.parts)?;
            }
            nodes.push(Feature::new(self.seen(e, &x)?));
            whole.push(x);
        }
        e.concat(&whole[2..])
    }

    /// The channels that operations see.
    fn seen<E: Engine>(&self, e: &mut E, x: &E::X) -> Result<E::X> {
        if self.parts == 1 { Ok(x.clone()) } else { e.slice(x, 0, self.width / self.parts) }
    }

    /// The sum of the other channels, which no operation sees (PC-DARTS).
    fn bypass<E: Engine>(&self, e: &mut E, whole: &[E::X], node: usize) -> Result<E::X> {
        let seen = self.width / self.parts;
        let mut parts = Vec::new();
        for (source, x) in whole.iter().enumerate() {
            let mut rest = e.slice(x, seen, self.width - seen)?;
            if self.stride(source) == 2 {
                rest = e.pool(&rest, PoolKind::Max, Window { side: 2, stride: 2, padding: 0 })?;
            }
            let factor = Some((self.kind, FactorAt::Edge(crate::edge(node, source))));
            parts.push(Part { term: Term::Value(rest), factor, drops: false });
        }
        e.mix(parts)
    }

    pub(super) fn preprocess<E: Engine>(
        &self,
        e: &mut E,
        state: &mut State<E::X>,
        which: usize,
        reduce: bool,
    ) -> Result<E::X> {
        let prefix = format!("{}.preprocess{which}", self.name);
        if reduce {
            let halves = state.0.halves(e)?;
            let branch = e.branch_halves(&halves, &prefix, self.width, &self.bn(format!("{prefix}.bn")))?;
            return e.mix(vec![Part { term: Term::Branch(branch), factor: None, drops: false }]);
        }
        let x = state.0.relu(e)?;
        let (conv, bn) = (format!("{prefix}.op.1"), self.bn(format!("{prefix}.op.2")));
        e.conv(&x, &Conv { name: &conv, out: self.width, kernel: 1, stride: 1, bn: Some(&bn), relu: false })
    }

    fn node<E: Engine>(&self, e: &mut E, nodes: &mut [Feature<E::X>], node: usize) -> Result<E::X> {
        let mut parts = Vec::new();
        for place in &self.places[node] {
            let stride = self.stride(place.source);
            let factor = place.edge.map(|edge| (self.kind, FactorAt::Op(edge * 8 + place.op.column())));
            if factor.is_some_and(|(kind, at)| !e.runs(kind, at)) {
                continue;
            }
            let feature = &mut nodes[place.source];
            let identity = place.op == Op::Skip && stride == 1;
            let Some(term) = self.operation(e, place, feature, stride)? else { continue };
            parts.push(Part { term, factor, drops: !identity });
        }
        if parts.is_empty() {
            // Every edge chose `none`.
            return e.zeros(&nodes[0].x, self.stride(0));
        }
        e.mix(parts)
    }

    pub(super) fn operation<E: Engine>(
        &self,
        e: &mut E,
        place: &Place,
        feature: &mut Feature<E::X>,
        stride: usize,
    ) -> Result<Option<Term<E::X, E::Branch>>> {
        let width = self.width / self.parts;
        let name = |suffix: &str| format!("{}.{suffix}", place.name);
        Ok(Some(match place.op {
            Op::Zero => return Ok(None),
            Op::Skip if stride == 1 => Term::Value(feature.x.clone()),
            Op::Skip => {
                let halves = feature.halves(e)?;
                Term::Branch(e.branch_halves(&halves, &place.name, width, &self.bn(name("bn")))?)
            }
            Op::MaxPool => Term::Value(self.pool(e, place, feature, PoolKind::Max, stride)?),
            Op::AvgPool => Term::Value(self.pool(e, place, feature, PoolKind::Mean, stride)?),
            Op::Sep3 | Op::Sep5 => {
                let k = place.op.kernel().unwrap_or(3);
                let x = feature.relu(e)?;
                let x = e.depthwise(&x, &name("op.1"), k, stride, 1)?;
                let (conv, bn) = (name("op.2"), self.bn(name("op.3")));
                let conv = Conv { name: &conv, out: width, kernel: 1, stride: 1, bn: Some(&bn), relu: true };
                let x = e.conv(&x, &conv)?;
                let x = e.depthwise(&x, &name("op.5"), k, 1, 1)?;
                Term::Branch(e.branch(&x, &name("op.6"), width, &self.bn(name("op.7")))?)
            }
            Op::Dil3 | Op::Dil5 => {
                let k = place.op.kernel().unwrap_or(3);
                let x = feature.relu(e)?;
                let x = e.depthwise(&x, &name("op.1"), k, stride, 2)?;
                Term::Branch(e.branch(&x, &name("op.2"), width, &self.bn(name("op.3")))?)
            }
        }))
    }

    /// Pools of a node are the same for all its readers, and so are their norms, which have no parameters.
    fn pool<E: Engine>(
        &self,
        e: &mut E,
        place: &Place,
        feature: &mut Feature<E::X>,
        kind: PoolKind,
        stride: usize,
    ) -> Result<E::X> {
        if let Some(x) = feature.pools.get(&(kind, stride)) {
            return Ok(x.clone());
        }
        let mut x = e.pool(&feature.x, kind, Window { side: 3, stride, padding: 1 })?;
        if self.pool_norm {
            let name = format!("{}.pools.{}.{}", self.name, place.source, place.op.column());
            x = e.norm(&x, &Bn { name, affine: false }, false)?;
        }
        feature.pools.insert((kind, stride), x.clone());
        Ok(x)
    }
}
