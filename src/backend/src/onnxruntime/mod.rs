//! ONNX Runtime, loaded at run time.

mod trace;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider as _, ExecutionProviderDispatch};
use ort::session::IoBinding;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynTensor, Outlet, TensorElementType, ValueType};

use crate::{Backend, Error, ExecutionProvider, Result, RuntimeInfo, Session, Values, ValuesMut};
use crate::{OperatorTime, WARMUP_RUNS, check_size, filled, no_input, no_output};

const RUNTIME: &str = "onnxruntime";

/// A process can hold one environment, which lives as long as the process.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Prints the folder of the Python package without importing it.
const FIND_PACKAGE: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
    print(s.submodule_search_locations[0] if s else '')";

pub(crate) struct OrtBackend {
    threads: usize,
    library: PathBuf,
    environment: Environment,
    providers: Vec<ExecutionProvider>,
}

impl OrtBackend {
    pub(crate) fn new(threads: usize, library: Option<&Path>, providers: &[ExecutionProvider]) -> Result<Self> {
        let library = find_library(library)?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = match &*loaded {
            Some((path, environment)) if *path == library => environment.clone(),
            Some((path, _)) => return Err(Error::OrtLoaded { wanted: library, loaded: path.clone() }),
            None => {
                let bad = |reason: String| Error::OrtLibrary { path: library.clone(), reason };
                let builder = ort::init_from(&library).map_err(|e| bad(e.to_string()))?;
                let environment = builder.with_telemetry(false).build().map_err(|e| bad(e.to_string()))?;
                *loaded = Some((library.clone(), environment.clone()));
                environment
            }
        };
        drop(loaded);
        // The library itself would silently take the CPU instead.
        for provider in providers {
            if !is_built_in(*provider) {
                let reason = format!("{} was built without it", library.display());
                return Err(Error::Provider { name: provider.name(), reason });
            }
        }
        Ok(Self { threads, library, environment, providers: providers.to_vec() })
    }
}

fn is_built_in(provider: ExecutionProvider) -> bool {
    let available = match provider {
        ExecutionProvider::Xnnpack => ep::XNNPACK::is_available(),
        ExecutionProvider::Nnapi => ep::NNAPI::is_available(),
        ExecutionProvider::Cuda => ep::CUDA::is_available(),
        ExecutionProvider::Tensorrt => ep::TensorRT::is_available(),
    };
    available.unwrap_or(false)
}

fn dispatch(provider: ExecutionProvider, threads: usize) -> ExecutionProviderDispatch {
    let built = match provider {
        ExecutionProvider::Xnnpack => {
            let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
            ep::XNNPACK::default().with_intra_op_num_threads(threads).build()
        }
        ExecutionProvider::Nnapi => ep::NNAPI::default().build(),
        ExecutionProvider::Cuda => ep::CUDA::default().build(),
        ExecutionProvider::Tensorrt => ep::TensorRT::default().build(),
    };
    built.error_on_failure()
}

/// Library named by the caller, else by `ORT_DYLIB_PATH`, else that of the Python package; links followed.
fn find_library(given: Option<&Path>) -> Result<PathBuf> {
    let mut looked = Vec::new();
    let variable = std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()).map(PathBuf::from);
    let named = given.map(|p| ("--ort-lib", p.to_owned())).or_else(|| variable.map(|p| ("ORT_DYLIB_PATH", p)));
    let path = if let Some((origin, path)) = named {
        // A name that was given is not silently replaced by another library.
        looked.push(format!("{} ({origin})", path.display()));
        path.is_file().then_some(path)
    } else {
        looked.push("--ort-lib (not given), ORT_DYLIB_PATH (not set)".into());
        in_python_package(&mut looked)
    };
    let path = path.ok_or_else(|| Error::OrtNotFound { looked: looked.join(", ") })?;
    path.canonicalize().map_err(|e| Error::OrtLibrary { path, reason: e.to_string() })
}

fn in_python_package(looked: &mut Vec<String>) -> Option<PathBuf> {
    let output = Command::new("python3").args(["-c", FIND_PACKAGE]).output();
    let folder = output.ok().and_then(|o| String::from_utf8(o.stdout).ok()).unwrap_or_default();
    if folder.trim().is_empty() {
        looked.push("Python package `onnxruntime` (not installed for `python3`)".into());
        return None;
    }
    let folder = Path::new(folder.trim()).join("capi");
    looked.push(format!("{}/libonnxruntime.so*", folder.display()));
    let mut files: Vec<PathBuf> = folder
        .read_dir()
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so")))
        .collect();
    files.sort();
    files.pop()
}

