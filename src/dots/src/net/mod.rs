//! Networks: supernets of search, and the networks of genotypes.

mod blocks;
mod cell;
mod deploy;
mod engine;
mod export;
mod params;
mod plan;
mod run;
mod shapes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use inas_nn::ops::BatchStats;
use inas_nn::tape::{Gradients as TapeGradients, Real, Tape, Wanted};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::loss::cross_entropy;
use crate::relax::Factors;
use crate::{CellKind, Genotype, Op, Result};
use run::{DropPath, FactorTensors};

pub(crate) use deploy::Deploy;
pub(crate) use engine::{Bn, Conv, Engine, Part, Term};
pub(crate) use plan::Plan;
pub(crate) use run::Pass;
pub(crate) use shapes::{Map, Shapes};

pub use blocks::{Block, Cut};
pub use export::Tap;
pub use params::Params;
pub use plan::{Form, Layout, Size};

/// Weight of the auxiliary loss.
pub const AUX_WEIGHT: f64 = 0.4;

/// Images with their classes.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[N, H, W, 3]`
    pub images: Tensor,
    /// `N` classes.
    pub labels: Vec<u32>,
}

/// What one forward and backward pass gives.
#[derive(Debug)]
pub struct Step {
    /// Loss of the main head, mean over the images.
    pub loss: f64,
    /// Images classified right.
    pub correct: usize,
    /// Outputs `[N, K]`.
    pub logits: Tensor,
    /// Derivatives by the trainable tensors, where wanted.
    pub gradients: BTreeMap<String, Tensor>,
    /// Derivatives by the factors of each cell type.
    pub factors: [Factors; 2],
    /// Statistics of the batch in every norm.
    pub seen: Vec<(String, BatchStats)>,
}

/// Trainable values and multiply-accumulates of one image (convolutions and linear layers), the auxiliary head left
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Trainable values.
    pub params: usize,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// How a derived network is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regularisation {
    /// Probability of dropping an operation in an image.
    pub drop_path: f64,
    /// Label smoothing.
    pub smoothing: f64,
    /// Of the draws.
    pub seed: u64,
}

/// A weight-sharing network of search.
#[derive(Debug, Clone)]
pub struct Supernet {
    plan: Plan,
    operations: [Vec<Vec<Op>>; 2],
    layout: Layout,
    /// Its tensors.
    pub params: Params,
}

/// The network of a genotype.
#[derive(Debug, Clone)]
pub struct Network {
    plan: Plan,
    genotype: Genotype,
    /// Its tensors.
    pub params: Params,
}

fn trace(plan: &Plan, px: usize, training: bool) -> Result<Shapes> {
    let mut shapes = Shapes::default();
    plan.forward(&mut shapes, &Map { px, channels: 3 }, training)?;
    Ok(shapes)
}

fn cost(plan: &Plan, px: usize) -> Result<Cost> {
    let shapes = trace(plan, px, false)?;
    let trainable = shapes.entries.iter().filter(|e| !e.buffer);
    Ok(Cost { params: trainable.map(|e| e.shape.iter().product::<usize>()).sum(), macs: shapes.macs })
}

/// An input side at which the network's entries can be listed.
fn usual_px(form: Form) -> usize {
    match form {
        Form::Cifar => 32,
        Form::ImageNet => 224,
    }
}

fn logits(x: &inas_nn::tape::Value<impl Real>) -> Result<Tensor> {
    Ok(x.to_tensor()?.flatten_from(1)?)
}

impl Supernet {
    /// A supernet with these operations on the edges of normal and reduction cells, freshly initialised.
    pub fn new(size: Size, operations: [Vec<Vec<Op>>; 2], layout: Layout, seed: u64) -> Result<Self> {
        let plan = Plan::supernet(size, [&operations[0], &operations[1]], layout)?;
        let params = Params::init(&trace(&plan, usual_px(size.form), true)?.entries, seed)?;
        Ok(Self { plan, operations, layout, params })
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.plan.size
    }

    /// Its operations.
    pub fn operations(&self) -> &[Vec<Vec<Op>>; 2] {
        &self.operations
    }

    /// How operations are laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What it costs at an input side.
    pub fn cost(&self, px: usize) -> Result<Cost> {
        cost(&self.plan, px)
    }

    /// Forward and backward with the statistics of the batch. The network is left as it is.
    pub fn step(&self, batch: &Batch, factors: &[Factors; 2], wanted: Wanted) -> Result<Step> {
        self.step_dropping(batch, factors, wanted, Regularisation::NONE)
    }

    /// [`Supernet::step`] in which images drop operations at random (SNAS).
    ///
    /// # Errors
    /// When the batch does not fit.
    pub fn step_dropping(
        &self,
        batch: &Batch,
        factors: &[Factors; 2],
        wanted: Wanted,
        regularisation: Regularisation,
    ) -> Result<Step> {
        step::<f32>(&self.plan, &self.params, batch, Some(factors), wanted, regularisation)
    }

