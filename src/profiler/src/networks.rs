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
use crate::run::{LocalBench, load};
use crate::{Error, Result, schedule, stats};
use inas_backend::{Backend, Session};

/// Pause between two looks at the sentinel.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks that count as its own quiet times.
const LOOKS_KEPT: usize = 1000;

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
    /// Visits to each network at least.
    pub min_visits: usize,
    /// Visits at most.
    pub max_visits: usize,
    /// A network is done when its two fastest visits agree within this, relative.
    pub agreement: f64,
    /// Timed runs of a visit at least; more until [`Turns::visit_ms`] are over.
    pub runs: usize,
    /// Shortest timed part of a visit, ms.
    pub visit_ms: f64,
    /// Networks that are held in memory and take turns.
    pub together: usize,
    /// Looks at the sentinel before a visit, 5 ms apart, until the machine is as quiet as when the profile was made.
    pub looks: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { min_visits: 8, max_visits: 40, agreement: 0.005, runs: 5, visit_ms: 10.0, together: 25, looks: 12 }
    }
}

/// Latency of a network, microseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Turned {
    /// Median of the fastest visit.
    pub latency_us: f64,
    /// Medians of all visits, in order.
    pub visits_us: Vec<f64>,
}

impl Turned {
    fn new(visits_us: Vec<f64>) -> Self {
        Self { latency_us: visits_us.iter().copied().reduce(f64::min).unwrap_or(0.0), visits_us }
    }

    /// How much the second fastest visit was slower than the fastest, relative: what is not known of the latency.
    pub fn spread(&self) -> f64 {
        let mut sorted = self.visits_us.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(1).map_or(f64::INFINITY, |second| second / sorted[0] - 1.0)
    }
}

/// Measures networks of `space` in turns, as blocks are: each is warmed up and timed briefly, then the next, round
/// after round in a shuffled order, so that a slow phase of the machine falls on no network alone. The median
/// of the fastest visit counts, as the fastest measurement of a block does.
///
/// Where the profile has a sentinel, a visit waits briefly for a moment in which it is as fast as it was in quiet times,
/// so that networks and blocks are measured in the same state of the machine.
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
    measure_models_in_turns(profile, (archs.len(), &onnx), backend, turns, seed, observer)
}

