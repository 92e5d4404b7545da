//! Proposals for latency group sampling that aim at a share of the latency range, layer by layer and level by level.
//!
//! Plain uniform proposals nearly never hit the first and last parts of a stage of many layers: all its layers would
//! have to be fast (slow) at once. Nor would a few draws of a level ever hold its fastest choice, one of hundreds: the
//! two ends are built instead where they are nearer. These are proposals only; the part of the whole stage still decides.

use inas_space::{LayerChoice, LevelChoice};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

use super::TablePredictor;
use super::latency::index;

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
            rng,
            |rng| choices.uniform_layer(rng),
            |layer| predictor.layer(stage, d, input, layer),
            |end, rng| layer_end(predictor, (stage, d), input, end, rng),
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
                rng,
                |rng| choices.uniform(rng),
                |chosen| predictor.level(transport, i, &at, chosen),
                |end, rng| level_end(predictor, (transport, i), &at, end, rng),
            )
        })
        .collect()
}

/// An end of a latency range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fastest,
    Slowest,
}

impl End {
    /// The item whose latency is at this end; the first of equal ones.
    fn of<T>(self, items: impl Iterator<Item = (T, f64)>) -> Option<T> {
        let nearer = |a: f64, b: f64| if self == Self::Fastest { a < b } else { a > b };
        items.reduce(|best, item| if nearer(item.1, best.1) { item } else { best }).map(|(item, _)| item)
    }
}

/// The fastest or slowest layer `d` of stage `stage`.
fn layer_end(
    predictor: &TablePredictor,
    (stage, d): (usize, usize),
    in_channels: u32,
    end: End,
    rng: &mut ChaCha8Rng,
) -> Option<LayerChoice> {
    let choices = &predictor.space().stages[stage];
    let layers = choices.channels.iter().flat_map(|&channels| {
        choices.kernels.iter().map(move |&kernel| LayerChoice { channels, kernels: vec![kernel] })
    });
    let timed = layers.filter_map(|layer| predictor.layer(stage, d, in_channels, &layer).map(|time| (layer, time)));
    let mut layer = end.of(timed)?;
    layer.kernels = up_to(&choices.kernels, layer.kernels[0], rng);
    Some(layer)
}

/// The fastest or slowest choice of a transport or decoder level; `at` as from `level_indices`.
fn level_end(
    predictor: &TablePredictor,
    (transport, level): (bool, usize),
    at: &[usize],
    end: End,
    rng: &mut ChaCha8Rng,
) -> Option<LevelChoice> {
    let (choices, table) = predictor.fusion(transport, level)?;
    let branch = |source: &u32| {
        let grid = &table.branches[index(&choices.sources, *source).unwrap_or_default()];
        grid.row(at[*source as usize], at[level])[0]
    };
    // With a given number of further sources, the best are the cheapest (dearest).
    let mut free: Vec<u32> = choices.sources.iter().copied().filter(|s| !choices.required.contains(s)).collect();
    free.sort_by(|a, b| branch(a).total_cmp(&branch(b)));
    if end == End::Slowest {
        free.reverse();
    }
    let levels = (0..=free.len()).flat_map(|more| {
        let mut sources = [&choices.required[..], &free[..more]].concat();
        sources.sort_unstable();
        choices.kernels.iter().map(move |&kernel| LevelChoice { sources: sources.clone(), kernels: vec![kernel] })
    });
    let timed = levels.filter_map(|chosen| predictor.level(transport, level, at, &chosen).map(|time| (chosen, time)));
    let mut chosen = end.of(timed)?;
    chosen.kernels = up_to(&choices.kernels, chosen.kernels[0], rng);
    Some(chosen)
}

/// A random kernel subset whose largest is `largest`: all of them take equally long.
fn up_to(kernels: &[u32], largest: u32, rng: &mut ChaCha8Rng) -> Vec<u32> {
    kernels.iter().copied().filter(|k| *k == largest || (*k < largest && rng.random_bool(0.5))).collect()
}

/// Of a few draws and the two ends of the range, the one whose latency is nearest to `share` of the range.
fn nearest<T>(
    range: Option<(f64, f64)>,
    share: f64,
    rng: &mut ChaCha8Rng,
    draw: impl Fn(&mut ChaCha8Rng) -> T,
    latency: impl Fn(&T) -> Option<f64>,
    build: impl FnOnce(End, &mut ChaCha8Rng) -> Option<T>,
) -> T {
    let aim = range.map(|(low, high)| low + share * (high - low));
    let distance = |drawn: &T| latency(drawn).zip(aim).map_or(f64::INFINITY, |(t, aim)| (t - aim).abs());
    let mut best = draw(rng);
    let mut least = distance(&best);
    for _ in 1..DRAWS {
        let drawn = draw(rng);
        let away = distance(&drawn);
        if away < least {
            (best, least) = (drawn, away);
        }
    }
    let Some((low, high)) = range else { return best };
    let end = if share < 0.5 { End::Fastest } else { End::Slowest };
    let away = share.min(1.0 - share) * (high - low);
    if away < least { build(end, rng).unwrap_or(best) } else { best }
}

#[cfg(test)]
mod tests {
    use inas_space::{LatencyTable, Space};
    use rand::SeedableRng as _;

    use super::*;

    /// Random latencies, so that an end can be any choice.
    #[test]
    fn ends_are_choices_of_the_space_at_the_exact_bounds() {
        let space = Space::preset("iccv21").unwrap();
        let table = LatencyTable::from_release(include_str!("../../../../tests/golden/lut/lut_224.txt")).unwrap();
        let p = TablePredictor::new(&space, &table, 224).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} against {b}");
        for _ in 0..200 {
            let mut arch = space.uniform(&mut rng);
            let channels = arch.level_channels(&space);
            let at = p.level_indices(&channels).unwrap();
            for end in [End::Fastest, End::Slowest] {
                let bound = |(low, high): (f64, f64)| if end == End::Fastest { low } else { high };
                for i in 0..space.levels.len() {
                    for transport in [true, false] {
                        let chosen = level_end(&p, (transport, i), &at, end, &mut rng).unwrap();
                        let span = p.level_span(transport, i, &at).unwrap();
                        near(p.level(transport, i, &at, &chosen).unwrap(), bound(span));
                        (if transport { &mut arch.transport } else { &mut arch.decoder })[i] = chosen;
                    }
                }
                space.validate(&arch).unwrap();
                let mut input = arch.stem;
                for s in 0..space.stages.len() {
                    for d in 0..arch.stages[s].len() {
                        let layer = layer_end(&p, (s, d), input, end, &mut rng).unwrap();
                        near(p.layer(s, d, input, &layer).unwrap(), bound(p.layer_span(s, d, input).unwrap()));
                        input = layer.channels;
                        arch.stages[s][d] = layer;
                    }
                }
                space.validate(&arch).unwrap();
            }
        }
    }
}
