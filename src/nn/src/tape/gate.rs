//! Channels weighted by what a network says of the whole image.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::{Tape, Value};
use crate::kernel::simd;
use crate::ops::squeeze::image_sums;
use crate::pool::Buf;
use crate::real::Real;

impl<T: Real> Tape<T> {
    /// `x` `[N, H, W, C]` times the sigmoid of `z` `[N, 1, 1, C]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn gate(&mut self, x: &Value<T>, z: &Value<T>) -> Result<Value<T>> {
        let [n, h, w, c] = x.dims;
        if z.dims != [n, 1, 1, c] {
            bail!("tape: a gate of shape {:?} for a map of shape {:?}", z.dims, x.dims)
        }
        let shares: Vec<T> = z.data().iter().map(|z| T::of(1.0 / (1.0 + (-z.wide()).exp()))).collect();
        let line = w * c;
        let scale = move |to: &mut [T], from: &[T], shares: &[T]| {
            to.par_chunks_mut(line).zip(from.par_chunks(line)).enumerate().for_each(|(row, (to, from))| {
                let share = &shares[row / h * c..][..c];
                simd(
                    #[inline(always)]
                    || {
                        for (to, from) in to.chunks_exact_mut(c).zip(from.chunks_exact(c)) {
                            for ((to, &from), &share) in to.iter_mut().zip(from).zip(share) {
                                *to = from * share;
                            }
                        }
                    },
                );
            });
        };
        let mut y = Buf::stale(x.data().len());
        scale(&mut y, x.data(), &shares);
        let out = self.value(x.dims, y);
        let (id, x_id, z_id, saved) = (out.id, x.id, z.id, x.saved());
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let mut dz = image_sums(&saved.get(), Some(&g), n, c);
            dz.iter_mut().zip(&shares).for_each(|(d, &s)| *d = *d * s * (T::of(1.0) - s));
            flow.give(z_id, Buf::copy(&dz));
            let mut dx = Buf::stale(g.len());
            scale(&mut dx, &g, &shares);
            flow.give(x_id, dx);
            Ok(())
        });
        Ok(out)
    }
}
