//! Inference runtimes behind one trait.

#[cfg(feature = "ort")]
mod onnxruntime;
mod providers;
mod tract;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use providers::ExecutionProvider;

use crate::{Error, Result};

/// A runtime by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeKind {
    /// tract: pure Rust, always there.
    Tract,
    /// ONNX Runtime: faster, needs its shared library.
    Ort,
}

/// What ran: latencies of different runtimes, versions or options do not mix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeInfo {
    /// `tract` or `onnxruntime`.
    pub name: String,
    /// Version.
    pub version: String,
    /// Options that change latency.
    pub options: BTreeMap<String, String>,
}

/// A runtime with a fixed number of threads.
pub trait Backend {
    /// What it is.
    fn info(&self) -> RuntimeInfo;
    /// Threads of one inference.
    fn threads(&self) -> usize;
    /// Prepares a model: float32 inputs and outputs of fixed shape (an open batch becomes 1). Inputs start as zeros.
    fn load(&self, onnx: &[u8]) -> Result<Box<dyn Session>>;
}

/// A loaded model with its inputs.
pub trait Session {
    /// Shape of each input.
    fn input_shapes(&self) -> &[Vec<usize>];
    /// Shape of each output.
    fn output_shapes(&self) -> &[Vec<usize>];
    /// Copies the values of all inputs, row-major, in order; they stay for every later run.
    fn set_inputs(&mut self, values: &[&[f32]]) -> Result<()>;
    /// One inference; what is timed.
    fn run(&mut self) -> Result<()>;
    /// Copy of output `index` of the last run, row-major.
    fn output(&self, index: usize) -> Result<Vec<f32>>;
}

/// Opens a runtime with `threads` threads. `ort_lib` names the library of ONNX Runtime and is ignored by tract.
///
/// Without `ort_lib`, ONNX Runtime is looked for at `ORT_DYLIB_PATH` and then in the Python package `onnxruntime`. A
/// process can hold one ONNX Runtime library only.
pub fn open(kind: RuntimeKind, threads: usize, ort_lib: Option<&Path>) -> Result<Box<dyn Backend>> {
    open_with(kind, threads, ort_lib, &[])
}

/// [`open`] with execution providers of ONNX Runtime, the preferred one first. tract has none.
pub fn open_with(
    kind: RuntimeKind,
    threads: usize,
    ort_lib: Option<&Path>,
    providers: &[ExecutionProvider],
) -> Result<Box<dyn Backend>> {
    if threads == 0 {
        return Err(Error::Threads { threads, reason: "at least one is needed".into() });
    }
    match kind {
        RuntimeKind::Tract if !providers.is_empty() => Err(Error::Provider {
            name: providers[0].name(),
            reason: "tract has no execution providers; take `--runtime ort`".into(),
        }),
        RuntimeKind::Tract => Ok(Box::new(tract::TractBackend::new(threads)?)),
        #[cfg(feature = "ort")]
        RuntimeKind::Ort => Ok(Box::new(onnxruntime::OrtBackend::new(threads, ort_lib, providers)?)),
        #[cfg(not(feature = "ort"))]
        RuntimeKind::Ort => {
            let _ = (ort_lib, providers);
            Err(Error::OrtNotBuilt)
        }
    }
}

/// Checks the number of inputs and of their values.
fn check_inputs(shapes: &[Vec<usize>], values: &[&[f32]]) -> Result<()> {
    let lengths = |list: &mut dyn Iterator<Item = usize>| {
        let list: Vec<usize> = list.collect();
        format!("{} inputs of {list:?} values", list.len())
    };
    let wanted = shapes.iter().map(|s| s.iter().product::<usize>());
    if wanted.clone().eq(values.iter().map(|v| v.len())) {
        return Ok(());
    }
    Err(Error::Input { expected: lengths(&mut wanted.into_iter()), got: lengths(&mut values.iter().map(|v| v.len())) })
}

fn no_output(runtime: &'static str, index: usize) -> Error {
    Error::Run { runtime, reason: format!("output {index} is not there: run first, and mind the model's outputs") }
}

/// Text of a caught panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "internal failure".into())
}
