//! Training a supernet by the sandwich rule (thesis section 3.2.2, spec section 3).

mod checkpoint;
mod error;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::Tensor;
use inas_nn::optim::{Adam, AdamConfig};
use inas_nn::schedule::PolyWarmup;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::data::{Batch, Loader, LoaderOptions, Sample};
use crate::supernet::{Sandwich, Supernet};

pub use error::{Result, TrainError};

/// Learning-rate factor of transport and decoder in the published system.
pub const HEAD_LR_FACTOR: f64 = 10.0;

/// How to train. The defaults are the published system's, at a batch that fits one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimiser steps in all.
    pub steps: usize,
    /// Images a step.
    pub batch: usize,
    /// Base learning rate.
    pub lr: f64,
    /// Learning-rate factor of transport and decoder.
    pub head_lr_factor: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Exponent of the polynomial decay to zero.
    pub poly_power: f64,
    /// Adam's decay rates.
    pub betas: (f64, f64),
    /// Image sides to draw from, one a step, px.
    pub px: Vec<u32>,
    /// Random sub-networks a step, beside the largest and the smallest.
    pub random_subnets: usize,
    /// Mirror images at random.
    pub flip: bool,
    /// Seed of every draw.
    pub seed: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 26_400,
            batch: 8,
            lr: 2e-4,
            head_lr_factor: HEAD_LR_FACTOR,
            warmup_steps: 1000,
            poly_power: 0.9,
            betas: (0.9, 0.99),
            px: vec![288, 320, 352, 384],
            random_subnets: 2,
            flip: true,
            seed: 0,
            checkpoint_every: 500,
        }
    }
}

/// What a step did, as kept in `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepRecord {
    /// Step number, from 0.
    pub step: usize,
    /// Learning rate.
    pub lr: f64,
    /// Image side, px.
    pub px: u32,
    /// Loss of the largest, the smallest and each random sub-network.
    pub losses: Vec<f32>,
    /// Time of the step, waiting for data included, s.
    pub seconds: f64,
    /// Time spent waiting for data, s.
    pub data_seconds: f64,
}

/// Learning-rate factor of a parameter: the backbone learns slower than the head.
pub fn learning_rate_factor(name: &str, head: f64) -> f64 {
    if name.starts_with("backbone.") { 1.0 } else { head }
}

/// Where a training run keeps its files.
#[derive(Debug, Clone)]
pub struct TrainDir(PathBuf);

impl TrainDir {
    /// A training folder; nothing is created yet.
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Configuration of the run.
    pub fn config(&self) -> PathBuf {
        self.0.join("train.json")
    }

    /// Space file of the run.
    pub fn space(&self) -> PathBuf {
        self.0.join("space.toml")
    }

