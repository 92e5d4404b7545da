//! Profiles all blocks of a space, and whole models.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inas_graph::{OnnxOptions, SeededWeights, block, cost};
use inas_space::{BlockKey, BlockKind, Micros, Space};

use crate::cache::Evictor;
use crate::conditions::{Conditions, cooled};
use crate::device::DeviceFacts;
use crate::measure::{Clock as _, Measurement, Protocol, SystemClock, measure, measure_with};
use crate::memory::Watch;
use crate::profile::{Profile, ProfileFacts, SCHEMA};
use crate::records::{Entry, Header, Key, Record, Records, Sentinel, StreamLine};
use crate::rng::Rng;
use crate::schedule::{self, Bench, Plan};
use crate::{Error, Result, stats};
use inas_backend::{Backend, Session};

/// Samples of the sentinel at each look.
const SENTINEL_RUNS: usize = 5;

/// Passes over all blocks, each with models loaded anew, where the protocol allows as many: a neighbour that takes caches
/// and memory slows single blocks by some percent for a moment, which the sentinel does not show.
pub const LEAST_PASSES: usize = 2;

/// How to profile a space.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How to measure each block.
    pub protocol: Protocol,
    /// Seed of weights, inputs and order.
    pub seed: u64,
    /// Folder of the profile; must be empty or not there, unless resuming.
    pub dir: PathBuf,
    /// Go on with the records in the folder, if any.
    pub resume: bool,
    /// Command line to keep in the profile.
    pub command: String,
    /// Cores that the process was kept on ([`crate::affinity`]), to keep in the profile.
    pub cores: Vec<usize>,
}

/// A block was measured.
#[derive(Debug, Clone)]
pub struct Progress<K = BlockKey> {
    /// Blocks measured, earlier runs included.
    pub done: usize,
    /// Blocks to measure in all.
    pub total: usize,
    /// Blocks of this pass that are left; the last passes are over drifted ones only.
    pub left: usize,
    /// The block.
    pub key: K,
    /// Its median latency.
    pub median: Micros,
    /// What was measured, as it is in the records.
    pub record: Record<K>,
    /// Time since this run started.
    pub elapsed: Duration,
    /// Time left at the pace of this run.
    pub eta: Duration,
}

impl Progress {
    /// The same as a line of JSON for another program.
    pub fn line(&self) -> StreamLine {
        StreamLine {
            schema: SCHEMA,
            done: self.done,
            total: self.total,
            left: self.left,
            key: self.key,
            median_us: self.median.0,
            elapsed_s: self.elapsed.as_secs_f64(),
            eta_s: self.eta.as_secs_f64(),
            record: self.record.clone(),
        }
    }
}

/// Measures every block of `space` at input side `px` and writes the profile into the folder of `options`.
///
/// Blocks come in a seeded random order, in segments between timings of a sentinel block; segments that drifted are
/// measured again. Each block is recorded on the disk at once; after an interruption (`cancel`, or a crash) a run with
/// `resume` measures the rest. Branches that pass their input through are not measured and count as 0.
pub fn profile_space(
    space: &Space,
    px: u32,
    backend: &dyn Backend,
    options: &RunOptions,
    observer: &mut dyn FnMut(&Progress),
    cancel: &AtomicBool,
) -> Result<Profile> {
    options.protocol.check()?;
    let mut keys = space.block_keys(px)?;
    keys.retain(|key| !key.is_identity());
    let device = DeviceFacts::read();
    let header = Header::new(device.fingerprint(), space.hash(), px, backend, options);
    let list: Vec<BlockKey> = keys.iter().copied().collect();
    let mut bench = LocalBench::new(space, &list, backend, &options.protocol, options.seed)?;
    let (best, sentinel_us) = measure_blocks(keys, &header, options, &mut bench, observer, cancel)?;
    let facts = ProfileFacts {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        command: options.command.clone(),
        created: now(),
        space_name: space.name.clone(),
        space_hash: header.space_hash,
        space_toml: space.to_toml()?,
        input_px: px,
        runtime: header.runtime,
        threads: header.threads,
        cores: header.cores,
        device,
        protocol: header.protocol,
        seed: header.seed,
        sentinel_us,
        blocks: 0,
        fingerprint: header.fingerprint,
    };
    let profile = Profile::new(facts, &best)?;
    profile.write(&options.dir)?;
    Ok(profile)
}

/// The best record of each block, and the sentinel's time when the device was quiet.
pub(crate) type Measured<K> = (BTreeMap<K, Record<K>>, Option<f64>);

