//! Training a supernet by the sandwich rule (thesis section 3.2.2, spec section 3), and pre-training its backbone.

mod checkpoint;
mod config;
mod error;
mod events;
mod lesson;
mod log;
pub mod parallel;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::Tensor;
use inas_nn::optim::{Adam, AdamConfig};
use inas_nn::schedule::PolyWarmup;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::data::{Batch, Loader, LoaderOptions};
use crate::supernet::{BatchNorm, Outputs, Sandwich, Step, Supernet};
use log::Log;
use parallel::Peers;
use validate::Validation;

pub use config::{HEAD_LR_FACTOR, RUN_PRESETS, RunFile, TrainConfig, run_from_toml};
pub use error::{Result, TrainError};
pub use lesson::{ClassExam, Lesson, Score};
pub use validate::ValidationRecord;

/// What a step did, as kept in `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepRecord {
    /// Step number, from 0.
    pub step: usize,
    /// Learning rate.
    pub lr: f64,
    /// Image side, px.
    pub px: u32,
    /// Loss of the largest, the smallest (if it is trained) and each random sub-network.
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

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
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

    /// Folder of the pre-training.
    #[must_use]
    pub fn pretraining(&self) -> Self {
        Self(self.0.join("pretrain"))
    }

    /// The trained supernet in the release's names.
    pub fn supernet(&self) -> PathBuf {
        self.0.join("supernet.safetensors")
    }

    /// The supernet whose validated sub-networks were best, in the release's names.
    pub fn best(&self) -> PathBuf {
        self.0.join("best.safetensors")
    }

    /// One [`ValidationRecord`] a line.
    pub fn validation(&self) -> PathBuf {
        self.0.join("validation.jsonl")
    }

    /// Folder of TensorBoard event files.
    pub fn events(&self) -> PathBuf {
        self.0.join("tensorboard")
    }

    /// One [`StepRecord`] a line.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// Steps recorded so far.
    pub fn records(&self) -> Vec<StepRecord> {
        validate::read(&self.metrics())
    }

    /// Validations recorded so far.
    pub fn validations(&self) -> Vec<ValidationRecord> {
        validate::read(&self.validation())
    }
}

/// A training run in a folder.
pub struct Trainer {
    net: Supernet,
    adam: Adam,
    /// Averaged weights whose largest network teaches.
    teacher: Option<Supernet>,
    config: TrainConfig,
    peers: Peers,
    dir: TrainDir,
    step: usize,
}

