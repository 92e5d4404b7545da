//! The two stages of a search (spec section 10).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::arch::Arch;
use super::checkpoint::{self, Checkpoint};
use super::config::{EdgeSearch, Method, Phase, SearchConfig};
use super::log::{Lines, read_lines};
use super::state::{Progress, Totals, accuracy, seed_of};
use super::step::{Learner, Setting, sgd};
use crate::data::{Dataset, order};
use crate::net::{Batch, Layout, Size, Supernet};
use crate::relax::{EdgeSigmoid, EdgeSoftmax, Logits, Relaxation, Table, Topology};
use crate::{CellGenotype, CellKind, Error, Genotype, Op, Result, derive, files};

/// Purposes of draws.
const INIT: usize = 0;
const ORDER_A: usize = 1;
const ORDER_B: usize = 2;
const PICTURES: usize = 3;
const SAMPLE: usize = 4;

/// What operation search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    /// How.
    pub method: Method,
    /// Parameters of normal and reduction cells.
    pub logits: [Logits; 2],
    /// Weight of each operation on each edge.
    pub scores: [Table; 2],
    /// What each edge keeps.
    pub retained: [Vec<Vec<Op>>; 2],
    /// The cells by DARTS's rule.
    pub darts: Genotype,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// The cells.
    pub genotype: Genotype,
    /// What operation search found.
    pub operations: Operations,
    /// Parameters of edge search, of normal and reduction cells.
    pub topology: [Logits; 2],
    /// Edges of each cell type on which `none` outweighs the derived operation.
    pub muted_edges: [Vec<usize>; 2],
    /// How it was searched.
    pub config: SearchConfig,
}

/// An epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    /// From 0.
    pub epoch: usize,
    /// What happened.
    pub phase: Phase,
    /// Learning rate of the weights.
    pub lr: f64,
    /// Of the combinations.
    pub temperature: f64,
    /// Mean over the training pictures, while the weights moved.
    pub loss: f64,
    /// The same of pictures classified right.
    pub accuracy: f64,
    /// Of pictures of the second half, with running statistics.
    pub validation: f64,
    /// Time of the steps.
    pub seconds: f64,
    /// What would be derived now.
    pub genotype: Genotype,
}

