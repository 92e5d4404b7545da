//! Adam, as `torch.optim.Adam`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::kernel::{GRAIN, by_dtype, simd, with_data};
use crate::real::Real;

/// Hyper-parameters of [`Adam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Coupled L2 penalty: `weight_decay * parameter` is added to the gradient.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// The Adam optimiser over named parameters.
///
/// With gradient `g` (plus `weight_decay * p`) and the parameter's own step count `t`:
/// `m = m + (1 - beta1) (g - m)`, `v = beta2 v + (1 - beta2) g^2`,
/// `p = p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)`.
#[derive(Debug)]
pub struct Adam {
    params: Vec<Param>,
    config: AdamConfig,
}

#[derive(Debug)]
struct Param {
    name: String,
    var: Var,
    lr_factor: f64,
    t: u32,
    /// First and second moment, made at the first step.
    moments: Option<(Var, Var)>,
}

/// Scalars of one update.
#[derive(Clone, Copy)]
struct Scalars {
    config: AdamConfig,
    step_size: f64,
    root_bias2: f64,
}

impl Adam {
    /// An optimiser over `(name, variable, factor on the learning rate)`.
    pub fn new(params: Vec<(String, Var, f64)>, config: AdamConfig) -> Self {
        let params = params
            .into_iter()
            .map(|(name, var, lr_factor)| Param { name, var, lr_factor, t: 0, moments: None })
            .collect();
        Self { params, config }
    }

    /// Updates, in place, every parameter with an entry in `grads`; the others keep value
    /// and step count.
    ///
    /// # Errors
    /// When a gradient does not fit its parameter.
    pub fn step(&mut self, grads: &BTreeMap<String, Tensor>, lr: f64) -> Result<()> {
        for p in &mut self.params {
            if let Some(g) = grads.get(&p.name) {
                p.update(g, lr, self.config)?;
            }
        }
        Ok(())
    }

    /// The state as tensors: `name.exp_avg`, `name.exp_avg_sq` and the scalar `name.step`
    /// (`u32`) of every parameter that was updated before. The tensors are copies.
    ///
    /// # Errors
    /// When candle cannot copy a tensor.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for p in &self.params {
            if let Some((m, v)) = &p.moments {
                out.insert(format!("{}.exp_avg", p.name), m.as_tensor().copy()?.detach());
                out.insert(format!("{}.exp_avg_sq", p.name), v.as_tensor().copy()?.detach());
                let t = Tensor::new(p.t, &candle_core::Device::Cpu)?;
                out.insert(format!("{}.step", p.name), t);
            }
        }
        Ok(out)
    }

    /// Restores what [`Self::state`] gave; parameters that are absent start anew.
    ///
    /// # Errors
    /// When an entry is incomplete, does not fit its parameter, or belongs to none. The
    /// optimiser is unchanged then.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut used = 0;
        let mut loaded = Vec::with_capacity(self.params.len());
        for p in &self.params {
            let find = |what: &str| state.get(&format!("{}.{what}", p.name));
            loaded.push(match (find("step"), find("exp_avg"), find("exp_avg_sq")) {
                (None, None, None) => (0, None),
                (Some(t), Some(m), Some(v)) => {
                    used += 3;
                    (t.to_scalar::<u32>()?, Some((p.moment(m)?, p.moment(v)?)))
                }
                _ => bail!("Adam::load_state: incomplete state of parameter {}", p.name),
            });
        }
        if used != state.len() {
            bail!("Adam::load_state: {} entries belong to no parameter", state.len() - used)
        }
        for (p, (t, moments)) in self.params.iter_mut().zip(loaded) {
            p.t = t;
            p.moments = moments;
        }
        Ok(())
    }
}

impl Param {
    /// A copy of a loaded moment, on the device and in the dtype of the parameter.
    fn moment(&self, t: &Tensor) -> Result<Var> {
        if t.dims() != self.var.dims() {
            bail!("Adam::load_state: {} has shape {:?}, its state {:?}", self.name, self.var.dims(), t.dims())
        }
        Var::from_tensor(&t.to_device(self.var.device())?.to_dtype(self.var.dtype())?.copy()?)
    }

