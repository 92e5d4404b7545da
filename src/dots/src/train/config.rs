//! Settings of search and of evaluation training.

use serde::{Deserialize, Serialize};

use crate::data::{Augment, Normalise};
use crate::net::{Form, Layout};
use crate::relax::{Concrete, Grouped, GumbelMax, PartialChannels, Relaxation, Table};
use crate::train::schedule::{exponential, linear};
use crate::{EdgeRule, Op, derive};

/// How operations are searched (spec sections 5 and 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Groups without and with parameters; one operation of each is retained.
    #[default]
    GroupV2,
    /// Skip, pools, separable and dilated convolutions; four operations are retained.
    GroupV1,
    /// One softmax, the best operation is retained: DARTS.
    DartsTop1,
    /// One softmax, the two best operations are retained.
    DartsTop2,
    /// Gumbel-max samples, weights before architecture.
    Gdas,
    /// Concrete samples, weights and architecture from one batch.
    Snas,
    /// Operations on a quarter of the channels, weighted edges.
    PcDarts,
}

impl Method {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::GroupV2, Self::GroupV1, Self::DartsTop1, Self::DartsTop2, Self::Gdas, Self::Snas, Self::PcDarts];

    /// The factors' source in epoch `epoch` of `epochs` with architecture steps.
    pub fn relaxation(self, epoch: usize, epochs: usize) -> Box<dyn Relaxation> {
        match self {
            Self::GroupV2 => Box::new(Grouped::v2()),
            Self::GroupV1 => Box::new(Grouped::v1()),
            Self::DartsTop1 | Self::DartsTop2 => Box::new(Grouped::darts()),
            Self::Gdas => Box::new(GumbelMax { temperature: linear(10.0, 0.1, epoch, epochs) }),
            Self::Snas => Box::new(Concrete { temperature: linear(1.0, 0.03, epoch, epochs) }),
            Self::PcDarts => Box::new(PartialChannels),
        }
    }

    /// How its supernet is laid out.
    pub fn layout(self) -> Layout {
        match self {
            Self::Gdas => Layout { pool_norm: false, ..Layout::default() },
            Self::PcDarts => Layout { parts: 4, last_act: false, ..Layout::default() },
            _ => Layout::default(),
        }
    }

    /// The operations that each edge keeps.
    pub fn retain(self, scores: &Table) -> Vec<Vec<Op>> {
        match self {
            Self::GroupV2 => derive::retain_groups(scores, Grouped::v2().groups()),
            Self::GroupV1 => derive::retain_groups(scores, Grouped::v1().groups()),
            Self::DartsTop2 => derive::retain_top(scores, 2),
            Self::DartsTop1 | Self::Gdas | Self::Snas | Self::PcDarts => derive::retain_top(scores, 1),
        }
    }

    /// In which order weights and architecture learn.
    pub(crate) fn order(self) -> StepOrder {
        match self {
            Self::Gdas => StepOrder::WeightsFirst,
            Self::Snas => StepOrder::Together,
            _ => StepOrder::ArchitectureFirst,
        }
    }
}

/// The order of the two steps on a pair of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepOrder {
    ArchitectureFirst,
    WeightsFirst,
    /// From one batch.
    Together,
}

/// How edges are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeSearch {
    /// Combinations of two edges.
    #[default]
    Pairs,
    /// Combinations of any number of edges.
    Any,
    /// A softmax over the edges of a node (PC-DARTS).
    EdgeSoftmax,
    /// A sigmoid for each edge.
    EdgeSigmoid,
}

impl EdgeSearch {
    /// All.
    pub const ALL: [Self; 4] = [Self::Pairs, Self::Any, Self::EdgeSoftmax, Self::EdgeSigmoid];

    /// Which combinations there are.
    pub(crate) fn rule(self) -> EdgeRule {
        if self == Self::Any { EdgeRule::Any } else { EdgeRule::Two }
    }
}

/// Adam of architecture parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchOptimizer {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates.
    pub betas: (f64, f64),
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0: any.
    pub clip: f64,
}

/// The two parts of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Operations,
    Topology,
}

/// How a method searches operations by itself, apart from the schedule of both stages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnSchedule {
    /// Pictures at once.
    pub batch: usize,
    /// Of the weights; its cosine ends with the stage.
    pub sgd: WeightOptimizer,
    /// Probability of dropping an operation in an image.
    pub drop_path: f64,
}

/// SGD of network weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightOptimizer {
    /// Learning rate of the first epoch.
    pub lr: f64,
    /// Learning rate at the end of the cosine.
    pub lr_min: f64,
    /// Of the velocity.
    pub momentum: f64,
    /// Look ahead.
    pub nesterov: bool,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Largest norm of the gradient of all weights; 0: any.
    pub clip: f64,
}

