//! ONNX Runtime, loaded at run time.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider as _, ExecutionProviderDispatch};
use ort::session::IoBinding;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{Outlet, Tensor, TensorElementType};

use super::{Backend, ExecutionProvider, RuntimeInfo, Session, check_inputs, no_output};
use crate::{Error, Result};

const RUNTIME: &str = "onnxruntime";

/// A process can hold one environment, which lives as long as the process.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Prints the folder of the Python package without importing it.
const FIND_PACKAGE: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
    print(s.submodule_search_locations[0] if s else '')";

pub(super) struct OrtBackend {
    threads: usize,
    library: PathBuf,
    environment: Environment,
    providers: Vec<ExecutionProvider>,
}

impl OrtBackend {
    pub(super) fn new(threads: usize, library: Option<&Path>, providers: &[ExecutionProvider]) -> Result<Self> {
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
    path.canonicalize().map_err(Error::io("resolve", path))
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
            options.insert(super::providers::OPTION.into(), names.join(","));
        }
        RuntimeInfo { name: RUNTIME.into(), version: version(&self.library), options }
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn load(&self, onnx: &[u8]) -> Result<Box<dyn Session>> {
        let session = self.session(onnx).map_err(|e| Error::Load { runtime: RUNTIME, reason: e.to_string() })?;
        Ok(Box::new(OrtSession::new(session)?))
    }
}

impl OrtBackend {
    fn session(&self, onnx: &[u8]) -> ort::Result<ort::session::Session> {
        let providers: Vec<_> = self.providers.iter().map(|p| dispatch(*p, self.threads)).collect();
        // XNNPACK brings threads of its own; two pools would take the cores from each other.
        let threads = if self.providers.contains(&ExecutionProvider::Xnnpack) { 1 } else { self.threads };
        ort::session::Session::builder(&self.environment)?
            .with_execution_providers(providers)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(true)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .commit_from_memory(onnx)
    }
}

/// Inputs and outputs are bound once, so that a run copies nothing.
struct OrtSession {
    session: ort::session::Session,
    binding: IoBinding,
    inputs: Vec<Tensor<f32>>,
    outputs: Vec<Tensor<f32>>,
    input_shapes: Vec<Vec<usize>>,
    output_shapes: Vec<Vec<usize>>,
    has_run: bool,
}

impl OrtSession {
    fn new(session: ort::session::Session) -> Result<Self> {
        let bad = |e: ort::Error| Error::Load { runtime: RUNTIME, reason: e.to_string() };
        let shapes = |outlets: &[Outlet], what: &str| -> Result<Vec<Vec<usize>>> {
            let shape = |(i, outlet): (usize, &Outlet)| {
                let unsupported =
                    || Error::Unsupported { what: format!("{what} {i}"), found: outlet.dtype().to_string() };
                fixed_shape(outlet).ok_or_else(unsupported)
            };
            outlets.iter().enumerate().map(shape).collect()
        };
        let input_shapes = shapes(session.inputs(), "input")?;
        let output_shapes = shapes(session.outputs(), "output")?;
        if input_shapes.is_empty() || output_shapes.is_empty() {
            return Err(Error::Load { runtime: RUNTIME, reason: "it has no input or no output".into() });
        }
        let tensors = |shapes: &[Vec<usize>]| -> ort::Result<Vec<Tensor<f32>>> {
            shapes.iter().map(|shape| Tensor::new(session.allocator(), shape.clone())).collect()
        };
        let inputs = tensors(&input_shapes).map_err(bad)?;
        let mut outputs = tensors(&output_shapes).map_err(bad)?;
        let mut binding = session.create_binding().map_err(bad)?;
        for (outlet, tensor) in session.outputs().iter().zip(&mut outputs) {
            binding.bind_output(outlet.name(), tensor).map_err(bad)?;
        }
        let zeros: Vec<Vec<f32>> = input_shapes.iter().map(|s| vec![0.0; s.iter().product()]).collect();
        let zeros: Vec<&[f32]> = zeros.iter().map(Vec::as_slice).collect();
        let mut ready = Self { session, binding, inputs, outputs, input_shapes, output_shapes, has_run: false };
        ready.set_inputs(&zeros)?;
        Ok(ready)
    }
}

/// Shape of a float32 input or output, an open first dimension made 1.
fn fixed_shape(outlet: &Outlet) -> Option<Vec<usize>> {
    let dtype = outlet.dtype();
    let shape = dtype.tensor_shape().filter(|_| dtype.tensor_type() == Some(TensorElementType::Float32))?;
    let dim = |(i, d): (usize, &i64)| usize::try_from(*d).ok().or((i == 0).then_some(1));
    shape.iter().enumerate().map(dim).collect()
}

impl Session for OrtSession {
    fn input_shapes(&self) -> &[Vec<usize>] {
        &self.input_shapes
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    fn set_inputs(&mut self, values: &[&[f32]]) -> Result<()> {
        check_inputs(&self.input_shapes, values)?;
        for ((outlet, tensor), data) in self.session.inputs().iter().zip(&mut self.inputs).zip(values) {
            tensor.extract_tensor_mut().1.copy_from_slice(data);
            let bound = self.binding.bind_input(outlet.name(), tensor);
            bound.map_err(|e| Error::Run { runtime: RUNTIME, reason: e.to_string() })?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let outputs = self.session.run_binding(&self.binding);
        outputs.map_err(|e| Error::Run { runtime: RUNTIME, reason: e.to_string() })?;
        self.has_run = true;
        Ok(())
    }

    fn output(&self, index: usize) -> Result<Vec<f32>> {
        let tensor = self.outputs.get(index).filter(|_| self.has_run).ok_or_else(|| no_output(RUNTIME, index))?;
        Ok(tensor.extract_tensor().1.to_vec())
    }
}
