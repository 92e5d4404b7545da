//! Topology search: a softmax over the combinations of a node's edges (thesis equations 2.5 to 2.8 and 2.11 to 2.13).

use rand_chacha::ChaCha8Rng;

use super::softmax::{softmax, softmax_backward};
use super::{Factors, Logits, Relaxation, Relaxed, Table};
use crate::{EDGES, EdgeRule, NODES, Op, combinations, edge};

/// Weights of the operations that an edge retained, and of the edges, from weights of combinations.
///
/// Parameters: `balance` `[14, p]`, among the `p` retained operations of an edge (absent when there is one), and `beta`,
/// one for each combination of each node.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Retained operations of each edge, equally many.
    pub retained: Vec<Vec<Op>>,
    /// Combinations to choose from.
    pub rule: EdgeRule,
    /// Divide the weight of a combination by its number of edges (equation 2.7; the released code does not).
    pub share: bool,
    /// Of the softmax over combinations.
    pub temperature: f64,
    /// Of the softmax over retained operations.
    pub op_temperature: f64,
}

/// Weights of the retained operations of each edge.
pub(super) fn balance(retained: &[Vec<Op>], logits: &Logits, temperature: f64) -> Vec<Vec<f64>> {
    let p = retained[0].len();
    if p == 1 {
        return vec![vec![1.0]; EDGES];
    }
    logits[0].chunks_exact(p).map(|x| softmax(x, temperature)).collect()
}

/// Factors from edge weights and weights of the retained operations.
pub(super) fn combine(retained: &[Vec<Op>], gates: &[f64; EDGES], shares: &[Vec<f64>]) -> Factors {
    let mut factors = Factors::default();
    for (e, row) in factors.ops.iter_mut().enumerate() {
        for (op, share) in retained[e].iter().zip(&shares[e]) {
            row[op.column()] = gates[e] * share;
        }
    }
    factors
}

/// Derivatives by balance (none for a single operation) and by edge weights.
pub(super) fn combine_backward(
    retained: &[Vec<Op>],
    gates: &[f64; EDGES],
    shares: &[Vec<f64>],
    by: &Table,
    temperature: f64,
) -> (Logits, [f64; EDGES]) {
    let mut by_gates = [0.0; EDGES];
    let mut by_balance = Vec::new();
    for e in 0..EDGES {
        let by_op: Vec<f64> = retained[e].iter().map(|op| by[e][op.column()]).collect();
        by_gates[e] = by_op.iter().zip(&shares[e]).map(|(d, s)| d * s).sum();
        let by_share: Vec<f64> = by_op.iter().map(|d| d * gates[e]).collect();
        by_balance.extend(softmax_backward(&shares[e], &by_share, temperature));
    }
    (if retained[0].len() == 1 { vec![] } else { vec![by_balance] }, by_gates)
}

impl Topology {
    /// Weight of each combination of each node, in the order of [`combinations`].
    pub fn combination_weights(&self, logits: &Logits) -> Vec<Vec<f64>> {
        let mut beta = logits.last().map_or(&[][..], |b| &b[..]);
        (0..NODES)
            .map(|node| {
                let (head, tail) = beta.split_at(combinations(self.rule, node).len());
                beta = tail;
                softmax(head, self.temperature)
            })
            .collect()
    }

    /// Weight of each edge.
    pub fn edge_weights(&self, logits: &Logits) -> [f64; EDGES] {
        let mut gates = [0.0; EDGES];
        for (node, weights) in self.combination_weights(logits).iter().enumerate() {
            for (sources, weight) in combinations(self.rule, node).iter().zip(weights) {
                for source in sources {
                    gates[edge(node, *source)] += weight / self.divisor(sources);
                }
            }
        }
        gates
    }

    fn divisor(&self, sources: &[usize]) -> f64 {
        if self.share { sources.len() as f64 } else { 1.0 }
    }

    fn balanced(&self) -> bool {
        self.retained[0].len() > 1
    }
}

impl Relaxation for Topology {
    fn shapes(&self) -> Vec<(&'static str, usize)> {
        let count = (0..NODES).map(|n| combinations(self.rule, n).len()).sum();
        let balance = self.balanced().then(|| ("balance", EDGES * self.retained[0].len()));
        balance.into_iter().chain([("beta", count)]).collect()
    }

    fn initial(&self, _: &mut ChaCha8Rng) -> Logits {
        self.shapes().into_iter().map(|(_, n)| vec![0.0; n]).collect()
    }

    fn relax(&self, logits: &Logits, _: &mut ChaCha8Rng) -> Relaxed {
        let shares = balance(&self.retained, logits, self.op_temperature);
        let (weights, gates) = (self.combination_weights(logits), self.edge_weights(logits));
        let this = self.clone();
        Relaxed::new(combine(&self.retained, &gates, &shares), move |by| {
            let (mut out, by_gates) = combine_backward(&this.retained, &gates, &shares, &by.ops, this.op_temperature);
            let mut by_beta = Vec::new();
            for (node, p) in weights.iter().enumerate() {
                let by_p: Vec<f64> = combinations(this.rule, node)
                    .iter()
                    .map(|c| c.iter().map(|s| by_gates[edge(node, *s)]).sum::<f64>() / this.divisor(c))
                    .collect();
                by_beta.extend(softmax_backward(p, &by_p, this.temperature));
            }
            out.push(by_beta);
            out
        })
    }

    /// Weight of the edge times that of the retained operation, both at temperature one.
    fn scores(&self, logits: &Logits) -> Table {
        let plain = Self { temperature: 1.0, op_temperature: 1.0, ..self.clone() };
        let shares = balance(&self.retained, logits, 1.0);
        combine(&self.retained, &plain.edge_weights(logits), &shares).ops
    }

    fn operations(&self) -> Vec<Vec<Op>> {
        self.retained.clone()
    }
}

/// The range of each node's combinations in `beta`.
pub(crate) fn beta_ranges(rule: EdgeRule) -> [std::ops::Range<usize>; NODES] {
    let mut at = 0;
    std::array::from_fn(|node| {
        let len = combinations(rule, node).len();
        at += len;
        at - len..at
    })
}
