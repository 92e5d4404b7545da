//! State of a run in one file: tensors of the supernet, optimiser under `optimizer/`, averaged copy under `teacher/`, step under
//! `train/step`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};

use super::{Result, TrainConfig, TrainError, Trainer};
use crate::supernet::{Params, short};

const OPTIMIZER: &str = "optimizer/";
const TEACHER: &str = "teacher/";
const STEP: &str = "train/step";

/// Takes out the tensors under a prefix, without it.
fn take<M: FromIterator<(String, Tensor)>>(tensors: &mut HashMap<String, Tensor>, prefix: &str) -> M {
    tensors
        .extract_if(|name, _| name.starts_with(prefix))
        .map(|(name, t)| (name[prefix.len()..].to_owned(), t))
        .collect()
}

/// Writes a file that appears whole or not at all.
pub(super) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    crate::files::replace(path, bytes).map_err(|e| TrainError::io(path, e))
}

impl Trainer {
    /// Weights that are not finite never replace a good checkpoint.
    pub(super) fn save_checkpoint(&self) -> Result<()> {
        for (name, var) in self.net.params.trainable() {
            let sum = var.as_tensor().detach().sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                let checkpoint = self.dir.checkpoint().exists().then(|| self.dir.checkpoint());
                return Err(TrainError::WeightNotFinite { step: self.step, name: name.to_owned(), checkpoint });
            }
        }
        let mut tensors: HashMap<String, Tensor> = self.net.params.tensors().collect();
        for (name, tensor) in self.adam.state()? {
            tensors.insert(format!("{OPTIMIZER}{name}"), tensor);
        }
        for (name, tensor) in self.teacher.iter().flat_map(|t| t.params.tensors()) {
            tensors.insert(format!("{TEACHER}{name}"), tensor);
        }
        tensors.insert(STEP.into(), Tensor::new(self.step as i64, &Device::Cpu)?);
        let path = self.dir.checkpoint();
        let temporary = path.with_extension("tmp");
        candle_core::safetensors::save(&tensors, &temporary)
            .map_err(|e| TrainError::Checkpoint { path: path.clone(), reason: short(&e) })?;
        crate::files::commit(&temporary, &path).map_err(|e| TrainError::io(&path, e))
    }

    pub(super) fn load_checkpoint(&mut self) -> Result<()> {
        let path = self.dir.checkpoint();
        let bad = |reason: String| TrainError::Checkpoint { path: path.clone(), reason };
        let device = self.net.params.device().clone();
        let mut tensors = candle_core::safetensors::load(&path, &device).map_err(|e| bad(short(&e)))?;
        let step = tensors.remove(STEP).ok_or_else(|| bad(format!("no `{STEP}`")))?;
        let optimizer: BTreeMap<String, Tensor> = take(&mut tensors, OPTIMIZER);
        let teacher: HashMap<String, Tensor> = take(&mut tensors, TEACHER);
        if let Some(net) = &mut self.teacher {
            net.params.copy_from(&Params::from_tensors(&net.space, net.params.classes(), teacher, &path, &device)?)?;
        }
        let loaded = Params::from_tensors(&self.net.space, self.net.params.classes(), tensors, &path, &device)?;
        self.net.params.copy_from(&loaded)?;
        self.adam.load_state(&optimizer).map_err(|e| bad(short(&e)))?;
        self.step = step.to_scalar::<i64>()? as usize;
        Ok(())
    }

    /// The folder's configuration and space must be this run's.
    pub(super) fn check_same_run(&self) -> Result<()> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| TrainError::io(path, e));
        let other = |path: &Path, what: String| TrainError::OtherRun { path: path.to_owned(), what };
        let path = self.dir.config();
        // Fields that a run did not know yet had their defaults.
        let theirs: TrainConfig = serde_json::from_str(&read(&path)?).map_err(|e| other(&path, e.to_string()))?;
        let theirs = serde_json::to_value(&theirs).unwrap_or_default();
        let ours = serde_json::to_value(&self.config).unwrap_or_default();
        let fields = ours.as_object().into_iter().flatten();
        let differing: Vec<String> = fields
            .filter(|(name, value)| theirs.get(name) != Some(value))
            .map(|(name, value)| format!("`{name}` is {value} here and {} there", theirs[name]))
            .collect();
        if !differing.is_empty() {
            return Err(other(&path, differing.join(", ")));
        }
        let path = self.dir.space();
        if inas_space::Space::from_toml(&read(&path)?)? != self.net.space {
            return Err(other(&path, "the space differs".into()));
        }
        Ok(())
    }
}
