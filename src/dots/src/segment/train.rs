//! Training: poly learning rate, SGD.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use candle_core::Tensor;
use inas_nn::sgd::Sgd;
use serde::{Deserialize, Serialize};

use super::head::Segmenter;
use super::score::Confusion;
use crate::derive::first_largest;
use crate::net::{Form, Size};
use crate::train::checkpoint::{self, CHECKPOINT, Checkpoint};
use crate::train::epochs::{self, Epochs, Place, Record};
use crate::train::{Progress, WeightOptimizer, descend, poly, sgd};
use crate::{Error, Genotype, Result};

/// A folder's file of epochs.
const RECORDS: &str = "segment.jsonl";

/// Images with a class for each pixel.
#[derive(Debug, Clone)]
pub struct PixelBatch {
    /// `[N, H, W, 3]`
    pub images: Tensor,
    /// `N H W` classes, row by row.
    pub classes: Vec<u32>,
}

/// Batches, one after the other.
pub type PixelBatches<'a> = Box<dyn Iterator<Item = Result<PixelBatch>> + 'a>;

/// Where batches come from.
pub trait PixelSource {
    /// Training batches of an epoch.
    fn steps(&self) -> usize;
    /// The training batches of an epoch; the same ones each time.
    fn training(&self, epoch: usize) -> PixelBatches<'_>;
    /// The validation batches.
    fn validation(&self) -> PixelBatches<'_>;
}

/// A training of segmentation. The defaults are the thesis's where it names one (spec section 14).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SegmentConfig {
    /// Channels of a node of the backbone's first cells.
    pub channels: usize,
    /// Cells of the backbone.
    pub cells: usize,
    /// Channels of the context path.
    pub width: usize,
    /// Classes of pixels.
    pub classes: usize,
    /// Times that every image is seen.
    pub epochs: usize,
    /// Images at once.
    pub batch: usize,
    /// Learning rate at the start.
    pub lr: f64,
    /// Exponent of its decay.
    pub power: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Seed of every draw.
    pub seed: u64,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        Self {
            channels: 48,
            cells: 14,
            width: 128,
            classes: 19,
            epochs: 80,
            batch: 16,
            lr: 2.5e-2,
            power: 0.9,
            weight_decay: 1e-4,
            seed: 0,
        }
    }
}

impl SegmentConfig {
    fn size(&self) -> Size {
        Size { form: Form::ImageNet, channels: self.channels, cells: self.cells, classes: self.classes }
    }

    fn optimizer(&self) -> WeightOptimizer {
        let Self { lr, weight_decay, .. } = *self;
        WeightOptimizer { lr, lr_min: 0.0, momentum: 0.9, nesterov: false, weight_decay, clip: 0.0 }
    }
}

/// An epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// From 0.
    pub epoch: usize,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Mean over the training pictures, while the weights moved.
    pub loss: f64,
    /// Of the validation pictures.
    pub mean_iou: f64,
    /// Of each class; none where it is neither there nor found.
    pub ious: Vec<Option<f64>>,
    /// Share of the validation pixels whose class was found.
    pub accuracy: f64,
}

impl Record for SegmentRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }
}

#[derive(Serialize, Deserialize)]
struct State {
    config: SegmentConfig,
    genotype: Genotype,
    place: Place,
}

/// A training that can be interrupted.
pub struct SegmentTrainer<'a> {
    config: SegmentConfig,
    dir: PathBuf,
    source: &'a dyn PixelSource,
    /// What is left of the epoch's batches.
    batches: PixelBatches<'a>,
    /// What is trained.
    pub net: Segmenter,
    sgd: Sgd,
    place: Place,
}

