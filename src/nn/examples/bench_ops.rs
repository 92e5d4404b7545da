//! Times the blocks of a training step on the CPU with one thread: forward while recording, then backward.
//!
//!     cargo run --release -p inas-nn --example bench_ops [FILTER]
//!
//! `GFLOP/s` counts the multiplications and additions of the convolutions alone (the backward pass has twice those of
//! the forward pass) beside those of a matrix product that lies in cache, the measured peak of one core. `ns/value` is
//! the time for each value of the result, which shows what norms, activations and passes over memory cost.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use inas_nn::ops::Activation;
use inas_nn::tape::{After, Branch, Gate, Gradients, Norm, Tape, Value, Weight};

const RUNS: usize = 9;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn weight(name: &str, shape: &[usize]) -> Result<Weight> {
    Ok(Weight { name: name.into(), tensor: Tensor::randn(0f32, 0.1, shape, &Device::Cpu)? })
}

fn norm(name: &str, c: usize) -> Result<Norm> {
    let affine = Some((weight(&format!("{name}.gamma"), &[c])?, weight(&format!("{name}.beta"), &[c])?));
    Ok(Norm { name: name.into(), affine, fixed: None, eps: 1e-5 })
}

fn after(norm: Option<&Norm>, act: Activation) -> After<'_, f32> {
    After { norm, residual: None, act }
}

type Block<'a> = &'a dyn Fn(&mut Tape<f32>, &Value<f32>) -> Result<Value<f32>>;

/// `macs` of the forward pass.
fn bench(filter: &str, name: &str, macs: usize, x: &[usize], block: Block<'_>) -> Result<()> {
    if !name.contains(filter) {
        return Ok(());
    }
    let x = weight("x", x)?;
    let (mut forward, mut backward, mut values) = (Vec::new(), Vec::new(), 0);
    for _ in 0..=RUNS {
        let mut tape = Tape::new(true);
        let x = tape.variable(&x)?;
        let start = Instant::now();
        let y = block(&mut tape, &x)?;
        forward.push(start.elapsed().as_secs_f64());
        let g = Tensor::ones(&y.dims()[..], candle_core::DType::F32, &Device::Cpu)?;
        values = g.elem_count();
        let mut grads = Gradients::new();
        let start = Instant::now();
        tape.backward(vec![(y, g)], &mut grads)?;
        backward.push(start.elapsed().as_secs_f64());
    }
    // The first run warms up.
    let (forward, backward) = (median(forward.split_off(1)), median(backward.split_off(1)));
    let rate = |macs: usize, s: f64| if macs == 0 { "-".into() } else { format!("{:.1}", 2e-9 * macs as f64 / s) };
    let per = |s: f64| 1e9 * s / values as f64;
    println!(
        "{name:<42} {:>8.2} {:>8.2}   {:>7} {:>7}   {:>7.2} {:>7.2}",
        1e3 * forward,
        1e3 * backward,
        rate(macs, forward),
        rate(2 * macs, backward),
        per(forward),
        per(backward)
    );
    Ok(())
}

fn blocks(filter: &str) -> Result<()> {
    println!("{:<42} {:^17}   {:^15}   {:^15}", "", "ms", "GFLOP/s", "ns/value");
    println!(
        "{:<42} {:>8} {:>8}   {:>7} {:>7}   {:>7} {:>7}",
        "block", "forward", "backward", "forward", "backw.", "forward", "backw."
    );
    let square = weight("w", &[96, 96, 1, 1])?;
    bench(filter, "matrix product alone 96 -> 96, in cache", 512 * 96 * 96, &[1, 1, 512, 96], &|tape, x| {
        tape.pointwise(x, None, &square, 96, after(None, Activation::Identity))
    })?;
    for (side, i, o) in
        [(112, 16, 96), (112, 96, 24), (56, 24, 144), (28, 40, 240), (28, 240, 40), (14, 80, 480), (7, 960, 160)]
    {
        let (w, n) = (weight("w", &[o, i, 1, 1])?, norm("n", o)?);
        let act = if o > i { Activation::Silu } else { Activation::Identity };
        let name = format!("1x1, norm, {}: {i} -> {o}, {side} px", if o > i { "SiLU" } else { "-" });
        bench(filter, &name, 4 * side * side * i * o, &[4, side, side, i], &|tape, x| {
            tape.pointwise(x, None, &w, o, after(Some(&n), act))
        })?;
    }
    let (w, n) = (weight("w", &[40, 240, 1, 1])?, norm("n", 40)?);
    let gate = Gate {
        reduce: (weight("r", &[64, 240, 1, 1])?, weight("rb", &[64])?),
        expand: (weight("e", &[240, 64, 1, 1])?, weight("eb", &[240])?),
        squeezed: 64,
    };
    bench(filter, "gate, 1x1, norm: 240 -> 40, 28 px", 4 * 28 * 28 * 240 * 40, &[4, 28, 28, 240], &|tape, x| {
        tape.pointwise(x, Some(&gate), &w, 40, after(Some(&n), Activation::Identity))
    })?;
    for (side, c, stride, kernels) in [
        (112, 96, 1, &[3][..]),
        (112, 96, 2, &[3]),
        (112, 96, 2, &[3, 5, 7, 9]),
        (56, 144, 1, &[3, 5, 7, 9]),
        (28, 240, 1, &[9]),
        (28, 240, 2, &[3, 5, 7]),
        (14, 480, 1, &[3, 5, 7, 9]),
        (7, 960, 1, &[3, 5, 7, 9]),
        (56, 20, 1, &[3, 5]),
    ] {
        let w = weight("w", &[c, 1, 9, 9])?;
        let branch = |&k: &usize| {
            Ok(Branch {
                kernel: k,
                transform: weight(&format!("t{k}"), &[k * k, k * k])?,
                norm: norm(&format!("n{k}"), c)?,
            })
        };
        let branches = kernels.iter().map(branch).collect::<Result<Vec<_>>>()?;
        let taps: usize = kernels.iter().map(|k| k * k).sum();
        let out: usize = side / stride;
        let name = format!("depthwise {kernels:?} / {stride}, norm, SiLU: {c}, {side} px");
        bench(filter, &name, 4 * out * out * c * taps, &[4, side, side, c], &|tape, x| {
            tape.multi_scale(x, &w, &branches, stride, Activation::Silu)
        })?;
    }
    let (w, n) = (weight("w", &[32, 3, 3, 3])?, norm("n", 32)?);
    bench(filter, "3x3 / 2, norm, SiLU: 3 -> 32, 224 px", 4 * 112 * 112 * 27 * 32, &[4, 224, 224, 3], &|tape, x| {
        tape.conv(x, &w, 32, 2, after(Some(&n), Activation::Silu))
    })?;
    let (coarse, wide) = (weight("coarse", &[4, 28, 28, 32])?, weight("wide", &[4, 14, 14, 32])?);
    bench(filter, "fuse 56 px with 28 and 14 px, 32 channels", 0, &[4, 56, 56, 32], &|tape, x| {
        let others = [tape.variable(&coarse)?, tape.variable(&wide)?];
        tape.fuse(std::slice::from_ref(x), &others, (56, 56))
    })
}

fn main() -> Result<()> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(candle_core::Error::wrap)?;
    pool.install(|| blocks(&filter))
}