    fn update(&mut self, g: &Tensor, lr: f64, config: AdamConfig) -> Result<()> {
        if g.dims() != self.var.dims() || g.dtype() != self.var.dtype() {
            bail!(
                "Adam: parameter {} is {:?} {:?}, its gradient {:?} {:?}",
                self.name,
                self.var.dtype(),
                self.var.dims(),
                g.dtype(),
                g.dims()
            )
        }
        let (m, v) = if let Some(moments) = self.moments.take() {
            moments
        } else {
            let zeros = || Var::zeros(self.var.shape(), self.var.dtype(), self.var.device());
            (zeros()?, zeros()?)
        };
        self.t += 1;
        let bias = |beta: f64| 1.0 - beta.powi(self.t as i32);
        let scalars = Scalars {
            config,
            step_size: lr * self.lr_factor / bias(config.beta1),
            root_bias2: bias(config.beta2).sqrt(),
        };
        let g = g.detach().contiguous()?;
        let done = if self.var.device().is_cpu() {
            scalars.fused(&self.var, &g, &m, &v)
        } else {
            scalars.stock(&self.var, &g, &m, &v)
        };
        self.moments = Some((m, v));
        done
    }
}

impl Scalars {
    /// One pass over parameter, gradient and moments.
    fn fused(self, p: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor) -> Result<()> {
        by_dtype!(p.dtype(), "Adam", T => {
            with_mut::<T>(p, |p| {
                with_mut::<T>(m, |m| {
                    with_mut::<T>(v, |v| with_data::<T, _>(g, |g| self.slices(p, g, m, v)))
                })
            })
        })
    }

    fn slices<T: Real>(self, p: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
        let of = T::of;
        let c = self.config;
        let (w1, b2, w2) = (of(1.0 - c.beta1), of(c.beta2), of(1.0 - c.beta2));
        let (decay, eps) = (of(c.weight_decay), of(c.eps));
        let (step, root) = (of(-self.step_size), of(self.root_bias2));
        p.par_chunks_mut(GRAIN)
            .zip(g.par_chunks(GRAIN))
            .zip(m.par_chunks_mut(GRAIN).zip(v.par_chunks_mut(GRAIN)))
            .for_each(|((p, g), (m, v))| {
                simd(
                    #[inline(always)]
                    || {
                        let moments = m.iter_mut().zip(v.iter_mut());
                        for ((p, &g), (m, v)) in p.iter_mut().zip(g).zip(moments) {
                            let g = decay.fma(*p, g);
                            *m = w1.fma(g - *m, *m);
                            *v = (w2 * g).fma(g, b2 * *v);
                            *p = step.fma(*m / (v.root() / root + eps), *p);
                        }
                    },
                );
            });
    }

    /// The same by stock operators.
    fn stock(self, p: &Var, g: &Tensor, m: &Var, v: &Var) -> Result<()> {
        let c = self.config;
        let old = p.as_tensor().detach();
        let g = (g + (&old * c.weight_decay)?)?;
        let mean = (m.as_tensor().detach() * c.beta1)? + (&g * (1.0 - c.beta1))?;
        let square = (v.as_tensor().detach() * c.beta2)? + (g.sqr()? * (1.0 - c.beta2))?;
        let (mean, square) = (mean?, square?);
        let denominator = (square.sqrt()? / self.root_bias2)? + self.eps();
        p.set(&(old - ((&mean / denominator?)? * self.step_size)?)?)?;
        m.set(&mean)?;
        v.set(&square)
    }

    fn eps(self) -> f64 {
        self.config.eps
    }
}

/// Calls `f` with the elements of a contiguous CPU tensor, to be changed in place.
fn with_mut<T: Real>(t: &Tensor, f: impl FnOnce(&mut [T]) -> Result<()>) -> Result<()> {
    let call = |s: &mut CpuStorage, l: &Layout| match (T::slice_mut(s), l.contiguous_offsets()) {
        (Some(all), Some((from, to))) => f(&mut all[from..to]),
        _ => bail!("Adam: a parameter of shape {:?} is not contiguous", l.dims()),
    };
    t.inplace_op1(&InPlace(RefCell::new(Some(call))))
}