/// As [`measure_in_turns`], for any models: how many, and the ONNX file of each, which is asked for when its turn comes.
pub fn measure_models_in_turns(
    profile: &Profile,
    (count, onnx): (usize, &dyn Fn(usize) -> Result<Vec<u8>>),
    backend: &dyn Backend,
    turns: &Turns,
    seed: u64,
    observer: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Turned>> {
    if turns.together == 0 {
        return Err(Error::Protocol { reason: "at least one network must be held in memory" });
    }
    let space = profile.space();
    let facts = profile.facts();
    let keys: Vec<_> = profile.rows().keys().copied().filter(|k| !k.is_identity()).collect();
    let mut bench = LocalBench::new(space, &keys, backend, &facts.protocol, facts.seed)?;
    let mut looks = Looks { quiet_us: facts.sentinel_us, drift: facts.protocol.drift / 2.0, seen: Vec::new() };
    let clock = SystemClock::default();
    let mut measured = Vec::with_capacity(count);
    // Every n-th network is in a group, so that all groups span the range and no slow phase falls on one end of it.
    let groups = count.div_ceil(turns.together).max(1);
    for group in 0..groups {
        let of_group = (group..count).step_by(groups);
        let load_model = |i: usize| -> Result<Box<dyn Session>> { Ok(load(&onnx(i)?, backend, seed)?.0) };
        let mut sessions = of_group.clone().map(load_model).collect::<Result<Vec<_>>>()?;
        let before = measured.len();
        let mut visit = |i: usize| {
            for _ in 0..turns.looks {
                if looks.are_quiet(&mut || bench.sentinel_us())? {
                    break;
                }
                clock.sleep(LOOK_EVERY);
            }
            visit(sessions[i].as_mut(), turns, &clock)
        };
        let mut observer = |done: usize, _: usize| observer(before + done, count);
        let turned = in_turns(of_group.len(), turns, seed, &mut visit, &mut observer)?;
        measured.extend(turned.into_iter().enumerate().map(|(i, t)| (group + i * groups, t)));
    }
    measured.sort_by_key(|m| m.0);
    Ok(measured.into_iter().map(|m| m.1).collect())
}

/// Whether the machine is as quiet as when the profile was made, by its sentinel.
struct Looks {
    /// Sentinel of the profile in quiet times, microseconds.
    quiet_us: Option<f64>,
    /// Relative slowness that is still quiet.
    drift: f64,
    seen: Vec<f64>,
}

impl Looks {
    /// Takes a look. The place of its memory can make this sentinel slower than the profile's was, so its own quiet times
    /// count where they are slower.
    fn are_quiet(&mut self, sentinel_us: &mut dyn FnMut() -> Result<f64>) -> Result<bool> {
        let Some(quiet) = self.quiet_us else { return Ok(true) };
        let now = sentinel_us()?;
        if self.seen.len() == LOOKS_KEPT {
            self.seen.remove(0);
        }
        self.seen.push(now);
        let own = stats::percentile(&self.seen, schedule::QUIET_PERCENT);
        Ok(now <= quiet.max(own) * (1.0 + self.drift))
    }
}

/// Visits `count` things in shuffled rounds until each is known well enough.
fn in_turns(
    count: usize,
    turns: &Turns,
    seed: u64,
    visit: &mut dyn FnMut(usize) -> Result<f64>,
    observer: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Turned>> {
    if turns.min_visits == 0 || turns.max_visits < turns.min_visits || turns.runs == 0 {
        return Err(Error::Protocol { reason: "visits and runs must be at least 1, and most not fewer than least" });
    }
    let mut turned = vec![Turned::default(); count];
    for round in 0..turns.max_visits {
        let open = |t: &Turned| t.visits_us.len() < turns.min_visits || t.spread() > turns.agreement;
        let mut order: Vec<usize> = (0..count).filter(|i| open(&turned[*i])).collect();
        if order.is_empty() {
            break;
        }
        Shuffler::new(seed.wrapping_add(round as u64)).shuffle(&mut order);
        for i in order {
            let mut visits = std::mem::take(&mut turned[i].visits_us);
            visits.push((visit(i)? * 1e3).round() / 1e3);
            turned[i] = Turned::new(visits);
            observer(turned.iter().filter(|t| !open(t)).count(), count);
        }
    }
    Ok(turned)
}

fn visit(session: &mut dyn Session, turns: &Turns, clock: &dyn Clock) -> Result<f64> {
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
    Ok(stats::median(&times))
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
    fn a_sentinel_that_is_always_slower_does_not_hold_up() {
        let mut looks = Looks { quiet_us: Some(100.0), drift: 0.025, seen: Vec::new() };
        let mut look = |us: f64| looks.are_quiet(&mut || Ok(us)).unwrap();
        assert!(look(104.0), "the first look has nothing to compare with but itself");
        assert!(look(104.5) && !look(140.0) && look(104.2));
        assert!(look(99.0) && look(102.0), "as quiet as the profile");
        assert!(Looks { quiet_us: None, drift: 0.0, seen: Vec::new() }.are_quiet(&mut || Ok(9.0)).unwrap());
    }

    #[test]
    fn turns_outlast_a_slow_phase() {
        let turns = Turns { min_visits: 2, max_visits: 9, ..Turns::default() };
        let mut visits = 0;
        // The first three rounds are slow and differ from each other.
        let mut visit = |i: usize| {
            visits += 1;
            let slow = if visits <= 30 { 1.5 + 0.02 * f64::from(visits / 10) } else { 1.0 };
            Ok(100.0 * (i + 1) as f64 * slow)
        };
        let turned = in_turns(10, &turns, 1, &mut visit, &mut |_, _| {}).unwrap();
        for (i, t) in turned.iter().enumerate() {
            assert_eq!((t.latency_us, t.spread()), (100.0 * (i + 1) as f64, 0.0));
            assert!((4..=6).contains(&t.visits_us.len()), "{t:?}");
        }
        let mut never = 0.0;
        let mut visit = |_| {
            never += 1.0;
            Ok(never)
        };
        let turned = in_turns(1, &turns, 1, &mut visit, &mut |_, _| {}).unwrap();
        assert_eq!(turned[0].visits_us.len(), 9, "bounded");
    }
}
