//! A search: operations, then edges (spec section 10).

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, CHECKPOINT, Checkpoint};
use super::config::{Phase, SearchConfig, StepOrder};
use super::epochs::{self, Epochs, Place};
use super::found::{Operations, SearchRecord, SearchResult};
use super::stage::{balance, derived, edges, op_learner, topology_learner};
use super::state::{Progress, accuracy, seed_of};
use super::step::{Learner, Setting};
use crate::data::{Dataset, order};
use crate::net::Batch;
use crate::relax::{Logits, Relaxation};
use crate::{CellKind, Error, Genotype, Result, derive, files};

/// Purposes of draws.
const ORDER_A: usize = 1;
const ORDER_B: usize = 2;
const PICTURES: usize = 3;
const SAMPLE: usize = 4;
const SHARES: usize = 5;

/// A folder's file of epochs.
const RECORDS: &str = "search.jsonl";

#[derive(Serialize, Deserialize)]
struct State {
    config: SearchConfig,
    place: Place,
    operations: Option<Operations>,
}

/// A search that can be interrupted.
pub struct Search {
    config: SearchConfig,
    dir: PathBuf,
    all: Dataset,
    first: Dataset,
    second: Dataset,
    learner: Learner,
    pub(super) place: Place,
    operations: Option<Operations>,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Search {
    /// A new search in a folder.
    ///
    /// # Errors
    /// When the settings make no network, or there are too few pictures.
    pub fn new(config: SearchConfig, data: Dataset, dir: &Path) -> Result<Self> {
        Self::start(config, data, dir, None)
    }

    /// A search of edges among operations that were found before.
    ///
    /// # Errors
    /// As [`Search::new`].
    pub fn of_edges(config: SearchConfig, data: Dataset, dir: &Path, operations: Operations) -> Result<Self> {
        Self::start(config, data, dir, Some(operations))
    }

    /// Continues the search of a folder; the settings must be its own.
    ///
    /// # Errors
    /// When there is no checkpoint, or it is of other settings.
    pub fn resume(config: SearchConfig, data: Dataset, dir: &Path) -> Result<Self> {
        let path = dir.join(CHECKPOINT);
        let checkpoint = Checkpoint::<State>::read(&path)?;
        let state = &checkpoint.state;
        if state.config != config {
            return Err(Error::File { path, reason: "is of a search with other settings".into() });
        }
        let mut search = Self::start(config, data, dir, state.operations.clone())?;
        search.place = state.place;
        search.learner.net.params.load(&checkpoint.group("net"))?;
        search.learner.sgd.load_state(&checkpoint.group("sgd"))?;
        search.learner.arch.load(&checkpoint.group("arch"))?;
        Ok(search)
    }

    fn start(config: SearchConfig, data: Dataset, dir: &Path, operations: Option<Operations>) -> Result<Self> {
        config.augment.check()?;
        if let Some(found) = &operations {
            found.check()?;
        }
        if config.batch == 0 || config.own.is_some_and(|own| own.batch == 0) || config.epochs() == 0 {
            return Err(Error::Config("batch and epochs must be positive".into()));
        }
        if config.second_order && config.method.order() != StepOrder::ArchitectureFirst {
            return Err(Error::Config(format!("{:?} has no second-order form", config.method)));
        }
        let (first, second) = match config.shares {
            None => data.halves()?,
            Some(shares) => data.shares(shares, seed_of(0, &[SHARES]))?,
        };
        let all = if config.shares.is_some() { first.and(&second) } else { data };
        let learner = match &operations {
            None => op_learner(&config, all.classes)?,
            Some(found) => topology_learner(&config, all.classes, found)?,
        };
        let epoch = if operations.is_some() { config.op_stage() } else { 0 };
        let dir = dir.to_owned();
        Ok(Self { config, dir, all, first, second, learner, place: Place { epoch, ..Place::default() }, operations })
    }

    /// The folder's file of epochs.
    pub fn records(dir: &Path) -> PathBuf {
        dir.join(RECORDS)
    }

    /// The folder's file of the result.
    pub fn result(dir: &Path) -> PathBuf {
        dir.join("result.json")
    }

    /// The folder's file of the operations found.
    pub fn operations(dir: &Path) -> PathBuf {
        dir.join("operations.json")
    }

    /// The pictures that weights learn from now.
    fn training(&self) -> &Dataset {
        if self.config.learns_together(self.place.epoch) { &self.all } else { &self.first }
    }

    fn relaxation(&self, kind: CellKind) -> Box<dyn Relaxation> {
        let (phase, done) = self.config.phase(self.place.epoch);
        match &self.operations {
            None => {
                let at = if phase == Phase::OpSearch { done } else { 0 };
                self.config.method.relaxation(at, self.config.op_epochs.1)
            }
            Some(found) => {
                edges(&self.config, &found.retained[kind as usize], self.config.temperature(self.place.epoch))
            }
        }
    }

    /// Picture indices of step `step`, from an order of `n` pictures that depends on the tags.
    fn pick(&self, n: usize, step: usize, tags: &[usize], shuffle: bool) -> Vec<usize> {
        let all = if shuffle { order(n, seed_of(self.config.seed, tags)) } else { (0..n).collect() };
        let batch = self.config.batch(self.place.epoch);
        let from = step * batch;
        all[from..n.min(from + batch)].to_vec()
    }

    fn batch(&self, set: &Dataset, indices: &[usize], tags: &[usize]) -> Result<Batch> {
        let seed = seed_of(self.config.seed, &[&[PICTURES], tags].concat());
        set.batch(indices, self.config.normalise, self.config.augment, seed)
    }

    pub(super) fn train_batch(&self) -> Result<Batch> {
        let (set, tags) = (self.training(), [ORDER_A, self.place.epoch]);
        let topology = self.config.phase(self.place.epoch).0 == Phase::TopologySearch;
        let shuffle = !topology || self.config.shuffle_topology;
        self.batch(set, &self.pick(set.len(), self.place.step, &tags, shuffle), &tags)
    }

    /// The other half runs in step, and again from the start when it ends.
    pub(super) fn valid_batch(&self) -> Result<Batch> {
        let n = self.second.len();
        let batches = n.div_ceil(self.config.batch(self.place.epoch));
        let (pass, step) = (self.place.step / batches, self.place.step % batches);
        let tags = [ORDER_B, self.place.epoch, pass];
        self.batch(&self.second, &self.pick(n, step, &tags, true), &tags)
    }

    fn logits(&self) -> Result<[Logits; 2]> {
        Ok([self.learner.arch.logits(CellKind::Normal)?, self.learner.arch.logits(CellKind::Reduce)?])
    }

    /// What would be derived now.
    ///
    /// # Errors
    /// When an edge retains nothing but `none`.
    pub fn genotype(&self) -> Result<Genotype> {
        let logits = self.logits()?;
        let mut cells = Vec::new();
        for kind in CellKind::ALL {
            let own = &logits[kind as usize];
            cells.push(match &self.operations {
                None => derive::darts(&self.relaxation(kind).scores(own)),
                Some(found) => derived(&self.config, &found.retained[kind as usize], own)?,
            });
        }
        let reduce = cells.pop();
        match (cells.pop(), reduce) {
            (Some(normal), Some(reduce)) => Ok(Genotype { normal, reduce }),
            _ => Err(Error::Genotype("a cell type is missing".into())),
        }
    }

    fn found(&self) -> Result<Operations> {
        let logits = self.logits()?;
        let scores = CellKind::ALL.map(|kind| self.relaxation(kind).scores(&logits[kind as usize]));
        let method = self.config.method;
        let retained = [method.retain(&scores[0]), method.retain(&scores[1])];
        let [normal, reduce] = [derive::darts(&scores[0]), derive::darts(&scores[1])];
        Ok(Operations { method, logits, scores, retained, darts: Genotype { normal, reduce } })
    }

    fn validate(&self) -> Result<f64> {
        let logits = self.logits()?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        let factors = CellKind::ALL.map(|kind| self.relaxation(kind).relax(&logits[kind as usize], &mut rng).factors);
        let net = &self.learner.net;
        let of = |images: &candle_core::Tensor| net.logits(images, &factors);
        accuracy(&self.second, self.config.validate, 4 * self.config.batch(self.place.epoch), self.config.normalise, of)
    }

    /// Runs to the end, or until `cancel` is raised: then a checkpoint is written and there is no result. One is also
    /// written after each epoch. Epochs are recorded in the folder, and what was found.
    ///
    /// # Errors
    /// When a step fails, a loss is not finite, or a file cannot be written.
    pub fn run(
        &mut self,
        observer: &mut dyn FnMut(&Progress, Option<&SearchRecord>),
        cancel: &AtomicBool,
    ) -> Result<Option<SearchResult>> {
        if epochs::run(self, observer, cancel)?.is_none() {
            return Ok(None);
        }
        if self.operations.is_none() {
            self.prune()?;
        }
        self.finish().map(Some)
    }

    /// Retains operations, and starts anew with them (spec section 10, steps 4 and 5).
    fn prune(&mut self) -> Result<()> {
        let found = self.found()?;
        files::write_json(&Self::operations(&self.dir), &found)?;
        self.learner = topology_learner(&self.config, self.all.classes, &found)?;
        self.operations = Some(found);
        Ok(())
    }

    fn finish(&self) -> Result<SearchResult> {
        let operations = self.operations.clone().ok_or_else(|| Error::Config("operations were not searched".into()))?;
        let topology = self.logits()?;
        let muted_edges = CellKind::ALL.map(|kind| {
            let (retained, own) = (&operations.retained[kind as usize], &topology[kind as usize]);
            derive::muted_edges(retained, balance(retained, own))
        });
        let result =
            SearchResult { genotype: self.genotype()?, operations, topology, muted_edges, config: self.config.clone() };
        files::write_json(&Self::result(&self.dir), &result)?;
        Ok(result)
    }
}

impl Epochs for Search {
    type Record = SearchRecord;

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
        self.config.epochs()
    }