#[derive(Serialize, Deserialize)]
struct State {
    config: SearchConfig,
    epoch: usize,
    step: usize,
    totals: Totals,
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
    epoch: usize,
    step: usize,
    totals: Totals,
    operations: Option<Operations>,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search").field("epoch", &self.epoch).field("step", &self.step).finish_non_exhaustive()
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
        let path = dir.join("checkpoint.safetensors");
        let checkpoint = Checkpoint::<State>::read(&path)?;
        let state = &checkpoint.state;
        if state.config != config {
            return Err(Error::File { path, reason: "is of a search with other settings".into() });
        }
        let mut search = Self::start(config, data, dir, state.operations.clone())?;
        search.epoch = state.epoch;
        search.step = state.step;
        search.totals = state.totals;
        search.learner.net.params.load(&checkpoint.group("net"))?;
        search.learner.sgd.load_state(&checkpoint.group("sgd"))?;
        search.learner.arch.load(&checkpoint.group("arch"))?;
        Ok(search)
    }

    fn start(config: SearchConfig, data: Dataset, dir: &Path, operations: Option<Operations>) -> Result<Self> {
        if config.batch == 0 || config.epochs() == 0 {
            return Err(Error::Config("batch and epochs must be positive".into()));
        }
        if config.second_order && config.method.order() != super::config::StepOrder::ArchitectureFirst {
            return Err(Error::Config(format!("{:?} has no second-order form", config.method)));
        }
        let (first, second) = data.halves()?;
        let learner = match &operations {
            None => op_learner(&config, data.classes)?,
            Some(found) => topology_learner(&config, data.classes, found)?,
        };
        let epoch = if operations.is_some() { config.op_stage() } else { 0 };
        let dir = dir.to_owned();
        Ok(Self {
            config,
            dir,
            all: data,
            first,
            second,
            learner,
            epoch,
            step: 0,
            totals: Totals::default(),
            operations,
        })
    }

    /// The folder's file of epochs.
    pub fn records(dir: &Path) -> PathBuf {
        dir.join("search.jsonl")
    }

    /// The folder's file of the result.
    pub fn result(dir: &Path) -> PathBuf {
        dir.join("result.json")
    }

    /// The folder's file of the operations found.
    pub fn operations(dir: &Path) -> PathBuf {
        dir.join("operations.json")
    }

    fn save(&self) -> Result<()> {
        let state = State {
            config: self.config.clone(),
            epoch: self.epoch,
            step: self.step,
            totals: self.totals,
            operations: self.operations.clone(),
        };
        let groups = vec![
            ("net", self.learner.net.params.tensors().into_iter().collect()),
            ("sgd", self.learner.sgd.state().into_iter().collect()),
            ("arch", self.learner.arch.state()?.into_iter().collect()),
        ];
        checkpoint::write(&self.dir.join("checkpoint.safetensors"), groups, &state)
    }

    fn steps(&self) -> usize {
        let set = if self.config.phase(self.epoch).0 == Phase::TopologySearch { &self.all } else { &self.first };
        set.len().div_ceil(self.config.batch)
    }

    fn relaxation(&self, kind: CellKind) -> Box<dyn Relaxation> {
        let (phase, done) = self.config.phase(self.epoch);
        match &self.operations {
            None => {
                let at = if phase == Phase::OpSearch { done } else { 0 };
                self.config.method.relaxation(at, self.config.op_epochs.1)
            }
            Some(found) => edges(&self.config, &found.retained[kind as usize], self.config.temperature(self.epoch)),
        }
    }

    /// Picture indices of step `step`, from an order of `n` pictures that depends on the tags.
    fn pick(&self, n: usize, step: usize, tags: &[usize], shuffle: bool) -> Vec<usize> {
        let all = if shuffle { order(n, seed_of(self.config.seed, tags)) } else { (0..n).collect() };
        let from = step * self.config.batch;
        all[from..n.min(from + self.config.batch)].to_vec()
    }

    fn batch(&self, set: &Dataset, indices: &[usize], which: usize) -> Result<Batch> {
        let seed = seed_of(self.config.seed, &[PICTURES, which, self.epoch, self.step]);
        set.batch(indices, self.config.normalise, self.config.augment, seed)
    }

    fn train_batch(&self) -> Result<Batch> {
        let topology = self.config.phase(self.epoch).0 == Phase::TopologySearch;
        let set = if topology { &self.all } else { &self.first };
        let shuffle = !topology || self.config.shuffle_topology;
        self.batch(set, &self.pick(set.len(), self.step, &[ORDER_A, self.epoch], shuffle), ORDER_A)
    }

    /// The other half runs in step, and again from the start when it ends.
    fn valid_batch(&self) -> Result<Batch> {
        let n = self.second.len();
        let (pass, step) = (self.step / n.div_ceil(self.config.batch), self.step % n.div_ceil(self.config.batch));
        self.batch(&self.second, &self.pick(n, step, &[ORDER_B, self.epoch, pass], true), ORDER_B)
    }

    /// One step; gives its loss.
    fn advance(&mut self) -> Result<Progress> {
        let start = Instant::now();
        let (epoch, at, steps) = (self.epoch, self.step, self.steps());
        let (train, phase) = (self.train_batch()?, self.config.phase(epoch).0);
        let [normal, reduce] = CellKind::ALL.map(|kind| self.relaxation(kind));
        let seed = seed_of(self.config.seed, &[SAMPLE, epoch, at]);
        let setting = Setting { relaxations: [&*normal, &*reduce], lr: self.config.lr(epoch), seed };
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
        self.totals.add(step.loss, step.correct, train.labels.len(), seconds);
        self.step += 1;
        Ok(Progress { epoch, step: at, steps, loss: step.loss, seconds })
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
        accuracy(&self.second, self.config.validate, 4 * self.config.batch, self.config.normalise, of)
    }

    fn record(&self) -> Result<SearchRecord> {
        Ok(SearchRecord {
            epoch: self.epoch,
            phase: self.config.phase(self.epoch).0,
            lr: self.config.lr(self.epoch),
            temperature: self.config.temperature(self.epoch),
            loss: self.totals.mean_loss(),
            accuracy: self.totals.accuracy(),
            validation: self.validate()?,
            seconds: self.totals.seconds,
            genotype: self.genotype()?,
        })
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
        let mut kept: Vec<SearchRecord> = read_lines(&Self::records(&self.dir));
        kept.retain(|r| r.epoch < self.epoch);
        let lines = Lines::open(Self::records(&self.dir), &kept)?;
        while self.epoch < self.config.epochs() {
            if self.operations.is_none() && self.epoch == self.config.op_stage() {
                self.prune()?;
            }
            while self.step < self.steps() {
                if cancel.load(Ordering::Relaxed) {
                    self.save()?;
                    return Ok(None);
                }
                let progress = self.advance()?;
                observer(&progress, None);
            }
            let record = self.record()?;
            lines.add(&record)?;
            let steps = self.step;
            let last = Progress { epoch: self.epoch, step: steps, steps, loss: record.loss, seconds: record.seconds };
            observer(&last, Some(&record));
            self.epoch += 1;
            self.step = 0;
            self.totals = Totals::default();
            self.save()?;
        }
        if self.operations.is_none() {
            self.prune()?;
        }
        self.finish().map(Some)
    }

    /// Retains operations, and starts anew with them (spec section 10, steps 4 and 5).
    fn prune(&mut self) -> Result<()> {
        let found = self.found()?;
        write_json(&Self::operations(&self.dir), &found)?;
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
        write_json(&Self::result(&self.dir), &result)?;
        Ok(result)
    }
}

