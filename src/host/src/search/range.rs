//! Exact ranges of latency: of transport and decoder, and of every way to complete a network that is drawn in part.
//!
//! Channels couple the parts of a network: the layers that are fastest by themselves may leave channels that make the next
//! stage, or a pyramid level, slow. So what a choice costs is what is still reachable after it. By dynamic programming:
//! what follows a stage depends only on the channels of the levels so far and on the channels of its last layer.

use inas_space::{FusionChoices, Micros, Space};

use super::TablePredictor;
use super::latency::{FusionTable, Grid, StageTable, input_choices};

/// Latencies from the lowest to the highest, us.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Span {
    pub(super) fn point(micros: f64) -> Self {
        Self { low: micros, high: micros }
    }

    /// The smallest span that holds all of them.
    pub(super) fn hull(spans: impl Iterator<Item = Self>) -> Self {
        let none = Self { low: f64::INFINITY, high: f64::NEG_INFINITY };
        spans.fold(none, |hull, s| Self { low: hull.low.min(s.low), high: hull.high.max(s.high) })
    }

    pub(super) fn plus(self, micros: f64) -> Self {
        self.and(Self::point(micros))
    }

    /// One latency of each, added.
    pub(super) fn and(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    /// What a choice that leaves `left` of this span gives away at its fast and at its slow end.
    ///
    /// Over all choices of a network the first sum to its distance from the fastest network, the second to that from the
    /// slowest: where each choice gives away the same share at the fast end, that is the network's share of the range.
    fn lost(self, left: Self) -> (f64, f64) {
        ((left.low - self.low).max(0.0), (self.high - left.high).max(0.0))
    }

    /// Whether a choice that leaves `left` lies in the part `from..=to` of the way from the fastest to the slowest.
    pub(super) fn holds(self, left: Self, (from, to): (f64, f64)) -> bool {
        let (fast, slow) = self.lost(left);
        let rounding = 1e-9 * self.high;
        from * (fast + slow) <= fast + rounding && fast <= to * (fast + slow) + rounding
    }

    /// How far, us, a choice that leaves `left` is from `share` of the way from the fastest to the slowest.
    pub(super) fn miss(self, left: Self, share: f64) -> f64 {
        let (fast, slow) = self.lost(left);
        ((1.0 - share) * fast - share * slow).abs()
    }

    pub(super) fn micros(self) -> (Micros, Micros) {
        (Micros(self.low), Micros(self.high))
    }
}

/// What can follow the stem and each stage, us.
#[derive(Debug, Clone, Default)]
pub(super) struct Ahead {
    /// `[stages drawn][channels of the levels before the last of them, as one number][channels of its last layer]`.
    after: Vec<Vec<Vec<Span>>>,
}

impl Ahead {
    /// Of the stages, the transport and the decoder of `predictor`.
    pub(super) fn new(predictor: &TablePredictor) -> Self {
        let (space, end) = (&predictor.space, predictor.stages.len());
        let mut ahead = Self { after: vec![Vec::new(); end + 1] };
        for drawn in (0..=end).rev() {
            let before = space.levels.iter().take_while(|l| (l.stage as usize) < drawn).count();
            let codes: usize = (0..before).map(|i| space.level_channels(i).len()).product();
            let follows = |code: usize, channels: usize| {
                let levels = with_level(space, drawn, code, channels);
                if drawn < end {
                    let layers = layers_ahead(predictor, drawn, &ahead.after[drawn + 1][levels]);
                    stage_ahead(&space.stages[drawn].depths, &predictor.stages[drawn], channels, &layers)
                } else {
                    let at = digits(space, levels);
                    predictor.transport_span(&at).and(predictor.decoder_span(&at))
                }
            };
            let channels = input_choices(space, drawn).len();
            ahead.after[drawn] = (0..codes).map(|code| (0..channels).map(|c| follows(code, c)).collect()).collect();
        }
        ahead
    }

    /// What can follow when `drawn` stages are drawn and the levels before the last of them are `levels`, by the channels
    /// of its last layer.
    pub(super) fn after(&self, drawn: usize, levels: usize) -> &[Span] {
        &self.after[drawn][levels]
    }
}

