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
use super::range::{Span, layers_ahead};

/// Uniform draws of which the one nearest to the aimed share is taken.
const DRAWS: usize = 8;

/// A stage that is to be drawn, and what can follow each of its layers.
#[derive(Debug)]
pub(super) struct StageAhead<'a> {
    predictor: &'a TablePredictor,
    stage: usize,
    in_channels: u32,
    /// What can still be reached before the stage is drawn.
    whole: Span,
    /// What can follow a layer: `[layers still to come][its channels]`.
    ahead: Vec<Vec<Span>>,
}

impl<'a> StageAhead<'a> {
    /// Stage `stage` (from 0) read from `in_channels`; `after` is what can follow it, by its channels.
    pub(super) fn new(
        predictor: &'a TablePredictor,
        stage: usize,
        in_channels: u32,
        (whole, after): (Span, &[Span]),
    ) -> Self {
        Self { predictor, stage, in_channels, whole, ahead: layers_ahead(predictor, stage, after) }
    }

    /// What can still be reached with these layers; `None` outside the space.
    pub(super) fn left(&self, layers: &[LayerChoice]) -> Option<Span> {
        let spent = self.predictor.stage(self.stage, self.in_channels, layers)?;
        let channels = index(&self.predictor.space().stages[self.stage].channels, layers.last()?.channels)?;
        Some(self.ahead[0][channels].plus(spent.0))
    }

    /// Layers of a random depth, drawn one after the other so that they come near `share` of the way.
    pub(super) fn draw(&self, share: f64, rng: &mut ChaCha8Rng) -> Vec<LayerChoice> {
        let choices = &self.predictor.space().stages[self.stage];
        let depth = *choices.depths.choose(rng).unwrap_or(&choices.depths[0]) as usize;
        let mut layers: Vec<LayerChoice> = Vec::with_capacity(depth);
        let (mut input, mut spent) = (self.in_channels, 0.0);
        for d in 0..depth {
            let ahead = &self.ahead[depth - 1 - d];
            let latency = |layer: &LayerChoice| self.predictor.layer(self.stage, d, input, layer);
            let left = |layer: &LayerChoice| {
                let channels = index(&choices.channels, layer.channels)?;
                Some(ahead[channels].plus(spent + latency(layer)?))
            };
            let build = |end, rng: &mut ChaCha8Rng| self.layer_end(d, input, ahead, end, rng);
            let layer = nearest(self.whole, share, rng, |rng| choices.uniform_layer(rng), left, build);
            spent += latency(&layer).unwrap_or_default();
            input = layer.channels;
            layers.push(layer);
        }
        layers
    }

    /// Layer `d` of the fastest or slowest way to go on.
    fn layer_end(
        &self,
        d: usize,
        in_channels: u32,
        ahead: &[Span],
        end: End,
        rng: &mut ChaCha8Rng,
    ) -> Option<LayerChoice> {
        let choices = &self.predictor.space().stages[self.stage];
        let (grid, from) = self.predictor.layers(self.stage, d, in_channels)?;
        let ways = ahead.iter().enumerate().flat_map(|(to, after)| {
            let row = grid.row(from, to).iter().enumerate();
            row.map(move |(kernel, micros)| ((to, kernel), end.side(after.plus(*micros))))
        });
        let (to, kernel) = end.of(ways)?;
        let kernels = up_to(&choices.kernels, choices.kernels[kernel], rng);
        Some(LayerChoice { channels: choices.channels[to], kernels })
    }
}

/// Transport or decoder levels over levels whose channels are the choices `at`, drawn one after the other so that with the
/// `rest` of transport and decoder they come near `share` of the way through `whole`.
pub(super) fn levels(
    (predictor, transport, at): (&TablePredictor, bool, &[usize]),
    (whole, rest): (Span, Span),
    share: f64,
    rng: &mut ChaCha8Rng,
) -> Vec<LevelChoice> {
    let mut ahead = vec![rest];
    for i in (1..at.len()).rev() {
        ahead.push(predictor.level_span(transport, i, at).and(ahead[ahead.len() - 1]));
    }
    let (mut spent, mut levels) = (0.0, Vec::with_capacity(at.len()));
    for (i, level) in predictor.space().levels.iter().enumerate() {
        let choices = if transport { &level.transport } else { &level.decoder };
        let latency = |chosen: &LevelChoice| predictor.level(transport, i, at, chosen);
        let left = |chosen: &LevelChoice| Some(ahead[at.len() - 1 - i].plus(spent + latency(chosen)?));
        let build = |end, rng: &mut ChaCha8Rng| level_end(predictor, (transport, i), at, end, rng);
        let chosen = nearest(whole, share, rng, |rng| choices.uniform(rng), left, build);
        spent += latency(&chosen).unwrap_or_default();
        levels.push(chosen);
    }
    levels
}

