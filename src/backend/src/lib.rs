//! Inference runtimes behind one trait: tract, which is always there, and ONNX Runtime.
//!
//! A [`Backend`] loads ONNX models into [`Session`]s, whose inputs are rewritten and whose outputs are read in place.

mod enlarge;
mod error;
#[cfg(feature = "ort")]
mod onnxruntime;
mod operators;
mod providers;
mod tract;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use error::{Error, Result};
pub use operators::OperatorTime;
pub use providers::ExecutionProvider;
pub use values::{Values, ValuesMut};

/// Values that one input, output or operator's result of a model may have: 256 MiB of floats, a hundred times what the
/// largest networks of this field need. A file that asks for more is taken for damaged before anything is allocated.
pub const MAX_VALUES: usize = 1 << 26;

/// Threads that a runtime may be asked for: more than the largest machines have cores. A pool of far more takes minutes
/// to start.
const MAX_THREADS: usize = 1024;

/// A runtime by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum RuntimeKind {
    /// Pure Rust, always there.
    Tract,
    /// ONNX Runtime: faster, needs its shared library.
    Ort,
}

/// What ran: latencies of different runtimes, versions or options do not mix.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct RuntimeInfo {
    /// `tract` or `onnxruntime`.
    pub name: String,
    /// Version.
    pub version: String,
    /// Options that change latency.
    pub options: BTreeMap<String, String>,
}

impl fmt::Display for RuntimeInfo {
    /// `onnxruntime 1.23.2 (graph_optimization all, provider.1 cuda)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)?;
        let options: Vec<_> = self.options.iter().map(|(name, value)| format!("{name} {value}")).collect();
        if options.is_empty() { Ok(()) } else { write!(f, " ({})", options.join(", ")) }
    }
}

/// A runtime with a fixed number of threads.
pub trait Backend: Send + Sync {
    /// What it is.
    fn info(&self) -> RuntimeInfo;
    /// Threads of one inference.
    fn threads(&self) -> usize;
    /// Prepares a model: float32 or uint8 inputs and outputs. An open batch becomes 1; other open dimensions of the
    /// inputs take the values of `open` in order. Inputs start as zeros.
    fn load_sized(&self, onnx: &[u8], open: &[usize]) -> Result<Box<dyn Session>>;
    /// Times each operator of a model of fixed size over `runs` runs on `inputs`, after a few that do not count, in the
    /// order of execution. Looking costs time of its own, so the sum is no latency.
    fn operator_times(&self, onnx: &[u8], inputs: &[&[f32]], runs: usize) -> Result<Vec<OperatorTime>>;

    /// [`Backend::load_sized`] for a model of fixed size.
    fn load(&self, onnx: &[u8]) -> Result<Box<dyn Session>> {
        self.load_sized(onnx, &[])
    }
}

/// A loaded model with its inputs and outputs.
pub trait Session: Send {
    /// Shape of each input.
    fn input_shapes(&self) -> &[Vec<usize>];
    /// Shape of each output.
    fn output_shapes(&self) -> &[Vec<usize>];
    /// Values of input `index`; what is written stays for every later run.
    fn input_mut(&mut self, index: usize) -> Result<ValuesMut<'_>>;
    /// One inference; what is timed.
    fn run(&mut self) -> Result<()>;
    /// Output `index` of the last run.
    fn output_values(&self, index: usize) -> Result<Values<'_>>;

    /// Copies the values of all inputs, row-major, in order; they stay for every later run.
    fn set_inputs(&mut self, values: &[&[f32]]) -> Result<()> {
        check_inputs(self.input_shapes(), values)?;
        for (index, values) in values.iter().enumerate() {
            self.input_mut(index)?.copy_from(values);
        }
        Ok(())
    }

    /// Copy of output `index` of the last run, row-major.
    fn output(&self, index: usize) -> Result<Vec<f32>> {
        Ok(self.output_values(index)?.to_f32())
    }
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
    if threads == 0 || threads > MAX_THREADS {
        return Err(Error::Threads { threads, reason: format!("1 to {MAX_THREADS} are possible") });
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

/// Runs of a traced model that do not count.
const WARMUP_RUNS: usize = 3;

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

/// Refuses a shape of more than [`MAX_VALUES`] values.
fn check_size(shape: &[usize], what: impl FnOnce() -> String) -> Result<()> {
    let values = shape.iter().try_fold(1_usize, |all, d| all.checked_mul(*d));
    if values.is_some_and(|v| v <= MAX_VALUES) {
        return Ok(());
    }
    Err(Error::TooLarge { what: what(), shape: shape.to_vec(), limit: MAX_VALUES })
}

/// A shape with its open dimensions filled in: an open first one is 1, the others take the next of `open`.
fn filled(dims: impl Iterator<Item = Option<usize>>, open: &mut impl Iterator<Item = usize>) -> Option<Vec<usize>> {
    dims.enumerate().map(|(i, dim)| dim.or_else(|| if i == 0 { Some(1) } else { open.next() })).collect()
}

fn no_input(runtime: &'static str, index: usize) -> Error {
    Error::Run { runtime, reason: format!("the model has no input {index}") }
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