/// What happens in a run, as it happens.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A step was done.
    Step(&'a StepRecord),
    /// Sub-networks were validated.
    Validated(&'a [ValidationRecord]),
}

impl Trainer {
    /// Starts in `dir`, or continues what is there when `resume` is set.
    ///
    /// Without `resume` a folder that holds a checkpoint is refused; with it, a different configuration or space is.
    ///
    /// Of several processes all read the folder and the first one writes it.
    pub fn open(net: Supernet, config: TrainConfig, dir: &Path, resume: bool, peers: Peers) -> Result<Self> {
        config.check(net.params.classes().is_some())?;
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
        let copy = || Ok::<_, TrainError>(Supernet { space: net.space.clone(), params: net.params.deep_copy()? });
        let teacher = if config.ema_teacher > 0.0 { Some(copy()?) } else { None };
        let mut trainer =
            Self { adam: Adam::new(params, adam_config), net, teacher, config, peers, dir: place, step: 0 };
        if started {
            trainer.check_same_run()?;
            trainer.load_checkpoint()?;
        } else if trainer.peers.rank() == 0 {
            let config = serde_json::to_string_pretty(&trainer.config).unwrap_or_default();
            checkpoint::write_atomic(&trainer.dir.config(), config.as_bytes())?;
            checkpoint::write_atomic(&trainer.dir.space(), trainer.net.space.to_toml()?.as_bytes())?;
        }
        Ok(trainer)
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Trains to the end and writes `supernet.safetensors`, and `best.safetensors` when there are `validation` samples.
    ///
    /// Sets a checkpoint every `checkpoint_every` steps, at the end, and when `cancel` is raised (then
    /// [`TrainError::Interrupted`] is returned). A resumed run equals an uninterrupted one bit for bit: every random
    /// choice is a function of the seed and the step.
    pub fn run<S: Lesson>(
        mut self,
        samples: Vec<S>,
        validation: &[S],
        observer: &mut dyn FnMut(&Progress<'_>),
        cancel: &AtomicBool,
    ) -> Result<Supernet> {
        let options = LoaderOptions {
            batch: self.config.batch,
            seed: self.config.seed,
            flip: self.config.flip,
            least_area: self.config.least_area,
            paste: self.config.paste,
            colour: self.config.colour,
            shuffle: self.config.shuffle,
            ..LoaderOptions::default()
        };
        let (first, world) = (self.peers.rank() == 0, self.peers.size());
        let validates = first && self.config.validate_every > 0 && !validation.is_empty();
        let validation = validates.then(|| Validation::new(&self, &self.config, &samples, validation)).transpose()?;
        let loader = Loader::new(samples, options)?;
        let schedule = PolyWarmup {
            base_lr: self.config.lr,
            total_steps: self.config.steps,
            warmup_steps: self.config.warmup_steps,
            power: self.config.poly_power,
        };
        let mut log = first.then(|| Log::open(&self)).transpose()?;
        // All processes count the same batches, `parts` a step, and take them in turn.
        let (per_epoch, parts) = (loader.batches(), self.config.accumulate * world);
        let (start, rank, draws) = (self.step * parts, self.peers.rank(), Draws::of(&self.config));
        let mut batches = (start / per_epoch..).flat_map(|epoch| {
            loader.epoch(epoch as u64, |i| {
                let position = epoch * per_epoch + i;
                (position >= start && position % world == rank).then(|| draws.step(position / parts).0)
            })
        });
        while self.step < self.config.steps {
            let mut sum = Accumulated::default();
            let mut px = 0;
            for _ in 0..self.config.accumulate {
                let waiting = Instant::now();
                let Some(batch) = batches.next() else { break };
                let batch = batch?;
                sum.data_seconds += waiting.elapsed().as_secs_f64();
                px = batch.px;
                self.learn::<S>(&batch, &mut sum)?;
            }
            let mut stop = sum.share(&self.peers, cancel.load(Ordering::Relaxed))?;
            let record = self.finish_step(sum, schedule.lr(self.step), px)?;
            let last = self.step == self.config.steps;
            if let Some(log) = &mut log {
                log.step(&record)?;
                observer(&Progress::Step(&record));
                // Several processes learn of it together, one step later.
                stop |= world == 1 && cancel.load(Ordering::Relaxed);
                let due = |every: usize| last || (every > 0 && self.step.is_multiple_of(every));
                if let Some(validation) = validation.as_ref().filter(|_| due(self.config.validate_every)) {
                    let records = validation.run(&self)?;
                    if log.validated(&records)? {
                        self.net.params.save(&self.dir.best())?;
                    }
                    observer(&Progress::Validated(&records));
                }
                if stop || due(self.config.checkpoint_every) {
                    self.save_checkpoint()?;
                }
            }
            if stop && !last {
                return Err(TrainError::Interrupted { step: self.step, dir: self.dir.0.clone() });
            }
        }
        if first {
            self.net.params.save(&self.dir.supernet())?;
        }
        drop(batches);
        Ok(self.net)
    }

    /// Adds a batch's losses and gradients. All batches of a step teach the same sub-networks.
    fn learn<S: Lesson>(&mut self, batch: &Batch, sum: &mut Accumulated) -> Result<()> {
        let start = Instant::now();
        let (n, px) = (batch.n, batch.px as usize);
        let device = self.net.params.device().clone();
        let image = Tensor::from_slice(&batch.images, (n, px, px, 3), &device)?;
        let (_, mut rng) = Draws::of(&self.config).step(self.step);
        let mut sandwich = Sandwich::draw(&self.net.space, self.config.smallest, self.config.random_subnets, &mut rng);
        sandwich.aux_weight = self.config.aux_weight;
        sandwich.distill = self.config.distill;
        // On a thread of the pool, so that its many short parallel parts need no hand-over each.
        let step = rayon::scope(|_| {
            if let Some(teacher) = &self.teacher {
                let bn = &mut BatchNorm::Observe(&mut Vec::new());
                sandwich.teacher = Some(teacher.forward(&sandwich.archs[0], &image, bn, Outputs::Finest)?.remove(0));
            }
            S::learn(&mut self.net, &image, batch, &sandwich, &self.config)
        })
        .map_err(|source| TrainError::Step {
            step: self.step,
            files: batch.paths.clone(),
            checkpoint: self.dir.checkpoint().exists().then(|| self.dir.checkpoint()),
            source: Box::new(source),
        })?;
        sum.add(step)?;
        sum.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// One optimiser step with the mean of what was accumulated.
    fn finish_step(&mut self, sum: Accumulated, lr: f64, px: u32) -> Result<StepRecord> {
        let start = Instant::now();
        let share = 1.0 / sum.parts as f64;
        let mut grads = sum.grads;
        if sum.parts > 1 {
            for grad in grads.values_mut() {
                *grad = grad.affine(share, 0.0)?;
            }
        }
        self.adam.step(&grads, lr)?;
        if let Some(teacher) = &mut self.teacher {
            teacher.params.average(&self.net.params, self.config.ema_teacher)?;
        }
        let losses = sum.losses.iter().map(|l| l * share as f32).collect();
        let seconds = sum.seconds + sum.data_seconds + start.elapsed().as_secs_f64();
        self.step += 1;
        Ok(StepRecord { step: self.step - 1, lr, px, losses, seconds, data_seconds: sum.data_seconds })
    }
}

/// What is drawn at random in each step.
struct Draws {
    seed: u64,
    px: Vec<u32>,
}

impl Draws {
    fn of(config: &TrainConfig) -> Self {
        Self { seed: config.seed, px: config.px.clone() }
    }

    /// Image side, and the generator that goes on to draw the sub-networks.
    fn step(&self, step: usize) -> (u32, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(step as u64 + 1);
        (self.px[rng.random_range(0..self.px.len())], rng)
    }
}

/// Sums over the batches of one optimiser step.
#[derive(Default)]
struct Accumulated {
    parts: usize,
    losses: Vec<f32>,
    grads: BTreeMap<String, Tensor>,
    seconds: f64,
    data_seconds: f64,
}

impl Accumulated {
    /// Adds up what all processes have; whether one of them is to stop.
    fn share(&mut self, peers: &Peers, stop: bool) -> Result<bool> {
        let mut numbers = self.losses.clone();
        numbers.push(if stop { 1.0 } else { 0.0 });
        peers.sum(&mut self.grads, &mut numbers)?;
        let stop = numbers.pop() > Some(0.0);
        self.losses = numbers;
        self.parts *= peers.size();
        Ok(stop)
    }

    fn add(&mut self, step: Step) -> Result<()> {
        self.parts += 1;
        self.losses.resize(step.losses.len(), 0.0);
        for (sum, loss) in self.losses.iter_mut().zip(step.losses) {
            *sum += loss;
        }
        for (name, grad) in step.grads {
            let sum = match self.grads.remove(&name) {
                Some(sum) => (sum + grad)?,
                None => grad,
            };
            self.grads.insert(name, sum);
        }
        Ok(())
    }
}
