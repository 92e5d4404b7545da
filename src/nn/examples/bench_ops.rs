//! Times the operators on the CPU: the median of several runs in milliseconds, forward
//! alone and forward plus backward, and the GFLOP/s of the latter (three times the
//! forward's multiplications and additions) beside those of a large matrix product, the
//! measured peak. Operators without products have their GB/s in the forward pass instead:
//! input read and output written once.
//!
//! glibc returns large blocks to the system after each operator; to time the kernels
//! rather than page faults set `MALLOC_MMAP_THRESHOLD_=1073741824` and
//! `MALLOC_TRIM_THRESHOLD_=1073741824`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use inas_nn::ops::{self, Activation};

const RUNS: usize = 15;

fn median(mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    f()?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        f()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

fn var(shape: &[usize]) -> Result<Var> {
    Var::from_tensor(&Tensor::randn(0.0, 1.0, shape, &Device::Cpu)?.to_dtype(DType::F32)?)
}

/// `backward` starts from the sum of the result, as cheap a start as candle has.
fn bench(name: &str, macs: usize, vars: &[Var], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let fixed: Vec<Tensor> = tracked.iter().map(Tensor::detach).collect();
    let forward = median(|| f(&fixed).map(drop))?;
    let both = median(|| f(&tracked)?.backward().map(drop))?;
    let rate = if macs > 0 {
        format!("{:8.1} GFLOP/s", 6.0 * macs as f64 / both / 1e6)
    } else {
        let moved = 4 * (vars[0].elem_count() + f(&fixed)?.elem_count());
        format!("{:8.1} GB/s", moved as f64 / forward / 1e6)
    };
    println!("{name:<44} {forward:>9.2} {both:>9.2} {rate}");
    Ok(())
}

fn main() -> Result<()> {
    println!("{:<44} {:>9} {:>9}", "operator", "forward", "fwd+bwd");
    bench("matrix product 1024 (the peak)", 1 << 30, &[var(&[1024, 1024])?, var(&[1024, 1024])?], |v| {
        v[0].matmul(&v[1])
    })?;
    for (name, h, c, k, stride) in [
        ("depthwise 3x3 C96 64x64", 64, 96, 3, 1),
        ("depthwise 9x9 C96 64x64", 64, 96, 9, 1),
        ("depthwise 9x9 C384 16x16", 16, 384, 9, 1),
        ("depthwise 3x3 s2 C96 128x128", 128, 96, 3, 2),
    ] {
        let macs = 4 * (h / stride) * (h / stride) * c * k * k;
        bench(name, macs, &[var(&[4, h, h, c])?, var(&[c, 1, k, k])?], |v| {
            ops::depthwise_conv2d(&v[0], &v[1], stride, 1)
        })?;
    }
    for (name, i, o) in [("pointwise 96->24 64x64", 96, 24), ("pointwise 24->144 64x64", 24, 144)] {
        let vars = [var(&[4, 64, 64, i])?, var(&[o, i, 1, 1])?];
        bench(name, 4 * 64 * 64 * i * o, &vars, |v| ops::pointwise_conv(&v[0], &v[1]))?;
    }
    let macs = 4 * 128 * 128 * 27 * 32;
    bench("conv 3x3 s2 3->32 256x256", macs, &[var(&[4, 256, 256, 3])?, var(&[32, 3, 3, 3])?], |v| {
        ops::conv2d(&v[0].detach(), &v[1], 2, 1)
    })?;
    let vars = [var(&[4, 128, 128, 96])?, var(&[96])?, var(&[96])?];
    bench("batch norm + SiLU C96 128x128", 0, &vars, |v| {
        Ok(ops::batch_norm_train(&v[0], &v[1], &v[2], 1e-5, Activation::Silu)?.0)
    })?;
    bench("upsample bilinear x2 C24 64x64", 0, &[var(&[4, 64, 64, 24])?], |v| {
        ops::upsample_bilinear2d(&v[0], 128, 128, true)
    })?;
    bench("zeros + add C96 128x128 (candle's own cost)", 0, &vars[..1], |v| v[0].zeros_like()? + &v[0])
}