/// A search. The defaults are those of CIFAR (spec sections 8.1 and 8.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchConfig {
    /// Shape of the networks.
    pub form: Form,
    /// Channels of a node of the first cells.
    pub channels: usize,
    /// Cells of the operation supernet.
    pub op_cells: usize,
    /// Cells of the topology supernet (the released code ran 8).
    pub topology_cells: usize,
    /// Pictures at once.
    pub batch: usize,
    /// Epochs of the weights alone, then with operations.
    pub op_epochs: (usize, usize),
    /// Epochs of the weights alone, then with edges.
    pub topology_epochs: (usize, usize),
    /// How operations are searched.
    pub method: Method,
    /// Unrolled (second-order) architecture gradients; for methods that step architecture first.
    pub second_order: bool,
    /// How edges are searched.
    pub edges: EdgeSearch,
    /// Divide a combination's weight by its number of edges; by default where that varies.
    pub share: Option<bool>,
    /// First and last temperature of the combinations.
    pub temperature: (f64, f64),
    /// Temperature of retained operations over that of combinations.
    pub op_temperature: f64,
    /// Of the weights.
    pub sgd: WeightOptimizer,
    /// Of operations.
    pub op_arch: ArchOptimizer,
    /// Of edges.
    pub topology_arch: ArchOptimizer,
    /// New order of the pictures in each epoch of edge search.
    pub shuffle_topology: bool,
    /// Changes of training pictures.
    pub augment: Augment,
    /// Of the pictures' values.
    pub normalise: Normalise,
    /// Shares of each class that weights and architecture learn from, instead of halves of all pictures in their order.
    pub shares: Option<(f64, f64)>,
    /// How operations are searched where that is not on the schedule of both stages; edges then start with the first
    /// learning rate of theirs.
    pub own: Option<OwnSchedule>,
    /// Pictures of the second half that are classified after each epoch.
    pub validate: usize,
    /// Seed of every draw.
    pub seed: u64,
}

impl Default for SearchConfig {
    fn default() -> Self {
        let arch = ArchOptimizer { lr: 3e-4, betas: (0.5, 0.999), weight_decay: 1e-3, clip: 0.0 };
        Self {
            form: Form::Cifar,
            channels: 16,
            op_cells: 8,
            topology_cells: 20,
            batch: 64,
            op_epochs: (15, 15),
            topology_epochs: (20, 20),
            method: Method::GroupV2,
            second_order: false,
            edges: EdgeSearch::Pairs,
            share: None,
            temperature: (10.0, 0.02),
            op_temperature: 1e-3,
            sgd: WeightOptimizer {
                lr: 0.025,
                lr_min: 0.001,
                momentum: 0.9,
                nesterov: false,
                weight_decay: 3e-4,
                clip: 5.0,
            },
            op_arch: arch,
            topology_arch: ArchOptimizer { betas: (0.9, 0.999), ..arch },
            shuffle_topology: true,
            augment: Augment::SEARCH,
            normalise: Normalise::default(),
            shares: None,
            own: None,
            validate: 1000,
            seed: 0,
        }
    }
}

/// What happens in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Weights of the operation supernet alone.
    OpWarmup,
    /// Weights and operations.
    OpSearch,
    /// Weights of the topology supernet alone.
    TopologyWarmup,
    /// Weights and edges together.
    TopologySearch,
}

impl SearchConfig {
    /// Epochs of both stages.
    pub fn epochs(&self) -> usize {
        self.op_stage() + self.topology_epochs.0 + self.topology_epochs.1
    }

    /// Epochs of the operation stage.
    pub fn op_stage(&self) -> usize {
        self.op_epochs.0 + self.op_epochs.1
    }

    /// The phase of an epoch, and how many of its epochs are over.
    pub fn phase(&self, epoch: usize) -> (Phase, usize) {
        let lengths = [
            (Phase::OpWarmup, self.op_epochs.0),
            (Phase::OpSearch, self.op_epochs.1),
            (Phase::TopologyWarmup, self.topology_epochs.0),
        ];
        let mut rest = epoch;
        for (phase, length) in lengths {
            if rest < length {
                return (phase, rest);
            }
            rest -= length;
        }
        (Phase::TopologySearch, rest)
    }

    /// The stage of an epoch.
    fn stage(&self, epoch: usize) -> Stage {
        if epoch < self.op_stage() { Stage::Operations } else { Stage::Topology }
    }

