//! Training of derived networks from scratch (spec section 12).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use candle_core::Tensor;
use inas_nn::sgd::Sgd;
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, CHECKPOINT, Checkpoint};
use super::config::EvaluationConfig;
use super::epochs::{self, Epochs, Place, Record};
use super::state::{Progress, accuracy, seed_of};
use super::step::{descend, sgd};
use crate::data::{Dataset, order};
use crate::net::{Network, Regularisation, Size};
use crate::{Error, Genotype, Result};

/// A folder's file of epochs.
const RECORDS: &str = "train.jsonl";

/// Purposes of draws.
const INIT: usize = 10;
const ORDER: usize = 11;
const PICTURES: usize = 12;
const DROP: usize = 13;

/// An epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// From 0.
    pub epoch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Probability of dropping an operation.
    pub drop_path: f64,
    /// Mean over the training pictures, while the weights moved.
    pub loss: f64,
    /// The same of pictures classified right.
    pub accuracy: f64,
    /// Test pictures classified right.
    pub test: f64,
    /// Time of the steps.
    pub seconds: f64,
}

#[derive(Serialize, Deserialize)]
struct State {
    config: EvaluationConfig,
    genotype: Genotype,
    place: Place,
}

/// A training that can be interrupted.
pub struct Trainer {
    config: EvaluationConfig,
    dir: PathBuf,
    train: Dataset,
    test: Dataset,
    /// What is trained.
    pub net: Network,
    sgd: Sgd,
    place: Place,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Trainer {
    /// A new training in a folder.
    ///
    /// # Errors
    /// When the settings make no network, or there are too few pictures.
    pub fn new(
        config: EvaluationConfig,
        genotype: Genotype,
        (train, test): (Dataset, Dataset),
        dir: &Path,
    ) -> Result<Self> {
        config.augment.check()?;
        if config.batch == 0 || train.len() < 2 || test.classes != train.classes {
            return Err(Error::Config(
                "training needs a batch, two pictures or more, and test pictures of the same classes".into(),
            ));
        }
        let EvaluationConfig { form, channels, cells, .. } = config;
        let size = Size { form, channels, cells, classes: train.classes };
        let net = Network::new(size, genotype, config.aux, seed_of(config.seed, &[INIT]))?;
        // Sizes that do not fit the pictures are refused now, not after hours.
        net.cost(train.px)?;
        let sgd = sgd(&net.params, &config.sgd);
        let dir = dir.to_owned();
        Ok(Self { config, dir, train, test, net, sgd, place: Place::default() })
    }

    /// Continues the training of a folder; settings and genotype must be its own.
    ///
    /// # Errors
    /// When there is no checkpoint, or it is of another training.
    pub fn resume(config: EvaluationConfig, genotype: Genotype, data: (Dataset, Dataset), dir: &Path) -> Result<Self> {
        let path = dir.join(CHECKPOINT);
        let checkpoint = Checkpoint::<State>::read(&path)?;
        if checkpoint.state.config != config || checkpoint.state.genotype != genotype {
            return Err(Error::File {
                path,
                reason: "is of a training with other settings or another genotype".into(),
            });
        }
        let mut trainer = Self::new(config, genotype, data, dir)?;
        trainer.place = checkpoint.state.place;
        trainer.net.params.load(&checkpoint.group("net"))?;
        trainer.sgd.load_state(&checkpoint.group("sgd"))?;
        Ok(trainer)
    }

    /// Whether a folder is one of a training.
    pub fn is_in(dir: &Path) -> bool {
        checkpoint::started(dir) && Self::records(dir).exists()
    }

    /// The network of a folder as far as it is trained, without its auxiliary head, and how it was trained.
    ///
    /// # Errors
    /// When the folder holds no training.
    pub fn trained(dir: &Path) -> Result<(Network, EvaluationConfig)> {
        let checkpoint = Checkpoint::<State>::read(&dir.join(CHECKPOINT))?;
        let tensors: HashMap<String, Tensor> = checkpoint.group("net");
        let State { config, genotype, .. } = checkpoint.state;
        let name = "classifier.bias";
        let classes = tensors.get(name).ok_or_else(|| Error::NoTensor { name: name.into() })?.elem_count();
        let EvaluationConfig { form, channels, cells, .. } = config;
        let mut net = Network::new(Size { form, channels, cells, classes }, genotype, false, 0)?;
        net.params.load(&tensors)?;
        Ok((net, config))
    }

    /// The folder's file of epochs.
    pub fn records(dir: &Path) -> PathBuf {
        dir.join(RECORDS)
    }

    /// The folder's file of the trained network.
    pub fn network(dir: &Path) -> PathBuf {
        dir.join("network.safetensors")
    }

    /// Share of the test pictures classified right.
    ///
    /// # Errors
    /// When the network fails.
    pub fn test(&self) -> Result<f64> {
        let of = |images: &candle_core::Tensor| self.net.logits(images);
        accuracy(&self.test, usize::MAX, 4 * self.config.batch, self.config.normalise, of)
    }

    /// Runs to the end, or until `cancel` is raised: then a checkpoint is written. One is also written after each epoch,
    /// and the network at the end. Gives the last epoch.
    ///
    /// # Errors
    /// When a step fails, a loss is not finite, or a file cannot be written.
    pub fn run(
        &mut self,
        observer: &mut dyn FnMut(&Progress, Option<&EvaluationRecord>),
        cancel: &AtomicBool,
    ) -> Result<Option<EvaluationRecord>> {
        let Some(last) = epochs::run(self, observer, cancel)? else { return Ok(None) };
        checkpoint::save(&Self::network(&self.dir), &self.net.params.tensors())?;
        Ok(last)
    }
}

impl Record for EvaluationRecord {
    fn epoch(&self) -> usize {
        self.epoch
    }
}

impl Epochs for Trainer {
    type Record = EvaluationRecord;

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
        // A last batch of one picture has no statistics of its own.
        let n = self.train.len();
        n.div_ceil(self.config.batch) - usize::from(n > 1 && n % self.config.batch == 1)
    }

