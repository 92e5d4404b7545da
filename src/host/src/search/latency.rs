//! The latency table of a space as dense arrays.

use std::fmt::Write as _;

use inas_space::{
    Architecture, BlockKey, BlockKind, FusionChoices, LatencyBreakdown, LatencyTable, LayerChoice, LevelChoice, Micros,
    Space,
};
use sha2::{Digest, Sha256};

use super::compiled::Compiled;
use super::range::Ahead;
use super::{Result, SearchError};

/// Latencies of a stage's layers, us: `[input channels][output channels][largest kernel]`, by index of the choice.
#[derive(Debug, Clone)]
pub(super) struct StageTable {
    pub(super) first: Grid,
    /// Layers after the first: the input channels are the stage's own choices.
    pub(super) rest: Option<Grid>,
}

/// A three-dimensional array.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    /// Lengths of the last two axes.
    dims: [usize; 2],
    values: Vec<f64>,
}

impl Grid {
    fn fill(dims: [usize; 3], mut value: impl FnMut(usize, usize, usize) -> Result<f64>) -> Result<Self> {
        let mut values = Vec::with_capacity(dims.iter().product());
        for a in 0..dims[0] {
            for b in 0..dims[1] {
                for c in 0..dims[2] {
                    values.push(value(a, b, c)?);
                }
            }
        }
        Ok(Self { dims: [dims[1], dims[2]], values })
    }

    /// Values along the last axis.
    pub(super) fn row(&self, a: usize, b: usize) -> &[f64] {
        let at = (a * self.dims[0] + b) * self.dims[1];
        &self.values[at..at + self.dims[1]]
    }
}

/// Latencies of a fusion and its branches, us.
#[derive(Debug, Clone)]
pub(super) struct FusionTable {
    /// One grid a source, in the order of the choices: `[channels of the source][channels of the level][0]`.
    pub(super) branches: Vec<Grid>,
    /// `[channels of the level][sources beyond the required ones][largest kernel]`.
    pub(super) fusion: Grid,
}

/// Predicted latency of the architectures of a space at one input size: the sum of the measured blocks (thesis
/// section 3.2.3), and the latencies of the parts that latency group sampling asks for (thesis algorithm 1).
#[derive(Debug, Clone)]
pub struct TablePredictor {
    pub(super) space: Space,
    px: u32,
    table_hash: String,
    pub(super) stem: Vec<f64>,
    pub(super) stages: Vec<StageTable>,
    pub(super) transport: Vec<FusionTable>,
    pub(super) decoder: Vec<FusionTable>,
    pub(super) head: Vec<f64>,
    pub(super) ahead: Ahead,
    reachable: (Micros, Micros),
    ends: (Micros, Micros),
    pub(super) compiled: Compiled,
}

impl TablePredictor {
    /// Looks up every block that a network of `space` can hold at input side `px`.
    ///
    /// Errors when a block is missing or its latency is negative or not finite.
    pub fn new(space: &Space, table: &LatencyTable, px: u32) -> Result<Self> {
        space.check()?;
        let blocks = Blocks { space, table, px, sides: space.resolutions(px)? };
        let stages = (0..space.stages.len()).map(|s| blocks.stage(s)).collect::<Result<Vec<_>>>()?;
        let mut predictor = Self {
            stem: space.stem.channels.iter().map(|&c| blocks.stem(c)).collect::<Result<_>>()?,
            transport: (0..space.levels.len()).map(|i| blocks.fusion(i, true)).collect::<Result<_>>()?,
            decoder: (0..space.levels.len()).map(|i| blocks.fusion(i, false)).collect::<Result<_>>()?,
            head: space.level_channels(0).iter().map(|&c| blocks.head(c)).collect::<Result<_>>()?,
            space: space.clone(),
            px,
            table_hash: table_hash(table),
            stages,
            ahead: Ahead::default(),
            reachable: Default::default(),
            ends: Default::default(),
            compiled: Compiled::new(space),
        };
        predictor.ahead = Ahead::new(&predictor);
        predictor.reachable = predictor.span().micros();
        let (smallest, largest) = (predictor.latency(&space.min())?.total(), predictor.latency(&space.max())?.total());
        predictor.ends = if smallest.0 <= largest.0 { (smallest, largest) } else { (largest, smallest) };
        Ok(predictor)
    }

    /// The space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Input side, px.
    pub fn px(&self) -> u32 {
        self.px
    }

    /// Stable hash of the latency table: SHA-256 over its rows, first 16 hex digits.
    pub fn table_hash(&self) -> &str {
        &self.table_hash
    }

    /// Exact latency of the fastest and of the slowest architecture of the space.
    pub fn reachable(&self) -> (Micros, Micros) {
        self.reachable
    }

