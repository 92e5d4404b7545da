//! A tiny space and a runtime that only pretends.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
// Each test program uses a part.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::Path;

use inas_backend::{Backend, OperatorTime, Result, RuntimeInfo, Session, Values, ValuesMut};
use inas_profiler::{Protocol, RunOptions};
use inas_space::Space;

pub const TINY: &str = include_str!("../../../../tests/tiny-space.toml");

pub fn tiny() -> Space {
    Space::from_toml(TINY).unwrap()
}

/// Blocks of the tiny space that are measured.
pub fn measured_blocks() -> usize {
    tiny().block_keys(32).unwrap().iter().filter(|k| !k.is_identity()).count()
}

/// One warm-up run and two timed ones.
pub fn quick() -> Protocol {
    Protocol {
        warmup_runs: 1,
        min_runs: 2,
        max_runs: 2,
        min_sample_us: 0.0,
        cold_runs: 0,
        sentinel_every: 0,
        max_passes: 1,
        ..Protocol::default()
    }
}

pub fn options(dir: &Path, resume: bool) -> RunOptions {
    RunOptions { protocol: quick(), seed: 1, dir: dir.to_owned(), resume, command: "test".into(), cores: Vec::new() }
}

/// Takes any model and does nothing.
pub struct Pretend {
    pub version: &'static str,
    pub threads: usize,
}

impl Default for Pretend {
    fn default() -> Self {
        Self { version: "1", threads: 1 }
    }
}

impl Backend for Pretend {
    fn info(&self) -> RuntimeInfo {
        RuntimeInfo { name: "pretend".into(), version: self.version.into(), options: BTreeMap::new() }
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn load_sized(&self, _onnx: &[u8], _open: &[usize]) -> Result<Box<dyn Session>> {
        Ok(Box::new(PretendSession(vec![vec![1]], [0.0])))
    }

    fn operator_times(&self, _onnx: &[u8], _inputs: &[&[f32]], _runs: usize) -> Result<Vec<OperatorTime>> {
        Ok(Vec::new())
    }
}

struct PretendSession(Vec<Vec<usize>>, [f32; 1]);

impl Session for PretendSession {
    fn input_shapes(&self) -> &[Vec<usize>] {
        &self.0
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.0
    }

    fn input_mut(&mut self, _index: usize) -> Result<ValuesMut<'_>> {
        Ok(ValuesMut::F32(&mut self.1))
    }

    fn run(&mut self) -> Result<()> {
        Ok(())
    }

    fn output_values(&self, _index: usize) -> Result<Values<'_>> {
        Ok(Values::F32(&self.1))
    }
}
