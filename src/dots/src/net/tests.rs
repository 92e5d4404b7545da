#![expect(clippy::float_cmp, reason = "exact by construction")]

use candle_core::{DType, Device, Tensor, Var};
use inas_nn::gradcheck::uniform;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::data::order;
use crate::relax::{Grouped, PartialChannels, Relaxation, Topology};
use crate::{CellGenotype, EDGES, EdgeRule, OPS, edges};

fn batch(n: usize, px: usize, dtype: DType) -> Batch {
    let images = uniform(&[n, px, px, 3], -1.0, 1.0, 5).unwrap().as_tensor().to_dtype(dtype).unwrap();
    Batch { images, labels: (0..n as u32).map(|i| i % 3).collect() }
}

fn size(channels: usize) -> Size {
    Size { form: Form::Cifar, channels, cells: 3, classes: 3 }
}

fn factors(relaxation: &dyn Relaxation, seed: u64) -> [Factors; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    [0, 1].map(|_| {
        let logits =
            relaxation.shapes().iter().map(|(_, n)| (0..*n).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        relaxation.relax(&logits, &mut rng).factors
    })
}

fn loss_of(net: &Supernet, params: &Params, batch: &Batch, factors: &[Factors; 2]) -> f64 {
    step::<f64>(&net.plan, params, batch, Some(factors), Wanted::All, Regularisation::NONE).unwrap().loss
}

/// Gradients of a whole supernet, of weights and of factors, along random directions in double precision.
#[test]
fn supernets_differentiate() {
    for (relaxation, layout, channels) in [
        (Box::new(Grouped::v2()) as Box<dyn Relaxation>, Layout::default(), 4),
        (Box::new(PartialChannels), Layout { parts: 4, last_act: false, ..Layout::default() }, 8),
        (Box::new(Grouped::darts()), Layout { pool_norm: false, ..Layout::default() }, 2),
    ] {
        let ops = relaxation.operations();
        let net = Supernet::new(size(channels), [ops.clone(), ops], layout, 1).unwrap();
        let params = net.params.to_f64().unwrap();
        let (batch, factors) = (batch(3, 8, DType::F64), factors(&*relaxation, 2));
        let all = step::<f64>(&net.plan, &params, &batch, Some(&factors), Wanted::All, Regularisation::NONE).unwrap();
        // So small that hardly a kink lies in between.
        let h = 1e-8;
        let (mut slope, mut moved) = (0.0, [params.deep_copy().unwrap(), params.deep_copy().unwrap()]);
        for (i, (name, g)) in all.gradients.iter().enumerate() {
            let direction = uniform(g.dims(), -1.0, 1.0, i as u64).unwrap();
            slope += (g * direction.as_tensor()).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            for (params, sign) in moved.iter_mut().zip([h, -h]) {
                let var: &Var = &params.weights[name];
                var.set(&(var.as_tensor() + (direction.as_tensor() * sign).unwrap()).unwrap()).unwrap();
            }
        }
        assert_eq!(all.gradients.len(), params.weights.len());
        let ends = [0, 1].map(|i| loss_of(&net, &moved[i], &batch, &factors));
        let numeric = (ends[0] - ends[1]) / (2.0 * h);
        assert!((slope - numeric).abs() < 1e-5 * numeric.abs().max(1.0), "weights: {slope} {numeric}");
        let (mut slope, mut ends) = (0.0, [factors.clone(), factors]);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for (kind, by) in all.factors.iter().enumerate() {
            for e in 0..EDGES {
                let mut direction = || rng.random_range(-1.0..1.0);
                for op in &relaxation.operations()[e] {
                    let d: f64 = direction();
                    slope += by.ops[e][op.column()] * d;
                    ends[0][kind].ops[e][op.column()] += h * d;
                    ends[1][kind].ops[e][op.column()] -= h * d;
                }
                let d: f64 = direction();
                slope += by.edges[e] * d;
                ends[0][kind].edges[e] += h * d;
                ends[1][kind].edges[e] -= h * d;
            }
        }
        let ends = ends.map(|f| loss_of(&net, &params, &batch, &f));
        let numeric = (ends[0] - ends[1]) / (2.0 * h);
        assert!((slope - numeric).abs() < 1e-5 * numeric.abs().max(1.0), "factors: {slope} {numeric}");
    }
}

/// A hardened topology supernet computes what the network of its genotype computes (spec section 18), where they share
/// weights: pools are normed in one of them only, so the cell has none.
#[test]
fn hardened_supernets_are_derived_networks() {
    let retained = vec![vec![Op::Skip, Op::Sep3]; EDGES];
    let t = Topology {
        retained: retained.clone(),
        rule: EdgeRule::Two,
        share: false,
        temperature: 1e-3,
        op_temperature: 1e-3,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    // Distinct values.
    let logits = t.shapes().iter().map(|(_, n)| order(*n, 3).into_iter().map(|v| v as f64).collect()).collect();
    let hard = t.relax(&logits, &mut rng).factors;
    assert!(hard.ops.iter().flatten().all(|v| *v == 0.0 || (*v - 1.0).abs() < 1e-12));
    let layout = Layout { last_act: false, ..Layout::default() };
    let supernet = Supernet::new(size(4), [retained.clone(), retained], layout, 1).unwrap();
    let cell = t.derive(&logits).unwrap();
    let genotype = Genotype { normal: cell.clone(), reduce: cell.clone() };
    let mut network = Network::new(size(4), genotype, false, 2).unwrap();
    let mut tensors = network.params.tensors();
    for (name, tensor) in supernet.params.tensors() {
        let mut parts = name.split("._ops.");
        let own = match (parts.next(), parts.next(), parts.next()) {
            (Some(cell_name), Some(edge), Some(op)) => {
                let edge: usize = edge.parse().unwrap();
                let (column, rest) = op.split_once('.').unwrap();
                let node = (0..4).find(|n| edges(*n).contains(&edge)).unwrap();
                let wanted = (OPS[column.parse::<usize>().unwrap()], edge - edges(node).start);
                let Some(at) = cell.0[node].iter().position(|p| *p == wanted) else { continue };
                format!("{cell_name}._ops.{}.{rest}", 2 * node + at)
            }
            _ => name,
        };
        tensors.insert(own, tensor);
    }
    network.params.load(&tensors).unwrap();
    let batch = batch(3, 8, DType::F32);
    let theirs = supernet.step(&batch, &[hard.clone(), hard], Wanted::Parameters).unwrap();
    let ours = network.step(&batch, Regularisation::NONE).unwrap();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&theirs.logits), values(&ours.logits));
}

