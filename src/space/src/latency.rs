//! Latency tables and sums over them.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::blocks::Part;
use crate::key::BlockKey;
use crate::{Architecture, Error, Result, Space};

/// A time in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, JsonSchema, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub f64);

impl Micros {
    /// From milliseconds.
    pub fn from_ms(ms: f64) -> Self {
        Self(ms * 1e3)
    }

    /// In milliseconds.
    pub fn ms(self) -> f64 {
        self.0 / 1e3
    }
}

impl Add for Micros {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Micros {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Mul<f64> for Micros {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self(self.0 * factor)
    }
}

impl Sum for Micros {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

/// Latency of one architecture, by part.
#[derive(Debug, Clone, Copy, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
pub struct LatencyBreakdown {
    /// Stem and stages.
    pub backbone: Micros,
    /// Transport branches and fusions.
    pub transport: Micros,
    /// Decoder branches, fusions and head.
    pub decoder: Micros,
}

impl LatencyBreakdown {
    /// Sum of the parts.
    pub fn total(&self) -> Micros {
        self.backbone + self.transport + self.decoder
    }

    /// Adds one block's time to its part.
    pub fn add(&mut self, part: Part, time: Micros) {
        match part {
            Part::Backbone => self.backbone += time,
            Part::Transport => self.transport += time,
            Part::Decoder => self.decoder += time,
        }
    }
}

/// Latency of every measured block on one device and runtime, at one input size.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LatencyTable {
    rows: BTreeMap<BlockKey, Micros>,
}

impl LatencyTable {
    /// Reads the release's text table: `name:… latency_mean:MS latency_var:…` a line, milliseconds.
    pub fn from_release(text: &str) -> Result<Self> {
        let mut table = Self::default();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let bad = |reason: String| Error::TableSyntax { line: i + 1, reason };
            let (key, rest) = line.split_once("latency_mean:").ok_or_else(|| bad("no `latency_mean:` field".into()))?;
            let mean = rest.split_whitespace().next().unwrap_or_default();
            let ms: f64 = mean.parse().map_err(|_| bad(format!("`{mean}` is not a number")))?;
            let key = BlockKey::from_release(key).map_err(|e| bad(e.to_string()))?;
            if table.rows.insert(key, Micros::from_ms(ms)).is_some() {
                return Err(bad(format!("block `{key}` is listed twice")));
            }
        }
        Ok(table)
    }

    /// Adds or replaces a row.
    pub fn insert(&mut self, key: BlockKey, latency: Micros) {
        self.rows.insert(key, latency);
    }

    /// Latency of a block.
    pub fn get(&self, key: &BlockKey) -> Result<Micros> {
        self.rows.get(key).copied().ok_or_else(|| Error::MissingBlock { key: key.to_string() })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&BlockKey, Micros)> {
        self.rows.iter().map(|(k, v)| (k, *v))
    }

    /// Predicted latency of `arch` at input side `px`: the sum over its blocks (thesis section 3.2.3).
    pub fn latency(&self, space: &Space, arch: &Architecture, px: u32) -> Result<LatencyBreakdown> {
        let mut sum = LatencyBreakdown::default();
        for block in space.blocks(arch, px)? {
            sum.add(block.part, self.get(&block.key)?);
        }
        Ok(sum)
    }
}

impl FromIterator<(BlockKey, Micros)> for LatencyTable {
    fn from_iter<I: IntoIterator<Item = (BlockKey, Micros)>>(rows: I) -> Self {
        Self { rows: rows.into_iter().collect() }
    }
}
