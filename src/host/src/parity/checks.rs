//! The comparisons.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use inas_graph::{ConvSpec, OnnxOptions, Weights as _};
use inas_nn::optim::{Adam, AdamConfig};
use inas_profiler::backend::{self, RuntimeKind};

use super::{Check, GRADIENT_TOLERANCE, LOSS_TOLERANCE, OUTPUT_TOLERANCE, ParityError, Reference, WEIGHT_TOLERANCE};
use crate::supernet::{Deployed, Params, Sandwich, Statistics, recalibrate};
use crate::train::{HEAD_LR_FACTOR, learning_rate_factor};

type Result<T> = std::result::Result<T, ParityError>;

/// Base learning rate of the reference step.
const REFERENCE_LR: f64 = 2e-4;
/// The order of the sub-networks in the reference step.
const STEP_ORDER: [&str; 4] = ["max", "min", "middle1", "middle2"];
/// Share of a tensor's largest gradient above which Adam's first step is well defined.
const CLEAR_GRADIENT: f64 = 1e-4;
/// Share of the largest gradient of all that rounding may reach.
const ROUNDING: f64 = 1e-6;

/// Share of the largest gradient of all below which a tensor's gradients are rounding noise: a shift in front of a BN
/// has gradient zero.
const GRADIENT_FLOOR: f64 = 1e-5;

/// Keeps the largest difference of a kind.
struct Worst {
    name: &'static str,
    tolerance: f64,
    max: f64,
    tensors: usize,
}

impl Worst {
    fn new(name: &'static str, tolerance: f64) -> Self {
        Self { name, tolerance, max: 0.0, tensors: 0 }
    }

    fn see(&mut self, difference: f64) {
        self.tensors += 1;
        // NaN must not hide behind a comparison.
        if difference.is_nan() || difference > self.max {
            self.max = difference;
        }
    }