    /// Latest state: weights, optimiser, step.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint.safetensors")
    }

    /// The trained supernet in the release's names.
    pub fn supernet(&self) -> PathBuf {
        self.0.join("supernet.safetensors")
    }

    /// One [`StepRecord`] a line.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// Records written so far.
    pub fn records(&self) -> Result<Vec<StepRecord>> {
        let path = self.metrics();
        let text = std::fs::read_to_string(&path).map_err(|e| TrainError::io(&path, e))?;
        // A line cut off by a crash is no record.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// A training run in a folder.
pub struct Trainer {
    net: Supernet,
    adam: Adam,
    config: TrainConfig,
    dir: TrainDir,
    step: usize,
}

impl Trainer {
    /// Starts in `dir`, or continues what is there when `resume` is set.
    ///
    /// Without `resume` a folder that holds a checkpoint is refused; with it, a different configuration or space is.
    pub fn open(net: Supernet, config: TrainConfig, dir: &Path, resume: bool) -> Result<Self> {
        let place = TrainDir::new(dir);
        std::fs::create_dir_all(dir).map_err(|e| TrainError::io(dir, e))?;
        let started = place.checkpoint().exists();
        if started && !resume {
            return Err(TrainError::AlreadyStarted { dir: dir.to_owned() });
        }
        let adam_config = AdamConfig { beta1: config.betas.0, beta2: config.betas.1, eps: 1e-8, weight_decay: 0.0 };
        let params = net.params.weights.iter();
        let factor = |name: &str| learning_rate_factor(name, config.head_lr_factor);
        let params = params.map(|(name, var)| (name.clone(), var.clone(), factor(name))).collect();
        let mut trainer = Self { adam: Adam::new(params, adam_config), net, config, dir: place, step: 0 };
        if started {
            trainer.check_same_run()?;
            trainer.load_checkpoint()?;
        } else {
            let config = serde_json::to_string_pretty(&trainer.config).unwrap_or_default();
            checkpoint::write_atomic(&trainer.dir.config(), config.as_bytes())?;
            checkpoint::write_atomic(&trainer.dir.space(), trainer.net.space.to_toml()?.as_bytes())?;
        }
        Ok(trainer)
    }

    /// Trains to the end and writes `supernet.safetensors`.
    ///
    /// Sets a checkpoint every `checkpoint_every` steps, at the end, and when `cancel` is raised (then
    /// [`TrainError::Interrupted`] is returned). A resumed run equals an uninterrupted one bit for bit: every random
    /// choice is a function of the seed and the step.
    pub fn run(
        mut self,
        samples: Vec<Sample>,
        observer: &mut dyn FnMut(&StepRecord, usize),
        cancel: &AtomicBool,
    ) -> Result<Supernet> {
        let options = LoaderOptions {
            batch: self.config.batch,
            seed: self.config.seed,
            flip: self.config.flip,
            ..LoaderOptions::default()
        };
        let loader = Loader::new(samples, options)?;
        let batches = loader.batches();
        let schedule = PolyWarmup {
            base_lr: self.config.lr,
            total_steps: self.config.steps,
            warmup_steps: self.config.warmup_steps,
            power: self.config.poly_power,
        };
        let mut metrics = self.open_metrics()?;
        while self.step < self.config.steps {
            let epoch = self.step / batches;
            let first = self.step % batches;
            let sides = |i: usize| self.draws(epoch * batches + i).0;
            let mut waiting = Instant::now();
            for batch in loader.epoch(epoch as u64, sides).skip(first) {
                let batch = batch?;
                let data_seconds = waiting.elapsed().as_secs_f64();
                let lr = schedule.lr(self.step);
                let losses = self.learn(&batch, lr)?;
                let seconds = waiting.elapsed().as_secs_f64();
                let record = StepRecord { step: self.step, lr, px: batch.px, losses, seconds, data_seconds };
                self.step += 1;
                let line = serde_json::to_string(&record).unwrap_or_default();
                writeln!(metrics, "{line}").map_err(|e| TrainError::io(&self.dir.metrics(), e))?;
                observer(&record, self.config.steps);
                let interrupted = cancel.load(Ordering::Relaxed);
                let last = self.step == self.config.steps;
                if interrupted || last || self.step.is_multiple_of(self.config.checkpoint_every) {
                    self.save_checkpoint()?;
                }
                if interrupted && !last {
                    return Err(TrainError::Interrupted { step: self.step, dir: self.dir.0.clone() });
                }
                if last {
                    break;
                }
                waiting = Instant::now();
            }
        }
        self.net.params.save(&self.dir.supernet())?;
        Ok(self.net)
    }

    /// Image side and random generator of a step.
    fn draws(&self, step: usize) -> (u32, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        rng.set_stream(step as u64 + 1);
        let side = self.config.px[rng.random_range(0..self.config.px.len())];
        (side, rng)
    }

    fn learn(&mut self, batch: &Batch, lr: f64) -> Result<Vec<f32>> {
        let (n, px) = (batch.n, batch.px as usize);
        let device = self.net.params.device().clone();
        let image = Tensor::from_slice(&batch.images, (n, px, px, 3), &device)?;
        let label = Tensor::from_slice(&batch.labels, (n, px, px, 1), &device)?;
        let (_, mut rng) = self.draws(self.step);
        let sandwich = Sandwich::draw(&self.net.space, self.config.random_subnets, &mut rng);
        // On a thread of the pool, so that its many short parallel parts need no hand-over each.
        let step = rayon::scope(|_| self.net.sandwich(&image, &label, &sandwich, false))
            .map_err(|source| TrainError::Step { step: self.step, files: batch.paths.clone(), source })?;
        self.adam.step(&step.grads, lr)?;
        Ok(step.losses)
    }

    /// Opens the metrics for appending, without the records after the step to continue from.
    fn open_metrics(&self) -> Result<std::fs::File> {
        let path = self.dir.metrics();
        let kept: String = match self.step {
            0 => String::new(),
            step => self
                .dir
                .records()?
                .iter()
                .take_while(|r| r.step < step)
                .filter_map(|r| serde_json::to_string(r).ok())
                .flat_map(|line| [line, "\n".to_owned()])
                .collect(),
        };
        checkpoint::write_atomic(&path, kept.as_bytes())?;
        OpenOptions::new().append(true).open(&path).map_err(|e| TrainError::io(&path, e))
    }
}
