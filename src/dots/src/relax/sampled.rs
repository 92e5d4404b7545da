//! Searches that sample: GDAS and SNAS (spec section 11).

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::softmax::{softmax, softmax_backward};
use super::{Factors, Logits, Relaxation, Relaxed, Table};
use crate::{EDGES, OPS, Op};

/// A draw of the standard Gumbel distribution.
fn gumbel(rng: &mut ChaCha8Rng) -> f64 {
    // In the open interval: the logarithms are finite.
    let u = 1.0 - rng.random::<f64>();
    -(-u.max(f64::MIN_POSITIVE).ln()).max(f64::MIN_POSITIVE).ln()
}

/// Softmax of each edge's logits plus noise at a temperature.
fn concrete(logits: &Logits, temperature: f64, rng: &mut ChaCha8Rng) -> Table {
    let mut table = [[0.0; 8]; EDGES];
    for (row, x) in table.iter_mut().zip(logits[0].chunks_exact(8)) {
        let noisy: Vec<f64> = x.iter().map(|x| x + gumbel(rng)).collect();
        row.copy_from_slice(&softmax(&noisy, temperature));
    }
    table
}

fn plain_scores(logits: &Logits) -> Table {
    let mut table = [[0.0; 8]; EDGES];
    for (row, x) in table.iter_mut().zip(logits[0].chunks_exact(8)) {
        row.copy_from_slice(&softmax(x, 1.0));
    }
    table
}

fn normal(mean: f64, deviation: f64, rng: &mut ChaCha8Rng) -> Logits {
    vec![(0..EDGES * 8).map(|_| mean + deviation * rng.sample::<f64, _>(StandardNormal)).collect()]
}

fn backward(p: &Table, by: &Table, temperature: f64) -> Logits {
    vec![p.iter().zip(by).flat_map(|(p, d)| softmax_backward(p, d, temperature)).collect()]
}

/// GDAS: the one operation that wins with Gumbel noise is run, once for all cells of the type; the gradient is that of
/// the noisy softmax (straight through).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GumbelMax {
    /// Of the softmax.
    pub temperature: f64,
}

impl Relaxation for GumbelMax {
    fn shapes(&self) -> Vec<(&'static str, usize)> {
        vec![("alpha", EDGES * 8)]
    }

    fn initial(&self, rng: &mut ChaCha8Rng) -> Logits {
        normal(0.0, 1e-3, rng)
    }

    fn relax(&self, logits: &Logits, rng: &mut ChaCha8Rng) -> Relaxed {
        // The softmax of logits and that of log-probabilities are the same.
        let p = concrete(logits, self.temperature, rng);
        let mut factors = Factors::default();
        for (row, p) in factors.ops.iter_mut().zip(&p) {
            row[crate::derive::first_largest(p)] = 1.0;
        }
        let temperature = self.temperature;
        // Operations that did not run have no derivative, as in the released code.
        Relaxed::new(factors, move |by| backward(&p, &by.ops, temperature))
    }

    fn scores(&self, logits: &Logits) -> Table {
        plain_scores(logits)
    }

    fn operations(&self) -> Vec<Vec<Op>> {
        vec![OPS.to_vec(); EDGES]
    }
}

/// SNAS: all operations run, weighted by a sample of the concrete distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Concrete {
    /// Of the softmax.
    pub temperature: f64,
}

impl Relaxation for Concrete {
    fn shapes(&self) -> Vec<(&'static str, usize)> {
        vec![("alpha", EDGES * 8)]
    }

    fn initial(&self, rng: &mut ChaCha8Rng) -> Logits {
        normal(1.0, 0.01, rng)
    }

    fn relax(&self, logits: &Logits, rng: &mut ChaCha8Rng) -> Relaxed {
        let p = concrete(logits, self.temperature, rng);
        let temperature = self.temperature;
        let factors = Factors { ops: p, ..Factors::default() };
        Relaxed::new(factors, move |by| backward(&p, &by.ops, temperature))
    }

    fn scores(&self, logits: &Logits) -> Table {
        plain_scores(logits)
    }

    fn operations(&self) -> Vec<Vec<Op>> {
        vec![OPS.to_vec(); EDGES]
    }
}
