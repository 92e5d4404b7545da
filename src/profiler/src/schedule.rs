//! The order of measuring: seeded, in segments between sentinels, with drifted segments measured again.
//!
//! A neighbour that loads the machine, a clock that falls, or heat make everything slower for seconds or minutes, which
//! no spread within one block shows. So the same sentinel block is timed before and after every segment of a few
//! blocks; a segment whose sentinel was slower than in quiet times is measured again in a later pass, and a block keeps
//! its fastest measurement, since a disturbance only adds time.

use std::collections::BTreeMap;

use inas_space::BlockKey;

use crate::Result;
use crate::measure::Measurement;
use crate::records::{Entry, Key, Record, Sentinel};
use crate::rng::Rng;
use crate::stats;

/// Share of the sentinels that count as quiet, percent.
pub(crate) const QUIET_PERCENT: f64 = 10.0;

/// What the schedule drives: a device with a runtime, or a simulation of one.
pub(crate) trait Bench<K> {
    /// Waits until the device is fit to measure, and times the sentinel.
    fn sentinel(&mut self) -> Result<Sentinel>;
    /// Measures a block.
    fn block(&mut self, key: &K) -> Result<Measurement>;
}

/// How to go over the blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Blocks in a segment; 0 takes no sentinels.
    pub(crate) segment: usize,
    /// Relative slowness of a sentinel that makes its segments drifted.
    pub(crate) drift: f64,
    /// Passes over all blocks.
    pub(crate) least: usize,
    /// Passes at most, those over drifted blocks included.
    pub(crate) passes: usize,
}

/// Everything measured so far, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct History<K = BlockKey> {
    entries: Vec<Entry<K>>,
    passes: BTreeMap<K, usize>,
}

impl<K> Default for History<K> {
    fn default() -> Self {
        Self { entries: Vec::new(), passes: BTreeMap::new() }
    }
}

impl<K: Key> History<K> {
    pub(crate) fn push(&mut self, entry: Entry<K>) {
        if let Entry::Block(record) = &entry {
            let times = self.passes.entry(record.key.clone()).or_default();
            *times = (*times + 1).max(record.passes);
        }
        self.entries.push(entry);
    }

    /// Blocks with a measurement.
    pub(crate) fn measured(&self) -> usize {
        self.passes.len()
    }

    /// How often a block was measured.
    pub(crate) fn passes(&self, key: &K) -> usize {
        self.passes.get(key).copied().unwrap_or(0)
    }

    /// Time of the sentinel when the device was quiet, microseconds.
    pub(crate) fn quiet_us(&self) -> Option<f64> {
        let of = |e: &Entry<K>| match e {
            Entry::Sentinel(s) => Some(s.sentinel_us),
            Entry::Block(_) => None,
        };
        let times: Vec<f64> = self.entries.iter().filter_map(of).collect();
        (!times.is_empty()).then(|| stats::percentile(&times, QUIET_PERCENT))
    }

    /// The best record of each block: the fastest, with the drift of its segment and the number of its measurements.
    pub(crate) fn best(&self) -> BTreeMap<K, Record<K>> {
        let quiet = self.quiet_us();
        let mut best: BTreeMap<K, Record<K>> = BTreeMap::new();
        let mut before: Option<f64> = None;
        for (i, entry) in self.entries.iter().enumerate() {
            let record = match entry {
                Entry::Sentinel(s) => {
                    before = Some(s.sentinel_us);
                    continue;
                }
                Entry::Block(record) => record,
            };
            let after = self.entries[i..].iter().find_map(|e| match e {
                Entry::Sentinel(s) => Some(s.sentinel_us),
                Entry::Block(_) => None,
            });
            let slowest = before.into_iter().chain(after).reduce(f64::max);
            let drift = record.drift.or_else(|| Some(slowest? / quiet? - 1.0));
            let record = Record { drift, passes: self.passes(&record.key), ..record.clone() };
            let faster = |b: &Record<K>| record.measurement.median_us < b.measurement.median_us;
            match best.get_mut(&record.key) {
                Some(kept) => {
                    // A quiet segment settles the matter, even when it was not the fastest.
                    let quietest = if kept.drift < record.drift { kept.drift } else { record.drift };
                    if faster(kept) {
                        *kept = record;
                    }
                    kept.drift = quietest;
                }
                None => {
                    best.insert(record.key.clone(), record);
                }
            }
        }
        best
    }

