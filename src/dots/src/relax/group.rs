//! Operations in groups, each with its own softmax (thesis section 2.3.2); one group is DARTS.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::softmax::{softmax, softmax_backward};
use super::{Factors, Logits, Relaxation, Relaxed, Table};
use crate::{EDGES, OPS, Op};

/// Each group's softmax; the groups add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouped {
    groups: Vec<Vec<Op>>,
}

impl Grouped {
    /// Group-V2: operations without parameters, and with.
    pub fn v2() -> Self {
        Self { groups: vec![OPS[..4].to_vec(), OPS[4..].to_vec()] }
    }

    /// Group-V1: skip, pools, separable and dilated convolutions; no zero.
    pub fn v1() -> Self {
        use Op::{AvgPool, Dil3, Dil5, MaxPool, Sep3, Sep5, Skip};
        Self { groups: vec![vec![Skip], vec![MaxPool, AvgPool], vec![Sep3, Sep5], vec![Dil3, Dil5]] }
    }

    /// DARTS: all operations compete.
    pub fn darts() -> Self {
        Self { groups: vec![OPS.to_vec()] }
    }

    /// The groups.
    pub fn groups(&self) -> &[Vec<Op>] {
        &self.groups
    }

    fn weights(&self, logits: &Logits) -> Table {
        let mut table = [[0.0; 8]; EDGES];
        for (group, logits) in self.groups.iter().zip(logits) {
            for (row, x) in table.iter_mut().zip(logits.chunks_exact(group.len())) {
                for (op, p) in group.iter().zip(softmax(x, 1.0)) {
                    row[op.column()] = p;
                }
            }
        }
        table
    }
}

impl Relaxation for Grouped {
    fn shapes(&self) -> Vec<(&'static str, usize)> {
        const NAMES: [&str; 4] = ["alpha_1", "alpha_2", "alpha_3", "alpha_4"];
        self.groups.iter().zip(NAMES).map(|(g, name)| (name, EDGES * g.len())).collect()
    }

    /// Zeros for groups; small normal values for DARTS (spec section 2).
    fn initial(&self, rng: &mut ChaCha8Rng) -> Logits {
        let scale = if self.groups.len() == 1 { 1e-3 } else { 0.0 };
        let values = |n: usize, rng: &mut ChaCha8Rng| {
            (0..n).map(|_| scale * rng.sample::<f64, _>(StandardNormal)).collect::<Vec<f64>>()
        };
        self.shapes().into_iter().map(|(_, n)| values(n, rng)).collect()
    }

    fn relax(&self, logits: &Logits, _: &mut ChaCha8Rng) -> Relaxed {
        let ops = self.weights(logits);
        let groups = self.groups.clone();
        Relaxed::new(Factors { ops, ..Factors::default() }, move |by| {
            let group = |group: &Vec<Op>| {
                let row = |(p, d): (&[f64; 8], &[f64; 8])| {
                    let pick = |row: &[f64; 8]| group.iter().map(|op| row[op.column()]).collect::<Vec<_>>();
                    softmax_backward(&pick(p), &pick(d), 1.0)
                };
                ops.iter().zip(&by.ops).flat_map(row).collect()
            };
            groups.iter().map(group).collect()
        })
    }

    fn scores(&self, logits: &Logits) -> Table {
        self.weights(logits)
    }

    fn operations(&self) -> Vec<Vec<Op>> {
        let mut all: Vec<Op> = self.groups.iter().flatten().copied().collect();
        all.sort();
        vec![all; EDGES]
    }
}
