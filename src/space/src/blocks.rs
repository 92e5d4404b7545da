//! The blocks of an architecture, and all blocks of a space.

use std::collections::BTreeSet;

use crate::key::{BlockKey, BlockKind};
use crate::space::IMAGE_CHANNELS;
use crate::{Architecture, Result, Space};

/// The three parts of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Stem and MBConv stages.
    Backbone,
    /// Bidirectional fusion of the backbone's levels.
    Transport,
    /// Coarse-to-fine fusion and the head.
    Decoder,
}

/// A block at its place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Prefix of its parameters in the supernet, e.g. `backbone.stage_3.0`.
    pub name: String,
    /// Part of the network.
    pub part: Part,
    /// What is measured for it.
    pub key: BlockKey,
}

impl Space {
    /// Blocks of `arch` at input side `px`, in execution order.
    ///
    /// Identity branches are listed too: the release's table has rows for them.
    pub fn blocks(&self, arch: &Architecture, px: u32) -> Result<Vec<Block>> {
        self.validate(arch)?;
        let sides = self.resolutions(px)?;
        let mut blocks = Vec::new();
        let mut push = |name: String, part, key| blocks.push(Block { name, part, key });
        push("backbone.stem".into(), Part::Backbone, self.stem_key(px, sides.stem_px, arch.stem));
        let (mut side, mut channels) = (sides.stem_px, arch.stem);
        for (i, (layers, stage)) in arch.stages.iter().zip(&self.stages).enumerate() {
            for (d, layer) in layers.iter().enumerate() {
                let key = BlockKey {
                    kernel: max_of(&layer.kernels),
                    stride: if d == 0 { stage.stride } else { 1 },
                    expand: stage.expand,
                    ..BlockKey::new(BlockKind::MbConv, (side, sides.stage_px[i]), (channels, layer.channels))
                };
                push(format!("backbone.stage_{}.{d}", i + 1), Part::Backbone, key);
                (side, channels) = (sides.stage_px[i], layer.channels);
            }
        }
        let ch = arch.level_channels(self);
        let level_px = &sides.level_px;
        for (part, name, branch, fusion, levels) in [
            (Part::Transport, "transport", BlockKind::TransportBranch, BlockKind::TransportFusion, &arch.transport),
            (Part::Decoder, "decoder", BlockKind::DecoderBranch, BlockKind::DecoderFusion, &arch.decoder),
        ] {
            let coarse_to_fine = part == Part::Decoder;
            let order: Vec<usize> =
                if coarse_to_fine { (0..levels.len()).rev().collect() } else { (0..levels.len()).collect() };
            for i in order {
                for &j in &levels[i].sources {
                    let j = j as usize;
                    let key = BlockKey::new(branch, (level_px[j], level_px[i]), (ch[j], ch[i]));
                    push(format!("{name}.branches.level_{i}.{j}"), part, key);
                }
                let key = BlockKey {
                    sources: levels[i].sources.len() as u32,
                    kernel: max_of(&levels[i].kernels),
                    ..BlockKey::new(fusion, (level_px[i], level_px[i]), (ch[i], ch[i]))
                };
                push(format!("{name}.mainops.level_{i}"), part, key);
            }
        }
        push("decoder.decoder_dict.level_0".into(), Part::Decoder, head_key(px, level_px[0], ch[0]));
        Ok(blocks)
    }

    /// Keys of every block that a network of this space can hold at input side `px`, sorted.
    ///
    /// As in the release's table, branches list every pair of channel counts, the level itself included.
    pub fn block_keys(&self, px: u32) -> Result<BTreeSet<BlockKey>> {
        let sides = self.resolutions(px)?;
        let mut keys = BTreeSet::new();
        for &c in &self.stem.channels {
            keys.insert(self.stem_key(px, sides.stem_px, c));
        }
        let (mut in_px, mut in_choices) = (sides.stem_px, &self.stem.channels);
        for (stage, &out_px) in self.stages.iter().zip(&sides.stage_px) {
            let mut layers = vec![(in_px, in_choices, stage.stride)];
            if stage.depths.iter().any(|d| *d > 1) {
                layers.push((out_px, &stage.channels, 1));
            }
            for (layer_px, choices, stride) in layers {
                for (&i, &o, &kernel) in product(choices, &stage.channels, &stage.kernels) {
                    let key = BlockKey::new(BlockKind::MbConv, (layer_px, out_px), (i, o));
                    keys.insert(BlockKey { kernel, stride, expand: stage.expand, ..key });
                }
            }
            (in_px, in_choices) = (out_px, &stage.channels);
        }
        for (i, level) in self.levels.iter().enumerate() {
            let (px_i, ch_i) = (sides.level_px[i], self.level_channels(i));
            for (branch, fusion, choices) in [
                (BlockKind::TransportBranch, BlockKind::TransportFusion, &level.transport),
                (BlockKind::DecoderBranch, BlockKind::DecoderFusion, &level.decoder),
            ] {
                for &j in &choices.sources {
                    let (px_j, ch_j) = (sides.level_px[j as usize], self.level_channels(j as usize));
                    for (&a, &b, ()) in product(ch_j, ch_i, &[()]) {
                        keys.insert(BlockKey::new(branch, (px_j, px_i), (a, b)));
                    }
                }
                let counts: Vec<u32> = (1..=choices.sources.len() as u32).collect();
                for (&c, &sources, &kernel) in product(ch_i, &counts, &choices.kernels) {
                    keys.insert(BlockKey { kernel, sources, ..BlockKey::new(fusion, (px_i, px_i), (c, c)) });
                }
            }
        }
        for &c in self.level_channels(0) {
            keys.insert(head_key(px, sides.level_px[0], c));
        }
        Ok(keys)
    }

    fn stem_key(&self, in_px: u32, out_px: u32, channels: u32) -> BlockKey {
        let key = BlockKey::new(BlockKind::Stem, (in_px, out_px), (IMAGE_CHANNELS, channels));
        BlockKey { kernel: self.stem.kernel, stride: self.stem.stride, ..key }
    }
}

fn head_key(out_px: u32, in_px: u32, channels: u32) -> BlockKey {
    BlockKey::new(BlockKind::Head, (in_px, out_px), (channels, 1))
}

fn max_of(values: &[u32]) -> u32 {
    values.iter().copied().max().unwrap_or(0)
}

fn product<'a, A, B, C>(a: &'a [A], b: &'a [B], c: &'a [C]) -> impl Iterator<Item = (&'a A, &'a B, &'a C)> {
    a.iter().flat_map(move |x| b.iter().flat_map(move |y| c.iter().map(move |z| (x, y, z))))
}
