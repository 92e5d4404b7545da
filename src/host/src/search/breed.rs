//! Drawing a generation: samples, and children of the selected (thesis algorithm 1, steps S1 to S4; NSGA-II).

use inas_space::{Architecture, Micros};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use super::config::share;
use super::evolution::{Candidate, Search};
use super::nsga::{self, Rank};
use super::pareto::{self, Point};
use super::vary::{crossover, mutate};
use super::{Evaluated, LatencyGroups, Origin, Result, SearchError, Strategy};

/// Tries for one new architecture before the generation goes on without it.
const TRIES: usize = 100;

impl Search<'_> {
    /// S1: draws `count` architectures, as many for each group; returns how many were not found.
    pub(super) fn draw(&mut self, count: usize, origin: Origin) -> Result<usize> {
        let mut shortfall = 0;
        for group in 0..self.config.groups {
            let wanted = share(count, self.config.groups, group);
            for drawn in 0..wanted {
                let found =
                    self.attempt(origin, |s| Some((s.sampler.draw(group, s.sampler_groups, &mut s.rng), vec![])))?;
                if !self.take(found) {
                    // As good as exhausted: the others of this group would be tried for in vain.
                    shortfall += wanted - drawn;
                    break;
                }
            }
        }
        if self.evaluated.is_empty() && self.pending.is_empty() {
            // The smallest network is a start where draws hardly ever meet the maximum.
            let smallest = self.candidate(self.predictor.space().min(), vec![], origin)?;
            let (lowest, highest) = self.predictor.reachable();
            if smallest.is_none() {
                let max = self.config.max_latency.unwrap_or(highest);
                let draws = TRIES * self.config.groups.min(count);
                return Err(SearchError::NothingDrawn { max, draws, lowest, highest });
            }
            shortfall -= usize::from(self.take(smallest));
        }
        Ok(shortfall)
    }

    /// S2 to S4: selects parents and draws their children.
    pub(super) fn breed(&mut self) -> Result<usize> {
        let parents = self.select();
        let (p_c, p_m) = (self.config.crossover, self.config.mutation);
        let mut shortfall = 0;
        for i in 0..self.config.keep {
            let a = parents[i % parents.len()];
            let found = self.attempt(Origin::Crossover, |s| {
                let b = *parents.choose(&mut s.rng)?;
                let (a, b) = (&s.evaluated[a], &s.evaluated[b]);
                let child = crossover(&a.arch, &b.arch, p_c, &mut s.rng);
                Some((child, vec![a.hash.clone(), b.hash.clone()]))
            })?;
            shortfall += usize::from(!self.take(found));
        }
        for i in 0..self.config.keep {
            let a = parents[i % parents.len()];
            let found = self.attempt(Origin::Mutation, |s| {
                let parent = &s.evaluated[a];
                let child = mutate(s.predictor.space(), &parent.arch, p_m, &mut s.rng);
                Some((child, vec![parent.hash.clone()]))
            })?;
            shortfall += usize::from(!self.take(found));
        }
        Ok(shortfall)
    }

    /// S2: indices of the parents. For several devices each has its share of them, on its own latencies.
    fn select(&self) -> Vec<usize> {
        let devices = self.devices.len();
        if devices < 2 {
            let points: Vec<Point> = self.evaluated.iter().map(Evaluated::point).collect();
            return self.select_on(&points, self.groups, self.config.keep);
        }
        let mut chosen = Vec::new();
        for axis in 0..=devices {
            let point = |(e, each): (&Evaluated, &Vec<f64>)| {
                let latency = axis.checked_sub(1).map_or(e.latency.total().0, |d| each[d]);
                Point { latency, score: e.score.f_max }
            };
            let points: Vec<Point> = self.evaluated.iter().zip(&self.each).map(point).collect();
            let (low, high) = points
                .iter()
                .fold((f64::INFINITY, 0.0_f64), |(low, high), p| (low.min(p.latency), high.max(p.latency)));
            let groups = LatencyGroups::new(Micros(low), Micros(high), self.config.groups);
            for index in self.select_on(&points, groups, share(self.config.keep, devices + 1, axis)) {
                if !chosen.contains(&index) {
                    chosen.push(index);
                }
            }
        }
        chosen
    }

    /// Parents by one latency: what is accurate enough first; groups without such networks leave their share to the others.
    fn select_on(&self, points: &[Point], groups: LatencyGroups, keep: usize) -> Vec<usize> {
        let room: Vec<usize> = (0..self.config.groups).map(|g| share(keep, self.config.groups, g)).collect();
        let good = |p: &Point| self.config.min_score.is_none_or(|min| p.score >= min);
        let mut chosen = Vec::new();
        for wanted in [true, false] {
            let of: Vec<usize> = (0..points.len()).filter(|&i| good(&points[i]) == wanted).collect();
            let some: Vec<Point> = of.iter().map(|&i| points[i]).collect();
            let their: Vec<usize> = some.iter().map(|p| groups.of(Micros(p.latency))).collect();
            let mut these = pareto::select(&some, &their, &room);
            if wanted && self.config.min_score.is_some() {
                let others = pareto::fronts(&some).into_iter().flatten();
                let others: Vec<usize> = others.filter(|n| !these.contains(n)).collect();
                these.extend(others);
            }
            chosen.extend(these.into_iter().map(|n| of[n]).take(keep - chosen.len()));
        }
        // With fewer parents asked than groups, all of them may fall into empty groups.
        if chosen.is_empty() { pareto::front(points) } else { chosen }
    }

    /// NSGA-II: `count` children of parents from binary tournaments.
    pub(super) fn mate(&mut self, count: usize) -> Result<usize> {
        let ranks = nsga::ranks(&self.objectives(&self.population));
        let (p_c, p_m) = (self.config.crossover, self.config.mutation);
        let mut shortfall = 0;
        for _ in 0..count {
            let found = self.attempt(Origin::Crossover, |s| {
                let (a, b) = (s.tournament(&ranks), s.tournament(&ranks));
                let (a, b) = (&s.evaluated[a], &s.evaluated[b]);
                let child = crossover(&a.arch, &b.arch, p_c, &mut s.rng);
                let child = mutate(s.predictor.space(), &child, p_m, &mut s.rng);
                Some((child, vec![a.hash.clone(), b.hash.clone()]))
            })?;
            shortfall += usize::from(!self.take(found));
        }
        Ok(shortfall)
    }

    /// The better of two of the population.
    fn tournament(&mut self, ranks: &[Rank]) -> usize {
        let (a, b) = (self.rng.random_range(0..ranks.len()), self.rng.random_range(0..ranks.len()));
        self.population[if ranks[b].better_than(&ranks[a]) { b } else { a }]
    }

    /// NSGA-II: who of the population and its children goes on.
    pub(super) fn survive(&mut self) {
        if self.config.strategy != Strategy::Nsga2 {
            return;
        }
        self.population.extend(self.ranked..self.evaluated.len());
        self.ranked = self.evaluated.len();
        let ranks = nsga::ranks(&self.objectives(&self.population));
        let mut order: Vec<usize> = (0..ranks.len()).collect();
        order.sort_by(|&a, &b| ranks[a].order(&ranks[b]));
        order.truncate(self.config.population);
        let mut kept: Vec<usize> = order.into_iter().map(|n| self.population[n]).collect();
        kept.sort_unstable();
        self.population = kept;
    }

    /// What NSGA-II minimises, and how far a network is below the least score.
    fn objectives(&self, of: &[usize]) -> Vec<(Vec<f64>, f64)> {
        let min = self.config.min_score.unwrap_or(0.0);
        let one = |&i: &usize| {
            let (e, each) = (&self.evaluated[i], &self.each[i]);
            let mut values = if each.is_empty() { vec![e.latency.total().0] } else { each.clone() };
            values.push(-e.score.f_max);
            (values, (min - e.score.f_max).max(0.0))
        };
        of.iter().map(one).collect()
    }

    /// Makes architectures until one is new and fast enough, in a bounded number of tries.
    fn attempt(
        &mut self,
        origin: Origin,
        mut make: impl FnMut(&mut Self) -> Option<(Architecture, Vec<String>)>,
    ) -> Result<Option<Candidate>> {
        for _ in 0..TRIES {
            let Some((arch, parents)) = make(self) else { break };
            if let Some(candidate) = self.candidate(arch, parents, origin)? {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }
}
