//! Mean of feature maps, coarser ones upsampled on the way.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::{Tape, Value, add};
use crate::kernel::{GRAIN, simd};
use crate::ops::bilinear::{Bilinear, axis};
use crate::pool::Buf;
use crate::real::Real;

impl<T: Real> Tape<T> {
    /// Mean of `same`, of height and width `size`, and of `coarse`, resampled bilinearly to it with aligned corners.
    /// Nothing but the result is written.
    ///
    /// # Errors
    /// When there is nothing to average, or batch or channels differ.
    pub fn fuse(&mut self, same: &[Value<T>], coarse: &[Value<T>], size: (usize, usize)) -> Result<Value<T>> {
        let Some(first) = same.iter().chain(coarse).next() else { bail!("tape: nothing to fuse") };
        let [n, _, _, c] = first.dims;
        let (h, w) = size;
        let dims = [n, h, w, c];
        let fits = same.iter().all(|x| x.dims == dims) && coarse.iter().all(|x| x.dims[0] == n && x.dims[3] == c);
        if !fits {
            bail!(
                "tape: maps of shapes {:?} do not fuse to {dims:?}",
                same.iter().chain(coarse).map(|x| x.dims).collect::<Vec<_>>()
            )
        }
        if let ([one], []) = (same, coarse) {
            return Ok(one.clone());
        }
        let resample = |x: &Value<T>| {
            let [n, xh, xw, c] = x.dims;
            Bilinear { n, h: xh, w: xw, c, ys: axis(xh, h, true), xs: axis(xw, w, true) }
        };
        let ups: Vec<Bilinear> = coarse.iter().map(resample).collect();
        let count = same.len() + coarse.len();
        let scale = T::of(1.0 / count as f64);
        let (line, room) = (w * c, ups.iter().map(|u| u.w * c).max().unwrap_or(0));
        let mut y = Buf::stale(n * h * line);
        y.par_chunks_mut(line).enumerate().for_each_init(
            || vec![T::zero(); room],
            |mixed, (row, y)| {
                y.fill(T::zero());
                for x in same {
                    simd(
                        #[inline(always)]
                        || add(y, &x.data()[row * line..][..line]),
                    );
                }
                for (x, up) in coarse.iter().zip(&ups) {
                    up.add_row(x.data(), row, mixed, y);
                }
                if count > 1 {
                    simd(
                        #[inline(always)]
                        || y.iter_mut().for_each(|y| *y *= scale),
                    );
                }
            },
        );
        let out = self.value(dims, y);
        let id = out.id;
        let same: Vec<_> = same.iter().filter_map(|x| x.id).collect();
        let coarse: Vec<_> = coarse.iter().map(|x| (x.id, x.data().len())).zip(ups).collect();
        self.record(move |flow| {
            let Some(mut g) = flow.take(id) else { return Ok(()) };
            if count > 1 {
                g.par_chunks_mut(GRAIN).for_each(|g| {
                    simd(
                        #[inline(always)]
                        || g.iter_mut().for_each(|g| *g *= scale),
                    );
                });
            }
            for ((id, len), up) in coarse.into_iter().filter(|((id, _), _)| id.is_some()) {
                let mut dx = flow.take(id).unwrap_or_else(|| Buf::zeros(len));
                up.add_backward(&g, &mut dx);
                flow.put(id, dx);
            }
            if let Some((last, rest)) = same.split_last() {
                for id in rest {
                    match flow.take(Some(*id)) {
                        Some(mut sum) => {
                            super::add_parallel(&mut sum, &g);
                            flow.put(Some(*id), sum);
                        }
                        None => flow.put(Some(*id), Buf::copy(&g)),
                    }
                }
                flow.give(Some(*last), g);
            }
            Ok(())
        });
        Ok(out)
    }
}
