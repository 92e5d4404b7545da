//! From architecture parameters to the factors of operations, and the way back of gradients.
//!
//! A network only knows factors: one for each operation on each edge. How they come about, by one softmax or several,
//! by sampling, through combinations of edges, is a [`Relaxation`]; each published search is one (table 2.4).

mod baselines;
mod combination;
mod group;
mod partial;
mod sampled;
mod softmax;

#[cfg(test)]
mod tests;

use rand_chacha::ChaCha8Rng;

use crate::{EDGES, Op};

pub use baselines::{EdgeGates, Gate};
pub use combination::Topology;
pub(crate) use combination::beta_ranges;
pub use group::Grouped;
pub use partial::PartialChannels;
pub use sampled::{Concrete, GumbelMax};
pub use softmax::softmax;

/// A value for each operation on each edge of a cell type: `[edge][column]`.
pub type Table = [[f64; 8]; EDGES];

/// Parameters of one cell type: as many lists as [`Relaxation::shapes`] names.
pub type Logits = Vec<Vec<f64>>;

/// Factors in a cell type, or derivatives by them.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// Of each operation on each edge; an operation of factor zero is not run.
    pub ops: Table,
    /// Of the channels of each edge that no operation sees (PC-DARTS).
    pub edges: [f64; EDGES],
}

impl Default for Factors {
    fn default() -> Self {
        Self { ops: [[0.0; 8]; EDGES], edges: [0.0; EDGES] }
    }
}

type Pullback = Box<dyn Fn(&Factors) -> Logits + Send + Sync>;

/// Factors with the way back to what they were made of.
pub struct Relaxed {
    /// The factors.
    pub factors: Factors,
    pullback: Pullback,
}

impl std::fmt::Debug for Relaxed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relaxed").field("factors", &self.factors).finish_non_exhaustive()
    }
}

impl Relaxed {
    fn new(factors: Factors, pullback: impl Fn(&Factors) -> Logits + Send + Sync + 'static) -> Self {
        Self { factors, pullback: Box::new(pullback) }
    }

    /// The derivatives of a loss by the parameters, given those by the factors.
    pub fn backward(&self, by_factors: &Factors) -> Logits {
        (self.pullback)(by_factors)
    }
}

/// A differentiable choice of operations or edges in one cell type.
pub trait Relaxation: std::fmt::Debug + Send + Sync {
    /// Name and length of each list of parameters.
    fn shapes(&self) -> Vec<(&'static str, usize)>;

    /// Where the parameters start.
    fn initial(&self, rng: &mut ChaCha8Rng) -> Logits;

    /// The factors of these parameters; a relaxation that samples draws from `rng`.
    fn relax(&self, logits: &Logits, rng: &mut ChaCha8Rng) -> Relaxed;

    /// Weight of each operation on each edge, by which operations are retained and by which topologies are derived in
    /// the way of DARTS.
    fn scores(&self, logits: &Logits) -> Table;

    /// The operations that a network for it must hold.
    fn operations(&self) -> Vec<Vec<Op>>;
}