    fn compare(&mut self, ours: &[f32], theirs: &[f32], unit: f64) {
        if ours.len() != theirs.len() {
            return self.see(f64::NAN);
        }
        let differences = ours.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs()));
        self.see(
            differences.fold(0f64, |m, d| if d.is_nan() || m.is_nan() { f64::NAN } else { f64::max(m, d) }) / unit,
        );
    }

    fn check(self) -> Check {
        Check { name: self.name.into(), max_difference: self.max, tolerance: self.tolerance, tensors: self.tensors }
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn largest(values: &[f32]) -> f64 {
    f64::from(values.iter().fold(0f32, |m, v| m.max(v.abs())))
}

/// The `.pth` form of the checkpoint holds the same values as the safetensors form.
pub(super) fn checkpoint_forms(r: &Reference, dir: &Path) -> Result<Check> {
    let pth = Params::load(&r.net.space, &dir.join("supernet.pth"), &Device::Cpu)?;
    let mut worst = Worst::new("checkpoint: .pth against safetensors", 0.0);
    for (name, var) in &r.net.params.weights {
        worst.compare(&values(pth.weight(name)?)?, &values(var)?, 1.0);
    }
    for (name, tensor) in &r.net.params.buffers {
        worst.compare(&values(pth.buffer(name)?)?, &values(tensor)?, 1.0);
    }
    Ok(worst.check())
}

/// Training form in eval mode.
pub(super) fn evaluation(r: &Reference) -> Result<Vec<Check>> {
    let image = r.nhwc("image")?;
    let mut worst = Worst::new("eval outputs", OUTPUT_TOLERANCE);
    for (name, arch) in &r.archs {
        let map = r.net.eval(arch, &image)?;
        worst.compare(&values(&map)?, &values(r.tensor(&format!("eval.{name}"))?)?, 1.0);
    }
    Ok(vec![worst.check()])
}

/// Re-parameterised weights, and the exported network run by tract.
pub(super) fn deployed(r: &Reference) -> Result<Vec<Check>> {
    let statistics = Statistics::running(&r.net.params);
    let mut weights = Worst::new("re-parameterised kernels and biases", OUTPUT_TOLERANCE);
    for (name, theirs) in r.tensors.iter().filter(|(name, _)| name.ends_with(".convbn.conv.weight")) {
        let Some((arch, unit)) = name.strip_prefix("reparam.").and_then(|n| n.split_once('.')) else { continue };
        let Some(unit) = unit.strip_suffix(".convbn.conv.weight") else { continue };
        let arch = r.archs.get(arch).ok_or_else(|| ParityError::Folder(format!("unknown architecture in `{name}`")))?;
        let (out_ch, in_ch, kernel, _) = theirs.dims4()?;
        let spec = ConvSpec {
            name: unit.to_owned(),
            out_ch: out_ch as u32,
            in_ch: in_ch as u32,
            kernel: kernel as u32,
            groups: out_ch as u32,
            bias: true,
        };
        let ours = Deployed::new(&r.net, arch, &statistics)?.conv(&spec)?;
        weights.compare(&ours.weight, &values(theirs)?, 1.0);
        let bias = r.tensor(&name.replace(".conv.weight", ".conv.bias"))?;
        weights.compare(&ours.bias.unwrap_or_default(), &values(bias)?, 1.0);
    }
    let mut outputs = Worst::new("stand-alone (exported) outputs", OUTPUT_TOLERANCE);
    let image = r.tensor("image")?;
    let runtime = backend::open(RuntimeKind::Tract, 1, None)?;
    for (name, arch) in &r.archs {
        let mut source = Deployed::new(&r.net, arch, &statistics)?;
        let onnx = inas_graph::network(&r.net.space, arch, r.px, &mut source)?.to_onnx(&OnnxOptions::default())?;
        let mut session = runtime.load(&onnx)?;
        let theirs = r.tensor(&format!("standalone.{name}"))?;
        for n in 0..image.dim(0)? {
            session.set_inputs(&[&values(&image.narrow(0, n, 1)?)?])?;
            session.run()?;
            outputs.compare(&session.output(0)?, &values(&theirs.narrow(0, n, 1)?)?, 1.0);
        }
    }
    Ok(vec![weights.check(), outputs.check()])
}

/// Eval outputs after BN recalibration of one sub-network.
pub(super) fn recalibrated(r: &Reference) -> Result<Check> {
    let mut batches = Vec::new();
    while let Ok(batch) = r.nhwc(&format!("bn.batch{}", batches.len())) {
        batches.push(batch);
    }
    let mut worst = Worst::new("outputs after BN recalibration", OUTPUT_TOLERANCE);
    let image = r.nhwc("image")?;
    for (name, theirs) in &r.tensors {
        let Some(arch) = name.strip_prefix("bn_recalibrated.eval.") else { continue };
        let arch = r.archs.get(arch).ok_or_else(|| ParityError::Folder(format!("unknown architecture in `{name}`")))?;
        let statistics = recalibrate(&r.net, arch, &batches)?;
        worst.compare(&values(&r.net.eval_with(arch, &image, &statistics)?)?, &values(theirs)?, 1.0);
    }
    Ok(worst.check())
}

/// One sandwich step: maps, losses, gradients, running statistics, weights after Adam.
pub(super) fn training_step(r: &Reference) -> Result<Vec<Check>> {
    // A fresh copy: the step moves the running statistics and the weights.
    let mut net = r.net.clone();
    net.params = net.params.deep_copy()?;
    let archs = STEP_ORDER.map(|name| r.archs.get(name).cloned());
    let archs: Option<Vec<_>> = archs.into_iter().collect();
    let archs = archs.ok_or_else(|| ParityError::Folder(format!("archs.json needs {STEP_ORDER:?}")))?;
    let step = net.sandwich(&r.nhwc("image")?, &r.nhwc("label")?, &Sandwich::of(archs), true)?;

    let mut maps = Worst::new("training-mode outputs, all levels", OUTPUT_TOLERANCE);
    for (name, levels) in STEP_ORDER.iter().zip(&step.maps) {
        for (i, map) in levels.iter().enumerate() {
            maps.compare(&values(map)?, &values(r.tensor(&format!("train.{name}.level_{i}"))?)?, 1.0);
        }
    }
    let mut losses = Worst::new("losses (relative)", LOSS_TOLERANCE);
    for (ours, theirs) in step.losses.iter().zip(values(r.tensor("losses")?)?) {
        losses.see(f64::from((ours - theirs).abs() / theirs.abs()));
    }
    let mut grads = Worst::new("gradients (relative to each tensor's largest)", GRADIENT_TOLERANCE);
    let mut scale = 0f64;
    for theirs in r.grads.values() {
        scale = scale.max(largest(&values(theirs)?));
    }
    let floor = scale * GRADIENT_FLOOR;
    for (name, theirs) in &r.grads {
        let theirs = values(theirs)?;
        let ours = step.grads.get(name).map(values).transpose()?.unwrap_or_default();
        grads.compare(&ours, &theirs, largest(&theirs).max(floor));
    }
    for (name, ours) in step.grads.iter().filter(|(name, _)| !r.grads.contains_key(*name)) {
        // The reference lists no gradient: ours must be zero.
        if largest(&values(ours)?) > 0.0 {
            return Err(ParityError::Folder(format!("grads.safetensors has no `{name}`, which has a gradient here")));
        }
    }

    let named = net.params.weights.iter();
    let params = named.map(|(name, var)| (name.clone(), var.clone(), learning_rate_factor(name, HEAD_LR_FACTOR)));
    let config = AdamConfig { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0 };
    Adam::new(params.collect(), config).step(&step.grads, REFERENCE_LR)?;
    let mut running =
        Worst::new("running statistics after the step (relative to each tensor's largest)", OUTPUT_TOLERANCE);
    let mut weights = Worst::new("weights after the step, where the gradient is clear", WEIGHT_TOLERANCE);
    for (name, theirs) in &r.after_step {
        let theirs = values(theirs)?;
        if let Ok(ours) = net.params.buffer(name) {
            running.compare(&values(ours)?, &theirs, largest(&theirs).max(1.0));
        } else if let Some(grad) = r.grads.get(name) {
            let (ours, grad) = (values(net.params.weight(name)?)?, values(grad)?);
            let clear = (CLEAR_GRADIENT * largest(&grad)).max(ROUNDING * scale) as f32;
            let kept: Vec<usize> = (0..grad.len()).filter(|i| grad[*i].abs() > clear).collect();
            let pick = |v: &[f32]| kept.iter().map(|i| v[*i]).collect::<Vec<f32>>();
            weights.compare(&pick(&ours), &pick(&theirs), 1.0);
        } else {
            weights.compare(&values(net.params.weight(name)?)?, &theirs, 1.0);
        }
    }
    Ok(vec![maps.check(), losses.check(), grads.check(), running.check(), weights.check()])
}
