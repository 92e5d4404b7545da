//! One training step by the sandwich rule (thesis section 3.2.2, spec section 3).

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use inas_nn::ops::{self, BatchStats};
use inas_nn::tape::{Gradients, Tape};
use inas_space::{Architecture, Space};
use rand::Rng;

use super::composed::Composed;
use super::engine::{Engine as _, has_tape};
use super::forward::Outputs;
use super::{AUX_WEIGHT, BN_MOMENTUM, Error, Result, Supernet};

/// The sub-networks of a step, the largest (the teacher) first.
#[derive(Debug, Clone)]
pub struct Sandwich {
    /// Largest, smallest if it takes part, then the random ones.
    pub archs: Vec<Architecture>,
    /// Weight of each coarser level's loss.
    pub aux_weight: f64,
    /// Whether the others learn from a soft map; else from the label as the largest does.
    pub distill: bool,
    /// Soft map `[N, H, W, 1]` to learn from; without one, the largest network's own.
    pub teacher: Option<Tensor>,
}

impl Sandwich {
    /// A step with these sub-networks and the published losses.
    pub fn of(archs: Vec<Architecture>) -> Self {
        Self { archs, aux_weight: AUX_WEIGHT, distill: true, teacher: None }
    }

    /// Largest, smallest if wanted, and `random` uniformly drawn sub-networks.
    pub fn draw<R: Rng>(space: &Space, smallest: bool, random: usize, rng: &mut R) -> Self {
        let mut archs = vec![space.max()];
        archs.extend(smallest.then(|| space.min()));
        archs.extend((0..random).map(|_| space.uniform(rng)));
        Self::of(archs)
    }
}

/// What a step computed.
#[derive(Debug)]
pub struct Step {
    /// Loss of each sub-network, in the sandwich's order.
    pub losses: Vec<f32>,
    /// Summed gradients by parameter name; a parameter that no sub-network used has none.
    pub grads: BTreeMap<String, Tensor>,
    /// Training-mode maps of each sub-network, levels finest first, when asked for.
    pub maps: Vec<Vec<Tensor>>,
}

impl Supernet {
    /// Losses and summed gradients of a sandwich on one batch; running statistics move with every forward pass.
    ///
    /// `image`: `[N, H, W, 3]`; `label`: `[N, H, W, 1]` in [0, 1]. The largest network learns from the label (BCE at
    /// level 0 plus 0.4 times that of each coarser level), the others from its detached level-0 map (MSE likewise); the
    /// sandwich's fields change that.
    /// One sub-network's graph is alive at a time.
    pub fn sandwich(&mut self, image: &Tensor, label: &Tensor, sandwich: &Sandwich, keep_maps: bool) -> Result<Step> {
        let mut kept = Vec::new();
        let mut teacher = sandwich.teacher.clone();
        let mut step = self.each(&sandwich.archs, image, Outputs::All, |which, maps| {
            let loss = deep_supervision(maps, sandwich.aux_weight, |map| match &teacher {
                Some(soft) if which > 0 && sandwich.distill => ops::mse_loss(map, soft),
                _ => ops::bce_loss(map, label),
            })?;
            if teacher.is_none() {
                teacher = Some(maps[0].detach());
            }
            if keep_maps {
                kept.push(maps.iter().map(Tensor::detach).collect());
            }
            Ok(loss)
        })?;
        step.maps = kept;
        Ok(step)
    }

    /// Losses of sub-networks on one batch, and summed gradients of the parameters; `loss` gets the number of the
    /// network and its outputs, and may use more parameters.
    pub(super) fn each(
        &mut self,
        archs: &[Architecture],
        image: &Tensor,
        outputs: Outputs,
        mut loss: impl FnMut(usize, &[Tensor]) -> candle_core::Result<Tensor>,
    ) -> Result<Step> {
        let mut step = Step { losses: Vec::new(), grads: BTreeMap::new(), maps: Vec::new() };
        let mut gradients = Gradients::new();
        for (which, arch) in archs.iter().enumerate() {
            let learn = |maps: &[Tensor]| {
                let loss = loss(which, maps)?;
                let value = loss.to_scalar::<f32>()?;
                if !value.is_finite() {
                    return Err(Error::LossNotFinite { loss: value, which });
                }
                Ok((value, loss.backward()?))
            };
            let sums = (&mut gradients, &mut step.grads);
            step.losses.push(if has_tape(image.device()) {
                self.on_tape(arch, image, outputs, learn, sums)?.1
            } else {
                self.composed(arch, image, outputs, learn, sums.1)?.1
            });
        }
        for (name, grad) in gradients.into_tensors()? {
            add(&mut step.grads, name, grad)?;
        }
        Ok(step)
    }