/// The number of the levels' channels, with those of the level (if one is there) behind stage `drawn`.
pub(super) fn with_level(space: &Space, drawn: usize, levels: usize, channels: usize) -> usize {
    match space.levels.iter().position(|l| l.stage as usize == drawn) {
        Some(i) => levels * space.level_channels(i).len() + channels,
        None => levels,
    }
}

/// Channels of each level, by index of the choice.
fn digits(space: &Space, mut levels: usize) -> Vec<usize> {
    let mut at: Vec<usize> = (0..space.levels.len())
        .rev()
        .map(|i| {
            let base = space.level_channels(i).len();
            let digit = levels % base;
            levels /= base;
            digit
        })
        .collect();
    at.reverse();
    at
}

/// What can follow a layer of stage `stage`: `[layers still to come][channels of this one]`; `after` follows the stage.
pub(super) fn layers_ahead(predictor: &TablePredictor, stage: usize, after: &[Span]) -> Vec<Vec<Span>> {
    let deepest = predictor.space.stages[stage].depths.iter().max().copied().unwrap_or(1);
    let mut ahead = vec![after.to_vec()];
    if let Some(rest) = &predictor.stages[stage].rest {
        for layer in 1..deepest as usize {
            let deeper = (0..after.len()).map(|from| layer_ahead(rest, from, &ahead[layer - 1]));
            ahead.push(deeper.collect());
        }
    }
    ahead
}

fn layer_ahead(grid: &Grid, from: usize, after: &[Span]) -> Span {
    let ways = after.iter().enumerate().flat_map(|(to, span)| grid.row(from, to).iter().map(|t| span.plus(*t)));
    Span::hull(ways)
}

fn stage_ahead(depths: &[u32], table: &StageTable, from: usize, layers: &[Vec<Span>]) -> Span {
    Span::hull(depths.iter().map(|depth| layer_ahead(&table.first, from, &layers[*depth as usize - 1])))
}

/// Latencies of a fusion and its branches, over its sources and kernels.
fn fusion_span(choices: &FusionChoices, table: &FusionTable, level: usize, at: &[usize]) -> Span {
    let (mut base, mut free) = (0.0, Vec::new());
    for (source, grid) in choices.sources.iter().zip(&table.branches) {
        let time = grid.row(at[*source as usize], at[level])[0];
        if choices.required.contains(source) {
            base += time;
        } else {
            free.push(time);
        }
    }
    // With a given number of further sources, the best are the cheapest (dearest).
    free.sort_by(f64::total_cmp);
    let (mut cheap, mut dear) = (base, base);
    let mut span = Span::hull(std::iter::empty());
    for more in 0..=free.len() {
        if more > 0 {
            cheap += free[more - 1];
            dear += free[free.len() - more];
        }
        for fusion in table.fusion.row(at[level], more) {
            span.low = span.low.min(cheap + fusion);
            span.high = span.high.max(dear + fusion);
        }
    }
    span
}

/// `at` is the index of each level's channels, as from `level_indices`.
impl TablePredictor {
    /// Latencies of a transport or decoder level.
    pub(super) fn level_span(&self, transport: bool, level: usize, at: &[usize]) -> Span {
        let choices = &self.space.levels[level];
        if transport {
            fusion_span(&choices.transport, &self.transport[level], level, at)
        } else {
            fusion_span(&choices.decoder, &self.decoder[level], level, at)
        }
    }

    /// Latencies of the transport.
    pub(super) fn transport_span(&self, at: &[usize]) -> Span {
        (0..at.len()).fold(Span::point(0.0), |sum, i| sum.and(self.level_span(true, i, at)))
    }

    /// Latencies of the decoder, head included.
    pub(super) fn decoder_span(&self, at: &[usize]) -> Span {
        (0..at.len()).fold(Span::point(self.head[at[0]]), |sum, i| sum.and(self.level_span(false, i, at)))
    }

    /// Latencies of all networks.
    pub(super) fn span(&self) -> Span {
        Span::hull(self.stem.iter().zip(self.ahead.after(0, 0)).map(|(stem, after)| after.plus(*stem)))
    }
}
