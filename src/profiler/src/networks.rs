//! Whole networks: drawn evenly over the latency range of a space, and measured in turns.

use std::collections::BTreeSet;
use std::time::Duration;

use inas_graph::{OnnxOptions, SeededWeights, network};
use inas_space::{Architecture, LatencyTable, Space};
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::measure::{Clock, SystemClock};
use crate::profile::Profile;
use crate::rng::Rng as Shuffler;
use crate::run::load;
use crate::{Error, Result, stats};
use inas_backend::{Backend, Session};

/// Candidates drawn for each network that is wanted.
const CANDIDATES: usize = 100;

/// `count` different networks of `space` whose predicted latencies lie evenly between those of the smallest and the
/// largest network; a function of the seed. Those named in `exclude` (by hash) are left out. Fewer come back when the
/// space has no more.
pub fn spread(
    space: &Space,
    table: &LatencyTable,
    px: u32,
    count: usize,
    seed: u64,
    exclude: &BTreeSet<String>,
) -> Result<Vec<Architecture>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = exclude.clone();
    let mut drawn = Vec::new();
    for i in 0..CANDIDATES * count {
        let arch = between(space, i as f64 / (CANDIDATES * count - 1).max(1) as f64, &mut rng);
        if seen.insert(arch.hash()) {
            drawn.push((table.latency(space, &arch, px)?.total().0, arch));
        }
    }
    drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    let (Some(low), Some(high)) = (drawn.first().map(|d| d.0), drawn.last().map(|d| d.0)) else {
        return Ok(Vec::new());
    };
    let mut chosen = Vec::new();
    for i in 0..count.min(drawn.len()) {
        let wanted = low + (high - low) * (i as f64 + rng.random_range(0.0..1.0)) / count as f64;
        let at = drawn.partition_point(|d| d.0 < wanted);
        let near = [at.checked_sub(1), Some(at)].into_iter().flatten().filter(|j| *j < drawn.len());
        let Some(nearest) = near.min_by(|a, b| (drawn[*a].0 - wanted).abs().total_cmp(&(drawn[*b].0 - wanted).abs()))
        else {
            break;
        };
        chosen.push(drawn.remove(nearest).1);
    }
    Ok(chosen)
}

/// A random network, stage by stage and level by level from the smallest, the largest or a uniform draw; `size` in
/// 0..1 says how much from the largest.
fn between<R: Rng>(space: &Space, size: f64, rng: &mut R) -> Architecture {
    let (min, max) = (space.min(), space.max());
    let mut arch = space.uniform(rng);
    let uniform_share = rng.random_range(0.0..1.0);
    let pick = |rng: &mut R| match (rng.random_bool(uniform_share), rng.random_bool(size)) {
        (true, _) => None,
        (false, large) => Some(large),
    };
    if let Some(large) = pick(rng) {
        arch.stem = if large { max.stem } else { min.stem };
    }
    for (i, stage) in arch.stages.iter_mut().enumerate() {
        if let Some(large) = pick(rng) {
            stage.clone_from(if large { &max.stages[i] } else { &min.stages[i] });
        }
    }
    let (small, large) = ([&min.transport, &min.decoder], [&max.transport, &max.decoder]);
    for (p, part) in [&mut arch.transport, &mut arch.decoder].into_iter().enumerate() {
        for (i, level) in part.iter_mut().enumerate() {
            if let Some(is_large) = pick(rng) {
                level.clone_from(if is_large { &large[p][i] } else { &small[p][i] });
            }
        }
    }
    arch
}

/// How to measure networks in turns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turns {
    /// Visits to each network.
    pub visits: usize,
    /// Timed runs of a visit at least; more until [`Turns::visit_ms`] are over.
    pub runs: usize,
    /// Shortest timed part of a visit, ms.
    pub visit_ms: f64,
    /// Networks that are held in memory and take turns.
    pub together: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { visits: 40, runs: 3, visit_ms: 20.0, together: 100 }
    }
}