    /// Latency of the smallest and of the largest architecture, the lower first: `LAT_min` and `LAT_max` of thesis
    /// algorithm 1. With measured tables this is nearly [`TablePredictor::reachable`].
    pub fn ends(&self) -> (Micros, Micros) {
        self.ends
    }

    /// Predicted latency of `arch`; equal to [`LatencyTable::latency`] to the last bit.
    pub fn latency(&self, arch: &Architecture) -> Result<LatencyBreakdown> {
        if let Some(latency) = self.sum(arch) {
            return Ok(latency);
        }
        // Tells what is wrong with it.
        self.space.validate(arch)?;
        Err(SearchError::Config { field: "architecture", value: arch.hash(), allowed: "a network of the space" })
    }

    /// Latency of the stem with that many channels; `None` when the space has no such choice.
    pub fn stem(&self, channels: u32) -> Option<Micros> {
        Some(Micros(self.stem[index(&self.space.stem.channels, channels)?]))
    }

    /// Latency of the layers of stage `stage` (from 0) that reads `in_channels`; `None` outside the space.
    pub fn stage(&self, stage: usize, in_channels: u32, layers: &[LayerChoice]) -> Option<Micros> {
        let mut sum = 0.0;
        self.add_stage(stage, in_channels, layers, &mut sum)?;
        Some(Micros(sum))
    }

    /// Latency of the transport over levels of those channel counts; `None` outside the space.
    pub fn transport(&self, channels: &[u32], levels: &[LevelChoice]) -> Option<Micros> {
        let at = self.level_indices(channels)?;
        let mut sum = 0.0;
        for (i, level) in levels.iter().enumerate() {
            let (choices, table) = self.fusion(true, i)?;
            add_fusion(choices, table, (i, &at), level, &mut sum)?;
        }
        Some(Micros(sum))
    }

    /// Latency of the decoder, head included, over levels of those channel counts; `None` outside the space.
    pub fn decoder(&self, channels: &[u32], levels: &[LevelChoice]) -> Option<Micros> {
        let at = self.level_indices(channels)?;
        let mut sum = 0.0;
        for (i, level) in levels.iter().enumerate().rev() {
            let (choices, table) = self.fusion(false, i)?;
            add_fusion(choices, table, (i, &at), level, &mut sum)?;
        }
        Some(Micros(sum + self.head[at[0]]))
    }

    /// Choices and latencies of a transport or decoder level.
    pub(super) fn fusion(&self, transport: bool, level: usize) -> Option<(&FusionChoices, &FusionTable)> {
        let choices = self.space.levels.get(level)?;
        Some(if transport {
            (&choices.transport, &self.transport[level])
        } else {
            (&choices.decoder, &self.decoder[level])
        })
    }

    /// Latency of a transport or decoder level, us; `at` as from `level_indices`.
    pub(super) fn level(&self, transport: bool, level: usize, at: &[usize], chosen: &LevelChoice) -> Option<f64> {
        let (choices, table) = self.fusion(transport, level)?;
        let mut sum = 0.0;
        add_fusion(choices, table, (level, at), chosen, &mut sum)?;
        Some(sum)
    }

    /// Latencies of the layers `d` of a stage, us, and the place of `in_channels` in them.
    pub(super) fn layers(&self, stage: usize, d: usize, in_channels: u32) -> Option<(&Grid, usize)> {
        let (choices, table) = (self.space.stages.get(stage)?, self.stages.get(stage)?);
        if d == 0 {
            Some((&table.first, index(input_choices(&self.space, stage), in_channels)?))
        } else {
            Some((table.rest.as_ref()?, index(&choices.channels, in_channels)?))
        }
    }

    /// Latency of layer `d` of a stage, us.
    pub(super) fn layer(&self, stage: usize, d: usize, in_channels: u32, layer: &LayerChoice) -> Option<f64> {
        let (choices, (grid, from)) = (self.space.stages.get(stage)?, self.layers(stage, d, in_channels)?);
        let kernel = index(&choices.kernels, *layer.kernels.iter().max()?)?;
        Some(grid.row(from, index(&choices.channels, layer.channels)?)[kernel])
    }

    /// Index of each level's channel count among its choices.
    pub(super) fn level_indices(&self, channels: &[u32]) -> Option<Vec<usize>> {
        (0..self.space.levels.len()).map(|i| index(self.space.level_channels(i), *channels.get(i)?)).collect()
    }

    fn add_stage(&self, stage: usize, in_channels: u32, layers: &[LayerChoice], sum: &mut f64) -> Option<()> {
        let mut input = in_channels;
        for (d, layer) in layers.iter().enumerate() {
            *sum += self.layer(stage, d, input, layer)?;
            input = layer.channels;
        }
        Some(())
    }
}

