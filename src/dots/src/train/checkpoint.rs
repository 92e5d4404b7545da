//! The state of a run in one file: tensors under prefixes, and what is not a tensor as JSON in `state`.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::first_line;
use crate::{Error, Result, files};

/// A folder's file of a run's state.
pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";

/// Whether a folder holds a run that can be gone on with.
pub fn started(dir: &Path) -> bool {
    dir.join(CHECKPOINT).exists()
}

const STATE: &str = "state";

fn bad(path: &Path, reason: impl Into<String>) -> Error {
    Error::File { path: path.to_owned(), reason: reason.into() }
}

/// Writes tensors by prefix and name, and a state; the file appears whole or not at all.
pub(crate) fn write(path: &Path, groups: Vec<(&str, Vec<(String, Tensor)>)>, state: &impl Serialize) -> Result<()> {
    let mut all: HashMap<String, Tensor> = HashMap::new();
    for (prefix, tensors) in groups {
        all.extend(tensors.into_iter().map(|(name, t)| (format!("{prefix}/{name}"), t)));
    }
    let json = serde_json::to_vec(state).map_err(|e| bad(path, e.to_string()))?;
    let len = json.len();
    all.insert(STATE.into(), Tensor::from_vec(json, len, &Device::Cpu)?);
    save(path, &all)
}

/// Writes tensors; the file appears whole or not at all.
pub(crate) fn save(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| bad(dir, e.to_string()))?;
    }
    let temporary = path.with_extension("tmp");
    candle_core::safetensors::save(tensors, &temporary).map_err(|e| bad(path, first_line(&e)))?;
    files::commit(&temporary, path).map_err(|e| bad(path, e.to_string()))
}

/// What [`write`] wrote.
pub(crate) struct Checkpoint<S> {
    tensors: HashMap<String, Tensor>,
    pub(crate) state: S,
}

impl<S: DeserializeOwned> Checkpoint<S> {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut tensors = load(path)?;
        let state = tensors.remove(STATE).ok_or_else(|| bad(path, "is no checkpoint: it has no `state`"))?;
        let state = serde_json::from_slice(&state.to_vec1::<u8>()?).map_err(|e| bad(path, e.to_string()))?;
        Ok(Self { tensors, state })
    }

    /// The tensors under a prefix, without it.
    pub(crate) fn group<M: FromIterator<(String, Tensor)>>(&self, prefix: &str) -> M {
        let prefix = format!("{prefix}/");
        self.tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?.to_owned(), t.clone()))).collect()
    }
}

/// The tensors of a file.
pub(crate) fn load(path: &Path) -> Result<HashMap<String, Tensor>> {
    if !path.exists() {
        return Err(bad(path, "no such file"));
    }
    candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| bad(path, first_line(&e)))
}
