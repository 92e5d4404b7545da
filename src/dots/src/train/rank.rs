//! How well weights of searches rank topologies (spec section 13.1).

use serde::{Deserialize, Serialize};

use super::config::EdgeSearch;
use super::found::SearchResult;
use crate::relax::beta_ranges;
use crate::{CellGenotype, EdgeRule, Error, Genotype, NODES, Result, combinations, derive, edge, kendall};

/// A topology of the last node of the normal cell, everything else as in the searched cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The two nodes that the last one reads.
    pub sources: (usize, usize),
    /// The network.
    pub genotype: Genotype,
    /// Sum of the largest operation weights of the two edges: what DARTS goes by.
    pub darts: f64,
    /// Raw weight of the combination: what DOTS goes by.
    pub dots: f64,
}

/// A candidate that was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Which.
    pub candidate: Candidate,
    /// Its test accuracy.
    pub accuracy: f64,
}

/// Kendall's tau of both kinds of weights with the accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Of operation weights.
    pub darts: f64,
    /// Of combination weights.
    pub dots: f64,
}

/// The ten topologies of the last node of the normal cell.
///
/// # Errors
/// When the search was not over pairs of edges.
pub fn candidates(result: &SearchResult) -> Result<Vec<Candidate>> {
    if result.config.edges != EdgeSearch::Pairs {
        return Err(Error::Config(format!("a search over {:?} ranks no pairs of edges", result.config.edges)));
    }
    let node = NODES - 1;
    let retained = &result.operations.retained[0];
    let logits = &result.topology[0];
    let balance = (retained[0].len() > 1).then(|| &logits[0][..]);
    let ops = derive::derived_ops(retained, balance)?;
    let beta = logits.last().map_or(&[][..], |b| b);
    let beta = beta.get(beta_ranges(EdgeRule::Two)[node].clone());
    let beta = beta.ok_or_else(|| Error::Architecture("beta has not one value for each pair".into()))?;
    let scores = &result.operations.scores[0];
    let largest = |source: usize| scores[edge(node, source)][1..].iter().copied().fold(0.0, f64::max);
    let candidate = |(pair, dots): (Vec<usize>, &f64)| {
        let CellGenotype(mut nodes) = result.genotype.normal.clone();
        nodes[node] = pair.iter().map(|s| (ops[edge(node, *s)], *s)).collect();
        let genotype = Genotype { normal: CellGenotype(nodes), reduce: result.genotype.reduce.clone() };
        Candidate { sources: (pair[0], pair[1]), genotype, darts: pair.iter().map(|s| largest(*s)).sum(), dots: *dots }
    };
    Ok(combinations(EdgeRule::Two, node).into_iter().zip(beta).map(candidate).collect())
}

/// How well the weights agree with the accuracies; none for fewer than two.
pub fn agreement(ranked: &[Ranked]) -> Option<Agreement> {
    let of = |f: &dyn Fn(&Ranked) -> f64| ranked.iter().map(f).collect::<Vec<_>>();
    let accuracy = of(&|r| r.accuracy);
    Some(Agreement {
        darts: kendall::tau(&of(&|r| r.candidate.darts), &accuracy)?,
        dots: kendall::tau(&of(&|r| r.candidate.dots), &accuracy)?,
    })
}