    /// The method's own schedule while it is in force.
    fn own(&self, stage: Stage) -> Option<&OwnSchedule> {
        self.own.as_ref().filter(|_| stage == Stage::Operations)
    }

    /// Of the weights in a stage.
    pub(crate) fn sgd(&self, stage: Stage) -> WeightOptimizer {
        self.own(stage).map_or(self.sgd, |own| own.sgd)
    }

    /// Pictures at once in an epoch.
    pub fn batch(&self, epoch: usize) -> usize {
        self.own(self.stage(epoch)).map_or(self.batch, |own| own.batch)
    }

    /// Probability of dropping an operation in an epoch.
    pub fn drop_path(&self, epoch: usize) -> f64 {
        self.own(self.stage(epoch)).map_or(0.0, |own| own.drop_path)
    }

    /// Learning rate of the weights in an epoch: one cosine over both stages, or one over each.
    pub fn lr(&self, epoch: usize) -> f64 {
        let stage = self.stage(epoch);
        let sgd = self.sgd(stage);
        let (at, of) = match (self.own, stage) {
            (None, _) => (epoch, self.epochs()),
            (Some(_), Stage::Operations) => (epoch, self.op_stage()),
            (Some(_), Stage::Topology) => (epoch - self.op_stage(), self.epochs() - self.op_stage()),
        };
        super::schedule::cosine(sgd.lr, sgd.lr_min, at, of)
    }

    /// Whether weights and architecture learn from the same batches, of all pictures, in an epoch.
    pub(crate) fn learns_together(&self, epoch: usize) -> bool {
        match self.phase(epoch).0 {
            Phase::TopologySearch => true,
            Phase::OpSearch => self.method.order() == StepOrder::Together,
            Phase::OpWarmup | Phase::TopologyWarmup => false,
        }
    }

    /// Temperature of the combinations in an epoch; one before edges are searched.
    pub fn temperature(&self, epoch: usize) -> f64 {
        match self.phase(epoch) {
            (Phase::TopologySearch, t) => {
                exponential(self.temperature.0, self.temperature.1, t, self.topology_epochs.1)
            }
            _ => 1.0,
        }
    }
}

/// Training of a derived network. The defaults are those of CIFAR (spec section 8.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Shape of the network.
    pub form: Form,
    /// Channels of a node of the first cells.
    pub channels: usize,
    /// Cells.
    pub cells: usize,
    /// Epochs.
    pub epochs: usize,
    /// Epochs in which the learning rate rises.
    pub warmup_epochs: usize,
    /// Pictures at once.
    pub batch: usize,
    /// Of the weights.
    pub sgd: WeightOptimizer,
    /// Train with an auxiliary head.
    pub aux: bool,
    /// Probability of dropping an operation at the end; it rises linearly.
    pub drop_path: f64,
    /// Label smoothing.
    pub smoothing: f64,
    /// Changes of training pictures.
    pub augment: Augment,
    /// Of the pictures' values.
    pub normalise: Normalise,
    /// Seed of every draw.
    pub seed: u64,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            form: Form::Cifar,
            channels: 36,
            cells: 20,
            epochs: 600,
            warmup_epochs: 0,
            batch: 96,
            sgd: WeightOptimizer { lr_min: 0.0, ..SearchConfig::default().sgd },
            aux: true,
            drop_path: 0.2,
            smoothing: 0.0,
            augment: Augment::EVALUATION,
            normalise: Normalise::default(),
            seed: 0,
        }
    }
}

impl EvaluationConfig {
    /// ImageNet's (spec sections 4.4 and 8.3).
    pub fn imagenet() -> Self {
        let sgd = WeightOptimizer { lr: 0.5, weight_decay: 3e-5, ..Self::default().sgd };
        Self {
            form: Form::ImageNet,
            channels: 48,
            cells: 14,
            epochs: 250,
            warmup_epochs: 5,
            batch: 1024,
            sgd,
            drop_path: 0.0,
            smoothing: 0.1,
            augment: Augment::IMAGENET,
            normalise: Normalise::IMAGENET,
            ..Self::default()
        }
    }

    /// Learning rate of an epoch.
    pub fn lr(&self, epoch: usize) -> f64 {
        if self.warmup_epochs > 0 {
            return super::schedule::warm_cosine(self.sgd.lr, epoch, self.warmup_epochs, self.epochs);
        }
        super::schedule::cosine(self.sgd.lr, self.sgd.lr_min, epoch, self.epochs)
    }

    /// Drop probability of an epoch.
    pub fn drop_path(&self, epoch: usize) -> f64 {
        self.drop_path * epoch as f64 / self.epochs.max(1) as f64
    }
}