fn add_fusion(
    choices: &FusionChoices,
    table: &FusionTable,
    (level, at): (usize, &[usize]),
    chosen: &LevelChoice,
    sum: &mut f64,
) -> Option<()> {
    for source in &chosen.sources {
        let branch = &table.branches[index(&choices.sources, *source)?];
        *sum += branch.row(at[*source as usize], at[level])[0];
    }
    let more = chosen.sources.len().checked_sub(choices.required.len())?;
    *sum += table.fusion.row(at[level], more)[index(&choices.kernels, *chosen.kernels.iter().max()?)?];
    Some(())
}

/// Position of `value` among the (few) choices.
pub(super) fn index(choices: &[u32], value: u32) -> Option<usize> {
    choices.iter().position(|c| *c == value)
}

/// Channel counts that stage `stage` can read.
pub(super) fn input_choices(space: &Space, stage: usize) -> &[u32] {
    if stage == 0 { &space.stem.channels } else { &space.stages[stage - 1].channels }
}

fn table_hash(table: &LatencyTable) -> String {
    let mut rows = String::new();
    for (key, latency) in table.iter() {
        let _ = writeln!(rows, "{key} {}", latency.0);
    }
    Sha256::digest(rows.as_bytes()).iter().take(8).fold(String::new(), |mut hex, b| {
        let _ = write!(hex, "{b:02x}");
        hex
    })
}

/// Reads the blocks of a space from a table.
struct Blocks<'a> {
    space: &'a Space,
    table: &'a LatencyTable,
    px: u32,
    sides: inas_space::Resolutions,
}

impl Blocks<'_> {
    fn get(&self, key: BlockKey) -> Result<f64> {
        let micros = self.table.get(&key)?.0;
        if micros.is_finite() && micros >= 0.0 {
            return Ok(micros);
        }
        Err(SearchError::TableValue { key: key.to_string(), micros })
    }

    fn stem(&self, channels: u32) -> Result<f64> {
        // The stem reads an RGB image.
        let key = BlockKey::new(BlockKind::Stem, (self.px, self.sides.stem_px), (3, channels));
        self.get(BlockKey { kernel: self.space.stem.kernel, stride: self.space.stem.stride, ..key })
    }

    fn head(&self, channels: u32) -> Result<f64> {
        self.get(BlockKey::new(BlockKind::Head, (self.sides.level_px[0], self.px), (channels, 1)))
    }

    fn stage(&self, s: usize) -> Result<StageTable> {
        let (stage, inputs) = (&self.space.stages[s], input_choices(self.space, s));
        let in_px = if s == 0 { self.sides.stem_px } else { self.sides.stage_px[s - 1] };
        let out_px = self.sides.stage_px[s];
        let grid = |side: u32, inputs: &[u32], stride: u32| {
            Grid::fill([inputs.len(), stage.channels.len(), stage.kernels.len()], |i, o, k| {
                let key = BlockKey::new(BlockKind::MbConv, (side, out_px), (inputs[i], stage.channels[o]));
                self.get(BlockKey { kernel: stage.kernels[k], stride, expand: stage.expand, ..key })
            })
        };
        let deep = stage.depths.iter().any(|d| *d > 1);
        Ok(StageTable {
            first: grid(in_px, inputs, stage.stride)?,
            rest: if deep { Some(grid(out_px, &stage.channels, 1)?) } else { None },
        })
    }

    fn fusion(&self, i: usize, transport: bool) -> Result<FusionTable> {
        let level = &self.space.levels[i];
        let (branch, fusion, choices) = if transport {
            (BlockKind::TransportBranch, BlockKind::TransportFusion, &level.transport)
        } else {
            (BlockKind::DecoderBranch, BlockKind::DecoderFusion, &level.decoder)
        };
        let (px, channels, required) = (&self.sides.level_px, self.space.level_channels(i), choices.required.len());
        let branches = choices.sources.iter().map(|&j| {
            let j = j as usize;
            let inputs = self.space.level_channels(j);
            Grid::fill([inputs.len(), channels.len(), 1], |a, b, _| {
                self.get(BlockKey::new(branch, (px[j], px[i]), (inputs[a], channels[b])))
            })
        });
        let counts = choices.sources.len() - required + 1;
        Ok(FusionTable {
            branches: branches.collect::<Result<_>>()?,
            fusion: Grid::fill([channels.len(), counts, choices.kernels.len()], |c, more, k| {
                let key = BlockKey::new(fusion, (px[i], px[i]), (channels[c], channels[c]));
                self.get(BlockKey { sources: (required + more) as u32, kernel: choices.kernels[k], ..key })
            })?,
        })
    }
}
