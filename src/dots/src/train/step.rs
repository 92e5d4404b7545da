//! Single optimisation steps of a supernet (spec sections 5.3 and 6.4).

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use inas_nn::sgd::{Sgd, SgdConfig, clip_grad_norm};
use inas_nn::tape::Wanted;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::arch::Arch;
use super::config::{StepOrder, WeightOptimizer};
use crate::net::{Batch, Params, Regularisation, Step, Supernet};
use crate::relax::{Factors, Logits, Relaxation, Relaxed};
use crate::{CellKind, Result};

/// Step of the finite difference of second-order gradients over the gradient's norm.
const PROBE: f64 = 0.01;

/// The optimiser of a network's weights.
pub(crate) fn sgd(params: &Params, optimizer: &WeightOptimizer) -> Sgd {
    let vars = params.trainable().map(|(name, var)| (name.to_owned(), var.clone(), 1.0)).collect();
    let WeightOptimizer { momentum, nesterov, weight_decay, .. } = *optimizer;
    Sgd::new(vars, SgdConfig { momentum, nesterov, weight_decay })
}

/// Clips and applies gradients of weights.
pub(crate) fn descend(
    sgd: &mut Sgd,
    mut gradients: BTreeMap<String, Tensor>,
    optimizer: &WeightOptimizer,
    lr: f64,
) -> Result<()> {
    if optimizer.clip > 0.0 {
        clip_grad_norm(&mut gradients, optimizer.clip)?;
    }
    Ok(sgd.step(&gradients, lr)?)
}

/// A supernet and what learns in it.
pub(crate) struct Learner {
    pub(crate) net: Supernet,
    pub(crate) sgd: Sgd,
    pub(crate) arch: Arch,
    pub(crate) optimizer: WeightOptimizer,
}

/// What a step uses beside the batches.
pub(crate) struct Setting<'a> {
    /// Of normal and of reduction cells.
    pub(crate) relaxations: [&'a dyn Relaxation; 2],
    pub(crate) lr: f64,
    /// Probability of dropping an operation in an image.
    pub(crate) drop_path: f64,
    /// Of samples of the relaxation.
    pub(crate) seed: u64,
}

impl Setting<'_> {
    fn dropped(&self) -> Regularisation {
        Regularisation { drop_path: self.drop_path, smoothing: 0.0, seed: self.seed }
    }
}

impl Learner {
    fn relax(&self, setting: &Setting<'_>, draw: u64) -> Result<[Relaxed; 2]> {
        let mut rng = ChaCha8Rng::seed_from_u64(setting.seed);
        rng.set_stream(draw);
        let mut of = |kind: CellKind| {
            let relaxation = setting.relaxations[kind as usize];
            Ok::<_, crate::Error>(relaxation.relax(&self.arch.logits(kind)?, &mut rng))
        };
        Ok([of(CellKind::Normal)?, of(CellKind::Reduce)?])
    }

    fn forward(
        &mut self,
        batch: &Batch,
        relaxed: &[Relaxed; 2],
        wanted: Wanted,
        setting: &Setting<'_>,
    ) -> Result<Step> {
        let step = self.net.step_dropping(batch, &factors(relaxed), wanted, setting.dropped())?;
        self.net.params.observe(&step.seen)?;
        Ok(step)
    }

    /// Weights alone.
    pub(crate) fn weights(&mut self, batch: &Batch, setting: &Setting<'_>) -> Result<Step> {
        let relaxed = self.relax(setting, 0)?;
        let mut step = self.forward(batch, &relaxed, Wanted::Parameters, setting)?;
        descend(&mut self.sgd, std::mem::take(&mut step.gradients), &self.optimizer, setting.lr)?;
        Ok(step)
    }

    /// Architecture alone, at the current weights.
    pub(crate) fn architecture(&mut self, batch: &Batch, setting: &Setting<'_>) -> Result<Step> {
        let relaxed = self.relax(setting, 1)?;
        let step = self.forward(batch, &relaxed, Wanted::Factors, setting)?;
        self.arch.step(&pull(&relaxed, &step.factors))?;
        Ok(step)
    }

    /// Both from one forward and backward pass (thesis equation 2.10).
    pub(crate) fn together(&mut self, batch: &Batch, setting: &Setting<'_>) -> Result<Step> {
        let relaxed = self.relax(setting, 0)?;
        let mut step = self.forward(batch, &relaxed, Wanted::All, setting)?;
        descend(&mut self.sgd, std::mem::take(&mut step.gradients), &self.optimizer, setting.lr)?;
        self.arch.step(&pull(&relaxed, &step.factors))?;
        Ok(step)
    }

    /// Architecture, looking one step of the weights ahead.
    pub(crate) fn unrolled(&mut self, train: &Batch, valid: &Batch, setting: &Setting<'_>) -> Result<()> {
        let relaxed = self.relax(setting, 1)?;
        let mut pair = Pair { learner: self, train, valid, relaxed: &relaxed, setting };
        let gradients = unrolled_gradient(&mut pair, setting.lr)?;
        self.arch.step(&gradients)
    }