#[test]
fn dropping_nothing_or_everything() {
    let network = Network::new(size(4), Genotype::published("dots-c10").unwrap(), false, 1).unwrap();
    let batch = batch(4, 16, DType::F32);
    let at = |p: f64, seed: u64| network.step(&batch, Regularisation { drop_path: p, smoothing: 0.0, seed }).unwrap();
    let loss = at(0.0, 1).loss;
    assert_eq!(loss, at(0.0, 2).loss);
    assert_eq!(at(0.5, 1).loss, at(0.5, 1).loss);
    assert_ne!(at(0.5, 1).loss, at(0.5, 2).loss);
}

/// Spec section 4.3: skips of stride two are dropped and identities are not, each operation and image by itself.
#[test]
fn what_is_dropped() {
    let identities = || (0..4).map(|_| vec![(Op::Skip, 0), (Op::Skip, 1)]).collect::<Vec<_>>();
    let reduce = (0..4).map(|node| if node == 0 { vec![(Op::Skip, 0), (Op::Skip, 1)] } else { vec![(Op::Skip, 2)] });
    let genotype = Genotype { normal: CellGenotype(identities()), reduce: CellGenotype(reduce.collect()) };
    let network = Network::new(size(4), genotype, false, 1).unwrap();
    let outcomes = |n: usize| {
        let batch = batch(n, 8, DType::F32);
        let losses = (0..250u64).map(|seed| {
            let step = network.step(&batch, Regularisation { drop_path: 0.5, smoothing: 0.0, seed }).unwrap();
            step.loss.to_bits()
        });
        losses.collect::<std::collections::BTreeSet<_>>().len()
    };
    // The last cell adds its two skips, of the first cell and of the one between: there or not, and nothing, either or
    // both of the skips of that one.
    assert_eq!(outcomes(1), 8);
    assert!(outcomes(2) > 8, "images are dropped together");
}

#[test]
fn auxiliary_loss_has_gradients() {
    let size = Size { cells: 5, ..size(4) };
    let network = Network::new(size, Genotype::published("dots-c10").unwrap(), true, 1).unwrap();
    let step = network.step(&batch(4, 32, DType::F32), Regularisation::NONE).unwrap();
    assert!(step.gradients.contains_key("auxiliary_head.classifier.weight"));
    assert!(network.logits(&batch(2, 32, DType::F32).images).is_ok());
}

#[test]
fn every_edge_may_choose_nothing() {
    let ops = Grouped::darts().operations();
    let net = Supernet::new(size(4), [ops.clone(), ops], Layout::default(), 1).unwrap();
    let mut none = Factors::default();
    none.ops.iter_mut().for_each(|row| row[0] = 1.0);
    let step = net.step(&batch(2, 8, DType::F32), &[none.clone(), none], Wanted::All).unwrap();
    assert!(step.loss.is_finite());
}

#[test]
fn impossible_networks_are_refused() {
    let genotype = Genotype::published("dots-c10").unwrap();
    for bad in [Size { cells: 2, ..size(4) }, Size { channels: 3, ..size(4) }, Size { classes: 0, ..size(4) }] {
        assert!(Network::new(bad, genotype.clone(), false, 0).is_err());
    }
    // 33 positions cannot be halved.
    let error = Network::cost_of(size(4), &genotype, 33).unwrap_err().to_string();
    assert!(error.contains("even"), "{error}");
    let parts = Layout { parts: 4, ..Layout::default() };
    let ops = || vec![OPS.to_vec(); EDGES];
    assert!(Supernet::new(size(4), [ops(), ops()], parts, 0).is_err());
}

#[test]
fn cells_of_any_number_of_edges() {
    let mut genotype = Genotype::published("dots-c10").unwrap();
    genotype.normal.0[3] = (0..5).map(|s| (Op::Sep3, s)).collect();
    genotype.reduce.0[1] = vec![(Op::Skip, 0)];
    let network = Network::new(size(4), genotype, false, 1).unwrap();
    assert!(network.step(&batch(2, 8, DType::F32), Regularisation::NONE).unwrap().loss.is_finite());
    let device = &Device::Cpu;
    let gray = Tensor::zeros((1, 8, 8, 1), DType::F32, device).unwrap();
    assert!(network.logits(&gray).is_err());
}