/// The weights among retained operations, where there are several.
fn balance<'a>(retained: &[Vec<Op>], logits: &'a Logits) -> Option<&'a [f64]> {
    (retained[0].len() > 1).then(|| &logits[0][..])
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bad = |reason: String| Error::File { path: path.to_owned(), reason };
    let json = serde_json::to_vec_pretty(value).map_err(|e| bad(e.to_string()))?;
    files::replace(path, &json).map_err(|e| bad(e.to_string()))
}

/// The relaxation of edge search.
fn edges(config: &SearchConfig, retained: &[Vec<Op>], temperature: f64) -> Box<dyn Relaxation> {
    let (retained, op_temperature) = (retained.to_vec(), config.op_temperature * temperature);
    match config.edges {
        EdgeSearch::EdgeSoftmax => Box::new(EdgeSoftmax { retained, op_temperature }),
        EdgeSearch::EdgeSigmoid => Box::new(EdgeSigmoid { retained, op_temperature }),
        EdgeSearch::Pairs | EdgeSearch::Any => Box::new(topology(config, retained, temperature)),
    }
}

fn topology(config: &SearchConfig, retained: Vec<Vec<Op>>, temperature: f64) -> Topology {
    let rule = config.edges.rule();
    let share = config.share.unwrap_or(config.edges == EdgeSearch::Any);
    Topology { retained, rule, share, temperature, op_temperature: config.op_temperature * temperature }
}

/// The cell of edge search's parameters.
fn derived(config: &SearchConfig, retained: &[Vec<Op>], logits: &Logits) -> Result<CellGenotype> {
    let ops = || derive::derived_ops(retained, balance(retained, logits));
    match config.edges {
        EdgeSearch::Pairs | EdgeSearch::Any => topology(config, retained.to_vec(), 1.0).derive(logits),
        EdgeSearch::EdgeSoftmax => Ok(derive::two_edges(&ops()?, &EdgeSoftmax::gates(logits))),
        EdgeSearch::EdgeSigmoid => Ok(derive::open_edges(&ops()?, logits)),
    }
}

fn learner(
    config: &SearchConfig,
    size: Size,
    (operations, layout): ([Vec<Vec<Op>>; 2], Layout),
    relaxation: &dyn Relaxation,
    stage: usize,
) -> Result<Learner> {
    let seed = seed_of(config.seed, &[INIT, stage]);
    let net = Supernet::new(size, operations, layout, seed)?;
    let sgd = sgd(&net.params, &config.sgd);
    let optimizer = if stage == 0 { config.op_arch } else { config.topology_arch };
    let arch = Arch::new(relaxation, optimizer, &mut ChaCha8Rng::seed_from_u64(seed))?;
    Ok(Learner { net, sgd, arch, optimizer: config.sgd })
}

fn op_learner(config: &SearchConfig, classes: usize) -> Result<Learner> {
    let size = Size { form: config.form, channels: config.channels, cells: config.op_cells, classes };
    let relaxation = config.method.relaxation(0, config.op_epochs.1);
    let operations = relaxation.operations();
    let layout = config.method.layout();
    learner(config, size, ([operations.clone(), operations], layout), &*relaxation, 0)
}

fn topology_learner(config: &SearchConfig, classes: usize, found: &Operations) -> Result<Learner> {
    let size = Size { form: config.form, channels: config.channels, cells: config.topology_cells, classes };
    let relaxation = edges(config, &found.retained[0], 1.0);
    learner(config, size, (found.retained.clone(), Layout::default()), &*relaxation, 1)
}
