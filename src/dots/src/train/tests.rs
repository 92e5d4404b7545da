use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor, Var};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::config::StepOrder;
use super::step::{Bilevel, Learner, Setting, unrolled_gradient};
use super::*;
use crate::data::{Augment, Dataset, Source};
use crate::net::Supernet;
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
    let pixels =
        labels.iter().flat_map(|l| (0..px * px).flat_map(|_| pixel(*l, &mut rng)).collect::<Vec<_>>()).collect();
    Dataset { px, classes: 3, source: Source::Memory(pixels), labels }
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
        augment: Augment { pad: 1, flip: true, ..Augment::NONE },
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
    for r in &mut all {
        r.seconds = 0.0;
    }
    all
}

/// Stops lie inside every phase: the halves have three batches, all pictures five.
#[test]
fn an_interrupted_search_equals_an_uninterrupted_one() {
    use Phase::{OpSearch, OpWarmup, TopologySearch, TopologyWarmup};
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = search(&tiny(), a.path(), &[]);
    let parts = search(&tiny(), b.path(), &[1, 3, 3, 4]);
    assert_eq!(whole, parts);
    assert_eq!(records(a.path()), records(b.path()));
    let phases: Vec<Phase> = records(a.path()).iter().map(|r| r.phase).collect();
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
        let mut of_edges =
            Search::of_edges(result.config.clone(), pictures(40, 8), again.path(), result.operations.clone()).unwrap();
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

/// `L_A = 1/2 sum (w_i - a_i a_{i+1})^2`, `L_B = 1/2 sum (w_i - 1)^2 + w_0 a_0`: every gradient by hand.
struct Quadratic {
    w: Var,
    a: Vec<f64>,
    velocity: Vec<f64>,
}

impl Quadratic {
    const MOMENTUM: f64 = 0.9;
    const DECAY: f64 = 3e-4;

    fn values(&self) -> Vec<f64> {
        self.w.to_vec1().unwrap()
    }

    fn target(&self, i: usize) -> f64 {
        self.a[i] * self.a[(i + 1) % self.a.len()]
    }
}

impl Bilevel for Quadratic {
    fn weights(&self) -> Vec<(String, Var)> {
        vec![("w".into(), self.w.clone())]
    }

    fn look_ahead(&mut self, lr: f64) -> Result<()> {
        let step = |(i, w): (usize, f64)| {
            let g = w - self.target(i);
            w - lr * (Self::MOMENTUM * self.velocity[i] + g + Self::DECAY * w)
        };
        let moved: Vec<f64> = self.values().into_iter().enumerate().map(step).collect();
        Ok(self.w.set(&Tensor::new(moved, &Device::Cpu)?)?)
    }

    fn validation(&mut self) -> Result<(BTreeMap<String, Tensor>, [Logits; 2])> {
        let w = self.values();
        let mut by: Vec<f64> = w.iter().map(|w| w - 1.0).collect();
        by[0] += self.a[0];
        let mut by_a = vec![0.0; w.len()];
        by_a[0] = w[0];
        Ok(([("w".to_owned(), Tensor::new(by, &Device::Cpu)?)].into(), [vec![by_a], vec![]]))
    }

    fn training(&mut self) -> Result<[Logits; 2]> {
        let (w, n) = (self.values(), self.a.len());
        let mut by_a = vec![0.0; n];
        for i in 0..n {
            let r = w[i] - self.target(i);
            by_a[i] -= r * self.a[(i + 1) % n];
            by_a[(i + 1) % n] -= r * self.a[i];
        }
        Ok([vec![by_a], vec![]])
    }
}

/// The unrolled gradient is the slope of the validation loss after a step of the weights, as a function of the
/// architecture; the first-order gradient is not.
#[test]
fn unrolled_gradients_see_the_step_of_the_weights() {
    let (xi, start) = (0.3, [0.2, -0.7, 1.1]);
    let at = |a: &[f64]| Quadratic {
        w: Var::new(&start, &Device::Cpu).unwrap(),
        a: a.to_vec(),
        velocity: vec![0.1, 0.2, -0.3],
    };
    let loss = |a: &[f64]| {
        let mut q = at(a);
        q.look_ahead(xi).unwrap();
        let w = q.values();
        w.iter().map(|w| 0.5 * (w - 1.0) * (w - 1.0)).sum::<f64>() + w[0] * a[0]
    };
    let a = [0.4, -0.3, 0.9];
    let mut q = at(&a);
    let [ours, _] = unrolled_gradient(&mut q, xi).unwrap();
    assert_eq!(q.values(), start);
    for i in 0..3 {
        let moved = |d: f64| {
            let mut a = a;
            a[i] += d;
            loss(&a)
        };
        let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        assert!((ours[0][i] - slope).abs() < 1e-8, "{i}: {} {slope}", ours[0][i]);
    }
    // Only the first has a direct part.
    assert!(ours[0][1].abs() > 0.01 && ours[0][2].abs() > 0.01);
}

/// Frozen architecture in the warm-up, both moving in edge search.
#[test]
fn phases_move_what_they_should() -> Result<()> {
    let groups = Grouped::v2();
    let mut learner = learner(&groups, 0.9);
    let data = pictures(16, 8);
    let batch = data.batch(&(0..16).collect::<Vec<_>>(), crate::data::Normalise::default(), Augment::NONE, 0)?;
    let setting = Setting { relaxations: [&groups, &groups], lr: 0.025, drop_path: 0.0, seed: 0 };
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

/// Two learners that start equal end equal when both steps come in the order of the method, and only then.
#[test]
fn steps_come_in_the_method_s_order() -> Result<()> {
    let groups = Grouped::v2();
    let data = pictures(32, 8);
    let batch = |from: usize| {
        let indices: Vec<usize> = (from..from + 16).collect();
        data.batch(&indices, crate::data::Normalise::default(), Augment::NONE, 0)
    };
    let (train, valid) = (batch(0)?, batch(16)?);
    let setting = Setting { relaxations: [&groups, &groups], lr: 0.025, drop_path: 0.0, seed: 0 };
    let end = |steps: &dyn Fn(&mut Learner) -> Result<()>| -> Result<_> {
        let mut learner = learner(&groups, 0.9);
        // Architecture parameters that matter.
        for _ in 0..3 {
            learner.architecture(&valid, &setting)?;
        }
        steps(&mut learner)?;
        let weight = learner.net.params.weight("classifier.weight")?.to_vec2::<f32>()?;
        Ok((weight, learner.arch.logits(CellKind::Normal)?))
    };
    let pair = |order: StepOrder| end(&|l| l.pair(order, false, &train, &valid, &setting).map(drop));
    let architecture_first = end(&|l| {
        l.architecture(&valid, &setting)?;
        l.weights(&train, &setting).map(drop)
    })?;
    let weights_first = end(&|l| {
        l.weights(&train, &setting)?;
        l.architecture(&valid, &setting).map(drop)
    })?;
    assert_ne!(architecture_first, weights_first);
    assert_eq!(pair(StepOrder::ArchitectureFirst)?, architecture_first);
    assert_eq!(pair(StepOrder::WeightsFirst)?, weights_first);
    assert_eq!(pair(StepOrder::Together)?, end(&|l| l.together(&train, &setting).map(drop))?);
    Ok(())
}

#[test]
fn weights_are_clipped_by_their_common_norm() {
    let vars = [("a", 2.0), ("b", 3.0)].map(|(n, v)| (n.to_owned(), Var::new(&[v], &Device::Cpu).unwrap(), 1.0));
    let mut sgd = inas_nn::sgd::Sgd::new(
        vars.clone().into(),
        inas_nn::sgd::SgdConfig { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
    );
    let by = [("a", 30.0), ("b", 40.0)].map(|(n, g)| (n.to_owned(), Tensor::new(&[g], &Device::Cpu).unwrap()));
    step::descend(&mut sgd, by.into(), &SearchConfig::default().sgd, 0.1).unwrap();
    let ends = vars.map(|(_, var, _)| var.to_vec1::<f64>().unwrap()[0]);
    assert!((ends[0] - 1.7).abs() < 1e-6 && (ends[1] - 2.6).abs() < 1e-6, "{ends:?}");
}

/// Spec section 8.1: weights learn from the first half and operations from the second one, edges from all pictures; all
/// are changed at random.
#[test]
fn halves_learn_what_the_phases_say() {
    let mut data = pictures(40, 8);
    data.labels = (0..40).map(|i| u32::from(i >= 20)).collect();
    let dir = tempfile::tempdir().unwrap();
    let at = |epoch: usize, augment: Augment| {
        let mut search = Search::new(SearchConfig { augment, ..tiny() }, data.clone(), dir.path()).unwrap();
        search.place.epoch = epoch;
        search
    };
    let changed = |epoch: usize| at(epoch, tiny().augment);
    for epoch in 0..3 {
        assert_eq!(changed(epoch).train_batch().unwrap().labels, [0; 8], "{epoch}");
    }
    assert_eq!(changed(1).valid_batch().unwrap().labels, [1; 8]);
    for epoch in 3..5 {
        let labels = changed(epoch).train_batch().unwrap().labels;
        assert!(labels.contains(&0) && labels.contains(&1), "{epoch} {labels:?}");
    }
    let values = |batch: crate::net::Batch| batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let plain = at(1, Augment::NONE);
    assert_ne!(values(changed(1).train_batch().unwrap()), values(plain.train_batch().unwrap()));
    assert_ne!(values(changed(1).valid_batch().unwrap()), values(plain.valid_batch().unwrap()));
    // The second half is begun again, in another order, when it ends.
    let mut long = changed(1);
    let mut orders = Vec::new();
    for pass in 0..2 {
        let mut seen = Vec::new();
        for step in 0..3 {
            long.place.step = 3 * pass + step;
            seen.push(values(long.valid_batch().unwrap()));
        }
        assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), 20 * 8 * 8 * 3);
        orders.push(seen);
    }
    assert_ne!(orders[0], orders[1]);
}

#[test]
fn the_schedule_has_four_phases() {
    let config = SearchConfig::default();
    assert_eq!(config.epochs(), 70);
    // One cosine over both stages.
    for (epoch, lr) in [(0, 0.025), (29, 0.016_192), (30, 0.015_670), (69, 0.001_012)] {
        assert!((config.lr(epoch) - lr).abs() < 6e-7, "{epoch}");
    }
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
        augment: Augment { flip: true, cutout: 2, ..Augment::NONE },
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
    assert_eq!(std::fs::read(Trainer::network(a.path())).unwrap(), std::fs::read(Trainer::network(b.path())).unwrap());
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
