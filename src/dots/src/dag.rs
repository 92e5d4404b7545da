//! The graph of a cell: nodes 0 and 1 are the outputs of the two cells before, nodes 2 to 5 add up edges from all
//! earlier nodes, and the output is nodes 2 to 5 along the channels.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Intermediate nodes of a cell.
pub const NODES: usize = 4;

/// Edges of a cell.
pub const EDGES: usize = 14;

/// The two types of cells; architecture parameters are shared within a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// Keeps the size.
    Normal,
    /// Halves height and width and doubles the channels.
    Reduce,
}

impl CellKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Normal, Self::Reduce];

    /// `normal` or `reduce`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Reduce => "reduce",
        }
    }
}

impl fmt::Display for CellKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Number of edges into intermediate node `node` (from 0): one from each earlier node.
pub fn sources(node: usize) -> usize {
    node + 2
}

/// Index of the edge from node `source` into intermediate node `node` (from 0).
pub fn edge(node: usize, source: usize) -> usize {
    node * (node + 3) / 2 + source
}

/// The edges into intermediate node `node` (from 0), by their source.
pub fn edges(node: usize) -> Range<usize> {
    edge(node, 0)..edge(node, 0) + sources(node)
}

/// How many edges into a node a topology may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeRule {
    /// Exactly two (thesis equation 2.5).
    #[default]
    Two,
    /// At least one (thesis equations 2.11 to 2.13).
    Any,
}

/// The combinations of sources of intermediate node `node` (from 0), each ascending: pairs in lexicographic order, or
/// non-empty subsets in the order of their bit masks.
pub fn combinations(rule: EdgeRule, node: usize) -> Vec<Vec<usize>> {
    let n = sources(node);
    match rule {
        EdgeRule::Two => (0..n).flat_map(|a| (a + 1..n).map(move |b| vec![a, b])).collect(),
        EdgeRule::Any => (1..1usize << n).map(|mask| (0..n).filter(|j| mask >> j & 1 == 1).collect()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_numbered_by_node_and_source() {
        let all: Vec<usize> = (0..NODES).flat_map(|n| (0..sources(n)).map(move |s| edge(n, s))).collect();
        assert_eq!(all, (0..EDGES).collect::<Vec<_>>());
        assert_eq!(edges(3), 9..14);
    }

    #[test]
    fn combinations_are_counted_as_in_the_thesis() {
        let count = |rule| (0..NODES).map(|n| combinations(rule, n).len()).collect::<Vec<_>>();
        assert_eq!(count(EdgeRule::Two), [1, 3, 6, 10]);
        assert_eq!(count(EdgeRule::Any), [3, 7, 15, 31]);
        assert_eq!(combinations(EdgeRule::Two, 2)[3..], [vec![1, 2], vec![1, 3], vec![2, 3]]);
        assert_eq!(combinations(EdgeRule::Any, 1)[4], [0, 2]);
    }
}
