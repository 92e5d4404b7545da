//! Architecture parameters and their optimiser.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use inas_nn::optim::{Adam, AdamConfig};
use rand_chacha::ChaCha8Rng;

use super::config::ArchOptimizer;
use crate::relax::{Logits, Relaxation};
use crate::{CellKind, Error, Result};

/// The parameters of both cell types, in double precision.
#[derive(Debug)]
pub(crate) struct Arch {
    names: Vec<&'static str>,
    vars: BTreeMap<String, Var>,
    adam: Adam,
    optimizer: ArchOptimizer,
}

fn name(kind: CellKind, list: &str) -> String {
    format!("{list}.{kind}")
}

impl Arch {
    pub(crate) fn new(relaxation: &dyn Relaxation, optimizer: ArchOptimizer, rng: &mut ChaCha8Rng) -> Result<Self> {
        let mut vars = BTreeMap::new();
        let mut names = Vec::new();
        for kind in CellKind::ALL {
            for ((list, _), values) in relaxation.shapes().into_iter().zip(relaxation.initial(rng)) {
                vars.insert(name(kind, list), Var::new(values, &Device::Cpu)?);
                if kind == CellKind::Normal {
                    names.push(list);
                }
            }
        }
        let ArchOptimizer { betas: (beta1, beta2), weight_decay, .. } = optimizer;
        let params = vars.iter().map(|(name, var)| (name.clone(), var.clone(), 1.0)).collect();
        let adam = Adam::new(params, AdamConfig { beta1, beta2, eps: 1e-8, weight_decay });
        Ok(Self { names, vars, adam, optimizer })
    }

    /// The values of a cell type.
    pub(crate) fn logits(&self, kind: CellKind) -> Result<Logits> {
        self.names.iter().map(|list| Ok(self.vars[&name(kind, list)].to_vec1::<f64>()?)).collect()
    }

    /// One step of Adam on these derivatives.
    pub(crate) fn step(&mut self, gradients: &[Logits; 2]) -> Result<()> {
        let mut by_name = BTreeMap::new();
        for (kind, lists) in CellKind::ALL.into_iter().zip(gradients) {
            for (list, values) in self.names.iter().zip(lists) {
                by_name.insert(name(kind, list), Tensor::new(values.as_slice(), &Device::Cpu)?);
            }
        }
        if self.optimizer.clip > 0.0 {
            inas_nn::sgd::clip_grad_norm(&mut by_name, self.optimizer.clip)?;
        }
        Ok(self.adam.step(&by_name, self.optimizer.lr)?)
    }

    /// Values and optimiser state.
    pub(crate) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out: BTreeMap<String, Tensor> =
            self.vars.iter().map(|(name, var)| (format!("value/{name}"), var.as_tensor().clone())).collect();
        out.extend(self.adam.state()?.into_iter().map(|(name, t)| (format!("adam/{name}"), t)));
        Ok(out)
    }

    pub(crate) fn load(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in &self.vars {
            let key = format!("value/{name}");
            let value = state.get(&key).ok_or(Error::NoTensor { name: key })?;
            var.set(value)?;
        }
        let adam = state.iter().filter_map(|(n, t)| Some((n.strip_prefix("adam/")?.to_owned(), t.clone()))).collect();
        Ok(self.adam.load_state(&adam)?)
    }
}