    /// Outputs `[N, K]` with running statistics.
    pub fn logits(&self, images: &Tensor, factors: &[Factors; 2]) -> Result<Tensor> {
        evaluate(&self.plan, &self.params, images, Some(factors))
    }
}

impl Network {
    /// The network of a genotype, freshly initialised, with or without an auxiliary head.
    pub fn new(size: Size, genotype: Genotype, aux: bool, seed: u64) -> Result<Self> {
        let plan = Plan::evaluation(size, &genotype, aux)?;
        let params = Params::init(&trace(&plan, usual_px(size.form), true)?.entries, seed)?;
        Ok(Self { plan, genotype, params })
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.plan.size
    }

    /// Its cells.
    pub fn genotype(&self) -> &Genotype {
        &self.genotype
    }

    /// What it costs at an input side.
    pub fn cost(&self, px: usize) -> Result<Cost> {
        cost(&self.plan, px)
    }

    /// What the network of a genotype costs, without making it.
    pub fn cost_of(size: Size, genotype: &Genotype, px: usize) -> Result<Cost> {
        cost(&Plan::evaluation(size, genotype, false)?, px)
    }

    /// Forward and backward; the loss whose gradients are given includes the auxiliary head's.
    pub fn step(&self, batch: &Batch, regularisation: Regularisation) -> Result<Step> {
        step::<f32>(&self.plan, &self.params, batch, None, Wanted::Parameters, regularisation)
    }

    /// Outputs `[N, K]` with running statistics.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        evaluate(&self.plan, &self.params, images, None)
    }
}

impl Regularisation {
    /// Nothing is dropped or smoothed.
    pub const NONE: Self = Self { drop_path: 0.0, smoothing: 0.0, seed: 0 };
}

/// Refuses images that are none.
pub(crate) fn check_images(images: &Tensor) -> Result<()> {
    match images.dims() {
        &[n, h, w, 3] if n * h * w > 0 => Ok(()),
        d => Err(crate::Error::Batch(format!("images of shape {d:?}, not [N, H, W, 3]"))),
    }
}

fn factor_tensors(factors: Option<&[Factors; 2]>, dtype: DType) -> Result<Option<[FactorTensors; 2]>> {
    let Some([normal, reduce]) = factors else { return Ok(None) };
    Ok(Some([
        FactorTensors::new(CellKind::Normal, normal, dtype)?,
        FactorTensors::new(CellKind::Reduce, reduce, dtype)?,
    ]))
}

fn step<T: Real>(
    plan: &Plan,
    params: &Params,
    batch: &Batch,
    factors: Option<&[Factors; 2]>,
    wanted: Wanted,
    regularisation: Regularisation,
) -> Result<Step> {
    check_images(&batch.images)?;
    let Regularisation { drop_path, smoothing, seed } = regularisation;
    let mut pass = Pass::<T> {
        tape: Tape::recording(wanted),
        params,
        fixed: false,
        factors: factor_tensors(factors, T::DTYPE)?,
        drop_path: Some(DropPath { probability: drop_path, rng: ChaCha8Rng::seed_from_u64(seed) }),
    };
    let image = pass.tape.constant(&batch.images)?;
    let outputs = plan.forward(&mut pass, &image, true)?;
    let mut tape = pass.tape;
    let loss = cross_entropy(&outputs.logits.to_tensor()?, &batch.labels, smoothing)?;
    let logits = logits(&outputs.logits)?;
    let mut seeds = vec![(outputs.logits, loss.gradient)];
    if let Some(aux) = outputs.aux {
        let aux_loss = cross_entropy(&aux.to_tensor()?, &batch.labels, smoothing)?;
        seeds.push((aux, (aux_loss.gradient * AUX_WEIGHT)?));
    }
    let seen = std::mem::take(&mut tape.seen);
    let mut gradients = TapeGradients::new();
    tape.backward(seeds, &mut gradients)?;
    let mut gradients = gradients.into_tensors()?;
    let factors = [
        FactorTensors::take(CellKind::Normal, &mut gradients)?,
        FactorTensors::take(CellKind::Reduce, &mut gradients)?,
    ];
    Ok(Step { loss: loss.value, correct: loss.correct, logits, gradients, factors, seen })
}

fn evaluate(plan: &Plan, params: &Params, images: &Tensor, factors: Option<&[Factors; 2]>) -> Result<Tensor> {
    check_images(images)?;
    let mut pass = Pass::<f32> {
        tape: Tape::new(false),
        params,
        fixed: true,
        factors: factor_tensors(factors, DType::F32)?,
        drop_path: None,
    };
    let image = pass.tape.constant(images)?;
    let outputs = plan.forward(&mut pass, &image, false)?;
    logits(&outputs.logits)
}
