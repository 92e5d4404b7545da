//! Stochastic gradient descent, as `torch.optim.SGD`, and clipping of gradients by their norm.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var, bail};

/// Hyper-parameters of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Decay of the velocity; zero keeps none.
    pub momentum: f64,
    /// Look ahead by one step of the velocity.
    pub nesterov: bool,
    /// Coupled L2 penalty: `weight_decay * parameter` is added to the gradient.
    pub weight_decay: f64,
}

/// The SGD optimiser over named parameters.
///
/// With gradient `g` (plus `weight_decay * p`): `v = momentum v + g`, starting with `v = g`; `d = v`, or
/// `g + momentum v` with Nesterov's look-ahead; `p = p - lr d`.
#[derive(Debug)]
pub struct Sgd {
    params: Vec<(String, Var, f64)>,
    velocities: BTreeMap<String, Tensor>,
    config: SgdConfig,
}

impl Sgd {
    /// An optimiser over `(name, variable, factor on the learning rate)`.
    pub fn new(params: Vec<(String, Var, f64)>, config: SgdConfig) -> Self {
        Self { params, velocities: BTreeMap::new(), config }
    }

    /// Updates every parameter with an entry in `grads`; the others keep value and velocity.
    ///
    /// # Errors
    /// When a gradient does not fit its parameter.
    pub fn step(&mut self, grads: &BTreeMap<String, Tensor>, lr: f64) -> Result<()> {
        let SgdConfig { momentum, nesterov, weight_decay } = self.config;
        for (name, var, factor) in &self.params {
            let Some(g) = grads.get(name) else { continue };
            if g.dims() != var.dims() || g.dtype() != var.dtype() {
                bail!("Sgd: parameter {name} is {:?}, its gradient {:?}", var.dims(), g.dims())
            }
            let mut d = if weight_decay == 0.0 { g.detach() } else { (g.detach() + (var.detach() * weight_decay)?)? };
            if momentum != 0.0 {
                let v = match self.velocities.get(name) {
                    Some(v) => ((v * momentum)? + &d)?,
                    None => d.copy()?,
                };
                d = if nesterov { (d + (&v * momentum)?)? } else { v.clone() };
                self.velocities.insert(name.clone(), v);
            }
            var.set(&(var.detach() - (d * (lr * factor))?)?)?;
        }
        Ok(())
    }

    /// The state as tensors: `name.momentum_buffer` of every parameter that was updated with momentum.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        self.velocities.iter().map(|(name, v)| (format!("{name}.momentum_buffer"), v.clone())).collect()
    }

    /// Restores what [`Self::state`] gave; parameters that are absent start anew.
    ///
    /// # Errors
    /// When an entry fits no parameter. The optimiser is unchanged then.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut velocities = BTreeMap::new();
        for (key, v) in state {
            let name = key.strip_suffix(".momentum_buffer").unwrap_or(key);
            match self.params.iter().find(|(n, ..)| n == name) {
                Some((_, var, _)) if var.dims() == v.dims() && key != name => {
                    velocities.insert(name.to_owned(), v.to_device(var.device())?.to_dtype(var.dtype())?);
                }
                _ => bail!("Sgd::load_state: `{key}` of shape {:?} fits no parameter", v.dims()),
            }
        }
        self.velocities = velocities;
        Ok(())
    }
}

/// Scales all gradients so that their joint Euclidean norm is at most `max_norm`; gives the norm they had. As
/// `torch.nn.utils.clip_grad_norm_`: the factor is `max_norm / (norm + 1e-6)`, at most one.
///
/// # Errors
/// When a tensor operation fails.
pub fn clip_grad_norm(grads: &mut BTreeMap<String, Tensor>, max_norm: f64) -> Result<f64> {
    let mut sum = 0.0;
    for g in grads.values() {
        // In double precision where the values are single: squares of many elements are summed.
        sum += g.detach().to_dtype(candle_core::DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    let norm = sum.sqrt();
    let factor = max_norm / (norm + 1e-6);
    // A norm that is not a number scales nothing: the caller sees it.
    if factor < 1.0 {
        for g in grads.values_mut() {
            *g = (g.detach() * factor)?;
        }
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn var(v: &[f64]) -> Var {
        Var::new(v, &Device::Cpu).unwrap()
    }

    fn grads(g: &[f64]) -> BTreeMap<String, Tensor> {
        [("w".to_owned(), Tensor::new(g, &Device::Cpu).unwrap())].into()
    }

    fn value(v: &Var) -> f64 {
        v.to_vec1::<f64>().unwrap()[0]
    }

    /// p = 2, decay 0.1: g = 1 + 0.2 = 1.2. Step 2 with gradient -0.5 at the new p.
    #[test]
    fn two_steps_by_hand() {
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            let p = var(&[2.0]);
            let config = SgdConfig { momentum, nesterov, weight_decay: 0.1 };
            let mut sgd = Sgd::new(vec![("w".into(), p.clone(), 0.5)], config);
            sgd.step(&grads(&[1.0]), 0.2).unwrap();
            let ahead = if nesterov { momentum } else { 0.0 };
            let p1 = 2.0 - 0.1 * (1.2 + ahead * 1.2);
            assert!((value(&p) - p1).abs() < 1e-14);
            let state = sgd.state();
            let mut sgd = Sgd::new(vec![("w".into(), p.clone(), 0.5)], config);
            sgd.load_state(&state).unwrap();
            sgd.step(&grads(&[-0.5]), 0.2).unwrap();
            let g = -0.5 + 0.1 * p1;
            let v = momentum * 1.2 + g;
            let d = if nesterov { g + momentum * v } else { v };
            assert!((value(&p) - (p1 - 0.1 * d)).abs() < 1e-14, "{momentum} {nesterov}");
        }
    }

    #[test]
    fn wrong_state_and_gradients_are_refused() {
        let config = SgdConfig { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let mut sgd = Sgd::new(vec![("w".into(), var(&[1.0]), 1.0)], config);
        assert!(sgd.step(&grads(&[1.0, 2.0]), 0.1).is_err());
        assert!(sgd.load_state(&grads(&[1.0])).is_err());
    }

    #[test]
    fn clipping_scales_to_the_norm() {
        let mut g = grads(&[3.0, 4.0]);
        assert!((clip_grad_norm(&mut g, 10.0).unwrap() - 5.0).abs() < 1e-14);
        assert_eq!(g["w"].to_vec1::<f64>().unwrap(), [3.0, 4.0]);
        clip_grad_norm(&mut g, 1.0).unwrap();
        let scaled = g["w"].to_vec1::<f64>().unwrap();
        let factor = 1.0 / (5.0 + 1e-6);
        assert!((scaled[0] - 3.0 * factor).abs() < 1e-14 && (scaled[1] - 4.0 * factor).abs() < 1e-14);
    }
}
