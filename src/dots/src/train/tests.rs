use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::step::{Learner, Setting, unrolled_gradient};
use super::*;
use crate::data::{Augment, Dataset};
use crate::net::{Batch, Supernet};
use crate::relax::{Grouped, Logits, Relaxation};
use crate::train::arch::Arch;
use crate::{CellKind, EDGES, Genotype, Op, Result};

/// Pictures whose class is their colour.
fn pictures(n: usize, px: usize) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let pixel = |label: u32, rng: &mut ChaCha8Rng| {
        let mut rgb = [rng.random_range(0..120u8), rng.random_range(0..120), rng.random_range(0..120)];
        rgb[label as usize] += 100;
        rgb
    };
    let pixels = labels.iter().flat_map(|l| (0..px * px).flat_map(|_| pixel(*l, &mut rng)).collect::<Vec<_>>()).collect();
    Dataset { px, classes: 3, pixels, labels }
}

fn tiny() -> SearchConfig {
    SearchConfig {
        channels: 4,
        op_cells: 3,
        topology_cells: 3,
        batch: 8,
        op_epochs: (1, 1),
        topology_epochs: (1, 2),
        validate: 8,
        augment: Augment { pad: 1, flip: true, cutout: 0 },
        ..SearchConfig::default()
    }
}

/// Runs to the end, interrupted after each of these numbers of steps and continued from the checkpoint.
fn search(config: &SearchConfig, dir: &Path, stops: &[usize]) -> SearchResult {
    let data = pictures(40, 8);
    let mut search = Search::new(config.clone(), data.clone(), dir).unwrap();
    for stop in stops {
        let (cancel, mut steps) = (AtomicBool::new(false), 0);
        let mut count = |_: &Progress, record: Option<&SearchRecord>| {
            steps += usize::from(record.is_none());
            cancel.store(steps == *stop, Ordering::Relaxed);
        };
        assert!(search.run(&mut count, &cancel).unwrap().is_none());
        search = Search::resume(config.clone(), data.clone(), dir).unwrap();
    }
    search.run(&mut |_, _| (), &AtomicBool::new(false)).unwrap().unwrap()
}

fn records(dir: &Path) -> Vec<SearchRecord> {
    let mut all: Vec<SearchRecord> = read_lines(&Search::records(dir));
    all.iter_mut().for_each(|r| r.seconds = 0.0);
    all
}

/// Stops lie inside every phase: the halves have three batches, all pictures five.
#[test]
fn an_interrupted_search_equals_an_uninterrupted_one() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = search(&tiny(), a.path(), &[]);
    let parts = search(&tiny(), b.path(), &[1, 3, 3, 4]);
    assert_eq!(whole, parts);
    assert_eq!(records(a.path()), records(b.path()));
    let phases: Vec<Phase> = records(a.path()).iter().map(|r| r.phase).collect();
    use Phase::{OpSearch, OpWarmup, TopologySearch, TopologyWarmup};
    assert_eq!(phases, [OpWarmup, OpSearch, TopologyWarmup, TopologySearch, TopologySearch]);
    let other = SearchConfig { seed: 1, ..tiny() };
    assert!(Search::resume(other, pictures(40, 8), a.path()).is_err());
}

#[test]
fn every_method_and_edge_search_runs() {
    for method in Method::ALL {
        let config = SearchConfig { method, channels: 8, topology_epochs: (0, 1), op_epochs: (0, 1), ..tiny() };
        let dir = tempfile::tempdir().unwrap();
        let result = search(&config, dir.path(), &[]);
        let count = match method {
            Method::GroupV1 => 4,
            Method::GroupV2 | Method::DartsTop2 => 2,
            _ => 1,
        };
        assert!(result.operations.retained.iter().flatten().all(|ops| ops.len() == count), "{method:?}");
        result.genotype.check().unwrap();
    }
    for edges in EdgeSearch::ALL {
        let dir = tempfile::tempdir().unwrap();
        let result = search(&SearchConfig { edges, ..tiny() }, dir.path(), &[]);
        result.genotype.check().unwrap();
        // The same operations, searched anew for edges only.
        let again = tempfile::tempdir().unwrap();
        let mut of_edges = Search::of_edges(result.config.clone(), pictures(40, 8), again.path(), result.operations.clone()).unwrap();
        let found = of_edges.run(&mut |_, _| (), &AtomicBool::new(false)).unwrap().unwrap();
        assert_eq!((found.genotype, found.topology), (result.genotype, result.topology));
        assert_eq!(rank::candidates(&search(&tiny(), dir.path(), &[])).unwrap().len(), 10);
    }
}

