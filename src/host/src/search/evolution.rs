//! The search itself (thesis algorithm 1).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use inas_space::{Architecture, LatencyBreakdown, Micros};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::log::{Log, LogHeader};
use super::pareto::{self, Point};
use super::pool::{Pool, Workers};
use super::{
    Devices, Evaluated, Exact, Generation, Lgs, Objective, Origin, Progress, Result, Sampler, SamplerKind, Score,
    SearchConfig, SearchError, SearchResult, Strategy, TablePredictor, Uniform,
};

/// Equal parts of a latency range: the groups of thesis algorithm 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyGroups {
    low: Micros,
    high: Micros,
    groups: usize,
}

impl LatencyGroups {
    /// Splits the range from `low` to `high` in `groups` parts.
    pub fn new(low: Micros, high: Micros, groups: usize) -> Self {
        Self { low, high, groups: groups.max(1) }
    }

    /// Group of a latency; outside the range the first or last.
    pub fn of(&self, latency: Micros) -> usize {
        let width = self.high.0 - self.low.0;
        let share = if width > 0.0 { (latency.0 - self.low.0) / width } else { 0.0 };
        // A negative share saturates to 0.
        ((share * self.groups as f64) as usize).min(self.groups - 1)
    }
}

/// Refuses settings that no search can use, and a maximum latency that no architecture reaches.
pub fn check(devices: &Devices, config: &SearchConfig) -> Result<()> {
    config.check()?;
    devices.check(config.max_latency)
}

/// What a search works with.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Latencies, and the space.
    pub devices: &'a Devices,
    /// Accuracy.
    pub objective: &'a dyn Objective,
    /// Settings.
    pub config: &'a SearchConfig,
    /// Log to write, or to go on with.
    pub log: Option<&'a Path>,
    /// Threads, cache and share of the evaluations.
    pub workers: Workers<'a>,
    /// Ends the search when raised.
    pub cancel: &'a AtomicBool,
}

/// Searches for the architectures on the Pareto front of predicted latency and F-measure.
///
/// Generation 0 draws N/G architectures for each of G latency groups (S1). Each further generation selects k/G parents
/// a group from successive fronts of everything evaluated (S2), makes k children by crossover (S3) and k by mutation
/// (S4), and merges them in. NSGA-II makes as many children from tournaments, random search draws as many instead. No
/// architecture is evaluated twice; where no new one is found in 100 tries, the generation is smaller (a group that
/// fails so is drawn no further) and [`Generation::shortfall`] says by how much.
///
/// A generation is drawn first and then evaluated on all threads; what comes out does not depend on their number. With
/// a `log` (and a cache, for the generation under way) the search can be killed at any time: run again with the same
/// settings, it replays what they hold and ends with the log and front of an uninterrupted run. `observer` is called
/// after each evaluation.
pub fn run(setting: &Setting<'_>, observer: &mut dyn FnMut(&Progress)) -> Result<SearchResult> {
    let Setting { devices, config, .. } = *setting;
    check(devices, config)?;
    let predictor = devices.objective();
    let log =
        setting.log.map(|path| Log::open(path, &LogHeader::new(devices, setting.objective, config))).transpose()?;
    let (low, full) = predictor.ends();
    let high = config.max_latency.map_or(full, |max| Micros(devices.ceiling(max).clamp(low.0, full.0)));
    let sampler_groups = sampler_groups(config.groups, (low, high, full));
    let sampler: &dyn Sampler = match config.sampler {
        SamplerKind::Uniform => &Uniform::new(predictor.space()),
        SamplerKind::Lgs => &Lgs::new(predictor),
        SamplerKind::Exact => &Exact::in_groups(predictor, sampler_groups),
    };
    let mut search = Search {
        devices,
        predictor,
        config,
        sampler,
        pool: Pool::new(setting.objective, setting.workers, setting.cancel),
        log,
        observer,
        groups: LatencyGroups::new(low, high, config.groups),
        sampler_groups,
        rng: ChaCha8Rng::seed_from_u64(config.seed),
        seen: BTreeSet::new(),
        pending: Vec::new(),
        evaluated: Vec::new(),
        each: Vec::new(),
        population: Vec::new(),
        ranked: 0,
        front: Vec::new(),
        generations: Vec::new(),
    };
    search.run()?;
    let front = SearchResult::front_of(&search.evaluated, config.min_score);
    if let (true, Some(min)) = (front.is_empty(), config.min_score) {
        let scores = search.evaluated.iter().map(|e| e.score.f_max);
        let (lowest, highest) =
            scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), f| (low.min(f), high.max(f)));
        return Err(SearchError::ScoreUnreached { min, evaluated: search.evaluated.len(), lowest, highest });
    }
    Ok(SearchResult {
        front,
        evaluated: search.evaluated,
        generations: search.generations,
        reachable: predictor.reachable(),
    })
}

