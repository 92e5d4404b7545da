//! Pools over windows that overlap.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::{Tape, Value};
use crate::kernel::simd;
use crate::pool::Buf;
use crate::real::Real;

/// Square windows of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Side.
    pub side: usize,
    /// Stride.
    pub stride: usize,
    /// Padding on every side, less than the side; padded positions are no part of a mean or a maximum.
    pub padding: usize,
}

#[derive(Clone, Copy)]
struct Geometry {
    h: usize,
    w: usize,
    c: usize,
    ho: usize,
    wo: usize,
    window: Window,
}

impl Geometry {
    fn new([_, h, w, c]: [usize; 4], window: Window) -> Result<Self> {
        let Window { side, stride, padding } = window;
        if stride == 0 || padding >= side || h.min(w) + 2 * padding < side {
            bail!("tape: windows {window:?} do not fit {h} x {w}")
        }
        let out = |v: usize| (v + 2 * padding - side) / stride + 1;
        Ok(Self { h, w, c, ho: out(h), wo: out(w), window })
    }

    /// Rows or columns of the input that window `o` covers, of `extent`.
    fn span(&self, o: usize, extent: usize) -> std::ops::Range<usize> {
        let Window { side, stride, padding } = self.window;
        let start = o * stride;
        start.saturating_sub(padding)..(start + side - padding).min(extent)
    }

    /// One over the number of positions in a window.
    fn share<T: Real>(&self, oy: usize, ox: usize) -> T {
        T::of(1.0 / (self.span(oy, self.h).len() * self.span(ox, self.w).len()) as f64)
    }
}

impl<T: Real> Tape<T> {
    /// Mean over windows, of the positions inside the input.
    ///
    /// # Errors
    /// When the windows do not fit.
    pub fn mean_window(&mut self, x: &Value<T>, window: Window) -> Result<Value<T>> {
        let geo = Geometry::new(x.dims, window)?;
        let Geometry { h, w, c, ho, wo, .. } = geo;
        let n = x.dims[0];
        let mut y = Buf::stale(n * ho * wo * c);
        y.par_chunks_mut(wo * c).enumerate().for_each(|(row, y)| {
            let (image, oy) = (&x.data()[row / ho * h * w * c..][..h * w * c], row % ho);
            simd(
                #[inline(always)]
                || {
                    for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                        y.fill(T::zero());
                        for iy in geo.span(oy, h) {
                            for ix in geo.span(ox, w) {
                                super::add(y, &image[(iy * w + ix) * c..][..c]);
                            }
                        }
                        let share = geo.share::<T>(oy, ox);
                        for y in y {
                            *y *= share;
                        }
                    }
                },
            );
        });
        let out = self.value([n, ho, wo, c], y);
        let (id, x_id) = (out.id, x.id);
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let mut dx = flow.take(x_id).unwrap_or_else(|| Buf::zeros(n * h * w * c));
            dx.par_chunks_mut(h * w * c).zip(g.par_chunks(ho * wo * c)).for_each(|(dx, g)| {
                simd(
                    #[inline(always)]
                    || {
                        for (o, g) in g.chunks_exact(c).enumerate() {
                            let (oy, ox) = (o / wo, o % wo);
                            let share = geo.share::<T>(oy, ox);
                            for iy in geo.span(oy, h) {
                                for ix in geo.span(ox, w) {
                                    let dx = &mut dx[(iy * w + ix) * c..][..c];
                                    for (dx, &g) in dx.iter_mut().zip(g) {
                                        *dx = g.fma(share, *dx);
                                    }
                                }
                            }
                        }
                    },
                );
            });
            flow.put(x_id, dx);
            Ok(())
        });
        Ok(out)
    }

    /// Maximum over windows. The gradient goes to the first maximum of a window in row-major order.
    ///
    /// # Errors
    /// When the windows do not fit.
    pub fn max_window(&mut self, x: &Value<T>, window: Window) -> Result<Value<T>> {
        let geo = Geometry::new(x.dims, window)?;
        if window.side > 15 {
            bail!("tape: maximum over windows of side {}", window.side)
        }
        let Geometry { h, w, c, ho, wo, .. } = geo;
        let n = x.dims[0];
        let mut y = Buf::stale(n * ho * wo * c);
        // Which position of the window it was.
        let mut at = vec![0u8; n * ho * wo * c];
        y.par_chunks_mut(wo * c).zip(at.par_chunks_mut(wo * c)).enumerate().for_each(|(row, (y, at))| {
            let (image, oy) = (&x.data()[row / ho * h * w * c..][..h * w * c], row % ho);
            simd(
                #[inline(always)]
                || {
                    for (ox, (y, at)) in y.chunks_exact_mut(c).zip(at.chunks_exact_mut(c)).enumerate() {
                        y.fill(T::of(f64::NEG_INFINITY));
                        let mut t = 0;
                        for iy in geo.span(oy, h) {
                            for ix in geo.span(ox, w) {
                                let x = &image[(iy * w + ix) * c..][..c];
                                for ((y, at), &x) in y.iter_mut().zip(at.iter_mut()).zip(x) {
                                    // The second test lets a NaN through.
                                    let better = x > *y || x.ne(&x);
                                    *y = if better { x } else { *y };
                                    *at = if better { t } else { *at };
                                }
                                t += 1;
                            }
                        }
                    }
                },
            );
        });
        let out = self.value([n, ho, wo, c], y);
        let (id, x_id) = (out.id, x.id);
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let mut dx = flow.take(x_id).unwrap_or_else(|| Buf::zeros(n * h * w * c));
            let len = ho * wo * c;
            dx.par_chunks_mut(h * w * c).zip(g.par_chunks(len)).zip(at.par_chunks(len)).for_each(|((dx, g), at)| {
                simd(
                    #[inline(always)]
                    || {
                        for (o, (g, at)) in g.chunks_exact(c).zip(at.chunks_exact(c)).enumerate() {
                            let mut t = 0u8;
                            for iy in geo.span(o / wo, h) {
                                for ix in geo.span(o % wo, w) {
                                    let dx = &mut dx[(iy * w + ix) * c..][..c];
                                    for ((dx, &g), &at) in dx.iter_mut().zip(g).zip(at) {
                                        *dx += if at == t { g } else { T::zero() };
                                    }
                                    t += 1;
                                }
                            }
                        }
                    },
                );
            });
            flow.put(x_id, dx);
            Ok(())
        });
        Ok(out)
    }
}
