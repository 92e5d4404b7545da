//! The tensors of a supernet by name.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::pickle::PthTensors;
use candle_core::{DType, Device, Tensor, Var};
use inas_space::Space;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Normal};

use super::layout::{CLASSIFIER, Entry, Init, entries};
use super::{Error, Result};

/// Trainable tensors and running statistics of a supernet, in the release's names and shapes.
#[derive(Debug, Clone)]
pub struct Params {
    pub(crate) weights: BTreeMap<String, Var>,
    pub(crate) buffers: BTreeMap<String, Tensor>,
    device: Device,
}

impl Params {
    /// Freshly initialised parameters, with a classifier over `classes` for pre-training; the same seed gives the same
    /// values.
    pub fn init(space: &Space, classes: Option<usize>, seed: u64, device: &Device) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self::build(space, classes, device, |entry| Ok(initial(entry, &mut rng)?.to_device(device)?))
    }

    /// Reads a checkpoint: safetensors, or the release's `.pth` (`{"params": …}`).
    ///
    /// Every tensor of the space must be there with its shape; others are refused.
    pub fn load(space: &Space, path: &Path, device: &Device) -> Result<Self> {
        Self::from_tensors(space, None, read(path, device)?, path, device)
    }

    /// As [`Self::load`], to start a training run: of a pre-training, or from a file without transport and decoder, only
    /// the backbone is taken, and the rest freshly initialised; of a larger space's supernet, what this space's networks
    /// read of it.
    pub fn start_from(space: &Space, path: &Path, seed: u64, device: &Device) -> Result<Self> {
        let mut tensors = read(path, device)?;
        let has = |part: &str| tensors.keys().any(|name| name.starts_with(part));
        if has(CLASSIFIER) || !(has("transport.") || has("decoder.")) {
            tensors.retain(|name, _| name.starts_with("backbone."));
            let fresh = Self::init(space, None, seed, device)?;
            tensors.extend(fresh.tensors().filter(|(name, _)| !name.starts_with("backbone.")));
        }
        Self::from_tensors(space, None, part(space, tensors)?, path, device)
    }

    /// Classes of the classifier, in pre-training.
    pub fn classes(&self) -> Option<usize> {
        self.weights.get(&format!("{CLASSIFIER}.bias")).map(|bias| bias.elem_count())
    }

    /// Parameters from the tensors of the file at `path`: all that the space needs, and no other.
    pub(crate) fn from_tensors(
        space: &Space,
        classes: Option<usize>,
        mut tensors: HashMap<String, Tensor>,
        path: &Path,
        device: &Device,
    ) -> Result<Self> {
        let bad = |reason: String| Error::Checkpoint { path: path.into(), reason };
        let params = Self::build(space, classes, device, |entry| {
            let tensor = tensors.remove(&entry.name);
            let tensor = tensor.ok_or_else(|| bad(format!("tensor `{}` is missing", entry.name)))?;
            if tensor.dims() != entry.shape {
                let (got, want) = (tensor.dims(), &entry.shape);
                return Err(bad(format!(
                    "tensor `{}` has shape {got:?}, space `{}` needs {want:?}",
                    entry.name, space.name
                )));
            }
            Ok(tensor)
        })?;
        match tensors.keys().min() {
            Some(name) => Err(bad(format!("tensor `{name}` does not belong to space `{}`", space.name))),
            None => Ok(params),
        }
    }

    fn build(
        space: &Space,
        classes: Option<usize>,
        device: &Device,
        mut make: impl FnMut(&Entry) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut params = Self { weights: BTreeMap::new(), buffers: BTreeMap::new(), device: device.clone() };
        for entry in entries(space, classes) {
            let tensor = make(&entry)?;
            if entry.buffer {
                params.buffers.insert(entry.name, tensor);
            } else {
                params.weights.insert(entry.name, Var::from_tensor(&tensor.contiguous()?)?);
            }
        }
        Ok(params)
    }

    /// Writes all tensors as safetensors; the file appears whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors: HashMap<String, Tensor> = self.tensors().collect();
        let io = |source| Error::Write { path: path.into(), source };
        let temporary = path.with_extension("safetensors.tmp");
        candle_core::safetensors::save(&tensors, &temporary)
            .map_err(|e| Error::Checkpoint { path: path.into(), reason: short(&e) })?;
        crate::files::commit(&temporary, path).map_err(io)
    }

    /// Every tensor with its name.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (String, Tensor)> + '_ {
        let weights = self.weights.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        weights.chain(self.buffers.iter().map(|(name, tensor)| (name.clone(), tensor.clone())))
    }

    /// Takes over the values of `other`, into the same variables.
    pub(crate) fn copy_from(&mut self, other: &Self) -> Result<()> {
        for (name, var) in &self.weights {
            var.set(other.weight(name)?)?;
        }
        self.buffers.clone_from(&other.buffers);
        Ok(())
    }

    /// The same values in tensors of their own; a plain clone shares the trainable ones.
    pub(crate) fn deep_copy(&self) -> Result<Self> {
        let mut copy = self.clone();
        for var in copy.weights.values_mut() {
            *var = Var::from_tensor(&var.as_tensor().copy()?)?;
        }
        Ok(copy)
    }

    /// Moves every trainable value towards that of `other`: `decay * self + (1 - decay) * other`.
    pub(crate) fn average(&mut self, other: &Self, decay: f64) -> Result<()> {
        for (name, var) in &self.weights {
            let new = other.weight(name)?.detach();
            var.set(&(var.as_tensor().detach().affine(decay, 0.0)? + new.affine(1.0 - decay, 0.0)?)?)?;
        }
        Ok(())
    }

    /// The trainable tensors with their names, in the order of the names.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> + '_ {
        self.weights.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// A trainable tensor by name.
    pub(crate) fn weight(&self, name: &str) -> Result<&Tensor> {
        self.weights.get(name).map(Var::as_tensor).ok_or_else(|| Error::NoTensor { name: name.to_owned() })
    }

    /// A running statistic by name.
    pub(crate) fn buffer(&self, name: &str) -> Result<&Tensor> {
        self.buffers.get(name).ok_or_else(|| Error::NoTensor { name: name.to_owned() })
    }

    /// Where the tensors live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Number of trainable values.
    pub fn count(&self) -> usize {
        self.weights.values().map(|v| v.elem_count()).sum()
    }
}

