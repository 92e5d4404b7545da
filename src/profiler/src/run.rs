//! Profiles all blocks of a space, and whole models.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inas_graph::{OnnxOptions, SeededWeights, block};
use inas_space::{BlockKey, Micros, Space};

use crate::backend::Backend;
use crate::device::DeviceFacts;
use crate::measure::{Measurement, Protocol, measure};
use crate::profile::{Profile, ProfileFacts, SCHEMA};
use crate::records::{Header, Records};
use crate::rng::Rng;
use crate::{Error, Result};

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
}

/// A block was measured.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Blocks measured, earlier runs included.
    pub done: usize,
    /// Blocks to measure in all.
    pub total: usize,
    /// The block.
    pub key: BlockKey,
    /// Its median latency.
    pub median: Micros,
    /// Time since this run started.
    pub elapsed: Duration,
    /// Time left at the pace of this run.
    pub eta: Duration,
}

/// Measures every block of `space` at input side `px` and writes the profile into the folder of `options`.
///
/// Blocks come in a seeded random order, so that a slow phase of the machine does not fall on one kind of block. Each is
/// recorded on the disk at once; after an interruption (`cancel`, or a crash) a run with `resume` measures the rest.
/// Branches that pass their input through are not measured and count as 0.
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
    let header = Header {
        schema: SCHEMA,
        fingerprint: device.fingerprint(),
        space_hash: space.hash(),
        input_px: px,
        runtime: backend.info(),
        threads: backend.threads(),
        protocol: options.protocol.clone(),
        seed: options.seed,
    };
    let mut records = Records::open(&options.dir, options.resume, &header, &keys)?;
    let total = keys.len();
    let mut left: Vec<BlockKey> = keys.into_iter().collect();
    Rng::new(options.seed).shuffle(&mut left);
    left.retain(|key| !records.measured.contains_key(key));
    let start = Instant::now();
    for (i, key) in left.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted { path: options.dir.clone(), done: records.measured.len(), total });
        }
        let measurement = measure_block(space, key, backend, options)
            .map_err(|e| Error::Block { key: key.to_string(), source: Box::new(e) })?;
        records.push(*key, measurement)?;
        let elapsed = start.elapsed();
        observer(&Progress {
            done: records.measured.len(),
            total,
            key: *key,
            median: Micros(measurement.median_us),
            elapsed,
            eta: elapsed.mul_f64((left.len() - i - 1) as f64 / (i + 1) as f64),
        });
    }
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
        device,
        protocol: header.protocol,
        seed: header.seed,
        blocks: 0,
        fingerprint: header.fingerprint,
    };
    let profile = Profile::new(facts, &records.measured)?;
    profile.write(&options.dir)?;
    Ok(profile)
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
    bench_seeded(onnx, backend, protocol, 0)
}

fn measure_block(space: &Space, key: &BlockKey, backend: &dyn Backend, options: &RunOptions) -> Result<Measurement> {
    let graph = block(space, key, &mut SeededWeights::new(options.seed))?;
    bench_seeded(&graph.to_onnx(&OnnxOptions::default())?, backend, &options.protocol, options.seed)
}

fn bench_seeded(onnx: &[u8], backend: &dyn Backend, protocol: &Protocol, seed: u64) -> Result<Measurement> {
    protocol.check()?;
    let mut session = backend.load(onnx)?;
    let mut rng = Rng::new(seed);
    let mut values = |shape: &Vec<usize>| (0..shape.iter().product()).map(|_| rng.signed_unit()).collect();
    let inputs: Vec<Vec<f32>> = session.input_shapes().iter().map(&mut values).collect();
    session.set_inputs(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    measure(session.as_mut(), protocol)
}

/// UTC to the second, RFC 3339.
fn now() -> String {
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
