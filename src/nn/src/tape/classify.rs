//! From feature maps to the outputs of a classifier.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::pointwise::{After, Kernel};
use super::{Tape, Value, Weight, add, prefix};
use crate::gemm::{Mat, matmul, transposed};
use crate::kernel::simd;
use crate::ops::squeeze::image_sums;
use crate::pool::Buf;
use crate::real::Real;

impl<T: Real> Tape<T> {
    /// `max(x, 0)`; the slope at zero is zero.
    pub fn relu(&mut self, x: &Value<T>) -> Value<T> {
        let grain = crate::kernel::GRAIN;
        let mut y = Buf::stale(x.data().len());
        y.par_chunks_mut(grain).zip(x.data().par_chunks(grain)).for_each(|(y, x)| {
            simd(
                #[inline(always)]
                || {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = if x > T::zero() { x } else { T::zero() };
                    }
                },
            );
        });
        let out = self.value(x.dims, y);
        let (id, x_id, saved) = (out.id, x.id, out.data().clone());
        self.record(move |flow| {
            let Some(mut g) = flow.take(id) else { return Ok(()) };
            let (mut dx, adds) = flow.start(x_id, if x_id.is_some() { g.len() } else { 0 });
            if dx.is_empty() {
                return Ok(());
            }
            if !adds {
                std::mem::swap(&mut dx, &mut g);
            }
            // Without a gradient to add to, `dx` is the gradient itself and `g` is not read.
            dx.par_chunks_mut(grain).zip(g.par_chunks(grain)).zip(saved.par_chunks(grain)).for_each(|((dx, g), y)| {
                simd(
                    #[inline(always)]
                    || {
                        for ((dx, &g), &y) in dx.iter_mut().zip(g).zip(y) {
                            let open = y > T::zero();
                            *dx = match (adds, open) {
                                (true, true) => *dx + g,
                                (true, false) | (false, true) => *dx,
                                (false, false) => T::zero(),
                            };
                        }
                    },
                );
            });
            flow.put(x_id, dx);
            Ok(())
        });
        out
    }

    /// Mean over height and width, `[N, 1, 1, C]`.
    pub fn global_mean(&mut self, x: &Value<T>) -> Value<T> {
        let [n, h, w, c] = x.dims;
        let scale = T::of(1.0 / (h * w) as f64);
        let mut sums = image_sums(x.data(), None, n, c);
        for s in &mut sums {
            *s *= scale;
        }
        let out = self.value([n, 1, 1, c], Buf::copy(&sums));
        let (id, x_id) = (out.id, x.id);
        self.record(move |flow| {
            let Some(mut g) = flow.take(id) else { return Ok(()) };
            g.iter_mut().for_each(|g| *g *= scale);
            let mut dx = Buf::stale(n * h * w * c);
            dx.par_chunks_mut(h * w * c)
                .zip(g.par_chunks(c))
                .for_each(|(dx, g)| dx.chunks_exact_mut(c).for_each(|dx| dx.copy_from_slice(g)));
            flow.give(x_id, dx);
            Ok(())
        });
        out
    }

    /// `x w^T + b` for `x` `[N, 1, 1, I]`, `w` `[O, I]`, `b` `[O]`.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit.
    pub fn linear(&mut self, x: &Value<T>, w: &Weight, b: &Weight) -> Result<Value<T>> {
        let (n, i) = match x.dims {
            [n, 1, 1, i] => (n, i),
            d => bail!("tape: `{}` got an input of shape {d:?}", w.name),
        };
        let o = match w.tensor.dims() {
            &[o, inputs] if inputs == i && b.tensor.dims() == [o] => o,
            d => bail!("tape: `{}` of shape {d:?} does not fit {i} channels", w.name),
        };
        let (matrix, bias) = (prefix::<T>(w, o * i)?, prefix::<T>(b, o)?);
        let mut y = Buf::stale(n * o);
        matmul(&mut y, o, Mat::new(x.data(), n, i, i), Mat::new(&transposed(&matrix, i), i, o, o), false);
        y.chunks_exact_mut(o).for_each(|y| add(y, &bias));
        let out = self.value([n, 1, 1, o], y);
        let (id, x_id, saved, w, b) = (out.id, x.id, x.saved_for(self.wanted, false), w.clone(), b.clone());
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            if flow.wanted.parameters() {
                matmul(flow.of(&w)?, i, Mat::new(&g, n, o, o).t(), Mat::new(&saved.get(), n, i, i), true);
                let db = flow.of(&b)?;
                g.chunks_exact(o).for_each(|g| add(db, g));
            }
            let mut dx = Buf::stale(n * i);
            matmul(&mut dx, i, Mat::new(&g, n, o, o), Mat::new(&matrix, o, i, i), false);
            flow.give(x_id, dx);
            Ok(())
        });
        Ok(out)
    }

    /// Convolution without padding of an input that is as large as the kernel `w` `[O, I, k, k]`; gives
    /// `[N, 1, 1, out]`.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit.
    pub fn conv_whole(&mut self, x: &Value<T>, w: &Weight, out: usize, after: After<'_, T>) -> Result<Value<T>> {
        let [n, h, wd, c] = x.dims;
        if h != wd {
            bail!("tape: `{}` covers a square, not {h} x {wd}", w.name)
        }
        let kernel = Kernel::new(w, out, c, h)?;
        let flat = Value { dims: [n, 1, 1, h * wd * c], ..x.clone() };
        self.convolve(&flat, None, &kernel, after)
    }
}