/// What the networks of a space read of a larger space's tensors: first rows and columns, centre crops. Tensors that do not
/// have that much stay as they are.
fn part(space: &Space, mut tensors: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let mut parts = HashMap::new();
    for entry in entries(space, None) {
        let Some(mut tensor) = tensors.remove(&entry.name) else { continue };
        if tensor.rank() == entry.shape.len() && tensor.dims().iter().zip(&entry.shape).all(|(has, want)| has >= want) {
            for (dim, want) in entry.shape.into_iter().enumerate() {
                let start = if dim < 2 { 0 } else { (tensor.dim(dim)? - want) / 2 };
                tensor = tensor.narrow(dim, start, want)?;
            }
        }
        parts.insert(entry.name, tensor.contiguous()?);
    }
    Ok(parts)
}

/// The tensors of a file: safetensors, or the release's `.pth`.
fn read(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>> {
    let failed = |reason: candle_core::Error| Error::Checkpoint { path: path.into(), reason: short(&reason) };
    if !path.exists() {
        return Err(Error::Checkpoint { path: path.into(), reason: "no such file".into() });
    }
    if path.extension().is_none_or(|e| e != "pth") {
        return candle_core::safetensors::load(path, device).map_err(failed);
    }
    let file = PthTensors::new(path, Some("params")).map_err(failed)?;
    let mut tensors = HashMap::new();
    for name in file.tensor_infos().keys() {
        if let Some(tensor) = file.get(name).map_err(failed)? {
            tensors.insert(name.clone(), tensor.to_device(device)?);
        }
    }
    Ok(tensors)
}

fn initial(entry: &Entry, rng: &mut ChaCha8Rng) -> candle_core::Result<Tensor> {
    let cpu = Device::Cpu;
    let shape = entry.shape.as_slice();
    match entry.init {
        Init::Ones => Tensor::ones(shape, DType::F32, &cpu),
        Init::Zeros => Tensor::zeros(shape, DType::F32, &cpu),
        Init::Counter => Tensor::zeros(shape, DType::I64, &cpu),
        Init::Identity => Tensor::eye(shape[0], DType::F32, &cpu),
        Init::Normal { fan_in, gain } => {
            let deviation = (gain / fan_in as f64).sqrt() as f32;
            let normal = Normal::new(0f32, deviation).map_err(candle_core::Error::wrap)?;
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| normal.sample(rng)).collect();
            Tensor::from_vec(values, shape, &cpu)
        }
    }
}

/// candle's message without its backtrace.
pub(crate) fn short(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
