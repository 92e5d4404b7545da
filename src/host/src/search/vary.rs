//! Crossover and mutation (thesis algorithm 1, steps S3 and S4). Both are closed over the space: layers do not depend
//! on the channels that they read, so stages and levels can be exchanged and redrawn one by one.

use inas_space::{Architecture, FusionChoices, LayerChoice, LevelChoice, Space, Stage};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

/// `a`, with each of stem, stages, transport levels and decoder levels taken from `b` with `probability`.
pub fn crossover(a: &Architecture, b: &Architecture, probability: f64, rng: &mut ChaCha8Rng) -> Architecture {
    let mut child = a.clone();
    let mut other = || rng.random_bool(probability);
    if other() {
        child.stem = b.stem;
    }
    for (layers, theirs) in child.stages.iter_mut().zip(&b.stages) {
        if other() {
            layers.clone_from(theirs);
        }
    }
    let levels = child.transport.iter_mut().chain(&mut child.decoder);
    for (level, theirs) in levels.zip(b.transport.iter().chain(&b.decoder)) {
        if other() {
            level.clone_from(theirs);
        }
    }
    child
}

/// `parent`, with each choice redrawn with `probability`: stem channels, the depth of each stage (common layers stay),
/// channels and kernels of each layer, sources and kernels of each level.
pub fn mutate(space: &Space, parent: &Architecture, probability: f64, rng: &mut ChaCha8Rng) -> Architecture {
    let mut child = parent.clone();
    if rng.random_bool(probability) {
        child.stem = pick(&space.stem.channels, rng);
    }
    for (layers, stage) in child.stages.iter_mut().zip(&space.stages) {
        mutate_stage(layers, stage, probability, rng);
    }
    for (level, choices) in child.transport.iter_mut().zip(space.levels.iter().map(|l| &l.transport)) {
        mutate_level(level, choices, probability, rng);
    }
    for (level, choices) in child.decoder.iter_mut().zip(space.levels.iter().map(|l| &l.decoder)) {
        mutate_level(level, choices, probability, rng);
    }
    child
}

fn mutate_stage(layers: &mut Vec<LayerChoice>, stage: &Stage, probability: f64, rng: &mut ChaCha8Rng) {
    for layer in layers.iter_mut() {
        if rng.random_bool(probability) {
            layer.channels = pick(&stage.channels, rng);
        }
        if rng.random_bool(probability) {
            layer.kernels = stage.uniform_layer(rng).kernels;
        }
    }
    if rng.random_bool(probability) {
        let depth = pick(&stage.depths, rng) as usize;
        layers.truncate(depth);
        while layers.len() < depth {
            layers.push(stage.uniform_layer(rng));
        }
    }
}

fn mutate_level(level: &mut LevelChoice, choices: &FusionChoices, probability: f64, rng: &mut ChaCha8Rng) {
    if rng.random_bool(probability) {
        level.sources = choices.uniform_sources(rng);
    }
    if rng.random_bool(probability) {
        level.kernels = choices.uniform_kernels(rng);
    }
}

fn pick(choices: &[u32], rng: &mut ChaCha8Rng) -> u32 {
    *choices.choose(rng).unwrap_or(&choices[0])
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn children_are_valid_and_depth_mutates_keeping_common_layers() {
        let space = Space::preset("iccv21").unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut deeper, mut shallower) = (0, 0);
        for _ in 0..500 {
            let (a, b) = (space.uniform(&mut rng), space.uniform(&mut rng));
            let child = crossover(&a, &b, 0.3, &mut rng);
            space.validate(&child).unwrap();
            for (s, layers) in child.stages.iter().enumerate() {
                assert!(*layers == a.stages[s] || *layers == b.stages[s]);
            }
            let mutant = mutate(&space, &a, 0.2, &mut rng);
            space.validate(&mutant).unwrap();
            for (new, old) in mutant.stages.iter().zip(&a.stages) {
                deeper += usize::from(new.len() > old.len());
                shallower += usize::from(new.len() < old.len());
            }
        }
        // Seven stages, probability 0.2, half of the redraws or more differ.
        assert!(deeper > 100 && shallower > 100, "{deeper} deeper, {shallower} shallower of 3500 stages");
        let parent = space.max();
        let stage = &space.stages[4];
        let mut layers = parent.stages[4].clone();
        while layers.len() == parent.stages[4].len() {
            layers.clone_from(&parent.stages[4]);
            let channels = layers.clone();
            mutate_stage(&mut layers, stage, 0.05, &mut rng);
            if layers.iter().zip(&channels).any(|(a, b)| a != b) {
                layers.clone_from(&parent.stages[4]);
            }
        }
        assert_eq!(layers[..], parent.stages[4][..layers.len()]);
    }

    #[test]
    fn probabilities_zero_and_one_are_the_parents() {
        let space = Space::preset("nano").unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (a, b) = (space.uniform(&mut rng), space.uniform(&mut rng));
        assert_eq!(crossover(&a, &b, 0.0, &mut rng), a);
        assert_eq!(crossover(&a, &b, 1.0, &mut rng), b);
        assert_eq!(mutate(&space, &a, 0.0, &mut rng), a);
    }
}