/// Measures blocks into the records of the folder of `options`.
pub(crate) fn measure_blocks<K: Key>(
    keys: BTreeSet<K>,
    header: &Header,
    options: &RunOptions,
    bench: &mut LocalBench<'_, K>,
    observer: &mut dyn FnMut(&Progress<K>),
    cancel: &AtomicBool,
) -> Result<Measured<K>> {
    let mut records = Records::open(&options.dir, options.resume, header, &keys)?;
    let keys: Vec<K> = keys.into_iter().collect();
    let protocol = &options.protocol;
    let plan = Plan {
        seed: options.seed,
        segment: protocol.sentinel_every,
        drift: protocol.drift,
        least: LEAST_PASSES,
        passes: protocol.max_passes,
    };
    let mut history = std::mem::take(&mut records.history);
    let start = Instant::now();
    let mut measured = 0;
    let mut keep = |entry: &Entry<K>, history: &schedule::History<K>, left: usize| -> Result<bool> {
        records.append(entry)?;
        if let Entry::Block(record) = entry {
            measured += 1;
            let elapsed = start.elapsed();
            observer(&Progress {
                done: history.measured(),
                total: keys.len(),
                left,
                key: record.key.clone(),
                median: Micros(record.measurement.median_us),
                record: record.clone(),
                elapsed,
                eta: elapsed.mul_f64(left as f64 / f64::from(measured)),
            });
        }
        Ok(!cancel.load(Ordering::Relaxed))
    };
    let whole = schedule::run(&keys, &plan, &mut history, bench, &mut keep)?;
    if !whole && !history.pending(&keys, &plan).is_empty() {
        let path = options.dir.clone();
        return Err(Error::Interrupted { path, done: history.measured(), total: keys.len() });
    }
    let found = (history.best(), history.quiet_us());
    records.history = history;
    records.finish(header)?;
    Ok(found)
}

/// A command line to keep in result files: the program without its folder, arguments with spaces in quotes.
pub fn command_line(arguments: impl IntoIterator<Item = String>) -> String {
    let mut words: Vec<String> = arguments.into_iter().collect();
    if let Some(program) = words.first_mut() {
        let name = Path::new(&*program).file_name().map(|n| n.to_string_lossy().into_owned());
        *program = name.unwrap_or_default();
    }
    for word in &mut words {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c == '\'') {
            *word = format!("'{}'", word.replace('\'', r"'\''"));
        }
    }
    words.join(" ")
}

/// Measures a whole ONNX model on random inputs.
pub fn bench_model(onnx: &[u8], backend: &dyn Backend, protocol: &Protocol) -> Result<Measurement> {
    protocol.check()?;
    let (mut session, load_us) = load(onnx, backend, 0)?;
    Ok(Measurement { load_us: Some(load_us), ..measure(session.as_mut(), protocol)? })
}

/// A session with random inputs, and the time it took to load, microseconds.
pub(crate) fn load(onnx: &[u8], backend: &dyn Backend, seed: u64) -> Result<(Box<dyn Session>, f64)> {
    let start = Instant::now();
    let mut session = backend.load(onnx)?;
    let load_us = start.elapsed().as_micros() as f64;
    let inputs = random_inputs(session.input_shapes(), seed);
    session.set_inputs(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    Ok((session, load_us))
}

/// Values in -1..1 for inputs of these shapes; a function of the seed.
pub(crate) fn random_inputs(shapes: &[Vec<usize>], seed: u64) -> Vec<Vec<f32>> {
    let mut rng = Rng::new(seed);
    let mut values = |shape: &Vec<usize>| (0..shape.iter().product()).map(|_| rng.signed_unit()).collect();
    shapes.iter().map(&mut values).collect()
}

/// How a block's model comes about.
type Source<'a, K> = Box<dyn Fn(&K) -> Result<Vec<u8>> + 'a>;

/// This machine with a runtime.
pub(crate) struct LocalBench<'a, K = BlockKey> {
    onnx: Source<'a, K>,
    backend: &'a dyn Backend,
    protocol: &'a Protocol,
    seed: u64,
    clock: SystemClock,
    evictor: Evictor,
    /// Block that tells how fast the machine is at the moment, if sentinels are wanted.
    sentinel: Option<Box<dyn Session>>,
}

