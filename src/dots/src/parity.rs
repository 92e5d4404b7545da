//! Comparing supernet and derived network with a folder of reference tensors, in the layout of `tests/golden/dots`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use inas_nn::tape::Wanted;
use serde::Serialize;

use crate::net::{Batch, Form, Layout, Network, Size, Step, Supernet};
use crate::relax::{Factors, Grouped, Logits, Relaxation, Topology};
use crate::{CellGenotype, CellKind, EDGES, EdgeRule, Error, Genotype, OPS, Op, Result, derive};

/// Allowed difference of logits, absolute.
pub const OUTPUT_TOLERANCE: f64 = 1e-4;
/// Allowed difference of losses, relative.
pub const LOSS_TOLERANCE: f64 = 1e-5;
/// Allowed difference of a gradient, relative to its tensor's largest magnitude.
pub const GRADIENT_TOLERANCE: f64 = 1e-3;
/// Share of the largest gradient of all below which a tensor's gradients are rounding noise.
const GRADIENT_FLOOR: f64 = 1e-5;
/// Temperatures of the topology phase in the folder; that of the operations is a thousandth.
const TEMPERATURES: [&str; 3] = ["10", "1", "0.05"];

/// One comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was compared.
    pub name: String,
    /// Largest difference, in the unit of the tolerance.
    pub max_difference: f64,
    /// Allowed difference.
    pub tolerance: f64,
    /// Tensors compared.
    pub tensors: usize,
}

impl Check {
    fn new(name: impl Into<String>, tolerance: f64) -> Self {
        Self { name: name.into(), max_difference: 0.0, tolerance, tensors: 0 }
    }

    /// Whether the difference is allowed; NaN is not.
    pub fn passed(&self) -> bool {
        self.max_difference <= self.tolerance
    }

    fn see(&mut self, ours: &[f64], theirs: &[f64], unit: f64) {
        self.tensors += 1;
        let worst = |m: f64, (a, b): (&f64, &f64)| {
            let d = (a - b).abs() / unit;
            // NaN must not hide behind a comparison.
            if d.is_nan() || d > m { d } else { m }
        };
        let start = if ours.len() == theirs.len() { self.max_difference } else { f64::NAN };
        self.max_difference = ours.iter().zip(theirs).fold(start, worst);
    }
}

struct Reference {
    meta: serde_json::Value,
    tensors: HashMap<String, Tensor>,
    weights: HashMap<String, Tensor>,
    gradients: HashMap<String, Tensor>,
    evaluation: HashMap<String, Tensor>,
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

fn nhwc(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.permute((0, 2, 3, 1))?.contiguous()?)
}

impl Reference {
    fn read(dir: &Path) -> Result<Self> {
        let file = |path: &Path, reason: String| Error::File { path: path.to_owned(), reason };
        let path = dir.join("meta.json");
        let text = std::fs::read_to_string(&path).map_err(|e| file(&path, e.to_string()))?;
        let load = |name: &str| {
            let path = dir.join(name);
            candle_core::safetensors::load(&path, &Device::Cpu).map_err(|e| file(&path, crate::error::first_line(&e)))
        };
        Ok(Self {
            meta: serde_json::from_str(&text).map_err(|e| file(&path, e.to_string()))?,
            tensors: load("tensors.safetensors")?,
            weights: load("weights.safetensors")?,
            gradients: load("op_weight_grads.safetensors")?,
            evaluation: load("evaluation_net.safetensors")?,
        })
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::NoTensor { name: name.to_owned() })
    }

    fn list(&self, name: &str) -> Result<Vec<f64>> {
        values(self.tensor(name)?)
    }

    fn number(&self, name: &str) -> Result<usize> {
        let n = self.meta[name].as_u64();
        n.map(|n| n as usize).ok_or_else(|| Error::Config(format!("meta.json has no number `{name}`")))
    }

    fn size(&self, channels: &str) -> Result<Size> {
        Ok(Size {
            form: Form::Cifar,
            channels: self.number(channels)?,
            cells: self.number("layers")?,
            classes: self.number("classes")?,
        })
    }

    fn genotype(&self, name: &str) -> Result<Genotype> {
        let mut value = self.meta[name].clone();
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| !key.ends_with("_concat"));
        }
        Genotype::from_json(&value.to_string())
    }

    fn batch(&self) -> Result<Batch> {
        let labels = self.tensor("y")?.to_dtype(DType::U32)?.to_vec1()?;
        Ok(Batch { images: nhwc(self.tensor("x")?)?, labels })
    }

    fn both(&self, name: impl Fn(CellKind) -> Vec<String>) -> Result<[Logits; 2]> {
        let of = |kind| name(kind).iter().map(|n| self.list(n)).collect::<Result<Logits>>();
        Ok([of(CellKind::Normal)?, of(CellKind::Reduce)?])
    }
}

