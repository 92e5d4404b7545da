//! Exact latency ranges of stages, transport, decoder and of the whole space.

use inas_space::{FusionChoices, Micros};

use super::TablePredictor;
use super::latency::{FusionTable, Grid, StageTable, index, input_choices};

/// Lowest and highest latency of a stage, us, `[input channels][output channels]`.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) low: Vec<Vec<f64>>,
    pub(super) high: Vec<Vec<f64>>,
}

/// Bounds over the layers of a stage, by dynamic programming over the layers: one depends on the next only through
/// its channels.
pub(super) fn layer_bounds(depths: &[u32], table: &StageTable) -> Bounds {
    Bounds { low: extreme(depths, table, f64::min, f64::INFINITY), high: extreme(depths, table, f64::max, -1.0) }
}

type Pick = fn(f64, f64) -> f64;

/// `[input][output]` of the best kernel of each layer.
fn best_kernel(grid: &Grid, pick: Pick, start: f64) -> Vec<Vec<f64>> {
    let [inputs, outputs, _] = grid.dims();
    let cell = |i, o| grid.row(i, o).iter().copied().fold(start, pick);
    (0..inputs).map(|i| (0..outputs).map(|o| cell(i, o)).collect()).collect()
}

fn extreme(depths: &[u32], table: &StageTable, pick: Pick, start: f64) -> Vec<Vec<f64>> {
    let mut last = best_kernel(&table.first, pick, start);
    let rest = table.rest.as_ref().map(|grid| best_kernel(grid, pick, start));
    let mut best = last.iter().map(|row| vec![start; row.len()]).collect::<Vec<_>>();
    for depth in 1..=depths.iter().copied().max().unwrap_or(1) {
        if let (true, Some(rest)) = (depth > 1, &rest) {
            last = chain(&last, rest, pick, start);
        }
        if depths.contains(&depth) {
            for (row, found) in best.iter_mut().zip(&last) {
                row.iter_mut().zip(found).for_each(|(b, f)| *b = pick(*b, *f));
            }
        }
    }
    best
}

/// Cheapest (dearest) way through `a` and then `b`.
fn chain(a: &[Vec<f64>], b: &[Vec<f64>], pick: Pick, start: f64) -> Vec<Vec<f64>> {
    let outputs = b.first().map_or(0, Vec::len);
    let through = |row: &[f64], o: usize| row.iter().zip(b).map(|(x, y)| x + y[o]).fold(start, pick);
    a.iter().map(|row| (0..outputs).map(|o| through(row, o)).collect()).collect()
}

/// Lowest and highest latency of a fusion and its branches, over its sources and kernels, us.
fn fusion_range(choices: &FusionChoices, table: &FusionTable, level: usize, at: &[usize]) -> (f64, f64) {
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
    let (mut low, mut high) = (f64::INFINITY, -1.0_f64);
    for more in 0..=free.len() {
        if more > 0 {
            cheap += free[more - 1];
            dear += free[free.len() - more];
        }
        for fusion in table.fusion.row(at[level], more) {
            low = low.min(cheap + fusion);
            high = high.max(dear + fusion);
        }
    }
    (low, high)
}

impl TablePredictor {
    /// Lowest and highest latency of the stem.
    pub fn stem_range(&self) -> (Micros, Micros) {
        let low = self.stem.iter().copied().fold(f64::INFINITY, f64::min);
        (Micros(low), Micros(self.stem.iter().copied().fold(low, f64::max)))
    }

    /// Exact lowest and highest latency of stage `stage` (from 0) that reads `in_channels`; `None` outside the space.
    pub fn stage_range(&self, stage: usize, in_channels: u32) -> Option<(Micros, Micros)> {
        let at = index(input_choices(&self.space, stage), in_channels)?;
        let bounds = &self.bounds[stage];
        let low = bounds.low[at].iter().copied().fold(f64::INFINITY, f64::min);
        Some((Micros(low), Micros(bounds.high[at].iter().copied().fold(low, f64::max))))
    }

    /// Exact lowest and highest latency of the transport over levels of those channel counts.
    pub fn transport_range(&self, channels: &[u32]) -> Option<(Micros, Micros)> {
        let (low, high) = self.transport_span(&self.level_indices(channels)?);
        Some((Micros(low), Micros(high)))
    }

    /// Exact lowest and highest latency of the decoder, head included, over levels of those channel counts.
    pub fn decoder_range(&self, channels: &[u32]) -> Option<(Micros, Micros)> {
        let (low, high) = self.decoder_span(&self.level_indices(channels)?);
        Some((Micros(low), Micros(high)))
    }