/// Groups that the sampler divides its full range into, so that the first `groups` of them lie below the maximum.
fn sampler_groups(groups: usize, (low, high, full): (Micros, Micros, Micros)) -> usize {
    let part = (high.0 - low.0) / (full.0 - low.0);
    if part.is_nan() || part >= 1.0 {
        return groups;
    }
    // Very tight maxima: finer groups than this only cost rejections.
    ((groups as f64 / part).round().min(5.0 * groups as f64)) as usize
}

/// An architecture that is about to be evaluated.
pub(super) struct Candidate {
    pub(super) arch: Architecture,
    pub(super) hash: String,
    pub(super) latency: LatencyBreakdown,
    /// Of each device when there are several, us.
    pub(super) each: Vec<f64>,
    pub(super) parents: Vec<String>,
    pub(super) origin: Origin,
}

pub(super) struct Search<'a> {
    pub(super) devices: &'a Devices,
    pub(super) predictor: &'a TablePredictor,
    pub(super) config: &'a SearchConfig,
    pub(super) sampler: &'a dyn Sampler,
    pool: Pool<'a>,
    log: Option<Log>,
    observer: &'a mut dyn FnMut(&Progress),
    pub(super) groups: LatencyGroups,
    pub(super) sampler_groups: usize,
    pub(super) rng: ChaCha8Rng,
    pub(super) seen: BTreeSet<String>,
    /// The generation that is being drawn.
    pub(super) pending: Vec<Candidate>,
    pub(super) evaluated: Vec<Evaluated>,
    /// Latencies on each device of what was evaluated, when there are several.
    pub(super) each: Vec<Vec<f64>>,
    /// NSGA-II: who survived.
    pub(super) population: Vec<usize>,
    /// NSGA-II: how many of the evaluated it has seen.
    pub(super) ranked: usize,
    /// The front so far, for the hypervolume.
    front: Vec<Point>,
    generations: Vec<Generation>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<()> {
        for generation in 0..=self.config.iterations {
            let count = if generation == 0 { self.config.population } else { 2 * self.config.keep };
            let shortfall = match (self.config.strategy, generation) {
                (Strategy::Random, _) => self.draw(count, Origin::Random)?,
                (_, 0) => self.draw(count, Origin::Init)?,
                (Strategy::Evolution, _) => self.breed()?,
                (Strategy::Nsga2, _) => self.mate(count)?,
            };
            self.evaluate(generation)?;
            self.survive();
            let (evaluated, hypervolume) = (self.evaluated.len(), self.hypervolume());
            self.generations.push(Generation { generation, evaluated, hypervolume, shortfall });
        }
        self.complete_front()
    }

    /// Evaluates the drawn generation and records it in the order of the draws.
    fn evaluate(&mut self, generation: usize) -> Result<()> {
        let candidates = std::mem::take(&mut self.pending);
        let first = self.evaluated.len();
        let mut outcome: Vec<Option<(Score, f64)>> = Vec::with_capacity(candidates.len());
        for (i, candidate) in candidates.iter().enumerate() {
            let replayed = self.log.as_mut().map_or(Ok(None), |log| log.replay(first + i, &candidate.hash))?;
            outcome.push(replayed.map(|r| (r.score, r.share)));
        }
        let replayed = outcome.iter().flatten().count();
        if replayed < candidates.len() {
            // Halving compares a whole generation, so a generation that was logged in part is judged again; the cache
            // knows its scores.
            let again = if self.config.first_share < 1.0 { 0 } else { replayed };
            outcome.truncate(again);
            let rest = self.judge(&candidates[again..], generation, again)?;
            outcome.extend(rest.into_iter().map(Some));
        }
        for (i, (candidate, found)) in candidates.into_iter().zip(outcome).enumerate() {
            let Some((score, share)) = found else { continue };
            let Candidate { arch, hash, latency, each, parents, origin } = candidate;
            let record = Evaluated { index: first + i, generation, arch, hash, latency, score, share, parents, origin };
            if let Some(log) = self.log.as_mut().filter(|_| i >= replayed) {
                log.append(&record)?;
            }
            self.insert(record.point());
            self.evaluated.push(record);
            self.each.push(each);
        }
        Ok(())
    }

    /// Scores of candidates and the shares of the images that they are of: rising shares for ever fewer of them.
    fn judge(&mut self, candidates: &[Candidate], generation: usize, known: usize) -> Result<Vec<(Score, f64)>> {
        let mut alive: Vec<usize> = (0..candidates.len()).collect();
        let mut outcome = vec![(Score { f_max: 0.0, mae: 0.0 }, 0.0); candidates.len()];
        let mut share = self.config.first_share;
        let (before, total) = (self.evaluated.len() + known, self.config.budget());
        let (best, hypervolume) = (self.best(), self.hypervolume());
        loop {
            let batch: Vec<(&Architecture, &str)> =
                alive.iter().map(|&i| (&candidates[i].arch, candidates[i].hash.as_str())).collect();
            let (mut done, mut best) = (candidates.len() - alive.len(), best);
            let observer = &mut *self.observer;
            let scores = self.pool.scores(&batch, share, share < 1.0, &mut |_, score| {
                done += 1;
                best = best.max(score.f_max);
                observer(&Progress { generation, evaluated: before + done, total, best, hypervolume });
            });
            let scores = scores.map_err(|error| match error {
                SearchError::Interrupted { evaluated } => SearchError::Interrupted { evaluated: before + evaluated },
                other => other,
            })?;
            for (&i, score) in alive.iter().zip(scores) {
                outcome[i] = (score, share);
            }
            if share >= 1.0 {
                break;
            }
            alive = better_half(&alive, candidates, &outcome);
            share = (2.0 * share).min(1.0);
        }
        Ok(outcome)
    }

    /// After halving: judges the front on all images, until every network of it is.
    fn complete_front(&mut self) -> Result<()> {
        if self.config.first_share >= 1.0 {
            return Ok(());
        }
        loop {
            let front = SearchResult::front_of(&self.evaluated, self.config.min_score);
            let partial: Vec<usize> = front.iter().filter(|e| e.share < 1.0).map(|e| e.index).collect();
            if partial.is_empty() {
                break;
            }
            let batch: Vec<(Architecture, String)> =
                partial.iter().map(|&i| (self.evaluated[i].arch.clone(), self.evaluated[i].hash.clone())).collect();
            let batch: Vec<(&Architecture, &str)> = batch.iter().map(|(a, h)| (a, h.as_str())).collect();
            let scores = self.pool.scores(&batch, 1.0, false, &mut |_, _| ())?;
            for (i, score) in partial.into_iter().zip(scores) {
                (self.evaluated[i].score, self.evaluated[i].share) = (score, 1.0);
            }
        }
        self.front = pareto::front_points(&self.evaluated.iter().map(Evaluated::point).collect::<Vec<_>>());
        let hypervolume = self.hypervolume();
        if let Some(last) = self.generations.last_mut() {
            last.hypervolume = hypervolume;
        }
        Ok(())
    }

    /// The architecture as a candidate, unless it is too slow or was met before.
    pub(super) fn candidate(
        &self,
        arch: Architecture,
        parents: Vec<String>,
        origin: Origin,
    ) -> Result<Option<Candidate>> {
        let (latency, each) = self.devices.latency(&arch)?;
        let slowest = each.iter().copied().fold(if each.is_empty() { latency.total().0 } else { 0.0 }, f64::max);
        if self.config.max_latency.is_some_and(|max| slowest > max.0) {
            return Ok(None);
        }
        let hash = arch.hash();
        let new = !self.seen.contains(&hash);
        Ok(new.then_some(Candidate { arch, hash, latency, each, parents, origin }))
    }

    /// Takes a candidate into the generation; false when there is none.
    pub(super) fn take(&mut self, found: Option<Candidate>) -> bool {
        let Some(candidate) = found else { return false };
        self.seen.insert(candidate.hash.clone());
        self.pending.push(candidate);
        true
    }

    /// Keeps the front so far free of dominated and repeated points.
    fn insert(&mut self, point: Point) {
        if !self.front.iter().any(|p| *p == point || p.dominates(&point)) {
            self.front.retain(|p| !point.dominates(p));
            self.front.push(point);
        }
    }

    fn best(&self) -> f64 {
        self.front.iter().map(|p| p.score).fold(0.0, f64::max)
    }

    fn hypervolume(&self) -> f64 {
        pareto::relative_hypervolume(&self.front, self.predictor.reachable())
    }
}

/// The half of the candidates on the best successive fronts of latency and score.
fn better_half(alive: &[usize], candidates: &[Candidate], outcome: &[(Score, f64)]) -> Vec<usize> {
    let points: Vec<Point> =
        alive.iter().map(|&i| Point { latency: candidates[i].latency.total().0, score: outcome[i].0.f_max }).collect();
    let order = pareto::fronts(&points).into_iter().flatten();
    let mut half: Vec<usize> = order.take(alive.len().div_ceil(2)).map(|n| alive[n]).collect();
    half.sort_unstable();
    half
}
