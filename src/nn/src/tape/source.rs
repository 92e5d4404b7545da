//! Values that are computed again, piece by piece, rather than kept: norms and activations are cheaper than memory.

use std::sync::Arc;

use rayon::prelude::*;

use super::norm::Affine;
use super::passes::{BLOCK, finish_to};
use crate::act::{Act, by_act};
use crate::kernel::simd;
use crate::ops::Activation;
use crate::pool::Buf;
use crate::real::Real;
use crate::strips::{LANES, Plain, Rows, copy};

/// Computes values of an activation `[N, H, W, C]`.
pub(super) trait Source<T: Real>: Send + Sync {
    /// How many positions of how many channels.
    fn size(&self) -> (usize, usize);

    /// Positions from `first` on, all channels of each.
    fn fill(&self, first: usize, to: &mut [T]);

    /// Channels `from..from + len` of the positions from `first` on, as [`Rows::pack`] has it.
    fn pack(&self, first: usize, (from, len): (usize, usize), to: &mut [T]) {
        let (_, c) = self.size();
        let mut whole = vec![T::zero(); to.len() / LANES * c];
        self.fill(first, &mut whole);
        for (to, pixel) in to.chunks_exact_mut(LANES).zip(whole.chunks_exact(c)) {
            copy(to, &pixel[from..][..len]);
        }
    }

    /// All of them.
    fn all(&self) -> Buf<T> {
        let (positions, c) = self.size();
        let mut out = Buf::stale(positions * c);
        out.par_chunks_mut(BLOCK * c).enumerate().for_each(|(b, out)| self.fill(b * BLOCK, out));
        out
    }
}

/// Values that are read piece by piece.
#[derive(Clone)]
pub(super) enum Input<T: Real> {
    Kept(Arc<Buf<T>>),
    Again(Arc<dyn Source<T>>),
}

impl<T: Real> Input<T> {
    /// For a gradient that is not wanted.
    pub(super) fn none() -> Self {
        Self::Kept(Arc::new(Buf::stale(0)))
    }

    /// All values.
    pub(super) fn get(self) -> Arc<Buf<T>> {
        match self {
            Self::Kept(data) => data,
            Self::Again(source) => Arc::new(source.all()),
        }
    }

    /// `count` positions from `first` on; in `room` when they are computed.
    pub(super) fn positions<'a>(&'a self, first: usize, count: usize, c: usize, room: &'a mut Buf<T>) -> &'a [T] {
        match self {
            Self::Kept(data) => &data[first * c..][..count * c],
            Self::Again(source) => {
                let room = room.at_least(count * c);
                source.fill(first, room);
                room
            }
        }
    }
}

/// Rows of `w` positions of an input.
pub(super) struct InputRows<'a, T: Real> {
    pub(super) input: &'a Input<T>,
    pub(super) w: usize,
    pub(super) c: usize,
}

impl<T: Real> Rows<T> for InputRows<'_, T> {
    fn pack(&self, row: usize, from: usize, len: usize, to: &mut [T]) {
        match self.input {
            Input::Kept(data) => Plain { data, line: self.w * self.c, c: self.c }.pack(row, from, len, to),
            Input::Again(source) => source.pack(row * self.w, (from, len), to),
        }
    }
}

/// `act(scale y + shift)`
pub(super) struct Normed<T: Real> {
    pub(super) y: Buf<T>,
    pub(super) affine: Affine<T>,
    pub(super) act: Activation,
}

impl<T: Real> Source<T> for Normed<T> {
    fn size(&self) -> (usize, usize) {
        let c = self.affine.scale.len();
        (self.y.len() / c, c)
    }

    fn fill(&self, first: usize, to: &mut [T]) {
        let y = &self.y[first * self.affine.scale.len()..][..to.len()];
        finish_to(to, y, &self.affine, None, self.act);
    }

    fn pack(&self, first: usize, (from, len): (usize, usize), to: &mut [T]) {
        let (_, c) = self.size();
        let (mut scale, mut shift) = ([T::zero(); LANES], [T::zero(); LANES]);
        copy(&mut scale[..len], &self.affine.scale[from..]);
        copy(&mut shift[..len], &self.affine.shift[from..]);
        let pixels = to.chunks_exact_mut(LANES).zip(self.y[first * c..].chunks_exact(c));
        by_act!(self.act, A => simd(#[inline(always)] || {
            if len == LANES {
                for (to, y) in pixels {
                    strip_act::<T, A>(&mut to[..LANES], &y[from..][..LANES], &scale, &shift);
                }
            } else {
                let mut room = [T::zero(); LANES];
                for (to, y) in pixels {
                    copy(&mut room[..len], &y[from..]);
                    strip_act::<T, A>(&mut to[..LANES], &room, &scale, &shift);
                }
            }
        }));
    }
}

#[inline(always)]
fn strip_act<T: Real, A: Act>(to: &mut [T], y: &[T], scale: &[T; LANES], shift: &[T; LANES]) {
    for i in 0..LANES {
        to[i] = A::f(y[i].fma(scale[i], shift[i]));
    }
}
