//! Reading and writing the JSON forms of the system's public release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::architecture::{LayerChoice, LevelChoice};
use crate::space::{ActivationKind, FusionChoices, Level, SqueezeExcite, Stage, Stem};
use crate::{Architecture, Error, Result, Space};

/// Backbone stages whose outputs are the pyramid levels in the release.
const LEVEL_STAGES: [u32; 5] = [1, 2, 3, 5, 7];
const SE_REDUCTION: u32 = 4;

#[derive(Serialize, Deserialize)]
struct ReleaseStage {
    depth: u32,
    ratio: u32,
    stride: u32,
    kernel: Vec<Vec<u32>>,
    filter: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct ReleaseLevel {
    connection: Vec<u32>,
    kernel: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct ReleaseArchitecture {
    #[serde(rename = "backbone_cfg")]
    backbone: BTreeMap<String, ReleaseStage>,
    #[serde(rename = "transport_cfg")]
    transport: BTreeMap<String, ReleaseLevel>,
    #[serde(rename = "decoder_cfg")]
    decoder: BTreeMap<String, ReleaseLevel>,
}

#[derive(Deserialize)]
struct ReleaseStageChoices {
    filter: Vec<u32>,
    depth: Vec<u32>,
    kernel: Vec<u32>,
    ratio: u32,
    stride: u32,
}

#[derive(Deserialize)]
struct ReleaseSpace {
    #[serde(rename = "backbone_cfg")]
    backbone: BTreeMap<String, ReleaseStageChoices>,
    #[serde(rename = "transport_cfg")]
    transport: BTreeMap<String, ReleaseLevel>,
    #[serde(rename = "decoder_cfg")]
    decoder: BTreeMap<String, ReleaseLevel>,
}

#[expect(clippy::needless_pass_by_value, reason = "called with literals and with errors from `map_err`")]
fn bad(reason: impl ToString) -> Error {
    Error::ArchitectureSyntax(reason.to_string())
}

/// Takes `PREFIX_first`, `PREFIX_first+1`, … out of a map, in that order.
fn numbered<T>(mut map: BTreeMap<String, T>, prefix: &str, first: usize) -> Result<Vec<T>> {
    let list: Vec<T> = (first..).map_while(|i| map.remove(&format!("{prefix}_{i}"))).collect();
    match map.keys().next() {
        Some(key) => Err(bad(format!("unexpected entry `{key}` beside `{prefix}_{first}`, …"))),
        None => Ok(list),
    }
}

pub(crate) fn architecture_from_release(value: serde_json::Value) -> Result<Architecture> {
    let mut release: ReleaseArchitecture = serde_json::from_value(value).map_err(bad)?;
    let stem = release.backbone.remove("stem").ok_or_else(|| bad("`backbone_cfg` has no `stem`"))?;
    let stem = *stem.filter.first().ok_or_else(|| bad("the stem has no `filter`"))?;
    let mut stages = Vec::new();
    for (i, stage) in numbered(release.backbone, "stage", 1)?.into_iter().enumerate() {
        let depth = stage.depth as usize;
        if stage.filter.len() != depth || stage.kernel.len() != depth {
            return Err(bad(format!("stage_{}: `filter` and `kernel` must have `depth` = {depth} entries", i + 1)));
        }
        let layers = stage.filter.into_iter().zip(stage.kernel);
        stages.push(layers.map(|(channels, kernels)| LayerChoice { channels, kernels }).collect());
    }
    let levels = |map| -> Result<Vec<LevelChoice>> {
        let levels: Vec<ReleaseLevel> = numbered(map, "level", 0)?;
        Ok(levels.into_iter().map(|l| LevelChoice { sources: l.connection, kernels: l.kernel }).collect())
    };
    let mut arch =
        Architecture { stem, stages, transport: levels(release.transport)?, decoder: levels(release.decoder)? };
    arch.canonicalise();
    Ok(arch)
}

impl Architecture {
    /// The release's JSON of this architecture; `space` gives the strides and ratios that it repeats.
    pub fn to_release_json(&self, space: &Space) -> Result<String> {
        space.validate(self)?;
        let stem = ReleaseStage {
            depth: 1,
            ratio: 1,
            stride: space.stem.stride,
            kernel: vec![vec![space.stem.kernel]],
            filter: vec![self.stem],
        };
        let mut backbone = BTreeMap::from([("stem".to_owned(), stem)]);
        for (i, (layers, stage)) in self.stages.iter().zip(&space.stages).enumerate() {
            let entry = ReleaseStage {
                depth: layers.len() as u32,
                ratio: stage.expand,
                stride: stage.stride,
                kernel: layers.iter().map(|l| l.kernels.clone()).collect(),
                filter: layers.iter().map(|l| l.channels).collect(),
            };
            backbone.insert(format!("stage_{}", i + 1), entry);
        }
        let levels = |levels: &[LevelChoice]| {
            let entry = |l: &LevelChoice| ReleaseLevel { connection: l.sources.clone(), kernel: l.kernels.clone() };
            levels.iter().enumerate().map(|(i, l)| (format!("level_{i}"), entry(l))).collect()
        };
        let release =
            ReleaseArchitecture { backbone, transport: levels(&self.transport), decoder: levels(&self.decoder) };
        serde_json::to_string(&release).map_err(bad)
    }
}

/// A space from the release's configuration (`backbone_cfg`, `transport_cfg`, `decoder_cfg`), as JSON.
pub fn space_from_release_json(name: &str, input_px: u32, value: serde_json::Value) -> Result<Space> {
    let syntax = |e: serde_json::Error| Error::SpaceSyntax(e.to_string());
    let mut release: ReleaseSpace = serde_json::from_value(value).map_err(syntax)?;
    let stem = release.backbone.remove("stem").ok_or_else(|| Error::SpaceSyntax("no `stem`".into()))?;
    let stages = numbered(release.backbone, "stage", 1)?;
    let fusion = |level: &ReleaseLevel, required: Vec<u32>| {
        let mut choices = FusionChoices { sources: level.connection.clone(), required, kernels: level.kernel.clone() };
        choices.sources.sort_unstable();
        choices
    };
    let transport = numbered(release.transport, "level", 0)?;
    let decoder = numbered(release.decoder, "level", 0)?;
    if transport.len() != LEVEL_STAGES.len() || decoder.len() != LEVEL_STAGES.len() {
        return Err(Error::SpaceSyntax(format!("expected {} transport and decoder levels", LEVEL_STAGES.len())));
    }
    let levels = LEVEL_STAGES.iter().zip(transport.iter().zip(&decoder)).enumerate();
    let levels = levels.map(|(i, (&stage, (t, d)))| {
        let i = i as u32;
        let required = [i, i + 1].into_iter().filter(|s| d.connection.contains(s)).collect();
        Level { stage, transport: fusion(t, vec![i]), decoder: fusion(d, required) }
    });
    let space = Space {
        name: name.to_owned(),
        input_px,
        activation: ActivationKind::Silu,
        squeeze_excite: Some(SqueezeExcite { reduction: SE_REDUCTION }),
        stem: Stem { channels: stem.filter, kernel: stem.kernel.first().copied().unwrap_or(3), stride: stem.stride },
        stages: stages
            .into_iter()
            .map(|s| Stage {
                expand: s.ratio,
                stride: s.stride,
                depths: s.depth,
                kernels: s.kernel,
                channels: s.filter,
            })
            .collect(),
        levels: levels.collect(),
    };
    space.check()?;
    Ok(space)
}
