//! Architectures drawn exactly uniformly from those whose total latency lies in a window.
//!
//! The latency is a sum over blocks, and blocks share only channel counts. So the number of architectures in each narrow
//! latency bin is counted by dynamic programming: along the layers of a stage and the stages between two pyramid levels,
//! given the channels at both ends; then, for each combination of level channels, over transport and decoder, whose
//! choices are independent of one another. A draw goes backwards through the counts. Bins round: a draw is made from the
//! bins that can hold the window, and rejected when its true latency lies outside, which leaves it uniform.

use inas_space::{Architecture, LayerChoice, LevelChoice, Micros};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::hist::Histogram;
use super::latency::{Grid, input_choices};
use super::{Result, Sampler, SearchError, TablePredictor};

/// Bins over the reachable latencies.
const BINS: usize = 1024;

/// Rejected draws after which a window counts as empty: it holds less than 1 in 10^4 of what its bins hold.
const REJECTIONS: usize = 100_000;

/// Uniform draws within windows of total latency.
#[derive(Debug)]
pub struct Exact<'a> {
    predictor: &'a TablePredictor,
    /// Width of a bin, us.
    width: f64,
    /// Smallest and largest latency of each window, us.
    windows: Vec<(f64, f64)>,
    stages: Vec<StageCounts>,
    segments: Vec<Segment>,
    /// Every combination of level channels with the architectures in each window's bins.
    levels: Vec<(Vec<usize>, Vec<f64>)>,
}

/// Counts of a stage's layers: `[input channels][depth - 1][output channels]`.
type StageCounts = Vec<Vec<Vec<Histogram>>>;

/// Stages between two levels (or the image and a level, or a level and the end).
#[derive(Debug)]
struct Segment {
    stages: std::ops::Range<usize>,
    /// Counts up to a stage's end: `[channels at the start][stage][output channels]`.
    counts: Vec<Vec<Vec<Histogram>>>,
}

/// A choice of a transport or decoder level, with the number of kernel sets that take as long.
struct Choice {
    sources: Vec<u32>,
    /// Index of the largest kernel.
    kernel: usize,
    bin: usize,
}

impl Choice {
    fn sets(&self) -> f64 {
        subsets(self.kernel)
    }
}

/// Kernel sets whose largest is kernel number `k`.
fn subsets(k: usize) -> f64 {
    (k as f64).exp2()
}

impl<'a> Exact<'a> {
    /// Counts the architectures of each window, bounds included. A window that no architecture's latency lies in is an
    /// error that tells the reachable range.
    pub fn new(predictor: &'a TablePredictor, windows: &[(Micros, Micros)]) -> Result<Self> {
        let (lowest, highest) = predictor.reachable();
        let empty = |(low, high): (Micros, Micros)| SearchError::EmptyWindow { low, high, lowest, highest };
        if let Some(window) =
            windows.iter().find(|(low, high)| low.0 > highest.0 || high.0 < lowest.0 || low.0 > high.0)
        {
            return Err(empty(*window));
        }
        let exact = Self::count_in(predictor, windows);
        match (0..windows.len()).find(|w| exact.architectures(*w) <= 0.0) {
            Some(w) => Err(empty(windows[w])),
            None => Ok(exact),
        }
    }

    /// The range between the ends of the space in equal groups; the first and the last also take what is faster and
    /// slower. Groups may turn out empty.
    pub fn in_groups(predictor: &'a TablePredictor, groups: usize) -> Self {
        let ((low, high), (lowest, highest)) = (predictor.ends(), predictor.reachable());
        let bound = |g: usize| match g {
            0 => Micros(lowest.0.min(low.0)),
            g if g >= groups => Micros(highest.0.max(high.0)),
            g => Micros(low.0 + (high.0 - low.0) * g as f64 / groups as f64),
        };
        Self::count_in(predictor, &(0..groups.max(1)).map(|g| (bound(g), bound(g + 1))).collect::<Vec<_>>())
    }

    fn count_in(predictor: &'a TablePredictor, windows: &[(Micros, Micros)]) -> Self {
        let mut exact = Self {
            predictor,
            width: (predictor.reachable().1.0 / BINS as f64).max(f64::MIN_POSITIVE),
            windows: windows.iter().map(|(low, high)| (low.0, high.0)).collect(),
            stages: Vec::new(),
            segments: Vec::new(),
            levels: Vec::new(),
        };
        exact.stages = (0..predictor.stages.len()).map(|s| exact.stage(s)).collect();
        exact.segments = exact.cut();
        exact.count(&mut Vec::new(), &Histogram::point(0, 1.0));
        exact
    }

    /// Architectures in the bins of a window: at least those of the window.
    pub fn architectures(&self, window: usize) -> f64 {
        self.levels.iter().map(|(_, counts)| counts[window]).sum()
    }