#[test]
fn second_order_is_for_architecture_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = SearchConfig { second_order: true, method: Method::DartsTop1, topology_epochs: (0, 1), ..tiny() };
    search(&config, dir.path(), &[]).genotype.check().unwrap();
    let config = SearchConfig { second_order: true, method: Method::Gdas, ..tiny() };
    assert!(Search::new(config, pictures(40, 8), dir.path()).is_err());
}

fn learner(relaxation: &dyn Relaxation, momentum: f64) -> Learner {
    let config = tiny();
    let ops = relaxation.operations();
    let size = crate::net::Size { form: config.form, channels: 4, cells: 3, classes: 3 };
    let net = Supernet::new(size, [ops.clone(), ops], Method::GroupV2.layout(), 3).unwrap();
    let optimizer = WeightOptimizer { momentum, ..config.sgd };
    let sgd = step::sgd(&net.params, &optimizer);
    let arch = Arch::new(relaxation, config.op_arch, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    Learner { net, sgd, arch, optimizer }
}

/// The unrolled gradient is the slope of the validation loss after a step of the weights, as a function of the
/// architecture; the first-order gradient is not.
#[test]
fn unrolled_gradients_see_the_step_of_the_weights() -> Result<()> {
    let groups = Grouped::v2();
    let data = pictures(64, 8);
    let batch = |from: usize| {
        let indices: Vec<usize> = (from..from + 32).collect();
        data.batch(&indices, crate::data::Normalise::default(), Augment::NONE, 0)
    };
    let (train, valid, xi): (Batch, Batch, f64) = (batch(0)?, batch(32)?, 0.1);
    let mut learner = learner(&groups, 0.9);
    // A velocity and decay take part in the step.
    let (normal, reduce): (&dyn Relaxation, &dyn Relaxation) = (&groups, &groups);
    learner.weights(&valid, &Setting { relaxations: [normal, reduce], lr: 0.01, seed: 0 })?;
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let logits: [Logits; 2] = [0, 1].map(|_| {
        groups.shapes().iter().map(|(_, n)| (0..*n).map(|_| rng.random_range(-0.5..0.5)).collect()).collect()
    });
    let relaxed = |logits: &[Logits; 2]| {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        [groups.relax(&logits[0], &mut rng), groups.relax(&logits[1], &mut rng)]
    };
    let start = learner.net.params.deep_copy()?;
    let at = relaxed(&logits);
    let second = unrolled_gradient(&mut learner, &train, &valid, &at, xi)?;
    for (name, var) in learner.net.params.trainable() {
        let same = (var.as_tensor() - start.weight(name)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(same == 0.0, "{name} moved");
    }
    let velocities = learner.sgd.state();
    let mut after = |logits: &[Logits; 2]| -> Result<f64> {
        let relaxed = relaxed(logits);
        let factors = [relaxed[0].factors.clone(), relaxed[1].factors.clone()];
        let step = learner.net.step(&train, &factors, inas_nn::tape::Wanted::Parameters)?;
        learner.sgd.load_state(&velocities)?;
        learner.sgd.step(&step.gradients, xi)?;
        let loss = learner.net.step(&valid, &factors, inas_nn::tape::Wanted::Parameters)?.loss;
        for (name, var) in learner.net.params.trainable() {
            var.set(start.weight(name)?)?;
        }
        Ok(loss)
    };
    let (mut slope, mut direct, mut ends) = (0.0, 0.0, [logits.clone(), logits.clone()]);
    let first = {
        // Without the finite difference: xi of zero leaves the weights and the direct gradient.
        let mut zero = self::learner(&groups, 0.0);
        zero.net.params.load(&start.tensors())?;
        unrolled_gradient(&mut zero, &train, &valid, &at, 0.0)?
    };
    let h = 3e-4;
    for kind in 0..2 {
        for list in 0..logits[kind].len() {
            for i in 0..logits[kind][list].len() {
                // Along the second-order gradient itself, where it is largest.
                let d = second[kind][list][i].signum();
                slope += second[kind][list][i] * d;
                direct += first[kind][list][i] * d;
                ends[0][kind][list][i] += h * d;
                ends[1][kind][list][i] -= h * d;
            }
        }
    }
    let numeric = (after(&ends[0])? - after(&ends[1])?) / (2.0 * h);
    assert!((slope - numeric).abs() < 0.1 * numeric.abs(), "second order {slope}, slope {numeric}, first {direct}");
    assert!((direct - numeric).abs() > 3.0 * (slope - numeric).abs(), "first order {direct}, slope {numeric}");
    Ok(())
}

/// Frozen architecture in the warm-up, both moving in edge search.
#[test]
fn phases_move_what_they_should() -> Result<()> {
    let groups = Grouped::v2();
    let mut learner = learner(&groups, 0.9);
    let data = pictures(16, 8);
    let batch = data.batch(&(0..16).collect::<Vec<_>>(), crate::data::Normalise::default(), Augment::NONE, 0)?;
    let setting = Setting { relaxations: [&groups, &groups], lr: 0.025, seed: 0 };
    let weight = |l: &Learner| l.net.params.weight("classifier.weight").unwrap().to_vec2::<f32>().unwrap();
    let before = (weight(&learner), learner.arch.logits(CellKind::Normal)?);
    learner.weights(&batch, &setting)?;
    assert_ne!(weight(&learner), before.0);
    assert_eq!(learner.arch.logits(CellKind::Normal)?, before.1);
    let before = (weight(&learner), learner.arch.logits(CellKind::Normal)?);
    learner.architecture(&batch, &setting)?;
    assert_eq!(weight(&learner), before.0);
    // Adam's first step is the learning rate; the penalty is nothing at zero.
    let moved = learner.arch.logits(CellKind::Normal)?;
    assert!(moved.iter().flatten().any(|v| (v.abs() - 3e-4).abs() < 1e-7));
    learner.together(&batch, &setting)?;
    assert_ne!(weight(&learner), before.0);
    assert_ne!(learner.arch.logits(CellKind::Normal)?, moved);
    Ok(())
}

#[test]
fn the_schedule_has_four_phases() {
    let config = SearchConfig::default();
    assert_eq!(config.epochs(), 70);
    assert_eq!(config.phase(14), (Phase::OpWarmup, 14));
    assert_eq!(config.phase(29), (Phase::OpSearch, 14));
    assert_eq!(config.phase(30), (Phase::TopologyWarmup, 0));
    assert_eq!(config.phase(50), (Phase::TopologySearch, 0));
    assert!((config.temperature(50) - 10.0).abs() < 1e-12 && (config.temperature(69) - 0.02).abs() < 1e-12);
    assert!((config.temperature(40) - 1.0).abs() < 1e-12);
    let evaluation = EvaluationConfig::default();
    assert!((evaluation.drop_path(300) - 0.1).abs() < 1e-12 && evaluation.drop_path(0) == 0.0);
    let imagenet = EvaluationConfig::imagenet();
    assert!((imagenet.lr(0) - 0.1).abs() < 1e-12 && (imagenet.lr(4) - 0.5).abs() < 1e-12);
}

#[test]
fn training_learns_and_resumes_bit_equal() {
    let config = EvaluationConfig {
        channels: 4,
        cells: 3,
        epochs: 4,
        batch: 8,
        aux: false,
        sgd: WeightOptimizer { lr: 0.05, ..EvaluationConfig::default().sgd },
        augment: Augment { pad: 0, flip: true, cutout: 2 },
        ..EvaluationConfig::default()
    };
    let genotype = Genotype::published("dots-c10").unwrap();
    let data = || (pictures(48, 8), pictures(24, 8));
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut whole = Trainer::new(config.clone(), genotype.clone(), data(), a.path()).unwrap();
    let end = whole.run(&mut |_, _| (), &AtomicBool::new(false)).unwrap().unwrap();
    assert!(end.test > 0.6, "{}", end.test);
    let mut part = Trainer::new(config.clone(), genotype.clone(), data(), b.path()).unwrap();
    let (cancel, mut steps) = (AtomicBool::new(false), 0);
    let mut stop = |_: &Progress, _: Option<&EvaluationRecord>| {
        steps += 1;
        cancel.store(steps == 9, Ordering::Relaxed);
    };
    assert!(part.run(&mut stop, &cancel).unwrap().is_none());
    let mut part = Trainer::resume(config, genotype, data(), b.path()).unwrap();
    let mut other = part.run(&mut |_, _| (), &AtomicBool::new(false)).unwrap().unwrap();
    other.seconds = end.seconds;
    assert_eq!(end, other);
    assert_eq!(
        std::fs::read(Trainer::network(a.path())).unwrap(),
        std::fs::read(Trainer::network(b.path())).unwrap()
    );
}

#[test]
fn retained_operations_are_what_the_method_says() {
    let mut scores = [[0.1; 8]; EDGES];
    scores[2][Op::Zero.column()] = 0.9;
    scores[2][Op::Dil5.column()] = 0.5;
    scores[2][Op::Skip.column()] = 0.4;
    assert_eq!(Method::GroupV2.retain(&scores)[2], [Op::Zero, Op::Dil5]);
    assert_eq!(Method::DartsTop2.retain(&scores)[2], [Op::Skip, Op::Dil5]);
    assert_eq!(Method::Snas.retain(&scores)[2], [Op::Dil5]);
    assert_eq!(Method::GroupV1.retain(&scores)[2], [Op::MaxPool, Op::Skip, Op::Sep3, Op::Dil5]);
}