/// Compares everything that the folder holds.
///
/// # Errors
/// When the folder does not hold what is needed.
pub fn compare(dir: &Path) -> Result<Vec<Check>> {
    let reference = Reference::read(dir)?;
    let mut checks = operation_phase(&reference)?;
    checks.extend(topology_phase(&reference)?);
    checks.push(evaluation(&reference)?);
    Ok(checks)
}

fn run(
    net: &Supernet,
    batch: &Batch,
    relaxations: [&dyn Relaxation; 2],
    logits: &[Logits; 2],
) -> Result<(Step, [Logits; 2])> {
    let mut rng = rand::SeedableRng::seed_from_u64(0);
    let [normal, reduce] = [0, 1].map(|i| relaxations[i].relax(&logits[i], &mut rng));
    let factors: [Factors; 2] = [normal.factors.clone(), reduce.factors.clone()];
    let step = net.step(batch, &factors, Wanted::All)?;
    let gradients = [normal.backward(&step.factors[0]), reduce.backward(&step.factors[1])];
    Ok((step, gradients))
}

fn outputs(r: &Reference, phase: &str, step: &Step) -> Result<[Check; 2]> {
    let mut logits = Check::new(format!("{phase}: logits"), OUTPUT_TOLERANCE);
    logits.see(&values(&step.logits)?, &r.list(&format!("{phase}.logits"))?, 1.0);
    let mut loss = Check::new(format!("{phase}: loss"), LOSS_TOLERANCE);
    let theirs = r.list(&format!("{phase}.loss"))?;
    loss.see(&[step.loss], &theirs, largest(&theirs));
    Ok([logits, loss])
}

fn architecture_gradients(name: String, ours: &[Logits; 2], theirs: &[Logits; 2]) -> Check {
    let mut check = Check::new(name, GRADIENT_TOLERANCE);
    let all = theirs.iter().flatten().map(|l| largest(l)).fold(0.0, f64::max);
    for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
        check.see(ours, theirs, largest(theirs).max(all * GRADIENT_FLOOR));
    }
    check
}

fn genotype_check(name: &str, ours: &Genotype, theirs: &Genotype) -> Check {
    let mut check = Check::new(name, 0.0);
    let differing = |a: &CellGenotype, b: &CellGenotype| f64::from(a != b);
    for kind in CellKind::ALL {
        check.see(&[differing(ours.cell(kind), theirs.cell(kind))], &[0.0], 1.0);
    }
    check
}

fn operation_phase(r: &Reference) -> Result<Vec<Check>> {
    let all = vec![OPS.to_vec(); EDGES];
    let mut net = Supernet::new(r.size("C")?, [all.clone(), all], Layout::default(), 0)?;
    net.params.load(&r.weights)?;
    let groups = Grouped::v2();
    let logits = r.both(|kind| [1, 2].map(|g| format!("op.alpha_{kind}_g{g}")).to_vec())?;
    let (step, ours) = run(&net, &r.batch()?, [&groups, &groups], &logits)?;
    let mut checks = outputs(r, "op", &step)?.to_vec();
    let theirs = r.both(|kind| [1, 2].map(|g| format!("op.grad.alpha_{kind}_g{g}")).to_vec())?;
    checks.push(architecture_gradients("op: gradients of alpha".into(), &ours, &theirs));
    let theirs: BTreeMap<&String, Vec<f64>> =
        r.gradients.iter().map(|(n, t)| Ok((n, values(t)?))).collect::<Result<_>>()?;
    let top = theirs.values().map(|v| largest(v)).fold(0.0, f64::max);
    let mut check = Check::new("op: gradients of weights", GRADIENT_TOLERANCE);
    for (name, theirs) in theirs {
        let ours = step.gradients.get(name).ok_or_else(|| Error::NoTensor { name: name.clone() })?;
        check.see(&values(ours)?, &theirs, largest(&theirs).max(top * GRADIENT_FLOOR));
    }
    checks.push(check);
    let [normal, reduce] = [0, 1].map(|i| derive::darts(&groups.scores(&logits[i])));
    let theirs = r.genotype("genotype_op_phase")?;
    checks.push(genotype_check("op: genotype by DARTS's rule", &Genotype { normal, reduce }, &theirs));
    Ok(checks)
}

