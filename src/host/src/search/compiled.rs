//! Predictions from a compiled profile: one pass over the choices, by table lookups only.
//!
//! Each choice becomes an index by an array access, a latency by another; nothing is compared with lists, nothing is
//! formatted. What is not a network of the space is noticed on the way.

use inas_space::{Architecture, FusionChoices, LatencyBreakdown, LevelChoice, Micros, Space};

use super::TablePredictor;
use super::latency::FusionTable;

/// Levels that need no memory from the heap.
const FEW: usize = 16;

/// Index of each value of a list of choices, by value.
#[derive(Debug, Clone)]
struct Index(Box<[u8]>);

impl Index {
    fn new(choices: &[u32]) -> Self {
        let mut at = vec![u8::MAX; choices.iter().max().map_or(0, |m| *m as usize + 1)];
        for (i, choice) in choices.iter().enumerate().take(usize::from(u8::MAX)) {
            at[*choice as usize] = i as u8;
        }
        Self(at.into())
    }

    #[inline]
    fn of(&self, value: u32) -> Option<usize> {
        let i = *self.0.get(value as usize)?;
        (i != u8::MAX).then_some(usize::from(i))
    }

    /// Index of the last of an increasing, non-empty set.
    #[inline]
    fn last_of(&self, set: &[u32]) -> Option<usize> {
        let (first, rest) = set.split_first()?;
        let mut last = self.of(*first)?;
        for value in rest {
            let i = self.of(*value)?;
            if i <= last {
                return None;
            }
            last = i;
        }
        Some(last)
    }
}

#[derive(Debug, Clone)]
struct Fusion {
    sources: Index,
    kernels: Index,
    /// One bit for each required source.
    required: u64,
}

impl Fusion {
    fn new(choices: &FusionChoices) -> Self {
        let required = choices.required.iter().fold(0, |bits, s| bits | 1_u64.checked_shl(*s).unwrap_or(0));
        Self { sources: Index::new(&choices.sources), kernels: Index::new(&choices.kernels), required }
    }

    fn add(
        &self,
        table: &FusionTable,
        (level, at): (usize, &[usize]),
        chosen: &LevelChoice,
        sum: &mut f64,
    ) -> Option<()> {
        let (mut seen, mut before) = (0_u64, None);
        for source in &chosen.sources {
            if before.is_some_and(|b| b >= *source) {
                return None;
            }
            before = Some(*source);
            seen |= 1_u64.checked_shl(*source)?;
            let branch = &table.branches[self.sources.of(*source)?];
            *sum += branch.row(at[*source as usize], at[level])[0];
        }
        if seen & self.required != self.required {
            return None;
        }
        let more = chosen.sources.len() - self.required.count_ones() as usize;
        *sum += table.fusion.row(at[level], more)[self.kernels.last_of(&chosen.kernels)?];
        Some(())
    }
}

/// Indices of everything that a space lets choose.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    stem: Index,
    /// Channels, kernels and depths of each stage.
    stages: Vec<(Index, Index, Index)>,
    /// Stage of each level, from 0.
    levels: Vec<usize>,
    transport: Vec<Fusion>,
    decoder: Vec<Fusion>,
}

impl Compiled {
    pub(super) fn new(space: &Space) -> Self {
        let stage = |s: &inas_space::Stage| (Index::new(&s.channels), Index::new(&s.kernels), Index::new(&s.depths));
        Self {
            stem: Index::new(&space.stem.channels),
            stages: space.stages.iter().map(stage).collect(),
            levels: space.levels.iter().map(|l| l.stage as usize - 1).collect(),
            transport: space.levels.iter().map(|l| Fusion::new(&l.transport)).collect(),
            decoder: space.levels.iter().map(|l| Fusion::new(&l.decoder)).collect(),
        }
    }
}

impl TablePredictor {
    /// Sum over the blocks, in the order of [`inas_space::Space::blocks`]; `None` outside the space.
    pub(super) fn sum(&self, arch: &Architecture) -> Option<LatencyBreakdown> {
        let c = &self.compiled;
        let levels = c.levels.len();
        let same = |n: usize, m: usize| (n == m).then_some(());
        same(arch.stages.len(), c.stages.len())?;
        same(arch.transport.len(), levels)?;
        same(arch.decoder.len(), levels)?;
        let (mut few, mut many) = ([0; FEW], Vec::new());
        let at: &mut [usize] = if levels <= FEW {
            &mut few[..levels]
        } else {
            many.resize(levels, 0);
            &mut many
        };
        let mut input = c.stem.of(arch.stem)?;
        let mut backbone = 0.0 + self.stem[input];
        for (s, ((layers, table), (channels, kernels, depths))) in
            arch.stages.iter().zip(&self.stages).zip(&c.stages).enumerate()
        {
            depths.of(layers.len() as u32)?;
            let mut grid = &table.first;
            for layer in layers {
                let output = channels.of(layer.channels)?;
                backbone += grid.row(input, output)[kernels.last_of(&layer.kernels)?];
                input = output;
                // Without deeper layers in the space there is none here: the depth was looked up.
                grid = table.rest.as_ref().unwrap_or(grid);
            }
            for (place, _) in at.iter_mut().zip(&c.levels).filter(|(_, stage)| **stage == s) {
                *place = input;
            }
        }
        let (mut transport, mut decoder) = (0.0, 0.0);
        for (i, level) in arch.transport.iter().enumerate() {
            c.transport[i].add(&self.transport[i], (i, at), level, &mut transport)?;
        }
        for (i, level) in arch.decoder.iter().enumerate().rev() {
            c.decoder[i].add(&self.decoder[i], (i, at), level, &mut decoder)?;
        }
        Some(LatencyBreakdown {
            backbone: Micros(backbone),
            transport: Micros(transport),
            decoder: Micros(decoder + self.head[at[0]]),
        })
    }
}

#[cfg(test)]
mod tests {
    use inas_space::LatencyTable;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[test]
    fn exactly_the_networks_of_the_space_have_a_latency() {
        let space = Space::preset("iccv21").unwrap();
        let table = LatencyTable::from_release(include_str!("../../../../tests/golden/lut/lut_224.txt")).unwrap();
        let predictor = TablePredictor::new(&space, &table, 224).unwrap();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(9);
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut arch = space.uniform(&mut rng);
            // One thing off, often out of the space.
            match rng.random_range(0..9) {
                0 => arch.stem += rng.random_range(0..3) * 4,
                1 => arch.stages[3][0].channels += rng.random_range(0..3) * 2,
                2 => arch.stages[4].truncate(rng.random_range(0..6)),
                3 => arch.stages[2][0].kernels.reverse(),
                4 => arch.transport[2].sources.retain(|s| *s != rng.random_range(0..5)),
                5 => arch.decoder[1].sources.push(rng.random_range(0..6)),
                6 => arch.decoder[0].kernels.clear(),
                7 => arch.stages.truncate(rng.random_range(6..8)),
                _ => arch.transport[0].kernels.push(9),
            }
            let valid = space.validate(&arch).is_ok();
            assert_eq!(predictor.sum(&arch).is_some(), valid, "{}", arch.to_json());
            assert_eq!(predictor.latency(&arch).is_ok(), valid);
            refused += usize::from(!valid);
        }
        assert!((5_000..18_000).contains(&refused), "{refused}");
    }
}