/// Lends the storage of a tensor to a closure.
struct InPlace<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut CpuStorage, &Layout) -> Result<()>> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "in_place"
    }

    fn cpu_fwd(&self, s: &mut CpuStorage, l: &Layout) -> Result<()> {
        match self.0.take() {
            Some(f) => f(s, l),
            None => bail!("in_place: called twice"),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    const CONFIG: AdamConfig = AdamConfig { beta1: 0.9, beta2: 0.99, eps: 1e-3, weight_decay: 0.1 };

    fn var(v: &[f64]) -> Var {
        Var::from_tensor(&Tensor::new(v, &Device::Cpu).unwrap()).unwrap()
    }

    fn grads(name: &str, g: &[f64]) -> BTreeMap<String, Tensor> {
        [(name.to_owned(), Tensor::new(g, &Device::Cpu).unwrap())].into()
    }

    fn values(v: &Tensor) -> Vec<f64> {
        v.to_vec1().unwrap()
    }

    /// Step 1 with g = 1 + 0.1 * 2 = 1.2: m = 0.12, v = 0.0144, so m-hat = v-hat^(1/2) = 1.2
    /// and p = 2 - 0.01 * 1.2 / 1.201. Step 2 by the same formulas.
    #[test]
    fn two_steps_by_hand() {
        let p = var(&[2.0]);
        let mut adam = Adam::new(vec![("w".into(), p.clone(), 1.0)], CONFIG);
        adam.step(&grads("w", &[1.0]), 0.01).unwrap();
        let p1 = 2.0 - 0.01 * 1.2 / 1.201;
        assert!((values(&p)[0] - p1).abs() < 1e-14);
        adam.step(&grads("w", &[-0.5]), 0.02).unwrap();
        let g = -0.5 + 0.1 * p1;
        let (m, v) = (0.9 * 0.12 + 0.1 * g, 0.99 * 0.0144 + 0.01 * g * g);
        // 1 - 0.9^2 = 0.19, 1 - 0.99^2 = 0.0199
        let p2 = p1 - 0.02 * (m / 0.19) / ((v / 0.0199).sqrt() + 1e-3);
        assert!((values(&p)[0] - p2).abs() < 1e-14);
    }

    #[test]
    fn parameters_without_gradient_rest() {
        let (a, b) = (var(&[1.0, 2.0]), var(&[3.0]));
        let mut adam = Adam::new(vec![("a".into(), a.clone(), 0.5), ("b".into(), b.clone(), 1.0)], CONFIG);
        adam.step(&grads("a", &[1.0, 1.0]), 0.1).unwrap();
        assert_eq!(values(&b), [3.0]);
        assert!(!adam.state().unwrap().contains_key("b.step"));
        adam.step(&grads("b", &[0.7]), 0.1).unwrap();
        // The first step of b: bias correction with its own count.
        assert!((values(&b)[0] - (3.0 - 0.1 * 1.0 / 1.001)).abs() < 1e-14);
        // The factor halves the step of a.
        assert!((values(&a)[0] - (1.0 - 0.05 * 1.1 / 1.101)).abs() < 1e-14);
    }

    #[test]
    fn state_continues_where_it_was_saved() {
        let run = |split: bool| {
            let p = var(&[1.0, -2.0, 0.5]);
            let params = || vec![("w".to_owned(), p.clone(), 1.0)];
            let mut adam = Adam::new(params(), CONFIG);
            for i in 0..4 {
                adam.step(&grads("w", &[1.0, f64::from(i), -0.3]), 0.1).unwrap();
                if split {
                    let state = adam.state().unwrap();
                    adam = Adam::new(params(), CONFIG);
                    adam.load_state(&state).unwrap();
                }
            }
            values(&p)
        };
        assert_eq!(run(true), run(false));
    }

    #[test]
    fn state_is_checked() {
        let mut adam = Adam::new(vec![("w".into(), var(&[1.0]), 1.0)], CONFIG);
        adam.step(&grads("w", &[1.0]), 0.1).unwrap();
        let good = adam.state().unwrap();
        let mut bad = good.clone();
        bad.remove("w.exp_avg");
        assert!(adam.load_state(&bad).is_err());
        let mut bad = good.clone();
        bad.insert("other.step".into(), good["w.step"].clone());
        assert!(adam.load_state(&bad).is_err());
        assert!(adam.step(&grads("w", &[1.0, 2.0]), 0.1).is_err());
    }

    #[test]
    fn fused_equals_stock() {
        let start: Vec<f64> = (0..50).map(|i| f64::from(i).sin()).collect();
        let g: Vec<f64> = (0..50).map(|i| f64::from(i).cos()).collect();
        let scalars = Scalars { config: CONFIG, step_size: 0.3, root_bias2: 0.2 };
        let g = Tensor::new(g.as_slice(), &Device::Cpu).unwrap();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (fused, out) in [(true, &mut a), (false, &mut b)] {
            let (p, m, v) = (var(&start), var(&start), var(&vec![0.5; 50]));
            if fused {
                scalars.fused(&p, &g, &m, &v).unwrap();
            } else {
                scalars.stock(&p, &g, &m, &v).unwrap();
            }
            out.extend([values(&p), values(&m), values(&v)].concat());
        }
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-13);
        }
    }
}