    /// A uniformly random architecture of a window.
    ///
    /// `None` when 100 000 draws from its bins all lie outside it.
    pub fn draw_from(&self, window: usize, rng: &mut ChaCha8Rng) -> Option<Architecture> {
        let (low, high) = *self.windows.get(window)?;
        (0..REJECTIONS).find_map(|_| {
            let arch = self.propose(window, rng)?;
            let total = self.predictor.latency(&arch).ok()?.total().0;
            (low..=high).contains(&total).then_some(arch)
        })
    }

    fn bin(&self, micros: f64) -> usize {
        (micros / self.width).round() as usize
    }

    /// First and last bin that rounding can put a latency of the window into.
    fn bins(&self, window: usize) -> (usize, usize) {
        let space = self.predictor.space();
        let layers: u32 = space.stages.iter().map(|s| s.depths.iter().max().copied().unwrap_or(0)).sum();
        let terms = 2 + layers as usize + 2 * space.levels.len();
        let (low, high) = self.windows[window];
        (self.bin(low).saturating_sub(terms / 2 + 1), self.bin(high) + terms / 2 + 1)
    }

    /// Counts of a stage by depth.
    fn stage(&self, s: usize) -> StageCounts {
        let (table, choices) = (&self.predictor.stages[s], &self.predictor.space().stages[s]);
        let deepest = choices.depths.iter().max().copied().unwrap_or(1) as usize;
        let outputs = choices.channels.len();
        let then = |before: &Histogram, grid: &Grid, from: usize, to: usize, sum: &mut Histogram| {
            for (k, micros) in grid.row(from, to).iter().enumerate() {
                sum.add(before, self.bin(*micros), subsets(k));
            }
        };
        let first = |from: usize, to: usize| {
            let mut sum = Histogram::default();
            then(&Histogram::point(0, 1.0), &table.first, from, to, &mut sum);
            sum
        };
        (0..input_choices(self.predictor.space(), s).len())
            .map(|from| {
                let mut depths = vec![(0..outputs).map(|to| first(from, to)).collect::<Vec<_>>()];
                while let (true, Some(rest)) = (depths.len() < deepest, &table.rest) {
                    let last = &depths[depths.len() - 1];
                    let deeper = (0..outputs).map(|to| {
                        let mut sum = Histogram::default();
                        last.iter().enumerate().for_each(|(via, before)| then(before, rest, via, to, &mut sum));
                        sum
                    });
                    depths.push(deeper.collect());
                }
                depths
            })
            .collect()
    }

    /// Counts of a stage of any depth.
    fn any_depth(&self, s: usize, from: usize, to: usize) -> Histogram {
        let mut sum = Histogram::default();
        for depth in &self.predictor.space().stages[s].depths {
            sum.add(&self.stages[s][from][*depth as usize - 1][to], 0, 1.0);
        }
        sum
    }