    /// Outputs and loss of one sub-network; gradients are added to those of the tape, or, of parameters that only the
    /// loss uses, to the others.
    pub(super) fn on_tape(
        &mut self,
        arch: &Architecture,
        image: &Tensor,
        outputs: Outputs,
        learn: impl FnOnce(&[Tensor]) -> Result<(f32, GradStore)>,
        (sums, others): (&mut Gradients<f32>, &mut BTreeMap<String, Tensor>),
    ) -> Result<(Vec<Tensor>, f32)> {
        let mut tape = Tape::new(true);
        let values = self.run(&mut tape, arch, image, None, outputs)?;
        self.params.track(&tape.seen)?;
        // The losses see the maps as variables; what they give starts the way back.
        let vars = values.iter().map(|v| Var::from_tensor(&v.to_tensor()?)).collect::<candle_core::Result<Vec<_>>>()?;
        let maps: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let (loss, mut grads) = learn(&maps)?;
        let seeds = values.into_iter().zip(&vars).filter_map(|(v, var)| Some((v, grads.remove(var)?))).collect();
        tape.backward(seeds, sums)?;
        self.params.collect(&mut grads, others)?;
        Ok((maps.iter().map(Tensor::detach).collect(), loss))
    }

    /// As [`Self::on_tape`], with candle's graph.
    pub(super) fn composed(
        &mut self,
        arch: &Architecture,
        image: &Tensor,
        outputs: Outputs,
        learn: impl FnOnce(&[Tensor]) -> Result<(f32, GradStore)>,
        sums: &mut BTreeMap<String, Tensor>,
    ) -> Result<(Vec<Tensor>, f32)> {
        let mut engine = Composed::new(true);
        let maps = self.run(&mut engine, arch, image, None, outputs)?;
        self.params.track(&engine.seen())?;
        let (loss, mut grads) = learn(&maps)?;
        self.params.collect(&mut grads, sums)?;
        Ok((maps.iter().map(Tensor::detach).collect(), loss))
    }
}

/// Adds a gradient to the sum under its name.
fn add(sums: &mut BTreeMap<String, Tensor>, name: String, grad: Tensor) -> candle_core::Result<()> {
    let sum = match sums.remove(&name) {
        Some(sum) => (sum + grad)?,
        None => grad,
    };
    sums.insert(name, sum);
    Ok(())
}

/// Loss of level 0 plus the weighted losses of the coarser levels.
fn deep_supervision(
    maps: &[Tensor],
    weight: f64,
    loss: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let mut total = loss(&maps[0])?;
    for map in maps[1..].iter().filter(|_| weight > 0.0) {
        total = (total + (loss(map)? * weight)?)?;
    }
    Ok(total)
}

impl super::Params {
    /// Adds up the gradients of the parameters, taken out of a store.
    fn collect(&self, grads: &mut GradStore, sums: &mut BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in &self.weights {
            if let Some(grad) = grads.remove(var) {
                add(sums, name.clone(), grad)?;
            }
        }
        Ok(())
    }

    /// Moves the running statistics towards those of a batch, over the channels that were used.
    ///
    /// `num_batches_tracked` stays as it is: with a fixed momentum nothing reads it, and the release does not count
    /// sliced BNs either.
    fn track(&mut self, seen: &[(String, BatchStats)]) -> Result<()> {
        for (name, stats) in seen {
            for (kind, batch) in [("running_mean", &stats.mean), ("running_var", &stats.var)] {
                let key = format!("{name}.{kind}");
                let old = self.buffer(&key)?;
                let used = batch.dim(0)?;
                let moved =
                    (old.narrow(0, 0, used)?.affine(1.0 - BN_MOMENTUM, 0.0)? + batch.affine(BN_MOMENTUM, 0.0)?)?;
                let rest = old.dim(0)? - used;
                let new = if rest == 0 { moved } else { Tensor::cat(&[moved, old.narrow(0, used, rest)?], 0)? };
                self.buffers.insert(key, new);
            }
        }
        Ok(())
    }
}