/// Version from a library's name, e.g. `libonnxruntime.so.1.32.0`, else from what the library says of its build.
fn version(library: &Path) -> String {
    let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let from_name = name.split_once(".so.").map(|(_, v)| v.to_owned());
    let branch = || ort::info().split_once("git-branch=rel-").and_then(|(_, v)| v.split(',').next().map(str::to_owned));
    from_name.or_else(branch).unwrap_or_else(|| "unknown".into())
}

impl Backend for OrtBackend {
    fn info(&self) -> RuntimeInfo {
        let options = [("graph_optimization", "all"), ("intra_op_spinning", "true"), ("build", ort::info())];
        let mut options: BTreeMap<_, _> = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        if !self.providers.is_empty() {
            let names: Vec<&str> = self.providers.iter().map(|p| p.name()).collect();
            options.insert(crate::providers::OPTION.into(), names.join(","));
        }
        RuntimeInfo { name: RUNTIME.into(), version: version(&self.library), options }
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn load_sized(&self, onnx: &[u8], open: &[usize]) -> Result<Box<dyn Session>> {
        let mut session = self.session(onnx, &[], None).map_err(load_error)?;
        let names = open_dimensions(session.inputs());
        if !open.is_empty() && !names.is_empty() {
            let sizes: Vec<(String, usize)> = names.into_iter().zip(open.iter().copied()).collect();
            session = self.session(onnx, &sizes, None).map_err(load_error)?;
        }
        Ok(Box::new(OrtSession::new(session, self.is_on_gpu())?))
    }

    fn operator_times(&self, onnx: &[u8], inputs: &[&[f32]], runs: usize) -> Result<Vec<OperatorTime>> {
        // The library writes its trace into a file and appends the time to the name.
        let folder = tempfile::tempdir().map_err(|e| run_error(format!("no folder for the trace: {e}")))?;
        let session = self.session(onnx, &[], Some(&folder.path().join("trace"))).map_err(load_error)?;
        let mut session = OrtSession::new(session, self.is_on_gpu())?;
        session.set_inputs(inputs)?;
        for _ in 0..WARMUP_RUNS + runs {
            session.run()?;
        }
        let file = session.session.end_profiling().map_err(run_error)?;
        let text = std::fs::read_to_string(&file).map_err(|e| run_error(format!("no trace in {file}: {e}")))?;
        trace::operators(&text, runs).map_err(|e| run_error(format!("trace of another form: {e}")))
    }
}

impl OrtBackend {
    /// Only these providers keep their inputs elsewhere.
    fn is_on_gpu(&self) -> bool {
        [ExecutionProvider::Cuda, ExecutionProvider::Tensorrt].iter().any(|p| self.providers.contains(p))
    }

    fn session(
        &self,
        onnx: &[u8],
        sizes: &[(String, usize)],
        trace: Option<&Path>,
    ) -> ort::Result<ort::session::Session> {
        let providers: Vec<_> = self.providers.iter().map(|p| dispatch(*p, self.threads)).collect();
        // XNNPACK brings threads of its own; two pools would take the cores from each other.
        let threads = if self.providers.contains(&ExecutionProvider::Xnnpack) { 1 } else { self.threads };
        let mut builder = ort::session::Session::builder(&self.environment)?
            .with_execution_providers(providers)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(true)?
            .with_optimization_level(GraphOptimizationLevel::All)?;
        for (name, size) in sizes {
            builder = builder.with_dimension_override(name, *size as i64)?;
        }
        if let Some(file) = trace {
            builder = builder.with_profiling(file)?;
        }
        builder.commit_from_memory(onnx)
    }
}

/// Names of the inputs' open dimensions but the first, in order.
fn open_dimensions(inputs: &[Outlet]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for input in inputs {
        if let ValueType::Tensor { shape, dimension_symbols, .. } = input.dtype() {
            let open = shape.iter().zip(dimension_symbols.iter()).skip(1).filter(|(dim, _)| **dim < 0);
            names.extend(open.map(|(_, name)| name.clone()));
        }
    }
    names
}

fn load_error(error: impl std::fmt::Display) -> Error {
    Error::Load { runtime: RUNTIME, reason: error.to_string() }
}

fn run_error(error: impl std::fmt::Display) -> Error {
    Error::Run { runtime: RUNTIME, reason: error.to_string() }
}

/// Inputs and outputs are bound once, so that a run copies nothing.
struct OrtSession {
    session: ort::session::Session,
    binding: IoBinding,
    inputs: Vec<DynTensor>,
    outputs: Vec<DynTensor>,
    input_shapes: Vec<Vec<usize>>,
    output_shapes: Vec<Vec<usize>>,
    /// Inputs are copied when they are bound.
    on_gpu: bool,
    has_run: bool,
}

impl OrtSession {
    fn new(session: ort::session::Session, on_gpu: bool) -> Result<Self> {
        let (input_shapes, mut inputs) = tensors(&session, session.inputs(), "input")?;
        let (output_shapes, mut outputs) = tensors(&session, session.outputs(), "output")?;
        if input_shapes.is_empty() || output_shapes.is_empty() {
            return Err(load_error("it has no input or no output"));
        }
        for tensor in &mut inputs {
            match values_mut(tensor)? {
                ValuesMut::F32(values) => values.fill(0.0),
                ValuesMut::U8(values) => values.fill(0),
            }
        }
        let mut binding = session.create_binding().map_err(load_error)?;
        for (outlet, tensor) in session.outputs().iter().zip(&mut outputs) {
            binding.bind_output(outlet.name(), tensor).map_err(load_error)?;
        }
        let mut ready = Self { session, binding, inputs, outputs, input_shapes, output_shapes, on_gpu, has_run: false };
        ready.bind_inputs().map_err(load_error)?;
        Ok(ready)
    }