    /// The backbone cut at the levels.
    fn cut(&self) -> Vec<Segment> {
        let space = self.predictor.space();
        let mut ends: Vec<usize> = space.levels.iter().map(|l| l.stage as usize).collect();
        if ends.last().is_none_or(|end| *end < space.stages.len()) {
            ends.push(space.stages.len());
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, end)| self.segment(start..*end)).collect()
    }

    fn segment(&self, stages: std::ops::Range<usize>) -> Segment {
        let space = self.predictor.space();
        let inputs = input_choices(space, stages.start).len();
        let point = |at: usize, from: usize, micros: f64| {
            if at == from { Histogram::point(self.bin(micros), 1.0) } else { Histogram::default() }
        };
        // The first segment starts at the image: the stem's channels are free.
        let starts: Vec<Vec<Histogram>> = if stages.start == 0 {
            vec![self.predictor.stem.iter().map(|micros| Histogram::point(self.bin(*micros), 1.0)).collect()]
        } else {
            (0..inputs).map(|from| (0..inputs).map(|at| point(at, from, 0.0)).collect()).collect()
        };
        let through = |start: Vec<Histogram>| {
            let mut counts = vec![start];
            for s in stages.clone() {
                let before = &counts[counts.len() - 1];
                let after = (0..space.stages[s].channels.len()).map(|to| {
                    let mut sum = Histogram::default();
                    for (from, h) in before.iter().enumerate() {
                        sum.add(&h.pairs(&self.any_depth(s, from, to)), 0, 1.0);
                    }
                    sum
                });
                counts.push(after.collect());
            }
            counts
        };
        Segment { stages: stages.clone(), counts: starts.into_iter().map(through).collect() }
    }

    /// Counts of segment `i` between the channels of its ends; a last one behind the levels ends anywhere.
    fn between(&self, i: usize, at: &[usize]) -> Histogram {
        let from = if i == 0 { 0 } else { at[i - 1] };
        let counts = &self.segments[i].counts[from];
        let last = &counts[counts.len() - 1];
        match at.get(i) {
            Some(to) => last[*to].clone(),
            None => last.iter().fold(Histogram::default(), |mut sum, h| {
                sum.add(h, 0, 1.0);
                sum
            }),
        }
    }

    /// Goes through the combinations of level channels that begin with `at`; `before` counts the backbone so far.
    fn count(&mut self, at: &mut Vec<usize>, before: &Histogram) {
        let level = at.len();
        if level == self.predictor.space().levels.len() {
            let mut all = before.clone();
            if self.segments.len() > level {
                all = all.pairs(&self.between(level, at));
            }
            for options in self.level_options(at) {
                all = chosen(&all, &options);
            }
            let head = self.bin(self.predictor.head[at[0]]);
            let in_window = |w: usize| {
                let (from, to) = self.bins(w);
                all.sum(from.saturating_sub(head), to.saturating_sub(head))
            };
            let counts = (0..self.windows.len()).map(in_window).collect();
            self.levels.push((at.clone(), counts));
            return;
        }
        for channels in 0..self.predictor.space().level_channels(level).len() {
            at.push(channels);
            let after = before.pairs(&self.between(level, at));
            self.count(at, &after);
            at.pop();
        }
    }

    /// Options of every transport level, then of every decoder level.
    fn level_options(&self, at: &[usize]) -> Vec<Vec<Choice>> {
        let levels = 0..self.predictor.space().levels.len();
        let both = [true, false].into_iter().flat_map(|transport| levels.clone().map(move |i| (transport, i)));
        both.map(|(transport, i)| self.options(transport, i, at)).collect()
    }

    fn options(&self, transport: bool, level: usize, at: &[usize]) -> Vec<Choice> {
        let Some((choices, _)) = self.predictor.fusion(transport, level) else { return Vec::new() };
        let free: Vec<u32> = choices.sources.iter().copied().filter(|s| !choices.required.contains(s)).collect();
        let mut options = Vec::with_capacity((1 << free.len()) * choices.kernels.len());
        for mask in 0..1_usize << free.len() {
            let more = free.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, s)| *s);
            let mut sources: Vec<u32> = choices.required.iter().copied().chain(more).collect();
            sources.sort_unstable();
            for (kernel, side) in choices.kernels.iter().enumerate().filter(|_| !sources.is_empty()) {
                let choice = LevelChoice { sources: sources.clone(), kernels: vec![*side] };
                if let Some(micros) = self.predictor.level(transport, level, at, &choice) {
                    options.push(Choice { sources: choice.sources, kernel, bin: self.bin(micros) });
                }
            }
        }
        options
    }

    /// A uniformly random architecture of the window's bins.
    fn propose(&self, window: usize, rng: &mut ChaCha8Rng) -> Option<Architecture> {
        let (at, _) = pick(self.levels.iter().map(|entry| (entry, entry.1[window])), rng)?;
        // Counts before each part, then backwards through the parts.
        let mut before = vec![Histogram::point(0, 1.0)];
        for i in 0..self.segments.len() {
            before.push(before[i].pairs(&self.between(i, at)));
        }
        let options = self.level_options(at);
        for options in &options {
            before.push(chosen(&before[before.len() - 1], options));
        }
        let (head, (from, to)) = (self.bin(self.predictor.head[at[0]]), self.bins(window));
        let totals = before.pop()?;
        let inside = totals.iter().filter(|(bin, _)| (from..=to).contains(&(bin + head)));
        let mut total = pick(inside, rng)?;
        let space = self.predictor.space();
        let mut levels = Vec::with_capacity(options.len());
        for (i, options) in options.iter().enumerate().rev() {
            let counts = before.pop()?;
            let weighted =
                options.iter().map(|o| (o, total.checked_sub(o.bin).map_or(0.0, |b| counts.at(b)) * o.sets()));
            let option = pick(weighted, rng)?;
            total -= option.bin;
            let (transport, level) = (i < space.levels.len(), i % space.levels.len());
            let (choices, _) = self.predictor.fusion(transport, level)?;
            let kernels = up_to(&choices.kernels, option.kernel, rng);
            levels.push(LevelChoice { sources: option.sources.clone(), kernels });
        }
        levels.reverse();
        let decoder = levels.split_off(space.levels.len());
        let mut arch =
            Architecture { stem: 0, stages: vec![Vec::new(); space.stages.len()], transport: levels, decoder };
        for i in (0..self.segments.len()).rev() {
            let (counts, part) = (before.pop()?, self.between(i, at));
            let weighted = part.iter().map(|(bin, n)| (bin, total.checked_sub(bin).map_or(0.0, |b| counts.at(b)) * n));
            let bin = pick(weighted, rng)?;
            total -= bin;
            self.draw_segment(i, at, bin, &mut arch, rng)?;
        }
        Some(arch)
    }

    /// Layers of a segment whose latencies come to `bin`, from its end to its start.
    fn draw_segment(
        &self,
        i: usize,
        at: &[usize],
        mut bin: usize,
        arch: &mut Architecture,
        rng: &mut ChaCha8Rng,
    ) -> Option<()> {
        let (segment, from) = (&self.segments[i], if i == 0 { 0 } else { at[i - 1] });
        let counts = &segment.counts[from];
        let ends = &counts[counts.len() - 1];
        let mut to = match at.get(i) {
            Some(to) => *to,
            None => pick(ends.iter().enumerate().map(|(c, h)| (c, h.at(bin))), rng)?,
        };
        for (number, s) in segment.stages.clone().enumerate().rev() {
            let before = &counts[number];
            let ways = before.iter().enumerate().flat_map(|(via, h)| {
                let stage = self.any_depth(s, via, to);
                let ways: Vec<_> = stage
                    .iter()
                    .map(|(used, n)| ((via, used), bin.checked_sub(used).map_or(0.0, |rest| h.at(rest)) * n))
                    .collect();
                ways
            });
            let (via, used) = pick(ways, rng)?;
            arch.stages[s] = self.draw_stage(s, via, to, used, rng)?;
            bin -= used;
            to = via;
        }
        if i == 0 {
            arch.stem = self.predictor.space().stem.channels[to];
        }
        Some(())
    }

    /// Layers of a stage between two channel counts whose latencies come to `bin`.
    fn draw_stage(
        &self,
        s: usize,
        from: usize,
        mut to: usize,
        mut bin: usize,
        rng: &mut ChaCha8Rng,
    ) -> Option<Vec<LayerChoice>> {
        let (choices, table) = (&self.predictor.space().stages[s], &self.predictor.stages[s]);
        let counts = &self.stages[s][from];
        let depths = choices.depths.iter().map(|d| (*d as usize, counts[*d as usize - 1][to].at(bin)));
        let mut layers = Vec::new();
        for d in (0..pick(depths, rng)?).rev() {
            let channels = choices.channels[to];
            let start = [Histogram::point(0, 1.0)];
            let (grid, before, inputs) = match d {
                0 => (&table.first, &start[..], from..from + 1),
                _ => (table.rest.as_ref()?, &counts[d - 1][..], 0..choices.channels.len()),
            };
            let ways = inputs.clone().zip(before).flat_map(|(via, h)| {
                let way = move |(k, micros): (usize, &f64)| {
                    let used = self.bin(*micros);
                    ((via, k, used), bin.checked_sub(used).map_or(0.0, |rest| h.at(rest)) * subsets(k))
                };
                grid.row(via, to).iter().enumerate().map(way)
            });
            let (via, kernel, used) = pick(ways, rng)?;
            layers.push(LayerChoice { channels, kernels: up_to(&choices.kernels, kernel, rng) });
            bin -= used;
            to = via;
        }
        layers.reverse();
        Some(layers)
    }
}

