//! How long profiling a space will take, from a probe of a few blocks.

use std::time::Instant;

use inas_graph::cost;
use inas_space::{BlockKey, Space};

use crate::measure::Protocol;
use crate::rng::Rng;
use crate::run::{LEAST_PASSES, LocalBench};
use crate::schedule::Bench as _;
use crate::{Result, stats};
use inas_backend::Backend;

/// What profiling will take.
#[derive(Debug, Clone, PartialEq, schemars::JsonSchema, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// Blocks to measure.
    pub blocks: usize,
    /// Blocks that were probed.
    pub probed: usize,
    /// Time for one pass over all blocks, seconds.
    pub one_pass_s: f64,
    /// Time if every block drifts and is measured as often as the protocol allows, seconds.
    pub longest_s: f64,
    /// Median width of the interval of the probed blocks' medians, half and relative, percent.
    pub median_ci_percent: f64,
    /// Size of the records, KB (1000 bytes).
    pub records_kb: u64,
}

/// Bytes of a record's line.
const RECORD_BYTES: u64 = 450;

/// Measures `probe` blocks, chosen evenly over their cost, and says how long all will take.
pub fn plan(
    space: &Space,
    px: u32,
    backend: &dyn Backend,
    protocol: &Protocol,
    probe: usize,
    seed: u64,
) -> Result<Estimate> {
    protocol.check()?;
    let mut keys: Vec<BlockKey> = space.block_keys(px)?.into_iter().filter(|k| !k.is_identity()).collect();
    let mut bench = LocalBench::new(space, &keys, backend, protocol, seed)?;
    let macs = |key: &BlockKey| cost::of_block(space, key).map_or(0, |c| c.macs);
    keys.sort_by_cached_key(|k| (macs(k), *k));
    let probe = probe.clamp(1, keys.len().max(1));
    let mut rng = Rng::new(seed);
    let (mut seconds, mut widths) = (Vec::new(), Vec::new());
    for i in 0..probe.min(keys.len()) {
        // One block of each of `probe` classes of cost, so that the mean stands for all.
        let (low, high) = (i * keys.len() / probe, (i + 1) * keys.len() / probe);
        let key = keys[low + rng.below(high - low)];
        let start = Instant::now();
        let m = bench.block(&key)?;
        seconds.push(start.elapsed().as_secs_f64());
        widths.push(50.0 * (m.ci_high_us - m.ci_low_us) / m.median_us.max(1e-9));
    }
    let sentinel_s = if protocol.sentinel_every > 0 {
        let start = Instant::now();
        bench.sentinel()?;
        let segments = keys.len().div_ceil(protocol.sentinel_every) + 1;
        start.elapsed().as_secs_f64() * segments as f64
    } else {
        0.0
    };
    let one_pass = stats::mean(&seconds) * keys.len() as f64 + sentinel_s;
    let passes = if protocol.sentinel_every > 0 { protocol.max_passes } else { LEAST_PASSES.min(protocol.max_passes) };
    Ok(Estimate {
        blocks: keys.len(),
        probed: seconds.len(),
        one_pass_s: one_pass,
        longest_s: one_pass * passes as f64,
        median_ci_percent: stats::median(&widths),
        records_kb: keys.len() as u64 * RECORD_BYTES / 1000,
    })
}