    /// [`History::best`] in the order in which blocks were measured first.
    pub(crate) fn best_in_order(&self) -> Vec<Record<K>> {
        let mut best = self.best();
        let keys = self.entries.iter().filter_map(|e| match e {
            Entry::Block(record) => Some(&record.key),
            Entry::Sentinel(_) => None,
        });
        keys.filter_map(|key| best.remove(key)).collect()
    }

    /// Blocks to measure next, in order: those with the fewest measurements until each has enough, then those that drifted
    /// and may be repeated.
    pub(crate) fn pending(&self, keys: &[K], plan: &Plan) -> Vec<K> {
        let fewest = keys.iter().map(|k| self.passes(k)).min().unwrap_or(0);
        let mut pending: Vec<K> = if fewest >= plan.least.min(plan.passes) {
            let again = |r: &&Record<K>| r.passes < plan.passes && r.drift.is_some_and(|d| d > plan.drift);
            self.best().values().filter(again).map(|r| r.key.clone()).collect()
        } else {
            keys.iter().filter(|k| self.passes(k) == fewest).cloned().collect()
        };
        let pass = pending.iter().map(|k| self.passes(k)).min().unwrap_or(0);
        Rng::new(plan.seed.wrapping_add(pass as u64)).shuffle(&mut pending);
        pending
    }
}

/// Stores an entry and is told how many blocks of this pass are left; returns false to stop.
pub(crate) type Keep<'a, K> = dyn FnMut(&Entry<K>, &History<K>, usize) -> Result<bool> + 'a;

/// Measures blocks until none is pending or `keep` stops.
pub(crate) fn run<K: Key>(
    keys: &[K],
    plan: &Plan,
    history: &mut History<K>,
    bench: &mut dyn Bench<K>,
    keep: &mut Keep<'_, K>,
) -> Result<bool> {
    loop {
        let pending = history.pending(keys, plan);
        if pending.is_empty() {
            return Ok(true);
        }
        let mut left = pending.len();
        let segments = pending.chunks(if plan.segment == 0 { pending.len() } else { plan.segment });
        for segment in segments {
            if plan.segment > 0 && !note(&Entry::Sentinel(bench.sentinel()?), history, left, keep)? {
                return Ok(false);
            }
            for key in segment {
                let record = Record::new(key.clone(), bench.block(key)?);
                left -= 1;
                if !note(&Entry::Block(record), history, left, keep)? {
                    return Ok(false);
                }
            }
        }
        if plan.segment > 0 && !note(&Entry::Sentinel(bench.sentinel()?), history, 0, keep)? {
            return Ok(false);
        }
    }
}

fn note<K: Key>(entry: &Entry<K>, history: &mut History<K>, left: usize, keep: &mut Keep<'_, K>) -> Result<bool> {
    history.push(entry.clone());
    keep(entry, history, left)
}

#[cfg(test)]
mod tests {
    use inas_space::{BlockKind, Space};

    use super::*;

    /// A device with a clock: blocks take what `speed` makes of their true time at that moment.
    struct Simulated<F> {
        now_s: f64,
        speed: F,
        rng: Rng,
    }

    impl<F: Fn(f64) -> f64> Simulated<F> {
        fn time(&mut self, true_us: f64) -> f64 {
            self.now_s += 0.1;
            true_us * (self.speed)(self.now_s) * (1.0 + 0.005 * f64::from(self.rng.signed_unit()))
        }
    }

    fn truth(key: &BlockKey) -> f64 {
        f64::from(key.in_ch * key.out_ch * (1 + key.kernel)) / 10.0
    }

    impl<F: Fn(f64) -> f64> Bench<BlockKey> for Simulated<F> {
        fn sentinel(&mut self) -> Result<Sentinel> {
            Ok(Sentinel { sentinel_us: self.time(500.0), ..Sentinel::default() })
        }

