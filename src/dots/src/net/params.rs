//! The tensors of a network by name.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor, Var};
use inas_nn::ops::BatchStats;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::shapes::{Entry, Init};
use crate::{Error, Result};

/// Share of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Trainable tensors and running statistics, with the released code's names and shapes. Norms of pools, which several
/// edges share, are called `cells.CELL.pools.SOURCE.COLUMN`.
#[derive(Debug, Clone)]
pub struct Params {
    pub(crate) weights: BTreeMap<String, Var>,
    pub(crate) buffers: BTreeMap<String, Tensor>,
}

impl Params {
    /// PyTorch's initial values; the same seed gives the same.
    pub(crate) fn init(entries: &[Entry], seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut params = Self { weights: BTreeMap::new(), buffers: BTreeMap::new() };
        for entry in entries {
            let count: usize = entry.shape.iter().product();
            let values: Vec<f32> = match entry.init {
                Init::Uniform(bound) => (0..count).map(|_| rng.random_range(-bound..bound) as f32).collect(),
                Init::Ones => vec![1.0; count],
                Init::Zeros => vec![0.0; count],
            };
            let tensor = Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)?;
            if entry.buffer {
                params.buffers.insert(entry.name.clone(), tensor);
            } else {
                params.weights.insert(entry.name.clone(), Var::from_tensor(&tensor)?);
            }
        }
        Ok(params)
    }

    /// Takes over the trainable values of `tensors`; of running statistics those that are there. Every trainable tensor
    /// must be there, with its shape.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn load(&mut self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        for (name, var) in &self.weights {
            let given = tensors.get(name).ok_or_else(|| Error::NoTensor { name: name.clone() })?;
            fits(name, given, var.dims())?;
            // A copy: a tensor of this network itself cannot be set.
            var.set(&given.to_dtype(var.dtype())?.copy()?)?;
        }
        for (name, buffer) in &mut self.buffers {
            if let Some(given) = tensors.get(name) {
                fits(name, given, buffer.dims())?;
                *buffer = given.to_dtype(buffer.dtype())?;
            }
        }
        Ok(())
    }

    /// Every tensor with its name; they share storage with the network.
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        let weights = self.weights.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        weights.chain(self.buffers.iter().map(|(name, t)| (name.clone(), t.clone()))).collect()
    }

    /// The trainable tensors by name.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> + '_ {
        self.weights.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Number of trainable values.
    pub fn count(&self) -> usize {
        self.weights.values().map(|v| v.elem_count()).sum()
    }

    /// A copy that shares no storage.
    ///
    /// # Errors
    /// When candle cannot copy.
    pub fn deep_copy(&self) -> Result<Self> {
        let mut copy = self.clone();
        for var in copy.weights.values_mut() {
            *var = Var::from_tensor(&var.as_tensor().copy()?)?;
        }
        Ok(copy)
    }

    /// The same values in double precision.
    ///
    /// # Errors
    /// When candle cannot convert.
    pub fn to_f64(&self) -> Result<Self> {
        let mut copy = self.clone();
        for var in copy.weights.values_mut() {
            *var = Var::from_tensor(&var.as_tensor().to_dtype(DType::F64)?)?;
        }
        for buffer in copy.buffers.values_mut() {
            *buffer = buffer.to_dtype(DType::F64)?;
        }
        Ok(copy)
    }

    /// Moves the running statistics towards those of a batch.
    ///
    /// # Errors
    /// When a statistic belongs to no norm.
    pub fn observe(&mut self, seen: &[(String, BatchStats)]) -> Result<()> {
        self.follow(seen, MOMENTUM)
    }

    /// Sets the running statistics to those of a batch.
    pub(crate) fn set_statistics(&mut self, seen: &[(String, BatchStats)]) -> Result<()> {
        self.follow(seen, 1.0)
    }

    fn follow(&mut self, seen: &[(String, BatchStats)], share: f64) -> Result<()> {
        for (name, stats) in seen {
            for (what, new) in [("running_mean", &stats.mean), ("running_var", &stats.var)] {
                let name = format!("{name}.{what}");
                let Some(old) = self.buffers.get_mut(&name) else { return Err(Error::NoTensor { name }) };
                *old = ((&*old * (1.0 - share))? + (new * share)?)?;
            }
        }
        Ok(())
    }

    pub(crate) fn weight(&self, name: &str) -> Result<&Tensor> {
        self.weights.get(name).map(Var::as_tensor).ok_or_else(|| Error::NoTensor { name: name.to_owned() })
    }

    pub(crate) fn buffer(&self, name: &str) -> Result<&Tensor> {
        self.buffers.get(name).ok_or_else(|| Error::NoTensor { name: name.to_owned() })
    }
}

fn fits(name: &str, given: &Tensor, want: &[usize]) -> Result<()> {
    if given.dims() == want {
        return Ok(());
    }
    Err(Error::TensorShape { name: name.to_owned(), got: given.dims().to_vec(), want: want.to_vec() })
}