    fn steps(&self) -> usize {
        self.training().len().div_ceil(self.config.batch(self.place.epoch))
    }

    fn begin(&mut self) -> Result<()> {
        let due = self.operations.is_none() && self.place.epoch == self.config.op_stage();
        if due { self.prune() } else { Ok(()) }
    }

    fn advance(&mut self) -> Result<Progress> {
        let start = Instant::now();
        let (epoch, at, steps) = (self.place.epoch, self.place.step, self.steps());
        let (train, phase) = (self.train_batch()?, self.config.phase(epoch).0);
        let [normal, reduce] = CellKind::ALL.map(|kind| self.relaxation(kind));
        let seed = seed_of(self.config.seed, &[SAMPLE, epoch, at]);
        let setting = Setting {
            relaxations: [&*normal, &*reduce],
            lr: self.config.lr(epoch),
            drop_path: self.config.drop_path(epoch),
            seed,
        };
        let step = match phase {
            Phase::OpWarmup | Phase::TopologyWarmup => self.learner.weights(&train, &setting)?,
            Phase::OpSearch => {
                let (method, second) = (self.config.method.order(), self.config.second_order);
                let valid = self.valid_batch()?;
                self.learner.pair(method, second, &train, &valid, &setting)?
            }
            Phase::TopologySearch => self.learner.together(&train, &setting)?,
        };
        if !step.loss.is_finite() {
            return Err(Error::Config(format!("the loss of epoch {epoch}, step {at} is {}", step.loss)));
        }
        let seconds = start.elapsed().as_secs_f64();
        self.place.totals.add(step.loss, step.correct, train.labels.len(), seconds);
        self.place.step += 1;
        Ok(Progress { epoch, step: at, steps, loss: step.loss, seconds })
    }

    fn record(&self) -> Result<SearchRecord> {
        Ok(SearchRecord {
            epoch: self.place.epoch,
            phase: self.config.phase(self.place.epoch).0,
            lr: self.config.lr(self.place.epoch),
            temperature: self.config.temperature(self.place.epoch),
            loss: self.place.totals.mean_loss(),
            accuracy: self.place.totals.accuracy(),
            validation: self.validate()?,
            seconds: self.place.totals.seconds,
            genotype: self.genotype()?,
        })
    }

    fn save(&self) -> Result<()> {
        let state = State { config: self.config.clone(), place: self.place, operations: self.operations.clone() };
        let groups = vec![
            ("net", self.learner.net.params.tensors().into_iter().collect()),
            ("sgd", self.learner.sgd.state().into_iter().collect()),
            ("arch", self.learner.arch.state()?.into_iter().collect()),
        ];
        checkpoint::write(&self.dir.join(CHECKPOINT), groups, &state)
    }
}
