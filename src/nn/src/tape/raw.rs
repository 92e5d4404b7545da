//! 1x1 convolutions whose batch norm is applied where they are added up.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::norm::{Affine, join};
use super::passes::{Gradient, See, finish_to};
use super::pointwise::{Kernel, Product};
use super::source::Input;
use super::{Norm, Tape, Value, Weight};
use crate::ops::batch_norm::Moments;
use crate::pool::Buf;
use crate::real::Real;

/// The result of a convolution before its batch norm: a term of [`Tape::mix`].
pub struct Raw<T: Real> {
    pub(super) dims: [usize; 4],
    pub(super) y: Buf<T>,
    pub(super) product: Product,
    pub(super) kernel: Kernel,
    pub(super) x_id: Option<usize>,
    pub(super) saved: Input<T>,
    norm: Norm,
    moments: Option<Moments>,
}

impl<T: Real> std::fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").field("dims", &self.dims).field("norm", &self.norm.name).finish_non_exhaustive()
    }
}

impl<T: Real> Raw<T> {
    /// `[N, H, W, C]`
    pub fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// The norm times `share`; statistics of the batch are noted on the tape.
    pub(super) fn affine(&mut self, tape: &mut Tape<T>, share: f64) -> Result<Affine<T>> {
        match self.moments.take() {
            Some(moments) => Affine::batch(tape, &self.norm, moments, share),
            None => match Affine::fixed(&self.norm, self.dims[3], share)? {
                Some(affine) => Ok(affine),
                None => bail!("tape: `{}` has no statistics", self.norm.name),
            },
        }
    }
}

impl<T: Real> Tape<T> {
    /// 1x1 convolution to `out` channels with the first rows and columns of `w` `[O, I, 1, 1]`, for [`Tape::mix`].
    ///
    /// # Errors
    /// When shapes or dtypes do not fit.
    pub fn raw_pointwise(&mut self, x: &Value<T>, w: &Weight, out: usize, norm: Norm) -> Result<Raw<T>> {
        self.raw(x, Kernel::new(w, out, x.channels(), 1)?, norm)
    }

    /// What [`Tape::halves`] gave, each half convolved by its own `[O / 2, I, 1, 1]`, for [`Tape::mix`].
    ///
    /// # Errors
    /// When shapes or dtypes do not fit.
    pub fn raw_halves(&mut self, x: &Value<T>, w: (&Weight, &Weight), norm: Norm) -> Result<Raw<T>> {
        self.raw(x, Kernel::halves(w.0, w.1)?, norm)
    }

    fn raw(&mut self, x: &Value<T>, kernel: Kernel, norm: Norm) -> Result<Raw<T>> {
        let [n, h, w, c] = x.dims;
        if kernel.inputs() != c {
            bail!("tape: a convolution of {} channels got {c}", kernel.inputs())
        }
        let product = Product::of(&kernel, n * h * w);
        let matrix = kernel.fetch::<T>()?;
        let (dims, observe) = ([n, h, w, kernel.out], norm.fixed.is_none());
        let mut y = Buf::stale(n * h * w * kernel.out);
        let seen = product.forward(
            &x.input(),
            &matrix,
            None,
            &mut y,
            || See::new(kernel.out),
            |see, y, _| {
                if observe {
                    see.rows(y);
                }
            },
        );
        let moments = observe.then(|| join(seen.into_iter().map(See::moments).collect()));
        let saved = if self.recording { x.saved_for(self.wanted, false) } else { Input::none() };
        Ok(Raw { dims, y, product, kernel, x_id: x.id, saved, norm, moments })
    }

    /// Batch norm, then ReLU if wanted.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit.
    pub fn norm(&mut self, x: &Value<T>, norm: &Norm, act: crate::ops::Activation) -> Result<Value<T>> {
        let c = x.channels();
        let part = crate::kernel::part_len(x.data().len() / c) * c;
        let affine = if let Some(affine) = Affine::fixed(norm, c, 1.0)? {
            affine
        } else {
            let moments: Vec<Moments> = x
                .data()
                .par_chunks(part)
                .map(|x| {
                    let mut see = See::new(c);
                    see.rows(x);
                    see.moments()
                })
                .collect();
            Affine::batch(self, norm, join(moments), 1.0)?
        };
        let mut z = Buf::stale(x.data().len());
        z.par_chunks_mut(part).zip(x.data().par_chunks(part)).for_each(|(z, x)| finish_to(z, x, &affine, None, act));
        if norm.fixed.is_some() {
            return Ok(self.value(x.dims, z));
        }
        let out = self.value(x.dims, z);
        let (id, x_id, saved) = (out.id, x.id, x.saved());
        self.record(move |flow| {
            let Some(mut g) = flow.take(id) else { return Ok(()) };
            let y = saved.get();
            let sums = super::pointwise::sums(&y, &mut g, &affine, None, act);
            let gradient = Gradient::norm(&y, &g, &affine, &affine.correction(flow, &sums)?);
            let mut dy = Buf::stale(y.len());
            dy.par_chunks_mut(part).enumerate().for_each(|(p, dy)| {
                gradient.fill(p * part / c, dy);
            });
            flow.give(x_id, dy);
            Ok(())
        });
        Ok(out)
    }
}