    fn advance(&mut self) -> Result<Progress> {
        let start = Instant::now();
        let (epoch, at, n) = (self.place.epoch, self.place.step, self.train.len());
        let seed = |tags: &[usize]| seed_of(self.config.seed, tags);
        let all = order(n, seed(&[ORDER, epoch]));
        let from = at * self.config.batch;
        let indices = &all[from..n.min(from + self.config.batch)];
        let batch = self.train.batch(indices, self.config.normalise, self.config.augment, seed(&[PICTURES, epoch]))?;
        let regularisation = Regularisation {
            drop_path: self.config.drop_path(epoch),
            smoothing: self.config.smoothing,
            seed: seed(&[DROP, epoch, at]),
        };
        let mut step = self.net.step(&batch, regularisation)?;
        if !step.loss.is_finite() {
            return Err(Error::Config(format!("the loss of epoch {epoch}, step {at} is {}", step.loss)));
        }
        self.net.params.observe(&step.seen)?;
        let gradients = std::mem::take(&mut step.gradients);
        descend(&mut self.sgd, gradients, &self.config.sgd, self.config.lr(epoch))?;
        let seconds = start.elapsed().as_secs_f64();
        self.place.totals.add(step.loss, step.correct, indices.len(), seconds);
        self.place.step += 1;
        Ok(Progress { epoch, step: at, steps: self.steps(), loss: step.loss, seconds })
    }

    fn record(&self) -> Result<EvaluationRecord> {
        let Place { epoch, totals, .. } = self.place;
        Ok(EvaluationRecord {
            epoch,
            lr: self.config.lr(epoch),
            drop_path: self.config.drop_path(epoch),
            loss: totals.mean_loss(),
            accuracy: totals.accuracy(),
            test: self.test()?,
            seconds: totals.seconds,
        })
    }

    fn save(&self) -> Result<()> {
        let state = State { config: self.config.clone(), genotype: self.net.genotype().clone(), place: self.place };
        let groups = vec![
            ("net", self.net.params.tensors().into_iter().collect()),
            ("sgd", self.sgd.state().into_iter().collect()),
        ];
        checkpoint::write(&self.dir.join(CHECKPOINT), groups, &state)
    }
}
