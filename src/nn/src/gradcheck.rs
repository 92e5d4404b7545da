//! Finite-difference test of gradients.

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values uniform in `[low, high)`, reproducible by `seed`.
///
/// # Errors
/// When candle cannot make the tensor.
pub fn uniform(shape: &[usize], low: f64, high: f64, seed: u64) -> Result<Var> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let len = shape.iter().product();
    let data: Vec<f64> = (0..len).map(|_| rng.random_range(low..high)).collect();
    Var::from_tensor(&Tensor::from_vec(data, shape, &Device::Cpu)?)
}

/// Largest difference between candle's gradients of `f` and central differences.
///
/// `f` maps `f64` variables to a tensor of any shape, which is reduced to a scalar by a
/// fixed random projection. Every element of every variable is moved by `step` (1e-5
/// suits smooth functions of values near one). The error of an element is
/// `|analytic - numeric| / max(1, |numeric|)`; a missing gradient counts as zero.
/// The variables have their old values afterwards.
///
/// # Errors
/// When `f` fails or a variable is not `f64`.
pub fn max_error(vars: &[Var], step: f64, f: impl Fn(&[Var]) -> Result<Tensor>) -> Result<f64> {
    let y = f(vars)?;
    let projection = uniform(y.dims(), -1.0, 1.0, 0x9e37_79b9)?;
    let scalar = |y: &Tensor| (y * projection.as_tensor())?.sum_all();
    let grads = scalar(&y)?.backward()?;
    let mut worst = 0.0_f64;
    for var in vars {
        if var.dtype() != DType::F64 {
            bail!("gradcheck: a variable has dtype {:?}, expected f64", var.dtype())
        }
        let start = var.flatten_all()?.to_vec1::<f64>()?;
        let analytic = match grads.get(var) {
            Some(g) => g.flatten_all()?.to_vec1::<f64>()?,
            None => vec![0.0; start.len()],
        };
        let set = |v: Vec<f64>| var.set(&Tensor::from_vec(v, var.shape(), var.device())?);
        for i in 0..start.len() {
            let at = |d: f64| -> Result<f64> {
                let mut moved = start.clone();
                moved[i] += d;
                set(moved)?;
                scalar(&f(vars)?)?.to_scalar()
            };
            let numeric = (at(step)? - at(-step)?) / (2.0 * step);
            let error = (analytic[i] - numeric).abs() / numeric.abs().max(1.0);
            // A NaN is an error too.
            worst = if error <= worst { worst } else { error };
            if worst.is_nan() {
                worst = f64::INFINITY;
            }
        }
        set(start)?;
    }
    Ok(worst)
}
