//! Comparing the supernet with a folder of reference tensors, in the layout of `tests/golden/supernet`.

mod checks;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use inas_space::{Architecture, Space, space_from_release_json};
use serde::Serialize;

use crate::supernet::Supernet;

/// Allowed difference of saliency maps, absolute.
pub const OUTPUT_TOLERANCE: f64 = 1e-4;
/// Allowed difference of losses, relative.
pub const LOSS_TOLERANCE: f64 = 1e-5;
/// Allowed difference of a gradient, relative to its tensor's largest magnitude.
pub const GRADIENT_TOLERANCE: f64 = 1e-3;
/// Allowed difference of weights after the step, absolute.
pub const WEIGHT_TOLERANCE: f64 = 1e-6;

/// What can go wrong while comparing.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// The folder does not hold what is needed.
    #[error("reference folder: {0}")]
    Folder(String),
    /// The supernet failed.
    #[error(transparent)]
    Supernet(#[from] crate::supernet::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed: {}", crate::supernet::short(.0))]
    Tensor(#[from] candle_core::Error),
    /// The deployed graph could not be built.
    #[error(transparent)]
    Graph(#[from] inas_graph::Error),
    /// The deployed graph did not run.
    #[error(transparent)]
    Runtime(#[from] inas_profiler::backend::Error),
}

/// One comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was compared.
    pub name: String,
    /// Largest difference, in the unit of the tolerance.
    pub max_difference: f64,
    /// Allowed difference.
    pub tolerance: f64,
    /// Tensors compared.
    pub tensors: usize,
}

impl Check {
    /// Whether the difference is allowed; NaN is not.
    pub fn passed(&self) -> bool {
        self.max_difference <= self.tolerance
    }
}

/// Compares everything that the folder holds; one check per kind of value.
pub fn compare(dir: &Path) -> Result<Vec<Check>, ParityError> {
    let reference = Reference::read(dir)?;
    let mut checks = Vec::new();
    checks.push(checks::checkpoint_forms(&reference, dir)?);
    checks.extend(checks::evaluation(&reference)?);
    checks.extend(checks::deployed(&reference)?);
    checks.push(checks::recalibrated(&reference)?);
    checks.extend(checks::training_step(&reference)?);
    Ok(checks)
}

/// The reference tensors and the supernet they belong to.
struct Reference {
    archs: BTreeMap<String, Architecture>,
    tensors: HashMap<String, Tensor>,
    grads: HashMap<String, Tensor>,
    after_step: HashMap<String, Tensor>,
    net: Supernet,
    px: u32,
}

impl Reference {
    fn read(dir: &Path) -> Result<Self, ParityError> {
        let path = dir.join("archs.json");
        let folder = |e: &dyn std::fmt::Display, path: &Path| ParityError::Folder(format!("{}: {e}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|e| folder(&e, &path))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| folder(&e, &path))?;
        let px = json["resolution"].as_u64().ok_or_else(|| folder(&"no `resolution`", &path))? as u32;
        let space: Space =
            space_from_release_json("reference", px, json["space"].clone()).map_err(|e| folder(&e, &path))?;
        let listed = json["archs"].as_object().ok_or_else(|| folder(&"no `archs`", &path))?;
        let mut archs = BTreeMap::new();
        for (name, value) in listed {
            let arch = Architecture::from_value(value.clone()).map_err(|e| folder(&e, &path))?;
            archs.insert(name.clone(), arch);
        }
        let load = |name: &str| {
            let path = dir.join(name);
            candle_core::safetensors::load(&path, &Device::Cpu).map_err(|e| folder(&crate::supernet::short(&e), &path))
        };
        Ok(Self {
            tensors: load("tensors.safetensors")?,
            grads: load("grads.safetensors")?,
            after_step: load("after_step.safetensors")?,
            net: Supernet::load(space, &dir.join("supernet.safetensors"), &Device::Cpu)?,
            archs,
            px,
        })
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, ParityError> {
        self.tensors.get(name).ok_or_else(|| ParityError::Folder(format!("tensors.safetensors has no `{name}`")))
    }

    /// A `[N, C, H, W]` reference tensor as `[N, H, W, C]`.
    fn nhwc(&self, name: &str) -> Result<Tensor, ParityError> {
        Ok(self.tensor(name)?.permute((0, 2, 3, 1))?.contiguous()?)
    }
}