impl std::fmt::Debug for SegmentTrainer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentTrainer").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<'a> SegmentTrainer<'a> {
    /// A new training in a folder.
    ///
    /// # Errors
    /// When the settings make no network, or there is no batch.
    pub fn new(config: SegmentConfig, genotype: Genotype, source: &'a dyn PixelSource, dir: &Path) -> Result<Self> {
        if config.batch == 0 || config.epochs == 0 || source.steps() == 0 {
            return Err(Error::Config("batch, epochs and batches of an epoch must be positive".into()));
        }
        let net = Segmenter::new(config.size(), genotype, config.width, config.seed)?;
        let sgd = sgd(&net.params, &config.optimizer());
        let (dir, batches) = (dir.to_owned(), Box::new(std::iter::empty()));
        Ok(Self { config, dir, source, batches, net, sgd, place: Place::default() })
    }

    /// Continues the training of a folder; settings and genotype must be its own.
    ///
    /// # Errors
    /// When there is no checkpoint, or it is of another training.
    pub fn resume(config: SegmentConfig, genotype: Genotype, source: &'a dyn PixelSource, dir: &Path) -> Result<Self> {
        let path = dir.join(CHECKPOINT);
        let checkpoint = Checkpoint::<State>::read(&path)?;
        if checkpoint.state.config != config || checkpoint.state.genotype != genotype {
            let reason = "is of a training with other settings or another genotype".into();
            return Err(Error::File { path, reason });
        }
        let mut trainer = Self::new(config, genotype, source, dir)?;
        trainer.place = checkpoint.state.place;
        trainer.net.params.load(&checkpoint.group("net"))?;
        trainer.sgd.load_state(&checkpoint.group("sgd"))?;
        Ok(trainer)
    }

    /// The folder's file of epochs.
    pub fn records(dir: &Path) -> PathBuf {
        dir.join(RECORDS)
    }

    /// The folder's file of the trained network.
    pub fn network(dir: &Path) -> PathBuf {
        dir.join("network.safetensors")
    }

    /// Runs to the end, or until `cancel` is raised: then a checkpoint is written. One is also written after each epoch,
    /// and the network at the end. Gives the last epoch.
    ///
    /// # Errors
    /// When a batch is an error or does not fit, a loss is not finite, or a file cannot be written.
    pub fn run(
        &mut self,
        observer: &mut dyn FnMut(&Progress, Option<&SegmentRecord>),
        cancel: &AtomicBool,
    ) -> Result<Option<SegmentRecord>> {
        let Some(last) = epochs::run(self, observer, cancel)? else { return Ok(None) };
        let tensors: HashMap<String, Tensor> = self.net.params.tensors();
        checkpoint::save(&Self::network(&self.dir), &tensors)?;
        Ok(last)
    }

    /// Learning rate of a step of the epoch.
    fn lr(&self, step: usize) -> f64 {
        let (all, done) = (self.config.epochs * self.source.steps(), self.place.epoch * self.source.steps());
        poly(self.config.lr, self.config.power, done + step, all)
    }

    fn score(&self) -> Result<Confusion> {
        let mut confusion = Confusion::new(self.config.classes);
        for batch in self.source.validation() {
            let batch = batch?;
            confusion.add(&batch.classes, &found(&self.net.logits(&batch.images)?)?)?;
        }
        Ok(confusion)
    }
}

impl Epochs for SegmentTrainer<'_> {
    type Record = SegmentRecord;

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn records() -> &'static str {
        RECORDS
    }

    fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    fn epochs(&self) -> usize {
        self.config.epochs
    }

    fn steps(&self) -> usize {
        self.source.steps()
    }

    fn begin(&mut self) -> Result<()> {
        self.batches = Box::new(self.source.training(self.place.epoch).skip(self.place.step));
        Ok(())
    }

    fn advance(&mut self) -> Result<Progress> {
        let start = Instant::now();
        let Place { epoch, step: at, .. } = self.place;
        let batch = self.batches.next().ok_or_else(|| Error::Batch(format!("epoch {epoch} has none after {at}")))??;
        let step = self.net.step(&batch.images, &batch.classes)?;
        if !step.loss.is_finite() {
            return Err(Error::Config(format!("the loss of epoch {epoch}, step {at} is {}", step.loss)));
        }
        self.net.params.observe(&step.seen)?;
        let (optimizer, lr) = (self.config.optimizer(), self.lr(at));
        descend(&mut self.sgd, step.gradients, &optimizer, lr)?;
        let seconds = start.elapsed().as_secs_f64();
        self.place.totals.add(step.loss, 0, batch.images.dim(0)?, seconds);
        self.place.step += 1;
        Ok(Progress { epoch, step: at, steps: self.steps(), loss: step.loss, seconds })
    }

    fn record(&self) -> Result<SegmentRecord> {
        let score = self.score()?;
        Ok(SegmentRecord {
            epoch: self.place.epoch,
            lr: self.lr(self.steps() - 1),
            loss: self.place.totals.mean_loss(),
            mean_iou: score.mean_iou().unwrap_or(0.0),
            ious: score.ious(),
            accuracy: score.accuracy(),
        })
    }

    fn save(&self) -> Result<()> {
        let state = State { config: self.config.clone(), genotype: self.net.genotype().clone(), place: self.place };
        let groups = vec![
            ("net", self.net.params.tensors().into_iter().collect::<Vec<(String, Tensor)>>()),
            ("sgd", self.sgd.state().into_iter().collect()),
        ];
        checkpoint::write(&self.dir.join(CHECKPOINT), groups, &state)
    }
}

/// The class of largest logit of each pixel.
fn found(logits: &Tensor) -> Result<Vec<u32>> {
    let classes = logits.dims().last().copied().unwrap_or(1);
    let values: Vec<f64> = logits.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1()?;
    Ok(values.chunks_exact(classes).map(|v| first_largest(v) as u32).collect())
}