/// An end of a latency range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fastest,
    Slowest,
}

impl End {
    fn side(self, span: Span) -> f64 {
        if self == Self::Fastest { span.low } else { span.high }
    }

    /// The item whose latency is at this end; the first of equal ones.
    fn of<T>(self, items: impl Iterator<Item = (T, f64)>) -> Option<T> {
        let nearer = |a: f64, b: f64| if self == Self::Fastest { a < b } else { a > b };
        items.reduce(|best, item| if nearer(item.1, best.1) { item } else { best }).map(|(item, _)| item)
    }
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

/// Of a few draws and the nearer end, the one that comes nearest to `share` of the way through `whole`.
fn nearest<T>(
    whole: Span,
    share: f64,
    rng: &mut ChaCha8Rng,
    draw: impl Fn(&mut ChaCha8Rng) -> T,
    left: impl Fn(&T) -> Option<Span>,
    build: impl FnOnce(End, &mut ChaCha8Rng) -> Option<T>,
) -> T {
    let miss = |drawn: &T| left(drawn).map_or(f64::INFINITY, |left| whole.miss(left, share));
    let mut best = draw(rng);
    let mut least = miss(&best);
    let mut compare = |other: T| {
        let away = miss(&other);
        if away < least {
            (best, least) = (other, away);
        }
    };
    for _ in 1..DRAWS {
        compare(draw(rng));
    }
    let end = if share < 0.5 { End::Fastest } else { End::Slowest };
    if let Some(built) = build(end, rng) {
        compare(built);
    }
    best
}

#[cfg(test)]
mod tests {
    use inas_space::{LatencyTable, Space};
    use rand::SeedableRng as _;

    use super::super::range::with_level;
    use super::*;

    /// In a random table an end can be any choice, and the fastest layer of a stage is seldom part of the fastest network.
    #[test]
    fn draws_at_the_ends_of_the_range_lead_to_the_very_ends() {
        let space = Space::preset("iccv21").unwrap();
        let table = LatencyTable::from_release(include_str!("../../../../tests/golden/lut/lut_224.txt")).unwrap();
        let p = TablePredictor::new(&space, &table, 224).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for (end, share) in [(End::Fastest, 0.0), (End::Slowest, 1.0)] {
            let mut arch = space.uniform(&mut rng);
            let (mut channels, mut levels) = (arch.stem, 0);
            let mut from = index(&space.stem.channels, channels).unwrap();
            let mut left = p.ahead.after(0, 0)[from];
            let reachable = left.plus(p.stem[from]);
            for (s, stage) in space.stages.iter().enumerate() {
                levels = with_level(&space, s, levels, from);
                let ahead = StageAhead::new(&p, s, channels, (left, p.ahead.after(s + 1, levels)));
                // The depth is random; one of them is that of the end.
                let drawn = (0..50).map(|_| ahead.draw(share, &mut rng));
                let miss = |layers: &Vec<LayerChoice>| left.miss(ahead.left(layers).unwrap(), share);
                let layers = drawn.min_by(|a, b| miss(a).total_cmp(&miss(b))).unwrap();
                assert!(miss(&layers) < 1e-6, "stage {s}, {end:?}");
                channels = layers.last().unwrap().channels;
                from = index(&stage.channels, channels).unwrap();
                left = p.ahead.after(s + 1, levels)[from];
                arch.stages[s] = layers;
            }
            let at = p.level_indices(&arch.level_channels(&space)).unwrap();
            for (transport, whole) in [(true, p.transport_span(&at)), (false, p.decoder_span(&at))] {
                let rest = Span::point(if transport { 0.0 } else { p.head[at[0]] });
                let levels = super::levels((&p, transport, &at), (whole, rest), share, &mut rng);
                *(if transport { &mut arch.transport } else { &mut arch.decoder }) = levels;
            }
            space.validate(&arch).unwrap();
            let total = p.latency(&arch).unwrap().total().0;
            assert!((total - end.side(reachable)).abs() < 1e-6, "{total} against {reachable:?}");
        }
    }
}