    /// The steps of one pair of batches in operation search; gives that of the weights.
    pub(crate) fn pair(
        &mut self,
        order: StepOrder,
        second_order: bool,
        train: &Batch,
        valid: &Batch,
        setting: &Setting<'_>,
    ) -> Result<Step> {
        match order {
            StepOrder::Together => self.together(train, setting),
            StepOrder::WeightsFirst => {
                let step = self.weights(train, setting)?;
                self.architecture(valid, setting)?;
                Ok(step)
            }
            StepOrder::ArchitectureFirst => {
                if second_order {
                    self.unrolled(train, valid, setting)?;
                } else {
                    self.architecture(valid, setting)?;
                }
                self.weights(train, setting)
            }
        }
    }
}

fn factors(relaxed: &[Relaxed; 2]) -> [Factors; 2] {
    [relaxed[0].factors.clone(), relaxed[1].factors.clone()]
}

fn pull(relaxed: &[Relaxed; 2], by: &[Factors; 2]) -> [Logits; 2] {
    [relaxed[0].backward(&by[0]), relaxed[1].backward(&by[1])]
}

/// Weights that learn on one set of data, and an architecture on another.
pub(super) trait Bilevel {
    /// The weights, shared with the problem.
    fn weights(&self) -> Vec<(String, Var)>;
    /// One step of the weights on the training data with momentum and decay, without clipping.
    fn look_ahead(&mut self, lr: f64) -> Result<()>;
    /// Gradients of the validation loss by weights and by architecture.
    fn validation(&mut self) -> Result<(BTreeMap<String, Tensor>, [Logits; 2])>;
    /// Gradient of the training loss by the architecture.
    fn training(&mut self) -> Result<[Logits; 2]>;
}

/// `g1 - xi (g(w + eps d) - g(w - eps d)) / (2 eps)` with `g1` and `d` the gradients of the validation loss after one
/// step of the weights (spec section 5.3). Weights are as before afterwards.
pub(super) fn unrolled_gradient(problem: &mut impl Bilevel, xi: f64) -> Result<[Logits; 2]> {
    let weights = problem.weights();
    let start = weights.iter().map(|(_, w)| w.as_tensor().copy()).collect::<candle_core::Result<Vec<_>>>()?;
    problem.look_ahead(xi)?;
    let (by_weights, mut out) = problem.validation()?;
    let mut square = 0.0;
    for g in by_weights.values() {
        square += g.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    let eps = PROBE / square.sqrt().max(f64::MIN_POSITIVE);
    let mut sides = Vec::new();
    for sign in [1.0, -1.0] {
        for ((name, var), base) in weights.iter().zip(&start) {
            match by_weights.get(name) {
                Some(d) => var.set(&(base + (d * (sign * eps))?)?)?,
                None => var.set(base)?,
            }
        }
        sides.push(problem.training()?);
    }
    for ((_, var), base) in weights.iter().zip(&start) {
        var.set(base)?;
    }
    for (kind, lists) in out.iter_mut().enumerate() {
        for (i, list) in lists.iter_mut().enumerate() {
            for (j, g) in list.iter_mut().enumerate() {
                *g -= xi * (sides[0][kind][i][j] - sides[1][kind][i][j]) / (2.0 * eps);
            }
        }
    }
    Ok(out)
}

/// A supernet at fixed factors on a pair of batches.
struct Pair<'a> {
    learner: &'a mut Learner,
    train: &'a Batch,
    valid: &'a Batch,
    relaxed: &'a [Relaxed; 2],
    setting: &'a Setting<'a>,
}

impl Bilevel for Pair<'_> {
    fn weights(&self) -> Vec<(String, Var)> {
        self.learner.net.params.trainable().map(|(name, var)| (name.to_owned(), var.clone())).collect()
    }

    fn look_ahead(&mut self, lr: f64) -> Result<()> {
        let step = self.learner.forward(self.train, self.relaxed, Wanted::Parameters, self.setting)?;
        let velocities = self.learner.sgd.state();
        self.learner.sgd.step(&step.gradients, lr)?;
        Ok(self.learner.sgd.load_state(&velocities)?)
    }

    fn validation(&mut self) -> Result<(BTreeMap<String, Tensor>, [Logits; 2])> {
        // Of the copy of the network that looked ahead; its running statistics are not kept.
        let dropped = self.setting.dropped();
        let step = self.learner.net.step_dropping(self.valid, &factors(self.relaxed), Wanted::All, dropped)?;
        let by = pull(self.relaxed, &step.factors);
        Ok((step.gradients, by))
    }

    fn training(&mut self) -> Result<[Logits; 2]> {
        let step = self.learner.forward(self.train, self.relaxed, Wanted::Factors, self.setting)?;
        Ok(pull(self.relaxed, &step.factors))
    }
}
