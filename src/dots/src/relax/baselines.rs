//! Topology by weights of single edges, to compare with (table 2.5).

use rand_chacha::ChaCha8Rng;

use super::combination::{balance, combine, combine_backward};
use super::partial::{edge_softmax, edge_softmax_backward};
use super::{Logits, Relaxation, Relaxed, Table};
use crate::{EDGES, Op};

/// One logit an edge, softmax over a node's edges (PC-DARTS's edge normalisation); the two largest are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSoftmax {
    /// Retained operations of each edge, equally many.
    pub retained: Vec<Vec<Op>>,
    /// Of the softmax over retained operations.
    pub op_temperature: f64,
}

/// One logit an edge and a sigmoid; edges above one half are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSigmoid {
    /// Retained operations of each edge, equally many.
    pub retained: Vec<Vec<Op>>,
    /// Of the softmax over retained operations.
    pub op_temperature: f64,
}

fn shapes(retained: &[Vec<Op>]) -> Vec<(&'static str, usize)> {
    let p = retained[0].len();
    let balance = (p > 1).then(|| ("balance", EDGES * p));
    balance.into_iter().chain([("edge", EDGES)]).collect()
}

fn zeros(shapes: Vec<(&'static str, usize)>) -> Logits {
    shapes.into_iter().map(|(_, n)| vec![0.0; n]).collect()
}

fn last(logits: &Logits) -> &[f64] {
    logits.last().map_or(&[], |l| l)
}

impl EdgeSigmoid {
    /// The gate of each edge.
    pub fn gates(logits: &Logits) -> [f64; EDGES] {
        let mut gates = [0.0; EDGES];
        gates.iter_mut().zip(last(logits)).for_each(|(g, x)| *g = 1.0 / (1.0 + (-x).exp()));
        gates
    }
}

impl EdgeSoftmax {
    /// The weight of each edge.
    pub fn gates(logits: &Logits) -> [f64; EDGES] {
        edge_softmax(last(logits))
    }
}

impl Relaxation for EdgeSoftmax {
    fn shapes(&self) -> Vec<(&'static str, usize)> {
        shapes(&self.retained)
    }

    fn initial(&self, _: &mut ChaCha8Rng) -> Logits {
        zeros(self.shapes())
    }

    fn relax(&self, logits: &Logits, _: &mut ChaCha8Rng) -> Relaxed {
        let shares = balance(&self.retained, logits, self.op_temperature);
        let gates = Self::gates(logits);
        let this = self.clone();
        Relaxed::new(combine(&self.retained, &gates, &shares), move |by| {
            let (mut out, by_gates) = combine_backward(&this.retained, &gates, &shares, &by.ops, this.op_temperature);
            out.push(edge_softmax_backward(&gates, &by_gates));
            out
        })
    }

    fn scores(&self, logits: &Logits) -> Table {
        combine(&self.retained, &Self::gates(logits), &balance(&self.retained, logits, 1.0)).ops
    }

    fn operations(&self) -> Vec<Vec<Op>> {
        self.retained.clone()
    }
}

impl Relaxation for EdgeSigmoid {
    fn shapes(&self) -> Vec<(&'static str, usize)> {
        shapes(&self.retained)
    }

    fn initial(&self, _: &mut ChaCha8Rng) -> Logits {
        zeros(self.shapes())
    }

    fn relax(&self, logits: &Logits, _: &mut ChaCha8Rng) -> Relaxed {
        let shares = balance(&self.retained, logits, self.op_temperature);
        let gates = Self::gates(logits);
        let this = self.clone();
        Relaxed::new(combine(&self.retained, &gates, &shares), move |by| {
            let (mut out, by_gates) = combine_backward(&this.retained, &gates, &shares, &by.ops, this.op_temperature);
            out.push(gates.iter().zip(by_gates).map(|(g, d)| d * g * (1.0 - g)).collect());
            out
        })
    }

    fn scores(&self, logits: &Logits) -> Table {
        combine(&self.retained, &Self::gates(logits), &balance(&self.retained, logits, 1.0)).ops
    }

    fn operations(&self) -> Vec<Vec<Op>> {
        self.retained.clone()
    }
}
