//! The search itself (thesis algorithm 1).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use inas_space::{Architecture, LatencyBreakdown, Micros, Space};
use rand::SeedableRng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

use super::config::share;
use super::log::{Log, LogHeader};
use super::pareto::{self, Point};
use super::vary::{crossover, mutate};
use super::{
    Evaluated, Exact, Generation, Lgs, Objective, Origin, Progress, Result, Sampler, SamplerKind, SearchConfig,
    SearchError, SearchResult, Strategy, TablePredictor, Uniform,
};

/// Tries for one new architecture before the generation goes on without it.
const TRIES: usize = 100;

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
pub fn check(predictor: &TablePredictor, config: &SearchConfig) -> Result<()> {
    config.check()?;
    let (lowest, highest) = predictor.reachable();
    match config.max_latency.filter(|max| max.0 < lowest.0) {
        Some(max) => Err(SearchError::Unreachable { max, lowest, highest }),
        None => Ok(()),
    }
}

/// Searches `space` for the architectures on the Pareto front of predicted latency and F-measure.
///
/// Generation 0 draws N/G architectures for each of G latency groups (S1). Each further generation selects k/G parents
/// a group from successive fronts of everything evaluated (S2), makes k children by crossover (S3) and k by mutation
/// (S4), and merges them in. Random search draws as many instead. No architecture is evaluated twice; where no new one
/// is found in 100 tries, the generation is smaller (a group that fails so is drawn no further) and
/// [`Generation::shortfall`] says by how much.
///
/// With a `log` the search can be interrupted at any time: run again with the same settings, it replays what the log
/// holds and ends with the log and front of an uninterrupted run. `observer` is called after each evaluation, `cancel`
/// is looked at before each.
pub fn run(
    space: &Space,
    predictor: &TablePredictor,
    objective: &mut dyn Objective,
    config: &SearchConfig,
    log: Option<&Path>,
    observer: &mut dyn FnMut(&Progress),
    cancel: &AtomicBool,
) -> Result<SearchResult> {
    check(predictor, config)?;
    if space != predictor.space() {
        let name = |s: &Space| format!("{} ({})", s.name, s.hash());
        return Err(SearchError::SpaceMismatch { predictor: name(predictor.space()), space: name(space) });
    }
    let log = log.map(|path| Log::open(path, &LogHeader::new(predictor, objective, config))).transpose()?;
    let (low, full) = predictor.ends();
    let high = config.max_latency.map_or(full, |max| Micros(max.0.clamp(low.0, full.0)));
    let sampler_groups = sampler_groups(config.groups, (low, high, full));
    let sampler: &dyn Sampler = match config.sampler {
        SamplerKind::Uniform => &Uniform::new(space),
        SamplerKind::Lgs => &Lgs::new(predictor),
        SamplerKind::Exact => &Exact::in_groups(predictor, sampler_groups),
    };
    let mut search = Search {
        predictor,
        config,
        sampler,
        objective,
        log,
        observer,
        cancel,
        groups: LatencyGroups::new(low, high, config.groups),
        sampler_groups,
        rng: ChaCha8Rng::seed_from_u64(config.seed),
        seen: BTreeSet::new(),
        evaluated: Vec::new(),
        front: Vec::new(),
        generations: Vec::new(),
    };
    search.run()?;
    Ok(SearchResult {
        front: SearchResult::front_of(&search.evaluated),
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
struct Candidate {
    arch: Architecture,
    hash: String,
    latency: LatencyBreakdown,
}

struct Search<'a> {
    predictor: &'a TablePredictor,
    config: &'a SearchConfig,
    sampler: &'a dyn Sampler,
    objective: &'a mut dyn Objective,
    log: Option<Log>,
    observer: &'a mut dyn FnMut(&Progress),
    cancel: &'a AtomicBool,
    groups: LatencyGroups,
    sampler_groups: usize,
    rng: ChaCha8Rng,
    seen: BTreeSet<String>,
    evaluated: Vec<Evaluated>,
    /// The front so far, for the hypervolume.
    front: Vec<Point>,
    generations: Vec<Generation>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<()> {
        let random = self.config.strategy == Strategy::Random;
        let origin = if random { Origin::Random } else { Origin::Init };
        let shortfall = self.draw(0, self.config.population, origin)?;
        self.close(0, shortfall);
        for generation in 1..=self.config.iterations {
            let shortfall = if random {
                self.draw(generation, 2 * self.config.keep, Origin::Random)?
            } else {
                self.breed(generation)?
            };
            self.close(generation, shortfall);
        }
        Ok(())
    }

    /// S1: draws `count` architectures, as many for each group.
    fn draw(&mut self, generation: usize, count: usize, origin: Origin) -> Result<usize> {
        let mut shortfall = 0;
        for group in 0..self.config.groups {
            let wanted = share(count, self.config.groups, group);
            for drawn in 0..wanted {
                let found = self.attempt(|s| Some((s.sampler.draw(group, s.sampler_groups, &mut s.rng), vec![])))?;
                if !self.take(found, generation, origin)? {
                    // As good as exhausted: the others of this group would be tried for in vain.
                    shortfall += wanted - drawn;
                    break;
                }
            }
        }
        if self.evaluated.is_empty() {
            // The smallest network is a start where draws hardly ever meet the maximum.
            let smallest = self.candidate(self.predictor.space().min())?;
            let (lowest, highest) = self.predictor.reachable();
            let Some(smallest) = smallest else {
                let max = self.config.max_latency.unwrap_or(highest);
                let draws = TRIES * self.config.groups.min(count);
                return Err(SearchError::NothingDrawn { max, draws, lowest, highest });
            };
            shortfall -= usize::from(self.take(Some((smallest, vec![])), generation, origin)?);
        }
        Ok(shortfall)
    }

    /// S2 to S4: selects parents, then evaluates their children.
    fn breed(&mut self, generation: usize) -> Result<usize> {
        let parents = self.select();
        let (p_c, p_m) = (self.config.crossover, self.config.mutation);
        let mut shortfall = 0;
        for i in 0..self.config.keep {
            let a = parents[i % parents.len()];
            let found = self.attempt(|s| {
                let b = *parents.choose(&mut s.rng)?;
                let (a, b) = (&s.evaluated[a], &s.evaluated[b]);
                let child = crossover(&a.arch, &b.arch, p_c, &mut s.rng);
                Some((child, vec![a.hash.clone(), b.hash.clone()]))
            })?;
            shortfall += usize::from(!self.take(found, generation, Origin::Crossover)?);
        }
        for i in 0..self.config.keep {
            let a = parents[i % parents.len()];
            let found = self.attempt(|s| {
                let parent = &s.evaluated[a];
                let child = mutate(s.predictor.space(), &parent.arch, p_m, &mut s.rng);
                Some((child, vec![parent.hash.clone()]))
            })?;
            shortfall += usize::from(!self.take(found, generation, Origin::Mutation)?);
        }
        Ok(shortfall)
    }

    /// S2: indices of the parents.
    fn select(&self) -> Vec<usize> {
        let points: Vec<Point> = self.evaluated.iter().map(Evaluated::point).collect();
        let groups: Vec<usize> = self.evaluated.iter().map(|e| self.groups.of(e.latency.total())).collect();
        let quota = |g| share(self.config.keep, self.config.groups, g);
        let quotas: Vec<usize> = (0..self.config.groups).map(quota).collect();
        let chosen = pareto::select(&points, &groups, &quotas);
        // With fewer parents asked than groups, all of them may fall into empty groups.
        if chosen.is_empty() { pareto::front(&points) } else { chosen }
    }

    /// Makes architectures until one is new and fast enough, in a bounded number of tries.
    fn attempt(
        &mut self,
        mut make: impl FnMut(&mut Self) -> Option<(Architecture, Vec<String>)>,
    ) -> Result<Option<(Candidate, Vec<String>)>> {
        for _ in 0..TRIES {
            let Some((arch, parents)) = make(self) else { break };
            if let Some(candidate) = self.candidate(arch)? {
                return Ok(Some((candidate, parents)));
            }
        }
        Ok(None)
    }

    /// The architecture as a candidate, unless it is too slow or was evaluated before.
    fn candidate(&self, arch: Architecture) -> Result<Option<Candidate>> {
        let latency = self.predictor.latency(&arch)?;
        if self.config.max_latency.is_some_and(|max| latency.total().0 > max.0) {
            return Ok(None);
        }
        let hash = arch.hash();
        Ok((!self.seen.contains(&hash)).then_some(Candidate { arch, hash, latency }))
    }

    /// Evaluates a candidate; false when there is none.
    fn take(&mut self, found: Option<(Candidate, Vec<String>)>, generation: usize, origin: Origin) -> Result<bool> {
        let Some((Candidate { arch, hash, latency }, parents)) = found else { return Ok(false) };
        let index = self.evaluated.len();
        if self.cancel.load(Ordering::Relaxed) {
            return Err(SearchError::Interrupted { evaluated: index });
        }
        let recorded = self.log.as_mut().map_or(Ok(None), |log| log.replay(index, &hash))?;
        let score = match &recorded {
            Some(record) => record.score,
            None => self
                .objective
                .evaluate(&arch)
                .map_err(|source| SearchError::Objective { hash: hash.clone(), source })?,
        };
        if !score.f_max.is_finite() || !score.mae.is_finite() {
            return Err(SearchError::Score { hash, f_max: score.f_max, mae: score.mae });
        }
        self.seen.insert(hash.clone());
        let record = Evaluated { index, generation, arch, hash, latency, score, parents, origin };
        if let (None, Some(log)) = (&recorded, &mut self.log) {
            log.append(&record)?;
        }
        self.insert(record.point());
        self.evaluated.push(record);
        let progress = Progress {
            generation,
            evaluated: self.evaluated.len(),
            total: self.config.budget(),
            best: self.front.iter().map(|p| p.score).fold(f64::NEG_INFINITY, f64::max),
            hypervolume: self.hypervolume(),
        };
        (self.observer)(&progress);
        Ok(true)
    }

    /// Keeps the front so far free of dominated and repeated points.
    fn insert(&mut self, point: Point) {
        if !self.front.iter().any(|p| *p == point || p.dominates(&point)) {
            self.front.retain(|p| !point.dominates(p));
            self.front.push(point);
        }
    }

    fn hypervolume(&self) -> f64 {
        let (lowest, highest) = self.predictor.reachable();
        let area = pareto::hypervolume(&self.front, Point { latency: highest.0, score: 0.0 });
        if highest.0 > lowest.0 { area / (highest.0 - lowest.0) } else { 0.0 }
    }

    fn close(&mut self, generation: usize, shortfall: usize) {
        let (evaluated, hypervolume) = (self.evaluated.len(), self.hypervolume());
        self.generations.push(Generation { generation, evaluated, hypervolume, shortfall });
    }
}
