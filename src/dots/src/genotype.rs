//! What a search finds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CellKind, Error, NODES, Op, Result, sources};

/// Published genotypes by name: those of DOTS (spec section 7.3) and, for comparison, of DARTS and PC-DARTS.
pub const PUBLISHED: &str = include_str!("../data/genotypes.json");

/// One cell type: for each intermediate node its operations and the nodes that they read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellGenotype(pub Vec<Vec<(Op, usize)>>);

/// The two cell types of a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genotype {
    /// Cells that keep the size.
    pub normal: CellGenotype,
    /// Cells that halve it.
    pub reduce: CellGenotype,
}

/// The form of the released code: pairs one after the other, two for each node.
#[derive(Deserialize)]
struct Flat {
    normal: Vec<(Op, usize)>,
    reduce: Vec<(Op, usize)>,
}

impl CellGenotype {
    /// One with pairs one after the other, two for each node.
    pub fn from_pairs(pairs: &[(Op, usize)]) -> Self {
        Self(pairs.chunks(2).map(<[_]>::to_vec).collect())
    }

    fn check(&self, kind: CellKind) -> Result<()> {
        let bad = |what: String| Err(Error::Genotype(format!("{kind} cell: {what}")));
        if self.0.len() != NODES {
            return bad(format!("{} nodes instead of {NODES}", self.0.len()));
        }
        for (node, inputs) in self.0.iter().enumerate() {
            if inputs.is_empty() {
                return bad(format!("node {} has no input", node + 2));
            }
            for &(op, source) in inputs {
                if op == Op::Zero {
                    return bad(format!("node {} holds the operation `{op}`, which no network needs", node + 2));
                }
                if source >= sources(node) {
                    return bad(format!("node {} reads node {source}, which is not before it", node + 2));
                }
            }
        }
        Ok(())
    }
}

impl Genotype {
    /// The cell of a type.
    pub fn cell(&self, kind: CellKind) -> &CellGenotype {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduce => &self.reduce,
        }
    }

    /// Reads JSON: a list of pairs for each node, or the released code's flat list of eight pairs.
    pub fn from_json(text: &str) -> Result<Self> {
        let genotype = match serde_json::from_str::<Self>(text) {
            Ok(genotype) => genotype,
            Err(nested) => {
                // Of two failures, that of the form which fits further tells what is wrong.
                let place = |e: &serde_json::Error| (e.line(), e.column());
                let flat: Flat = serde_json::from_str(text).map_err(|flat| {
                    let further = if place(&flat) >= place(&nested) { flat } else { nested };
                    Error::Genotype(further.to_string())
                })?;
                Self { normal: CellGenotype::from_pairs(&flat.normal), reduce: CellGenotype::from_pairs(&flat.reduce) }
            }
        };
        genotype.check()?;
        Ok(genotype)
    }

    /// The JSON form, with a line for each node.
    pub fn to_json(&self) -> String {
        let cell = |c: &CellGenotype| {
            let node = |n: &Vec<(Op, usize)>| {
                let pairs: Vec<String> = n.iter().map(|(op, source)| format!("[\"{op}\", {source}]")).collect();
                format!("    [{}]", pairs.join(", "))
            };
            c.0.iter().map(node).collect::<Vec<_>>().join(",\n")
        };
        format!("{{\n  \"normal\": [\n{}\n  ],\n  \"reduce\": [\n{}\n  ]\n}}\n", cell(&self.normal), cell(&self.reduce))
    }

    /// A published one.
    pub fn published(name: &str) -> Result<Self> {
        let mut all: BTreeMap<String, Self> =
            serde_json::from_str(PUBLISHED).map_err(|e| Error::Genotype(e.to_string()))?;
        match all.remove(name) {
            Some(genotype) => Ok(genotype),
            None => Err(Error::UnknownGenotype {
                name: name.to_owned(),
                known: all.into_keys().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Whether a network can be made of it.
    pub fn check(&self) -> Result<()> {
        CellKind::ALL.into_iter().try_for_each(|kind| self.cell(kind).check(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ones_round_trip() {
        for name in ["dots-c10", "dots-c100", "dots-imagenet", "darts-v1", "darts-v2", "pc-darts-c10"] {
            let genotype = Genotype::published(name).unwrap();
            assert_eq!(Genotype::from_json(&genotype.to_json()).unwrap(), genotype);
        }
        assert!(Genotype::published("dots").unwrap_err().to_string().contains("dots-c100"));
    }

    #[test]
    fn bad_ones_are_refused() {
        let good = Genotype::published("dots-c10").unwrap();
        let changed = |f: &dyn Fn(&mut Genotype)| {
            let mut g = good.clone();
            f(&mut g);
            Genotype::from_json(&g.to_json()).unwrap_err().to_string()
        };
        assert!(changed(&|g| g.normal.0[1][0].1 = 3).contains("node 3 reads node 3"));
        assert!(changed(&|g| g.reduce.0[0][0].0 = Op::Zero).contains("none"));
        assert!(changed(&|g| g.reduce.0[2].clear()).contains("node 4 has no input"));
        assert!(changed(&|g| g.normal.0.truncate(3)).contains("3 nodes"));
        assert!(Genotype::from_json("{}").is_err());
        for unknown in ["[[[\"sep_conv_9x9\", 0]]]", "[[\"sep_conv_9x9\", 0]]"] {
            let error = Genotype::from_json(&format!("{{\"normal\": {unknown}, \"reduce\": []}}")).unwrap_err();
            assert!(error.to_string().contains("unknown variant `sep_conv_9x9`"), "{error}");
        }
    }
}
