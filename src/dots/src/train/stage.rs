//! The two stages of a search: their networks, optimisers, relaxations and what is derived of them.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::arch::Arch;
use super::config::{EdgeSearch, SearchConfig, Stage};
use super::found::Operations;
use super::state::seed_of;
use super::step::{Learner, sgd};
use crate::net::{Layout, Size, Supernet};
use crate::relax::{EdgeGates, Gate, Logits, Relaxation, Topology};
use crate::{CellGenotype, Op, Result, derive};

/// Purpose of draws of initial values.
const INIT: usize = 0;

/// The weights among retained operations, where there are several.
pub(super) fn balance<'a>(retained: &[Vec<Op>], logits: &'a Logits) -> Option<&'a [f64]> {
    (retained[0].len() > 1).then(|| &logits[0][..])
}

/// The relaxation of edge search.
pub(super) fn edges(config: &SearchConfig, retained: &[Vec<Op>], temperature: f64) -> Box<dyn Relaxation> {
    let (retained, op_temperature) = (retained.to_vec(), config.op_temperature * temperature);
    match config.edges {
        EdgeSearch::EdgeSoftmax => Box::new(EdgeGates { retained, op_temperature, gate: Gate::Softmax }),
        EdgeSearch::EdgeSigmoid => Box::new(EdgeGates { retained, op_temperature, gate: Gate::Sigmoid }),
        EdgeSearch::Pairs | EdgeSearch::Any => Box::new(topology(config, retained, temperature)),
    }
}

fn topology(config: &SearchConfig, retained: Vec<Vec<Op>>, temperature: f64) -> Topology {
    let rule = config.edges.rule();
    let share = config.share.unwrap_or(config.edges == EdgeSearch::Any);
    Topology { retained, rule, share, temperature, op_temperature: config.op_temperature * temperature }
}

/// The cell of edge search's parameters.
pub(super) fn derived(config: &SearchConfig, retained: &[Vec<Op>], logits: &Logits) -> Result<CellGenotype> {
    let ops = || derive::derived_ops(retained, balance(retained, logits));
    match config.edges {
        EdgeSearch::Pairs | EdgeSearch::Any => topology(config, retained.to_vec(), 1.0).derive(logits),
        EdgeSearch::EdgeSoftmax => Ok(derive::two_edges(&ops()?, &Gate::Softmax.of(logits))),
        EdgeSearch::EdgeSigmoid => Ok(derive::open_edges(&ops()?, &Gate::Sigmoid.of(logits))),
    }
}

fn learner(
    config: &SearchConfig,
    size: Size,
    (operations, layout): ([Vec<Vec<Op>>; 2], Layout),
    relaxation: &dyn Relaxation,
    stage: Stage,
) -> Result<Learner> {
    let seed = seed_of(config.seed, &[INIT, stage as usize]);
    let net = Supernet::new(size, operations, layout, seed)?;
    let weights = config.sgd(stage);
    let sgd = sgd(&net.params, &weights);
    let optimizer = if stage == Stage::Operations { config.op_arch } else { config.topology_arch };
    let arch = Arch::new(relaxation, optimizer, &mut ChaCha8Rng::seed_from_u64(seed))?;
    Ok(Learner { net, sgd, arch, optimizer: weights })
}

pub(super) fn op_learner(config: &SearchConfig, classes: usize) -> Result<Learner> {
    let size = Size { form: config.form, channels: config.channels, cells: config.op_cells, classes };
    let relaxation = config.method.relaxation(0, config.op_epochs.1);
    let operations = relaxation.operations();
    let layout = config.method.layout();
    learner(config, size, ([operations.clone(), operations], layout), &*relaxation, Stage::Operations)
}

pub(super) fn topology_learner(config: &SearchConfig, classes: usize, found: &Operations) -> Result<Learner> {
    let size = Size { form: config.form, channels: config.channels, cells: config.topology_cells, classes };
    let relaxation = edges(config, &found.retained[0], 1.0);
    learner(config, size, (found.retained.clone(), Layout::default()), &*relaxation, Stage::Topology)
}