    /// Lowest and highest latency of layer `d` of a stage, us.
    pub(super) fn layer_span(&self, stage: usize, d: usize, in_channels: u32) -> Option<(f64, f64)> {
        let table = &self.stages[stage];
        let (grid, inputs) = if d == 0 {
            (&table.first, input_choices(&self.space, stage))
        } else {
            (table.rest.as_ref()?, &self.space.stages[stage].channels[..])
        };
        let at = index(inputs, in_channels)?;
        let times = (0..grid.dims()[1]).flat_map(|o| grid.row(at, o));
        Some(times.fold((f64::INFINITY, 0.0), |(low, high), t| (t.min(low), t.max(high))))
    }

    /// Lowest and highest latency of a transport or decoder level, us; `at` as from `level_indices`.
    pub(super) fn level_span(&self, transport: bool, level: usize, at: &[usize]) -> Option<(f64, f64)> {
        let (choices, table) = self.fusion(transport, level)?;
        (at.len() == self.space.levels.len()).then(|| fusion_range(choices, table, level, at))
    }

    fn transport_span(&self, at: &[usize]) -> (f64, f64) {
        let levels = self.space.levels.iter().zip(&self.transport).enumerate();
        let ranges = levels.map(|(i, (level, table))| fusion_range(&level.transport, table, i, at));
        ranges.fold((0.0, 0.0), |sum, r| (sum.0 + r.0, sum.1 + r.1))
    }

    fn decoder_span(&self, at: &[usize]) -> (f64, f64) {
        let levels = self.space.levels.iter().zip(&self.decoder).enumerate();
        let ranges = levels.map(|(i, (level, table))| fusion_range(&level.decoder, table, i, at));
        let head = self.head[at[0]];
        ranges.fold((head, head), |sum, r| (sum.0 + r.0, sum.1 + r.1))
    }
}

/// Exact latency of the fastest and slowest network: for each combination of level channels, transport and decoder
/// are independent of the rest, and the backbone is a chain between the levels.
pub(super) fn reachable(predictor: &TablePredictor) -> (Micros, Micros) {
    let low = segments(predictor, f64::min, f64::INFINITY, |b| &b.low);
    let high = segments(predictor, f64::max, -1.0, |b| &b.high);
    let sizes: Vec<usize> =
        (0..predictor.space.levels.len()).map(|i| predictor.space.level_channels(i).len()).collect();
    let mut at = vec![0; sizes.len()];
    let (mut lowest, mut highest) = (f64::INFINITY, 0.0_f64);
    loop {
        let (transport, decoder) = (predictor.transport_span(&at), predictor.decoder_span(&at));
        lowest = lowest.min(through(&low, &at) + transport.0 + decoder.0);
        highest = highest.max(through(&high, &at) + transport.1 + decoder.1);
        // Count on, the last level fastest.
        let Some(digit) = (0..at.len()).rev().find(|&i| at[i] + 1 < sizes[i]) else { break };
        at[digit] += 1;
        at[digit + 1..].fill(0);
    }
    (Micros(lowest), Micros(highest))
}

/// Backbone between consecutive levels: `[input][output]`; the first from the image, the last to the end.
fn segments(
    predictor: &TablePredictor,
    pick: Pick,
    start: f64,
    side: fn(&Bounds) -> &Vec<Vec<f64>>,
) -> Vec<Vec<Vec<f64>>> {
    let mut segments = Vec::new();
    let mut open = Some(vec![predictor.stem.clone()]);
    for (s, bounds) in predictor.bounds.iter().enumerate() {
        let here = side(bounds);
        let chained = open.take().map_or_else(|| here.clone(), |before| chain(&before, here, pick, start));
        if predictor.space.levels.iter().any(|l| l.stage as usize == s + 1) {
            segments.push(chained);
        } else {
            open = Some(chained);
        }
    }
    if let Some(tail) = open {
        segments.push(tail.iter().map(|row| vec![row.iter().copied().fold(start, pick)]).collect());
    }
    segments
}

fn through(segments: &[Vec<Vec<f64>>], at: &[usize]) -> f64 {
    let mut from = 0;
    let mut sum = 0.0;
    for (i, segment) in segments.iter().enumerate() {
        let to = at.get(i).copied().unwrap_or(0);
        sum += segment[from][to];
        from = to;
    }
    sum
}
