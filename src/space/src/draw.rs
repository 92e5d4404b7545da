//! Drawing architectures: smallest, largest, uniformly random (thesis section 3.2.2).

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng, RngExt as _};

use crate::architecture::{LayerChoice, LevelChoice};
use crate::space::{FusionChoices, Stage};
use crate::{Architecture, Space};

impl Space {
    /// The smallest network: fewest layers and channels, one smallest kernel, required sources only.
    pub fn min(&self) -> Architecture {
        let fusion = |f: &FusionChoices| LevelChoice { sources: f.required.clone(), kernels: vec![f.kernels[0]] };
        let layer = |s: &Stage| LayerChoice { channels: s.channels[0], kernels: vec![s.kernels[0]] };
        Architecture {
            stem: self.stem.channels[0],
            stages: self.stages.iter().map(|s| vec![layer(s); s.depths[0] as usize]).collect(),
            transport: self.levels.iter().map(|l| fusion(&l.transport)).collect(),
            decoder: self.levels.iter().map(|l| fusion(&l.decoder)).collect(),
        }
    }

    /// The largest network: every choice at its maximum, every kernel and source.
    pub fn max(&self) -> Architecture {
        let last = |v: &[u32]| v[v.len() - 1];
        let fusion = |f: &FusionChoices| LevelChoice { sources: f.sources.clone(), kernels: f.kernels.clone() };
        let layer = |s: &Stage| LayerChoice { channels: last(&s.channels), kernels: s.kernels.clone() };
        Architecture {
            stem: last(&self.stem.channels),
            stages: self.stages.iter().map(|s| vec![layer(s); last(&s.depths) as usize]).collect(),
            transport: self.levels.iter().map(|l| fusion(&l.transport)).collect(),
            decoder: self.levels.iter().map(|l| fusion(&l.decoder)).collect(),
        }
    }

    /// A random network, every choice drawn uniformly: depth, channels, the size of a kernel or source set and then
    /// the set of that size, required sources added last.
    pub fn uniform<R: Rng>(&self, rng: &mut R) -> Architecture {
        Architecture {
            stem: pick(&self.stem.channels, rng),
            stages: self.stages.iter().map(|s| s.uniform_layers(rng)).collect(),
            transport: self.levels.iter().map(|l| l.transport.uniform(rng)).collect(),
            decoder: self.levels.iter().map(|l| l.decoder.uniform(rng)).collect(),
        }
    }
}

impl Stage {
    /// A uniformly random stage: depth, then each layer.
    pub fn uniform_layers<R: Rng>(&self, rng: &mut R) -> Vec<LayerChoice> {
        let depth = pick(&self.depths, rng);
        (0..depth).map(|_| self.uniform_layer(rng)).collect()
    }

    /// A uniformly random layer.
    pub fn uniform_layer<R: Rng>(&self, rng: &mut R) -> LayerChoice {
        LayerChoice { channels: pick(&self.channels, rng), kernels: subset(&self.kernels, rng) }
    }
}

impl FusionChoices {
    /// A uniformly random fusion.
    pub fn uniform<R: Rng>(&self, rng: &mut R) -> LevelChoice {
        LevelChoice { sources: self.uniform_sources(rng), kernels: subset(&self.kernels, rng) }
    }

    /// Random sources, the required ones among them, increasing.
    pub fn uniform_sources<R: Rng>(&self, rng: &mut R) -> Vec<u32> {
        let mut sources = subset(&self.sources, rng);
        sources.extend(&self.required);
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// A random kernel subset, increasing.
    pub fn uniform_kernels<R: Rng>(&self, rng: &mut R) -> Vec<u32> {
        subset(&self.kernels, rng)
    }
}

fn pick<R: Rng>(choices: &[u32], rng: &mut R) -> u32 {
    *choices.choose(rng).unwrap_or(&choices[0])
}

/// Non-empty subset: its size uniform in `1..=n`, then the set uniform among those of that size; increasing.
fn subset<R: Rng>(choices: &[u32], rng: &mut R) -> Vec<u32> {
    let size = rng.random_range(1..=choices.len());
    let mut shuffled = choices.to_vec();
    shuffled.shuffle(rng);
    shuffled.truncate(size);
    shuffled.sort_unstable();
    shuffled
}
