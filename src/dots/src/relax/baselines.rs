//! Topology by weights of single edges, to compare with (table 2.5).

use rand_chacha::ChaCha8Rng;

use super::combination::{balance, combine, combine_backward};
use super::partial::{edge_softmax, edge_softmax_backward};
use super::{Logits, Relaxation, Relaxed, Table};
use crate::{EDGES, Op};

/// How the logits of edges become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Softmax over a node's edges (PC-DARTS's edge normalisation); the two largest are kept.
    Softmax,
    /// A sigmoid for each; edges above one half are kept.
    Sigmoid,
}

/// One logit an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeGates {
    /// Retained operations of each edge, equally many.
    pub retained: Vec<Vec<Op>>,
    /// Of the softmax over retained operations.
    pub op_temperature: f64,
    /// How logits become weights.
    pub gate: Gate,
}

impl Gate {
    /// The weight of each edge.
    pub fn of(self, logits: &Logits) -> [f64; EDGES] {
        let last = logits.last().map_or(&[][..], |l| l);
        match self {
            Self::Softmax => edge_softmax(last),
            Self::Sigmoid => {
                let mut gates = [0.0; EDGES];
                gates.iter_mut().zip(last).for_each(|(g, x)| *g = 1.0 / (1.0 + (-x).exp()));
                gates
            }
        }
    }

    /// Derivatives by the logits, given those by the weights.
    fn backward(self, gates: &[f64; EDGES], by: &[f64; EDGES]) -> Vec<f64> {
        match self {
            Self::Softmax => edge_softmax_backward(gates, by),
            Self::Sigmoid => gates.iter().zip(by).map(|(g, d)| d * g * (1.0 - g)).collect(),
        }
    }
}

impl Relaxation for EdgeGates {
    fn shapes(&self) -> Vec<(&'static str, usize)> {
        let p = self.retained[0].len();
        let balance = (p > 1).then(|| ("balance", EDGES * p));
        balance.into_iter().chain([("edge", EDGES)]).collect()
    }

    fn initial(&self, _: &mut ChaCha8Rng) -> Logits {
        self.shapes().into_iter().map(|(_, n)| vec![0.0; n]).collect()
    }

    fn relax(&self, logits: &Logits, _: &mut ChaCha8Rng) -> Relaxed {
        let shares = balance(&self.retained, logits, self.op_temperature);
        let gates = self.gate.of(logits);
        let this = self.clone();
        Relaxed::new(combine(&self.retained, &gates, &shares), move |by| {
            let (mut out, by_gates) = combine_backward(&this.retained, &gates, &shares, &by.ops, this.op_temperature);
            out.push(this.gate.backward(&gates, &by_gates));
            out
        })
    }

    fn scores(&self, logits: &Logits) -> Table {
        combine(&self.retained, &self.gate.of(logits), &balance(&self.retained, logits, 1.0)).ops
    }

    fn operations(&self) -> Vec<Vec<Op>> {
        self.retained.clone()
    }
}