        fn block(&mut self, key: &BlockKey) -> Result<Measurement> {
            Ok(Measurement { median_us: self.time(truth(key)), ..Measurement::default() })
        }
    }

    fn keys() -> Vec<BlockKey> {
        let mut keys: Vec<BlockKey> =
            Space::preset("nano").map(|s| s.block_keys(128)).unwrap().unwrap().into_iter().collect();
        keys.retain(|k| !k.is_identity());
        keys
    }

    const PLAN: Plan = Plan { seed: 3, segment: 8, drift: 0.05, least: 1, passes: 4 };

    /// The finished history of a device of that speed.
    fn measured(speed: impl Fn(f64) -> f64, plan: &Plan) -> History {
        let mut history = History::default();
        let mut device = Simulated { now_s: 0.0, speed, rng: Rng::new(7) };
        assert!(run(&keys(), plan, &mut history, &mut device, &mut |_, _, _| Ok(true)).unwrap());
        history
    }

    fn worst(history: &History) -> f64 {
        let errors = history.best().into_values().map(|r| (r.measurement.median_us / truth(&r.key) - 1.0).abs());
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn a_steady_device_is_measured_once() {
        let history = measured(|_| 1.0, &PLAN);
        let best = history.best();
        assert_eq!(best.len(), keys().len());
        assert!(best.values().all(|r| r.passes == 1));
        assert!(worst(&history) < 0.006);
    }

    #[test]
    fn a_slow_phase_is_measured_again_and_only_that() {
        let slow = |t: f64| if (5.0..15.0).contains(&t) { 1.3 } else { 1.0 };
        let history = measured(slow, &PLAN);
        assert!(worst(&history) < 0.006, "{}", worst(&history));
        let again = history.best().values().filter(|r| r.passes == 2).count();
        // 10 of the seconds at 0.1 s a block, and the segments at both edges.
        assert!((80..=120).contains(&again), "{again}");
        let blind = measured(slow, &Plan { segment: 0, ..PLAN });
        assert!(worst(&blind) > 0.29, "without sentinels the phase stays in");
    }

    #[test]
    fn a_second_pass_over_all_mends_what_no_sentinel_shows() {
        let slow = |t: f64| if (5.0..15.0).contains(&t) { 1.3 } else { 1.0 };
        let history = measured(slow, &Plan { segment: 0, least: 2, ..PLAN });
        assert!(history.best().values().all(|r| r.passes == 2));
        assert!(worst(&history) < 0.006, "{}", worst(&history));
        let history = measured(|_| 1.0, &Plan { least: 3, passes: 2, ..PLAN });
        assert!(history.best().values().all(|r| r.passes == 2), "no more than allowed");
    }

    #[test]
    fn a_device_that_only_gets_slower_ends_after_the_last_pass_and_is_flagged() {
        let history = measured(|t| 1.0 + t / 50.0, &PLAN);
        let best = history.best();
        assert!(best.values().all(|r| r.passes <= PLAN.passes));
        let flagged = best.values().filter(|r| r.drift > Some(PLAN.drift)).count();
        assert!(flagged > best.len() / 2, "{flagged}");
    }

    #[test]
    fn stopping_anywhere_and_going_on_measures_each_block_once() {
        for stop in [1, 2, 9, 10, 57] {
            let mut history = History::default();
            let mut device = Simulated { now_s: 0.0, speed: |_| 1.0, rng: Rng::new(7) };
            let mut count = 0;
            let done = run(&keys(), &PLAN, &mut history, &mut device, &mut |_, _, _| {
                count += 1;
                Ok(count < stop)
            });
            assert!(!done.unwrap());
            assert!(run(&keys(), &PLAN, &mut history, &mut device, &mut |_, _, _| Ok(true)).unwrap());
            assert!(history.best().values().all(|r| r.passes == 1));
            assert_eq!(history.measured(), keys().len());
        }
    }

    #[test]
    fn order_follows_the_seed_and_mixes_kinds() {
        let order = |seed| History::default().pending(&keys(), &Plan { seed, ..PLAN });
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let first: std::collections::BTreeSet<BlockKind> = order(1)[..40].iter().map(|k| k.kind).collect();
        assert!(first.len() >= 4, "{first:?}");
    }
}
