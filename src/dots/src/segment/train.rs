//! Training: poly learning rate, SGD, an epoch at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use inas_nn::sgd::Sgd;
use serde::{Deserialize, Serialize};

use super::head::Segmenter;
use super::score::Confusion;
use crate::derive::first_largest;
use crate::net::{Form, Size};
use crate::train::checkpoint::{self, CHECKPOINT, Checkpoint};
use crate::train::log::{Lines, read_lines};
use crate::train::{Totals, WeightOptimizer, descend, poly, sgd};
use crate::{Error, Genotype, Result};

/// Images with a class for each pixel.
#[derive(Debug, Clone)]
pub struct PixelBatch {
    /// `[N, H, W, 3]`
    pub images: Tensor,
    /// `N H W` classes, row by row.
    pub classes: Vec<u32>,
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

#[derive(Serialize, Deserialize)]
struct State {
    config: SegmentConfig,
    genotype: Genotype,
    epoch: usize,
}

/// A training that can be interrupted between epochs.
pub struct SegmentTrainer {
    config: SegmentConfig,
    dir: PathBuf,
    /// What is trained.
    pub net: Segmenter,
    sgd: Sgd,
    epoch: usize,
}

impl std::fmt::Debug for SegmentTrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentTrainer").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl SegmentTrainer {
    /// A new training in a folder.
    ///
    /// # Errors
    /// When the settings make no network.
    pub fn new(config: SegmentConfig, genotype: Genotype, dir: &Path) -> Result<Self> {
        if config.batch == 0 || config.epochs == 0 {
            return Err(Error::Config("batch and epochs must be positive".into()));
        }
        let net = Segmenter::new(config.size(), genotype, config.width, config.seed)?;
        let sgd = sgd(&net.params, &config.optimizer());
        Ok(Self { config, dir: dir.to_owned(), net, sgd, epoch: 0 })
    }

    /// Continues the training of a folder; settings and genotype must be its own.
    ///
    /// # Errors
    /// When there is no checkpoint, or it is of another training.
    pub fn resume(config: SegmentConfig, genotype: Genotype, dir: &Path) -> Result<Self> {
        let path = dir.join(CHECKPOINT);
        let checkpoint = Checkpoint::<State>::read(&path)?;
        if checkpoint.state.config != config || checkpoint.state.genotype != genotype {
            let reason = "is of a training with other settings or another genotype".into();
            return Err(Error::File { path, reason });
        }
        let mut trainer = Self::new(config, genotype, dir)?;
        trainer.epoch = checkpoint.state.epoch;
        trainer.net.params.load(&checkpoint.group("net"))?;
        trainer.sgd.load_state(&checkpoint.group("sgd"))?;
        Ok(trainer)
    }

    /// The folder's file of epochs.
    pub fn records(dir: &Path) -> PathBuf {
        dir.join("segment.jsonl")
    }

    /// The next epoch; none when all are through.
    pub fn next(&self) -> Option<usize> {
        (self.epoch < self.config.epochs).then_some(self.epoch)
    }

    /// One epoch over `steps` batches, after which the network is scored on `validation`, recorded and kept. With
    /// `observer` (step, loss) one can follow it, and stop it by false: then the epoch is begun anew when resumed, and
    /// there is no record.
    ///
    /// # Errors
    /// When a batch is an error or does not fit, a loss is not finite, or a file cannot be written.
    pub fn epoch<E: From<Error>>(
        &mut self,
        (batches, steps): (impl Iterator<Item = std::result::Result<PixelBatch, E>>, usize),
        validation: impl Iterator<Item = std::result::Result<PixelBatch, E>>,
        observer: &mut dyn FnMut(usize, f64) -> bool,
    ) -> std::result::Result<Option<SegmentRecord>, E> {
        let (mut totals, mut lr) = (Totals::default(), self.config.lr);
        let all = self.config.epochs * steps;
        for (at, batch) in batches.enumerate() {
            let batch = batch?;
            lr = poly(self.config.lr, self.config.power, self.epoch * steps + at, all);
            let loss = self.learn(&batch, lr)?;
            totals.add(loss, 0, batch.images.dims().first().copied().unwrap_or(0), 0.0);
            if !observer(at, loss) {
                return Ok(None);
            }
        }
        let score = self.score(validation)?;
        let record = SegmentRecord {
            epoch: self.epoch,
            lr,
            loss: totals.mean_loss(),
            mean_iou: score.mean_iou().unwrap_or(0.0),
            ious: score.ious(),
            accuracy: score.accuracy(),
        };
        self.keep(&record)?;
        Ok(Some(record))
    }

    fn learn(&mut self, batch: &PixelBatch, lr: f64) -> Result<f64> {
        let step = self.net.step(&batch.images, &batch.classes)?;
        if !step.loss.is_finite() {
            return Err(Error::Config(format!("a loss of epoch {} is {}", self.epoch, step.loss)));
        }
        self.net.params.observe(&step.seen)?;
        descend(&mut self.sgd, step.gradients, &self.config.optimizer(), lr)?;
        Ok(step.loss)
    }

    fn score<E: From<Error>>(
        &self,
        batches: impl Iterator<Item = std::result::Result<PixelBatch, E>>,
    ) -> std::result::Result<Confusion, E> {
        let mut confusion = Confusion::new(self.config.classes);
        for batch in batches {
            let batch = batch?;
            confusion.add(&batch.classes, &found(&self.net.logits(&batch.images)?)?)?;
        }
        Ok(confusion)
    }

    fn keep(&mut self, record: &SegmentRecord) -> Result<()> {
        let mut kept: Vec<SegmentRecord> = read_lines(&Self::records(&self.dir));
        kept.retain(|r| r.epoch < self.epoch);
        Lines::open(Self::records(&self.dir), &kept)?.add(record)?;
        self.epoch += 1;
        let state = State { config: self.config.clone(), genotype: self.net.genotype().clone(), epoch: self.epoch };
        let groups = vec![
            ("net", self.net.params.tensors().into_iter().collect::<Vec<(String, Tensor)>>()),
            ("sgd", self.sgd.state().into_iter().collect()),
        ];
        checkpoint::write(&self.dir.join(CHECKPOINT), groups, &state)
    }

    /// Writes the tensors of the network to a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors: HashMap<String, Tensor> = self.net.params.tensors();
        checkpoint::save(path, &tensors)
    }
}

/// The class of largest logit of each pixel.
fn found(logits: &Tensor) -> Result<Vec<u32>> {
    let classes = logits.dims().last().copied().unwrap_or(1);
    let values: Vec<f64> = logits.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1()?;
    Ok(values.chunks_exact(classes).map(|v| first_largest(v) as u32).collect())
}