    fn bind_inputs(&mut self) -> ort::Result<()> {
        for (outlet, tensor) in self.session.inputs().iter().zip(&self.inputs) {
            self.binding.bind_input(outlet.name(), tensor)?;
        }
        Ok(())
    }
}

/// Shapes of and memory for inputs or outputs.
fn tensors(
    session: &ort::session::Session,
    outlets: &[Outlet],
    what: &str,
) -> Result<(Vec<Vec<usize>>, Vec<DynTensor>)> {
    let (mut shapes, mut tensors) = (Vec::new(), Vec::new());
    for (i, outlet) in outlets.iter().enumerate() {
        let unsupported = || Error::Unsupported { what: format!("{what} {i}"), found: outlet.dtype().to_string() };
        let (dtype, shape) = fixed_shape(outlet).ok_or_else(unsupported)?;
        check_size(&shape, || format!("{what} {i}"))?;
        tensors.push(DynTensor::new(session.allocator(), dtype, shape.clone()).map_err(load_error)?);
        shapes.push(shape);
    }
    Ok((shapes, tensors))
}

/// Type and shape of an input or output, an open first dimension made 1.
fn fixed_shape(outlet: &Outlet) -> Option<(TensorElementType, Vec<usize>)> {
    let dtype = outlet.dtype().tensor_type()?;
    let supported = matches!(dtype, TensorElementType::Float32 | TensorElementType::Uint8);
    let shape = outlet.dtype().tensor_shape().filter(|_| supported)?;
    let dims = shape.iter().map(|d| usize::try_from(*d).ok());
    Some((dtype, filled(dims, &mut std::iter::empty())?))
}

fn values_mut(tensor: &mut DynTensor) -> Result<ValuesMut<'_>> {
    Ok(match tensor.dtype().tensor_type() {
        Some(TensorElementType::Uint8) => ValuesMut::U8(tensor.try_extract_tensor_mut().map_err(run_error)?.1),
        _ => ValuesMut::F32(tensor.try_extract_tensor_mut().map_err(run_error)?.1),
    })
}

impl Session for OrtSession {
    fn input_shapes(&self) -> &[Vec<usize>] {
        &self.input_shapes
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    fn input_mut(&mut self, index: usize) -> Result<ValuesMut<'_>> {
        values_mut(self.inputs.get_mut(index).ok_or_else(|| no_input(RUNTIME, index))?)
    }

    fn run(&mut self) -> Result<()> {
        if self.on_gpu {
            self.bind_inputs().map_err(run_error)?;
        }
        self.session.run_binding(&self.binding).map_err(run_error)?;
        self.has_run = true;
        Ok(())
    }

    fn output_values(&self, index: usize) -> Result<Values<'_>> {
        let tensor = self.outputs.get(index).filter(|_| self.has_run).ok_or_else(|| no_output(RUNTIME, index))?;
        Ok(match tensor.dtype().tensor_type() {
            Some(TensorElementType::Uint8) => Values::U8(tensor.try_extract_tensor().map_err(run_error)?.1),
            _ => Values::F32(tensor.try_extract_tensor().map_err(run_error)?.1),
        })
    }
}
