//! One side of `scripts/bench/supernet.py`: sandwich steps and evaluations on request.
//!
//! `prepare DIR SPACE PX BATCH` writes weights, a batch and architectures that both sides read. `serve DIR` then answers
//! each line of standard input, `step` or `eval`, with one line of JSON, and tells its peak memory at the end.
#![expect(clippy::print_stdout, reason = "standard output is the protocol")]

use std::collections::HashMap;
use std::io::BufRead as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use candle_core::{Device, Tensor};
use inas_host::supernet::{Sandwich, Supernet, recalibrate};
use inas_nn::optim::{Adam, AdamConfig};
use inas_space::{Architecture, Space};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Images at once while evaluating, and batches of them: 100 to recalibrate, 200 to validate.
const EVAL: (usize, usize, usize) = (10, 10, 20);
const LR: f64 = 1e-4;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["prepare", dir, space, px, batch] => prepare(Path::new(dir), space, px.parse()?, batch.parse()?),
        ["serve", dir] => rayon::scope(|_| serve(Path::new(dir))),
        _ => bail!("usage: supernet_bench prepare DIR SPACE PX BATCH | serve DIR"),
    }
}

fn prepare(dir: &Path, space: &str, px: usize, batch: usize) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let space = Space::load(space)?;
    let net = Supernet::new(space.clone(), 1, &Device::Cpu)?;
    let weights = dir.join("weights.safetensors");
    net.params.save(&weights)?;
    // Fresh layers are shortcuts; open them, so that every gradient counts in the comparison.
    let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu)?;
    for (name, tensor) in &mut tensors {
        if name.ends_with("point_linear.bn.bn.weight") {
            *tensor = (tensor.ones_like()? * 0.5)?;
        }
    }
    candle_core::safetensors::save(&tensors, &weights)?;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let archs = Sandwich::draw(&space, true, 2, &mut rng).archs;
    let mut image = |n: usize| -> Result<Tensor> {
        let values: Vec<f32> = (0..n * px * px * 3).map(|_| rng.random_range(-2.0..2.0)).collect();
        Ok(Tensor::from_vec(values, (n, px, px, 3), &Device::Cpu)?)
    };
    let label = image(batch)?.narrow(3, 0, 1)?.ge(0.5)?.to_dtype(candle_core::DType::F32)?;
    let data = HashMap::from([("image", image(batch)?), ("label", label), ("eval", image(EVAL.0)?)]);
    candle_core::safetensors::save(&data, dir.join("batch.safetensors"))?;
    std::fs::write(dir.join("space.toml"), space.to_toml()?)?;
    std::fs::write(dir.join("archs.json"), serde_json::to_string(&archs)?)?;
    Ok(())
}

fn serve(dir: &Path) -> Result<()> {
    let space = Space::from_toml(&std::fs::read_to_string(dir.join("space.toml"))?)?;
    let archs: Vec<Architecture> = serde_json::from_str(&std::fs::read_to_string(dir.join("archs.json"))?)?;
    let mut net = Supernet::load(space, &dir.join("weights.safetensors"), &Device::Cpu)?;
    let data = candle_core::safetensors::load(dir.join("batch.safetensors"), &Device::Cpu)?;
    let get = |name: &str| data.get(name).with_context(|| format!("batch.safetensors has no `{name}`"));
    let (image, label, eval) = (get("image")?, get("label")?, get("eval")?);
    let params = net.params.trainable().map(|(name, var)| (name.to_owned(), var.clone(), 1.0)).collect();
    let mut adam = Adam::new(params, AdamConfig { beta2: 0.99, ..AdamConfig::default() });
    let sandwich = Sandwich::of(archs);
    println!("{}", json!({ "loaded_mb": status_mb("VmRSS")? }));
    for line in std::io::stdin().lock().lines() {
        let (start, cpu) = (Instant::now(), cpu_seconds()?);
        let values = match line?.as_str() {
            "step" => {
                let step = net.sandwich(image, label, &sandwich, false)?;
                adam.step(&step.grads, LR)?;
                step.losses
            }
            "eval" => {
                // The last random one.
                let arch = &sandwich.archs[sandwich.archs.len() - 1];
                let statistics = recalibrate(&net, arch, &vec![eval.clone(); EVAL.1])?;
                let mut mean = 0.0;
                for _ in 0..EVAL.2 {
                    mean += net.eval_with(arch, eval, &statistics)?.mean_all()?.to_scalar::<f32>()? / EVAL.2 as f32;
                }
                vec![mean]
            }
            other => bail!("unknown request `{other}`"),
        };
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", json!({ "seconds": seconds, "cpu": cpu_seconds()? - cpu, "values": values }));
    }
    println!("{}", json!({ "peak_mb": status_mb("VmHWM")? }));
    Ok(())
}

/// Processor time of this process, all threads, s.
fn cpu_seconds() -> Result<f64> {
    // Fields 14 and 15 count hundredths of a second; the name before them may hold blanks.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Ok(fields.map(str::parse::<f64>).sum::<std::result::Result<f64, _>>()? / 100.0)
}

/// A size from `/proc/self/status`, MB.
fn status_mb(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with(field)).context("no such field in /proc/self/status")?;
    let kb: f64 = line.split_whitespace().nth(1).context("no value")?.parse()?;
    Ok(kb / 1024.0)
}
