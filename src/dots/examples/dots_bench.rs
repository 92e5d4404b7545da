//! Search steps for `scripts/bench/dots.py`: answers requests on standard input, one a line.
//!
//! usage: dots_bench prepare DIR CHANNELS CELLS BATCH PX, then dots_bench serve DIR
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark")]

use std::collections::HashMap;
use std::io::BufRead as _;
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use inas_dots::net::{Batch, Form, Layout, Size, Supernet};
use inas_dots::relax::{Factors, Grouped, Logits, Relaxation, Topology};
use inas_dots::{EDGES, EdgeRule, OPS, Op};
use inas_nn::optim::{Adam, AdamConfig};
use inas_nn::sgd::{Sgd, SgdConfig, clip_grad_norm};
use inas_nn::tape::Wanted;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const LR: f64 = 0.025;

fn status(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Seconds of processor time of the whole process.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn size(numbers: &[usize]) -> Size {
    Size { form: Form::Cifar, channels: numbers[0], cells: numbers[1], classes: 10 }
}

fn prepare(dir: &Path, numbers: &[usize]) {
    let all = || vec![OPS.to_vec(); EDGES];
    let net = Supernet::new(size(numbers), [all(), all()], Layout::default(), 1).unwrap();
    let mut tensors = net.params.tensors();
    let (batch, px) = (numbers[2], numbers[3]);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for which in ["train", "valid"] {
        let pixels: Vec<f32> = (0..batch * px * px * 3).map(|_| rng.random_range(-2.0..2.0)).collect();
        let x = Tensor::from_vec(pixels, (batch, px, px, 3), &Device::Cpu).unwrap();
        tensors.insert(format!("{which}.x"), x);
        let labels: Vec<u32> = (0..batch).map(|_| rng.random_range(0..10)).collect();
        tensors.insert(format!("{which}.y"), Tensor::new(labels, &Device::Cpu).unwrap());
    }
    let shape = numbers.iter().map(|n| *n as u32).collect::<Vec<_>>();
    tensors.insert("shape".into(), Tensor::new(shape, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, dir.join("case.safetensors")).unwrap();
}

fn batch(tensors: &HashMap<String, Tensor>, which: &str) -> Batch {
    let labels = tensors[&format!("{which}.y")].to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    Batch { images: tensors[&format!("{which}.x")].clone(), labels }
}

/// Mask of the benchmark's topology supernet: skip or zero, and a convolution that varies with the edge.
fn retained() -> Vec<Vec<Op>> {
    (0..EDGES).map(|e| vec![if e == 13 { Op::Zero } else { Op::Skip }, OPS[4 + e % 4]]).collect()
}

struct Case {
    net: Supernet,
    relaxation: Box<dyn Relaxation>,
    logits: [Logits; 2],
    sgd: Sgd,
    train: Batch,
    valid: Batch,
}

impl Case {
    fn open(tensors: &HashMap<String, Tensor>, topology: bool) -> Self {
        let numbers: Vec<usize> = tensors["shape"].to_vec1::<u32>().unwrap().into_iter().map(|n| n as usize).collect();
        let relaxation: Box<dyn Relaxation> = if topology {
            let rule = EdgeRule::Two;
            Box::new(Topology { retained: retained(), rule, share: false, temperature: 10.0, op_temperature: 0.01 })
        } else {
            Box::new(Grouped::v2())
        };
        let ops = relaxation.operations();
        let mut net = Supernet::new(size(&numbers), [ops.clone(), ops], Layout::default(), 1).unwrap();
        net.params.load(tensors).unwrap();
        let params = net.params.trainable().map(|(n, v)| (n.to_owned(), v.clone(), 1.0)).collect();
        let sgd = Sgd::new(params, SgdConfig { momentum: 0.9, nesterov: false, weight_decay: 3e-4 });
        let zeros = || relaxation.shapes().iter().map(|(_, n)| vec![0.0; *n]).collect::<Logits>();
        let logits = [zeros(), zeros()];
        Self { net, relaxation, logits, sgd, train: batch(tensors, "train"), valid: batch(tensors, "valid") }
    }

    fn pass(&mut self, on_train: bool, wanted: Wanted) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let relaxed = [0, 1].map(|i| self.relaxation.relax(&self.logits[i], &mut rng));
        let factors: [Factors; 2] = [relaxed[0].factors.clone(), relaxed[1].factors.clone()];
        let batch = if on_train { &self.train } else { &self.valid };
        let mut step = self.net.step(batch, &factors, wanted).unwrap();
        self.net.params.observe(&step.seen).unwrap();
        if wanted != Wanted::Factors {
            clip_grad_norm(&mut step.gradients, 5.0).unwrap();
            self.sgd.step(&step.gradients, LR).unwrap();
        }
        if wanted != Wanted::Parameters {
            let by = [0, 1].map(|i| relaxed[i].backward(&step.factors[i]));
            for (logits, by) in self.logits.iter_mut().zip(by) {
                for (list, by) in logits.iter_mut().zip(by) {
                    adam(list, &by);
                }
            }
        }
        step.loss
    }
}

/// The first step of Adam, each time: what its few hundred values cost does not show.
fn adam(values: &mut Vec<f64>, by: &[f64]) {
    let var = candle_core::Var::new(values.as_slice(), &Device::Cpu).unwrap();
    let config = AdamConfig { beta1: 0.5, beta2: 0.999, eps: 1e-8, weight_decay: 1e-3 };
    let mut adam = Adam::new(vec![("a".into(), var.clone(), 1.0)], config);
    adam.step(&[("a".to_owned(), Tensor::new(by, &Device::Cpu).unwrap())].into(), 3e-4).unwrap();
    *values = var.to_vec1().unwrap();
}

fn serve(dir: &Path) {
    let tensors = candle_core::safetensors::load(dir.join("case.safetensors"), &Device::Cpu).unwrap();
    println!(r#"{{"loaded_mb": {}}}"#, status("VmRSS"));
    let mut case: Option<(String, Case)> = None;
    for line in std::io::stdin().lock().lines() {
        let what = line.unwrap();
        if case.as_ref().is_none_or(|(name, _)| *name != what) {
            case = Some((what.clone(), Case::open(&tensors, what == "topology")));
        }
        let (_, case) = case.as_mut().unwrap();
        let (start, used) = (Instant::now(), processor());
        let values = if what == "topology" {
            vec![case.pass(true, Wanted::All)]
        } else {
            vec![case.pass(false, Wanted::Factors), case.pass(true, Wanted::Parameters)]
        };
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), processor() - used);
        println!(r#"{{"seconds": {seconds}, "cpu": {cpu}, "values": {values:?}}}"#);
    }
    println!(r#"{{"peak_mb": {}}}"#, status("VmHWM"));
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = Path::new(&args[2]);
    if args[1] == "prepare" {
        prepare(dir, &args[3..].iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>());
    } else {
        serve(dir);
    }
}