impl Sampler for Exact<'_> {
    /// The windows are the groups; a group that proves empty gives a draw of the whole space.
    fn draw(&self, group: usize, _groups: usize, rng: &mut ChaCha8Rng) -> Architecture {
        let window = group.min(self.windows.len() - 1);
        self.draw_from(window, rng).unwrap_or_else(|| self.predictor.space().uniform(rng))
    }
}

/// Counts after one more independent choice.
fn chosen(before: &Histogram, options: &[Choice]) -> Histogram {
    let mut sum = Histogram::default();
    for option in options {
        sum.add(before, option.bin, option.sets());
    }
    sum
}

/// An item with probability proportional to its weight.
fn pick<T>(items: impl Iterator<Item = (T, f64)>, rng: &mut ChaCha8Rng) -> Option<T> {
    // Reservoir of one: a single pass, whatever the weights sum to.
    let mut sum = 0.0;
    let mut picked = None;
    for (item, weight) in items.filter(|(_, weight)| *weight > 0.0) {
        sum += weight;
        if rng.random::<f64>() * sum < weight {
            picked = Some(item);
        }
    }
    picked
}

/// A random kernel set whose largest is kernel number `k`.
fn up_to(kernels: &[u32], k: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    kernels
        .iter()
        .enumerate()
        .filter(|(i, _)| *i == k || (*i < k && rng.random_bool(0.5)))
        .map(|(_, side)| *side)
        .collect()
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
