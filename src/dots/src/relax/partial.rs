//! PC-DARTS: operations see a part of the channels, edges have weights of their own (spec section 11).

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::softmax::{softmax, softmax_backward};
use super::{Factors, Logits, Relaxation, Relaxed, Table};
use crate::{EDGES, NODES, OPS, Op, edges};

/// Softmax over the operations of an edge times softmax over the edges of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChannels;

/// Softmax of the edge logits of each node.
pub(super) fn edge_softmax(logits: &[f64]) -> [f64; EDGES] {
    let mut out = [0.0; EDGES];
    for node in 0..NODES {
        out[edges(node)].copy_from_slice(&softmax(&logits[edges(node)], 1.0));
    }
    out
}

pub(super) fn edge_softmax_backward(p: &[f64; EDGES], by: &[f64; EDGES]) -> Vec<f64> {
    (0..NODES).flat_map(|node| softmax_backward(&p[edges(node)], &by[edges(node)], 1.0)).collect()
}

fn parts(logits: &Logits) -> (Table, [f64; EDGES]) {
    let mut table = [[0.0; 8]; EDGES];
    for (row, x) in table.iter_mut().zip(logits[0].chunks_exact(8)) {
        row.copy_from_slice(&softmax(x, 1.0));
    }
    (table, edge_softmax(&logits[1]))
}

impl Relaxation for PartialChannels {
    fn shapes(&self) -> Vec<(&'static str, usize)> {
        vec![("alpha", EDGES * 8), ("edge", EDGES)]
    }

    fn initial(&self, rng: &mut ChaCha8Rng) -> Logits {
        let small = |n: usize, rng: &mut ChaCha8Rng| {
            (0..n).map(|_| 1e-3 * rng.sample::<f64, _>(StandardNormal)).collect::<Vec<f64>>()
        };
        vec![small(EDGES * 8, rng), small(EDGES, rng)]
    }

    fn relax(&self, logits: &Logits, _: &mut ChaCha8Rng) -> Relaxed {
        let (p, edge) = parts(logits);
        let mut factors = Factors { ops: p, edges: edge };
        for (row, e) in factors.ops.iter_mut().zip(&edge) {
            for v in row {
                *v *= e;
            }
        }
        Relaxed::new(factors, move |by| {
            let mut by_edge = by.edges;
            let mut alpha = Vec::with_capacity(EDGES * 8);
            for e in 0..EDGES {
                by_edge[e] += by.ops[e].iter().zip(&p[e]).map(|(d, p)| d * p).sum::<f64>();
                let by_p = by.ops[e].map(|d| d * edge[e]);
                alpha.extend(softmax_backward(&p[e], &by_p, 1.0));
            }
            vec![alpha, edge_softmax_backward(&edge, &by_edge)]
        })
    }

    /// Operation weight times edge weight; the order within an edge is that of the operation weights alone.
    fn scores(&self, logits: &Logits) -> Table {
        let (mut p, edge) = parts(logits);
        for (row, e) in p.iter_mut().zip(edge) {
            for v in row {
                *v *= e;
            }
        }
        p
    }

    fn operations(&self) -> Vec<Vec<Op>> {
        vec![OPS.to_vec(); EDGES]
    }
}
