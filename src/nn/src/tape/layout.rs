//! Values put together, taken apart and reordered.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::{Tape, Value, add};
use crate::pool::Buf;
use crate::real::Real;

/// Positions handled by one task.
const ROWS: usize = 512;

/// Copies, or adds, `len` channels of every position.
fn channels<T: Real>(to: (&mut [T], usize, usize), from: (&[T], usize, usize), len: usize, adds: bool) {
    let ((to, to_c, to_at), (from, from_c, from_at)) = (to, from);
    to.par_chunks_mut(ROWS * to_c).zip(from.par_chunks(ROWS * from_c)).for_each(|(to, from)| {
        for (to, from) in to.chunks_exact_mut(to_c).zip(from.chunks_exact(from_c)) {
            let (to, from) = (&mut to[to_at..to_at + len], &from[from_at..from_at + len]);
            if adds {
                add(to, from);
            } else {
                to.copy_from_slice(from);
            }
        }
    });
}

impl<T: Real> Tape<T> {
    /// Values of one size after each other along the channels.
    ///
    /// # Errors
    /// When there are none, or sizes differ.
    pub fn concat(&mut self, xs: &[Value<T>]) -> Result<Value<T>> {
        let Some(first) = xs.first() else { bail!("tape: nothing to concatenate") };
        let [n, h, w, _] = first.dims;
        if xs.iter().any(|x| x.dims[..3] != first.dims[..3]) {
            bail!("tape: {:?} cannot be concatenated", xs.iter().map(|x| x.dims).collect::<Vec<_>>())
        }
        let c: usize = xs.iter().map(Value::channels).sum();
        let mut y = Buf::stale(n * h * w * c);
        let mut at = 0;
        for x in xs {
            channels((&mut y, c, at), (x.data(), x.channels(), 0), x.channels(), false);
            at += x.channels();
        }
        let out = self.value([n, h, w, c], y);
        let (id, parts) = (out.id, xs.iter().map(|x| (x.id, x.channels())).collect::<Vec<_>>());
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let mut at = 0;
            for (id, len) in parts {
                if id.is_some() {
                    let (mut dx, adds) = flow.start(id, n * h * w * len);
                    channels((&mut dx, len, 0), (&g, c, at), len, adds);
                    flow.put(id, dx);
                }
                at += len;
            }
            Ok(())
        });
        Ok(out)
    }

    /// Channels `from..from + len`.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn channels(&mut self, x: &Value<T>, from: usize, len: usize) -> Result<Value<T>> {
        let [n, h, w, c] = x.dims;
        if len == 0 || from + len > c {
            bail!("tape: channels {from}..{} of {c}", from + len)
        }
        let mut y = Buf::stale(n * h * w * len);
        channels((&mut y, len, 0), (x.data(), c, from), len, false);
        let out = self.value([n, h, w, len], y);
        let (id, x_id) = (out.id, x.id);
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let mut dx = flow.take(x_id).unwrap_or_else(|| Buf::zeros(n * h * w * c));
            channels((&mut dx, c, from), (&g, len, 0), len, true);
            flow.put(x_id, dx);
            Ok(())
        });
        Ok(out)
    }

    /// Channel `i` of group `g` becomes channel `i groups + g`.
    ///
    /// # Errors
    /// When the channels do not divide into the groups.
    pub fn shuffle(&mut self, x: &Value<T>, groups: usize) -> Result<Value<T>> {
        let c = x.channels();
        if groups == 0 || !c.is_multiple_of(groups) {
            bail!("tape: {c} channels in {groups} groups")
        }
        let order: Vec<usize> = (0..c).map(|k| k % groups * (c / groups) + k / groups).collect();
        let mut y = Buf::stale(x.data().len());
        y.par_chunks_mut(ROWS * c).zip(x.data().par_chunks(ROWS * c)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                y.iter_mut().zip(&order).for_each(|(y, &k)| *y = x[k]);
            }
        });
        let out = self.value(x.dims, y);
        let (id, x_id) = (out.id, x.id);
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let mut dx = Buf::stale(g.len());
            dx.par_chunks_mut(ROWS * c).zip(g.par_chunks(ROWS * c)).for_each(|(dx, g)| {
                for (dx, g) in dx.chunks_exact_mut(c).zip(g.chunks_exact(c)) {
                    g.iter().zip(&order).for_each(|(&g, &k)| dx[k] = g);
                }
            });
            flow.give(x_id, dx);
            Ok(())
        });
        Ok(out)
    }

    /// Every second pixel of every second row, and the pixels below and right of them, along the channels:
    /// `[N, H, W, C]` to `[N, H / 2, W / 2, 2 C]`.
    ///
    /// # Errors
    /// When height or width is odd.
    pub fn halves(&mut self, x: &Value<T>) -> Result<Value<T>> {
        let [n, h, w, c] = x.dims;
        if h % 2 + w % 2 > 0 {
            bail!("tape: {h} x {w} positions cannot be halved: height and width must be even")
        }
        let (ho, wo) = (h / 2, w / 2);
        let mut y = Buf::stale(n * ho * wo * 2 * c);
        y.par_chunks_mut(wo * 2 * c).enumerate().for_each(|(row, y)| {
            let x = &x.data()[2 * row * w * c..][..2 * w * c];
            for (ox, y) in y.chunks_exact_mut(2 * c).enumerate() {
                let (a, b) = y.split_at_mut(c);
                a.copy_from_slice(&x[2 * ox * c..][..c]);
                b.copy_from_slice(&x[(w + 2 * ox + 1) * c..][..c]);
            }
        });
        let out = self.value([n, ho, wo, 2 * c], y);
        let (id, x_id) = (out.id, x.id);
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let mut dx = flow.take(x_id).unwrap_or_else(|| Buf::zeros(n * h * w * c));
            dx.par_chunks_mut(2 * w * c).zip(g.par_chunks(wo * 2 * c)).for_each(|(dx, g)| {
                for (ox, g) in g.chunks_exact(2 * c).enumerate() {
                    add(&mut dx[2 * ox * c..][..c], &g[..c]);
                    add(&mut dx[(w + 2 * ox + 1) * c..][..c], &g[c..]);
                }
            });
            flow.put(x_id, dx);
            Ok(())
        });
        Ok(out)
    }
}
