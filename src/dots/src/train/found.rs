//! What a search writes down.

use serde::{Deserialize, Serialize};

use super::config::{Method, Phase, SearchConfig};
use super::epochs::Record;
use crate::relax::{Logits, Table};
use crate::{EDGES, Error, Genotype, Op, Result};

/// What operation search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    /// How.
    pub method: Method,
    /// Parameters of normal and reduction cells.
    pub logits: [Logits; 2],
    /// Weight of each operation on each edge.
    pub scores: [Table; 2],
    /// What each edge keeps.
    pub retained: [Vec<Vec<Op>>; 2],
    /// The cells by DARTS's rule.
    pub darts: Genotype,
}

impl Operations {
    /// Whether edges can be searched among them.
    ///
    /// # Errors
    /// When a cell type has not the same number of operations on each of its edges, or an edge only `none`.
    pub fn check(&self) -> Result<()> {
        for retained in &self.retained {
            let count = retained.first().map_or(0, Vec::len);
            let usable = |ops: &Vec<Op>| ops.len() == count && ops.iter().any(|op| *op != Op::Zero);
            if retained.len() != EDGES || !retained.iter().all(usable) {
                return Err(Error::Architecture(format!(
                    "{EDGES} edges need equally many operations each, and not `none` alone"
                )));
            }
        }
        self.darts.check()
    }
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// The cells.
    pub genotype: Genotype,
    /// What operation search found.
    pub operations: Operations,
    /// Parameters of edge search, of normal and reduction cells.
    pub topology: [Logits; 2],
    /// Edges of each cell type on which `none` outweighs the derived operation.
    pub muted_edges: [Vec<usize>; 2],
    /// How it was searched.
    pub config: SearchConfig,
}

/// An epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    /// From 0.
    pub epoch: usize,
    /// What happened.
    pub phase: Phase,
    /// Learning rate of the weights.
    pub lr: f64,
    /// Of the combinations.
    pub temperature: f64,
    /// Mean over the training pictures, while the weights moved.
    pub loss: f64,
    /// The same of pictures classified right.
    pub accuracy: f64,
    /// Of pictures of the second half, with running statistics.
    pub validation: f64,
    /// Time of the steps.
    pub seconds: f64,
    /// What would be derived now.
    pub genotype: Genotype,
}

impl Record for SearchRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }
}
