//! One network of a space, as a value.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::space::{FusionChoices, sha16};
use crate::{Error, Result, Space};

/// One MBConv layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerChoice {
    /// Output channels.
    pub channels: u32,
    /// Chosen kernel sizes, increasing.
    pub kernels: Vec<u32>,
}

/// One fusion of the transport or of the decoder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelChoice {
    /// Chosen source levels, increasing.
    pub sources: Vec<u32>,
    /// Chosen kernel sizes, increasing.
    pub kernels: Vec<u32>,
}

/// A network of a [`Space`]: backbone, transport and decoder choices.
///
/// Two architectures are the same network exactly when they are equal; [`Architecture::hash`] names them in files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Output channels of the stem.
    pub stem: u32,
    /// Layers of each stage.
    pub stages: Vec<Vec<LayerChoice>>,
    /// Transport fusion of each level, finest first.
    pub transport: Vec<LevelChoice>,
    /// Decoder fusion of each level, finest first.
    pub decoder: Vec<LevelChoice>,
}

impl Architecture {
    /// Canonical JSON: one line, fixed field order, sorted sets.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the canonical JSON, or the release's form (`backbone_cfg`, `transport_cfg`, `decoder_cfg`).
    ///
    /// Sets are sorted; nothing is checked against a space, see [`Space::validate`].
    pub fn from_json(text: &str) -> Result<Self> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| Error::ArchitectureSyntax(e.to_string()))?;
        Self::from_value(value)
    }

    /// As [`Architecture::from_json`], from a parsed value.
    pub fn from_value(value: serde_json::Value) -> Result<Self> {
        if value.get("backbone_cfg").is_some() {
            return crate::release::architecture_from_release(value);
        }
        let mut arch: Self = serde_json::from_value(value).map_err(|e| Error::ArchitectureSyntax(e.to_string()))?;
        arch.canonicalise();
        Ok(arch)
    }

    /// Stable name of the architecture: SHA-256 over the canonical JSON, first 16 hex digits.
    pub fn hash(&self) -> String {
        sha16(self.to_json().as_bytes())
    }

    /// Output channels of each pyramid level.
    pub fn level_channels(&self, space: &Space) -> Vec<u32> {
        space
            .levels
            .iter()
            .map(|l| self.stages[l.stage as usize - 1].last().map_or(0, |layer| layer.channels))
            .collect()
    }

    /// What differs from `self` to `other`, one choice a line; empty when equal.
    pub fn diff(&self, other: &Self) -> String {
        let mut out = String::new();
        let mut line = |place: &str, a: &str, b: &str| {
            if a != b {
                let _ = writeln!(out, "{place}: {a} -> {b}");
            }
        };
        line("stem channels", &self.stem.to_string(), &other.stem.to_string());
        for i in 0..self.stages.len().max(other.stages.len()) {
            let (a, b) =
                (self.stages.get(i).map_or(&[][..], Vec::as_slice), other.stages.get(i).map_or(&[][..], Vec::as_slice));
            line(&format!("stage {} depth", i + 1), &a.len().to_string(), &b.len().to_string());
            for d in 0..a.len().max(b.len()) {
                let show = |layers: &[LayerChoice]| {
                    layers
                        .get(d)
                        .map_or("absent".to_owned(), |l| format!("{} channels, kernels {:?}", l.channels, l.kernels))
                };
                line(&format!("stage {} layer {d}", i + 1), &show(a), &show(b));
            }
        }
        for (part, a, b) in
            [("transport", &self.transport, &other.transport), ("decoder", &self.decoder, &other.decoder)]
        {
            for i in 0..a.len().max(b.len()) {
                let show = |levels: &[LevelChoice]| {
                    levels
                        .get(i)
                        .map_or("absent".to_owned(), |l| format!("sources {:?}, kernels {:?}", l.sources, l.kernels))
                };
                line(&format!("{part} level {i}"), &show(a), &show(b));
            }
        }
        out
    }

    pub(crate) fn canonicalise(&mut self) {
        let sort = |v: &mut Vec<u32>| {
            v.sort_unstable();
            v.dedup();
        };
        for layer in self.stages.iter_mut().flatten() {
            sort(&mut layer.kernels);
        }
        for level in self.transport.iter_mut().chain(&mut self.decoder) {
            sort(&mut level.sources);
            sort(&mut level.kernels);
        }
    }
}

impl Space {
    /// Checks that `arch` is a network of this space.
    pub fn validate(&self, arch: &Architecture) -> Result<()> {
        let fail =
            |place: String, reason: String| Err(Error::ArchitectureOutside { space: self.name.clone(), place, reason });
        let one_of = |place: &str, what: &str, value: u32, choices: &[u32]| {
            if choices.contains(&value) {
                return Ok(());
            }
            fail(place.to_owned(), format!("{what} {value} is not one of {choices:?}"))
        };
        let subset = |place: &str, what: &str, chosen: &[u32], choices: &[u32]| {
            if chosen.is_empty() || !chosen.windows(2).all(|w| w[0] < w[1]) {
                return fail(place.to_owned(), format!("{what} {chosen:?} must be non-empty and strictly increasing"));
            }
            match chosen.iter().find(|c| !choices.contains(c)) {
                Some(c) => fail(place.to_owned(), format!("{what} {c} is not one of {choices:?}")),
                None => Ok(()),
            }
        };
        one_of("stem", "channel count", arch.stem, &self.stem.channels)?;
        if arch.stages.len() != self.stages.len() {
            return fail(
                "backbone".into(),
                format!("{} stages, the space has {}", arch.stages.len(), self.stages.len()),
            );
        }
        for (i, (layers, stage)) in arch.stages.iter().zip(&self.stages).enumerate() {
            one_of(&format!("stage {}", i + 1), "depth", layers.len() as u32, &stage.depths)?;
            for (d, layer) in layers.iter().enumerate() {
                let place = format!("stage {} layer {d}", i + 1);
                one_of(&place, "channel count", layer.channels, &stage.channels)?;
                subset(&place, "kernel", &layer.kernels, &stage.kernels)?;
            }
        }
        let fusion = |part: &str, i: usize, chosen: &LevelChoice, choices: &FusionChoices| {
            let place = format!("{part} level {i}");
            subset(&place, "kernel", &chosen.kernels, &choices.kernels)?;
            subset(&place, "source", &chosen.sources, &choices.sources)?;
            match choices.required.iter().find(|s| !chosen.sources.contains(s)) {
                Some(s) => fail(place, format!("source {s} is required")),
                None => Ok(()),
            }
        };
        for (part, levels) in [("transport", &arch.transport), ("decoder", &arch.decoder)] {
            if levels.len() != self.levels.len() {
                return fail(part.into(), format!("{} levels, the space has {}", levels.len(), self.levels.len()));
            }
            for (i, (chosen, level)) in levels.iter().zip(&self.levels).enumerate() {
                fusion(part, i, chosen, if part == "transport" { &level.transport } else { &level.decoder })?;
            }
        }
        Ok(())
    }
}