impl<'a> LocalBench<'a> {
    pub(crate) fn new(
        space: &'a Space,
        keys: &[BlockKey],
        backend: &'a dyn Backend,
        protocol: &'a Protocol,
        seed: u64,
    ) -> Result<Self> {
        let onnx = move |key: &BlockKey| {
            let graph = block(space, key, &mut SeededWeights::new(seed))?;
            Ok(graph.to_onnx(&OnnxOptions::default())?)
        };
        Self::of(Box::new(onnx), sentinel_key(space, keys).as_ref(), backend, protocol, seed)
    }
}

impl<'a, K> LocalBench<'a, K> {
    pub(crate) fn of(
        onnx: Source<'a, K>,
        sentinel: Option<&K>,
        backend: &'a dyn Backend,
        protocol: &'a Protocol,
        seed: u64,
    ) -> Result<Self> {
        let evictor = Evictor::new(if protocol.cold_runs > 0 { protocol.evict_kb } else { 0 });
        let clock = SystemClock::default();
        let mut bench = Self { onnx, backend, protocol, seed, clock, evictor, sentinel: None };
        if let Some(key) = sentinel.filter(|_| protocol.sentinel_every > 0) {
            let (mut session, _) = load(&(bench.onnx)(key)?, backend, seed)?;
            for _ in 0..protocol.warmup_runs {
                session.run()?;
            }
            bench.sentinel = Some(session);
        }
        Ok(bench)
    }

    /// Latency of the sentinel at this moment, microseconds; 0 without one.
    pub(crate) fn sentinel_us(&mut self) -> Result<f64> {
        let Some(session) = &mut self.sentinel else { return Ok(0.0) };
        let mut times = Vec::with_capacity(SENTINEL_RUNS);
        session.run()?;
        for _ in 0..SENTINEL_RUNS {
            let start = self.clock.now();
            session.run()?;
            times.push(self.clock.now().saturating_sub(start).as_secs_f64() * 1e6);
        }
        Ok((stats::median(&times) * 1e3).round() / 1e3)
    }

    fn measure(&mut self, key: &K) -> Result<Measurement> {
        let onnx = (self.onnx)(key)?;
        let memory = Watch::start();
        let (mut session, load_us) = load(&onnx, self.backend, self.seed)?;
        let start = Instant::now();
        session.run()?;
        let first_us = start.elapsed().as_nanos() as f64 / 1e3;
        let memory_kb = memory.growth_kb();
        let evictor = &mut self.evictor;
        // The first run has warmed up already.
        let protocol = Protocol { warmup_runs: (self.protocol.warmup_runs - 1).max(1), ..self.protocol.clone() };
        let measured = measure_with(session.as_mut(), &protocol, &self.clock, &mut || evictor.sweep())?;
        Ok(Measurement { first_us, load_us: Some(load_us), memory_kb, ..measured })
    }
}

/// The bottleneck block of middle cost: it exercises the operators that networks spend their time in.
fn sentinel_key(space: &Space, keys: &[BlockKey]) -> Option<BlockKey> {
    let macs = |key: &BlockKey| cost::of_block(space, key).map_or(0, |c| c.macs);
    let mut blocks: Vec<(u64, BlockKey)> =
        keys.iter().filter(|k| k.kind == BlockKind::MbConv).map(|k| (macs(k), *k)).collect();
    blocks.sort_unstable();
    blocks.get(blocks.len() / 2).map(|b| b.1)
}

impl<K: Key> Bench<K> for LocalBench<'_, K> {
    fn sentinel(&mut self) -> Result<Sentinel> {
        let longest = Duration::from_secs_f64(self.protocol.max_wait_seconds);
        let conditions = cooled(self.protocol.max_celsius, longest, &self.clock, &mut Conditions::read);
        let sentinel_us = self.sentinel_us()?;
        Ok(Sentinel { sentinel_us, at_s: (self.clock.now().as_secs_f64() * 10.0).round() / 10.0, conditions })
    }

    fn block(&mut self, key: &K) -> Result<Measurement> {
        self.measure(key).map_err(|e| Error::Block { key: key.to_string(), source: Box::new(e) })
    }
}

/// UTC to the second, RFC 3339.
pub(crate) fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_hides_the_folder_and_can_be_pasted() {
        let line = |words: &[&str]| command_line(words.iter().map(ToString::to_string));
        assert_eq!(line(&["/a/b/tool", "run", "--out", "my dir"]), "tool run --out 'my dir'");
        assert_eq!(line(&["tool", "it's", ""]), r"tool 'it'\''s' ''");
        assert_eq!(line(&[]), "");
    }
}
