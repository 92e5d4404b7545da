//! From weights to what is kept.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::relax::{Logits, Table, Topology, softmax};
use crate::{CellGenotype, EDGES, EdgeRule, Error, NODES, OPS, Op, Result, combinations, edge, sources};

/// Index of the largest value; the lowest one of equals.
pub fn first_largest(values: &[f64]) -> usize {
    let better = |best: usize, i: usize| if values[i] > values[best] { i } else { best };
    (1..values.len()).fold(0, better)
}

/// The best operation of an edge other than zero, and its weight.
fn best(row: &[f64; 8]) -> (Op, f64) {
    let column = 1 + first_largest(&row[1..]);
    (OPS[column], row[column])
}

/// The operation of largest weight in each group on each edge (thesis equations 2.15 and 2.16). Zero may win.
pub fn retain_groups(scores: &Table, groups: &[Vec<Op>]) -> Vec<Vec<Op>> {
    let edge = |row: &[f64; 8]| {
        let mut kept: Vec<Op> =
            groups.iter().map(|g| g[first_largest(&g.iter().map(|op| row[op.column()]).collect::<Vec<_>>())]).collect();
        kept.sort();
        kept
    };
    scores.iter().map(edge).collect()
}

/// The `count` operations of largest weight on each edge, zero left out (thesis equation 2.14), by column.
pub fn retain_top(scores: &Table, count: usize) -> Vec<Vec<Op>> {
    let edge = |row: &[f64; 8]| {
        let mut order: Vec<Op> = OPS[1..].to_vec();
        order.sort_by(|a, b| row[b.column()].total_cmp(&row[a.column()]));
        order.truncate(count);
        order.sort();
        order
    };
    scores.iter().map(edge).collect()
}

/// DARTS's rule: each node keeps the two edges whose best operation has the largest weight, in that order, each with
/// that operation.
pub fn darts(scores: &Table) -> CellGenotype {
    let node = |node: usize| {
        let mut all: Vec<(usize, Op, f64)> = (0..sources(node))
            .map(|source| {
                let (op, weight) = best(&scores[edge(node, source)]);
                (source, op, weight)
            })
            .collect();
        all.sort_by(|a, b| b.2.total_cmp(&a.2));
        all.truncate(2);
        all.into_iter().map(|(source, op, _)| (op, source)).collect()
    };
    CellGenotype((0..NODES).map(node).collect())
}

/// The operation of each edge that a derived cell uses: the best of the retained ones other than zero, by their weights
/// at temperature one.
pub fn derived_ops(retained: &[Vec<Op>], balance: Option<&[f64]>) -> Result<Vec<Op>> {
    let edge = |(e, ops): (usize, &Vec<Op>)| {
        let weights = balance.map_or_else(|| vec![0.0; ops.len()], |b| softmax(&b[e * ops.len()..][..ops.len()], 1.0));
        let real: Vec<usize> = (0..ops.len()).filter(|i| ops[*i] != Op::Zero).collect();
        let values: Vec<f64> = real.iter().map(|i| weights[*i]).collect();
        match real.get(first_largest(&values)) {
            Some(i) => Ok(ops[*i]),
            None => Err(Error::Architecture(format!("edge {e} retains nothing but `none`"))),
        }
    };
    retained.iter().enumerate().map(edge).collect()
}

/// Edges on which zero outweighs the operation that is derived: there supernet and derived network differ.
pub fn muted_edges(retained: &[Vec<Op>], balance: Option<&[f64]>) -> Vec<usize> {
    let Some(balance) = balance else { return vec![] };
    let muted = |(e, ops): (usize, &Vec<Op>)| {
        let weights = &balance[e * ops.len()..][..ops.len()];
        (ops[first_largest(weights)] == Op::Zero).then_some(e)
    };
    retained.iter().enumerate().filter_map(muted).collect()
}

fn cell(ops: &[Op], kept: impl Fn(usize) -> Vec<usize>) -> CellGenotype {
    let node = |node: usize| kept(node).into_iter().map(|s| (ops[edge(node, s)], s)).collect();
    CellGenotype((0..NODES).map(node).collect())
}

impl Topology {
    /// The cell: for each node the combination of largest raw weight, on its edges the best retained operation
    /// (spec section 7.1).
    pub fn derive(&self, logits: &Logits) -> Result<CellGenotype> {
        let (balance, beta) = match &logits[..] {
            [balance, beta] => (Some(&balance[..]), beta),
            [beta] => (None, beta),
            _ => return Err(Error::Architecture(format!("{} lists instead of balance and beta", logits.len()))),
        };
        let ranges = crate::relax::beta_ranges(self.rule);
        let ops = derived_ops(&self.retained, balance)?;
        Ok(cell(&ops, |node| combinations(self.rule, node)[first_largest(&beta[ranges[node].clone()])].clone()))
    }
}

/// The two edges of largest weight of each node.
pub fn two_edges(ops: &[Op], gates: &[f64; EDGES]) -> CellGenotype {
    cell(ops, |node| {
        let mut order: Vec<usize> = (0..sources(node)).collect();
        order.sort_by(|a, b| gates[edge(node, *b)].total_cmp(&gates[edge(node, *a)]));
        order.truncate(2);
        order.sort_unstable();
        order
    })
}

/// The edges whose gate is above one half; the best one of a node where none is.
pub fn open_edges(ops: &[Op], gates: &[f64; EDGES]) -> CellGenotype {
    cell(ops, |node| {
        let open: Vec<usize> = (0..sources(node)).filter(|s| gates[edge(node, *s)] > 0.5).collect();
        if !open.is_empty() {
            return open;
        }
        let all: Vec<f64> = (0..sources(node)).map(|s| gates[edge(node, s)]).collect();
        vec![first_largest(&all)]
    })
}

/// Two random edges for each node (table 2.7).
pub fn random_edges(ops: &[Op], rng: &mut ChaCha8Rng) -> CellGenotype {
    let pairs: Vec<Vec<usize>> = (0..NODES)
        .map(|node| {
            let all = combinations(EdgeRule::Two, node);
            all[rng.random_range(0..all.len())].clone()
        })
        .collect();
    cell(ops, |node| pairs[node].clone())
}

/// The operation of largest weight among the retained ones of each edge, zero left out.
pub fn strongest_ops(retained: &[Vec<Op>], scores: &Table) -> Vec<Op> {
    let edge = |(ops, row): (&Vec<Op>, &[f64; 8])| {
        let mut masked = [f64::NEG_INFINITY; 8];
        for op in ops {
            masked[op.column()] = row[op.column()];
        }
        best(&masked).0
    };
    retained.iter().zip(scores).map(edge).collect()
}
