//! Proposals for latency group sampling that aim at a share of the latency range, layer by layer and level by level.
//!
//! Plain uniform proposals nearly never hit the first and last parts of a stage of many layers: all its layers would
//! have to be fast (slow) at once. These are proposals only; the part of the whole stage still decides.

use inas_space::{LayerChoice, LevelChoice};
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

use super::TablePredictor;

/// Uniform draws of which the one nearest to the aimed share is taken.
const DRAWS: usize = 8;

/// Layers of stage `stage` read from `in_channels`: random depth, each layer near `share` of that layer's range.
pub(super) fn stage(
    predictor: &TablePredictor,
    stage: usize,
    in_channels: u32,
    share: f64,
    rng: &mut ChaCha8Rng,
) -> Vec<LayerChoice> {
    let choices = &predictor.space().stages[stage];
    let depth = *choices.depths.choose(rng).unwrap_or(&choices.depths[0]);
    let mut layers = Vec::with_capacity(depth as usize);
    let mut input = in_channels;
    for d in 0..depth as usize {
        let layer = nearest(
            predictor.layer_span(stage, d, input),
            share,
            || choices.uniform_layer(rng),
            |layer| predictor.layer(stage, d, input, layer),
        );
        input = layer.channels;
        layers.push(layer);
    }
    layers
}

/// Transport or decoder levels over levels of channels `channels`, each near `share` of that level's range.
pub(super) fn levels(
    predictor: &TablePredictor,
    transport: bool,
    channels: &[u32],
    share: f64,
    rng: &mut ChaCha8Rng,
) -> Vec<LevelChoice> {
    let at = predictor.level_indices(channels).unwrap_or_default();
    let levels = predictor.space().levels.iter().enumerate();
    levels
        .map(|(i, level)| {
            let choices = if transport { &level.transport } else { &level.decoder };
            nearest(
                predictor.level_span(transport, i, &at),
                share,
                || choices.uniform(rng),
                |chosen| predictor.level(transport, i, &at, chosen),
            )
        })
        .collect()
}

/// Of a few draws, the one whose latency is nearest to `share` of the range.
fn nearest<T>(
    range: Option<(f64, f64)>,
    share: f64,
    mut draw: impl FnMut() -> T,
    latency: impl Fn(&T) -> Option<f64>,
) -> T {
    let aim = range.map(|(low, high)| low + share * (high - low));
    let distance = |drawn: &T| latency(drawn).zip(aim).map_or(f64::INFINITY, |(t, aim)| (t - aim).abs());
    let mut best = draw();
    let mut least = distance(&best);
    for _ in 1..DRAWS {
        let drawn = draw();
        let away = distance(&drawn);
        if away < least {
            (best, least) = (drawn, away);
        }
    }
    best
}