/// Share of a network's runs that count as undisturbed, percent.
const QUIET_PERCENT: f64 = 10.0;

/// Latency of a network, microseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Turned {
    /// What the fastest tenth of its runs kept to.
    pub latency_us: f64,
    /// All timed runs, visit by visit.
    pub visits_us: Vec<Vec<f64>>,
}

impl Turned {
    fn new(visits_us: Vec<Vec<f64>>) -> Self {
        Self { latency_us: quiet_us(&visits_us), visits_us }
    }

    /// How much the latencies of every other visit and of the rest differ, relative: what is not known of the latency.
    pub fn spread(&self) -> f64 {
        let half = |first: usize| quiet_us(self.visits_us.iter().skip(first).step_by(2));
        let (a, b) = (half(0), half(1));
        if a.min(b) > 0.0 { a.max(b) / a.min(b) - 1.0 } else { f64::INFINITY }
    }
}

/// The latency in undisturbed moments; 0 without runs.
fn quiet_us<'a>(visits: impl IntoIterator<Item = &'a Vec<f64>>) -> f64 {
    let runs: Vec<f64> = visits.into_iter().flatten().copied().collect();
    if runs.is_empty() { 0.0 } else { stats::percentile(&runs, QUIET_PERCENT) }
}

/// Measures networks of a profile's space in turns: each is warmed up and timed briefly, then the next, round after round in a
/// shuffled order, so that a slow phase of the machine falls on no network alone.
///
/// Networks need more memory than a core's own cache holds, so that neighbours on the same machine slow them by some
/// percent nearly all the time and undisturbed moments are short. A low percentile of many visits finds those again;
/// the fastest of a few visits does not.
pub fn measure_in_turns(
    profile: &Profile,
    archs: &[Architecture],
    backend: &dyn Backend,
    turns: &Turns,
    seed: u64,
    observer: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Turned>> {
    let (space, px) = (profile.space(), profile.input_px());
    let onnx = |i: usize| {
        let graph = network(space, &archs[i], px, &mut SeededWeights::new(seed))?;
        Ok(graph.to_onnx(&OnnxOptions::default())?)
    };
    measure_models_in_turns((archs.len(), &onnx), backend, turns, seed, observer)
}

/// As [`measure_in_turns`], for any models: how many, and the ONNX file of each, which is asked for when its turn comes.
/// The observer is told the visits done and to do.
pub fn measure_models_in_turns(
    (count, onnx): (usize, &dyn Fn(usize) -> Result<Vec<u8>>),
    backend: &dyn Backend,
    turns: &Turns,
    seed: u64,
    observer: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Turned>> {
    if turns.together == 0 || turns.visits == 0 || turns.runs == 0 {
        return Err(Error::Protocol { reason: "visits, runs and networks in memory must be at least 1" });
    }
    let clock = SystemClock::default();
    let mut measured = Vec::with_capacity(count);
    // Every n-th network is in a group, so that all groups span the range and no slow phase falls on one end of it.
    let groups = count.div_ceil(turns.together).max(1);
    for group in 0..groups {
        let of_group = (group..count).step_by(groups);
        let load_model = |i: usize| -> Result<Box<dyn Session>> { Ok(load(&onnx(i)?, backend, seed)?.0) };
        let mut sessions = of_group.clone().map(load_model).collect::<Result<Vec<_>>>()?;
        let before = measured.len();
        let mut visit = |i: usize| visit(sessions[i].as_mut(), turns, &clock);
        let mut observer = |done: usize| observer(before * turns.visits + done, count * turns.visits);
        let turned = in_turns(of_group.len(), turns.visits, seed, &mut visit, &mut observer)?;
        measured.extend(turned.into_iter().enumerate().map(|(i, t)| (group + i * groups, t)));
    }
    measured.sort_by_key(|m| m.0);
    Ok(measured.into_iter().map(|m| m.1).collect())
}

/// Visits `count` things in shuffled rounds.
fn in_turns(
    count: usize,
    visits: usize,
    seed: u64,
    visit: &mut dyn FnMut(usize) -> Result<Vec<f64>>,
    observer: &mut dyn FnMut(usize),
) -> Result<Vec<Turned>> {
    let mut times = vec![Vec::with_capacity(visits); count];
    let mut order: Vec<usize> = (0..count).collect();
    for round in 0..visits {
        Shuffler::new(seed.wrapping_add(round as u64)).shuffle(&mut order);
        for (done, i) in order.iter().enumerate() {
            times[*i].push(visit(*i)?);
            observer(round * count + done + 1);
        }
    }
    Ok(times.into_iter().map(Turned::new).collect())
}

/// Times of a visit's runs, microseconds.
fn visit(session: &mut dyn Session, turns: &Turns, clock: &dyn Clock) -> Result<Vec<f64>> {
    // Runtimes settle in the second run after a pause; the caches hold another network's weights before the first.
    for _ in 0..2 {
        session.run()?;
    }
    let mut times = Vec::new();
    let end = clock.now() + Duration::from_secs_f64(turns.visit_ms.max(0.0) / 1e3);
    while times.len() < turns.runs || clock.now() < end {
        let start = clock.now();
        session.run()?;
        times.push(clock.now().saturating_sub(start).as_secs_f64() * 1e6);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use inas_space::Micros;

    use super::*;

    fn macs_table(space: &Space) -> LatencyTable {
        let cost = |key| inas_graph::cost::of_block(space, key).unwrap().macs as f64 / 1e3;
        space.block_keys(space.input_px).unwrap().iter().map(|k| (*k, Micros(cost(k)))).collect()
    }

    #[test]
    fn networks_fill_the_whole_range_evenly() {
        let space = Space::preset("nano").unwrap();
        let table = macs_table(&space);
        let of = |arch: &Architecture| table.latency(&space, arch, 128).unwrap().total().0;
        let archs = spread(&space, &table, 128, 40, 5, &BTreeSet::new()).unwrap();
        assert_eq!(archs.len(), 40);
        let (low, high) = (of(&space.min()), of(&space.max()));
        for (i, arch) in archs.iter().enumerate() {
            space.validate(arch).unwrap();
            let place = (of(arch) - low) / (high - low) * 40.0;
            assert!((place - i as f64 - 0.5).abs() < 3.0, "{i} at {place}");
        }
        assert_eq!(archs, spread(&space, &table, 128, 40, 5, &BTreeSet::new()).unwrap());
        let taken: BTreeSet<String> = archs.iter().map(Architecture::hash).collect();
        let others = spread(&space, &table, 128, 40, 5, &taken).unwrap();
        assert!(others.iter().all(|a| !taken.contains(&a.hash())));
    }

    #[test]
    fn turns_outlast_slow_phases() {
        let mut visits = 0;
        // Two thirds of the time everything is slower, by more and less.
        let mut visit = |i: usize| {
            visits += 1;
            let slow = if visits / 35 % 3 == 0 { 1.0 } else { 1.05 + 0.02 * f64::from(visits % 7) };
            Ok(vec![100.0 * (i + 1) as f64 * slow; 3])
        };
        let mut told = 0;
        let turned = in_turns(10, 40, 1, &mut visit, &mut |done| told = done).unwrap();
        assert_eq!(told, 400);
        for (i, t) in turned.iter().enumerate() {
            assert_eq!((t.latency_us, t.spread(), t.visits_us.len()), (100.0 * (i + 1) as f64, 0.0, 40));
        }
        let halves = Turned::new(vec![vec![100.0], vec![102.0], vec![100.0]]);
        assert!((halves.spread() - 0.02).abs() < 1e-12);
        assert!(Turned::new(vec![vec![100.0]]).spread().is_infinite(), "one visit tells nothing of it");
    }
}