fn topology_phase(r: &Reference) -> Result<Vec<Check>> {
    let alpha = r.both(|kind| [1, 2].map(|g| format!("op.alpha_{kind}_g{g}")).to_vec())?;
    let mut masks = Check::new("topology: retained operations", 0.0);
    let mut retained = Vec::new();
    for kind in CellKind::ALL {
        let mask = r.list(&format!("tp.mask_{kind}"))?;
        let kept: Vec<Vec<Op>> = mask
            .chunks_exact(8)
            .map(|row| OPS.iter().zip(row).filter(|(_, m)| **m > 0.5).map(|(op, _)| *op).collect())
            .collect();
        let groups = Grouped::v2();
        let ours = derive::retain_groups(&groups.scores(&alpha[kind as usize]), groups.groups());
        let mut flat = vec![0.0; EDGES * 8];
        ours.iter().enumerate().for_each(|(e, ops)| ops.iter().for_each(|op| flat[e * 8 + op.column()] = 1.0));
        masks.see(&flat, &mask, 1.0);
        retained.push(kept);
    }
    let mut net = Supernet::new(r.size("C")?, [retained[0].clone(), retained[1].clone()], Layout::default(), 0)?;
    net.params.load(&r.weights)?;
    let logits = r.both(|kind| vec![format!("tp.balance_{kind}"), format!("tp.beta_{kind}")])?;
    let mut checks = vec![masks];
    let at = |kind: usize, t: f64| Topology {
        retained: retained[kind].clone(),
        rule: EdgeRule::Two,
        share: false,
        temperature: t,
        op_temperature: t * 1e-3,
    };
    for name in TEMPERATURES {
        let t: f64 = name.parse().map_err(|_| Error::Config(format!("temperature {name}")))?;
        let (step, ours) = run(&net, &r.batch()?, [&at(0, t), &at(1, t)], &logits)?;
        let phase = format!("tp.T{name}");
        checks.extend(outputs(r, &phase, &step)?);
        let names = |kind| ["balance", "beta"].map(|what| format!("{phase}.grad.{what}_{kind}")).to_vec();
        let what = format!("{phase}: gradients of balance and beta");
        checks.push(architecture_gradients(what, &ours, &r.both(names)?));
    }
    let (normal, reduce) = (at(0, 1.0).derive(&logits[0])?, at(1, 1.0).derive(&logits[1])?);
    let theirs = r.genotype("genotype_topology")?;
    checks.push(genotype_check("topology: genotype", &Genotype { normal, reduce }, &theirs));
    Ok(checks)
}

fn evaluation(r: &Reference) -> Result<Check> {
    let given = |name: &str| r.evaluation.get(name).ok_or_else(|| Error::NoTensor { name: name.to_owned() });
    let weights: HashMap<String, Tensor> =
        r.evaluation.iter().filter_map(|(n, t)| Some((n.strip_prefix("w.")?.to_owned(), t.clone()))).collect();
    let mut net = Network::new(r.size("evaluation_C")?, r.genotype("genotype_topology")?, false, 0)?;
    net.params.load(&weights)?;
    let mut check = Check::new("evaluation network: logits", OUTPUT_TOLERANCE);
    check.see(&values(&net.logits(&nhwc(given("x")?)?)?)?, &values(given("logits")?)?, 1.0);
    Ok(check)
}
