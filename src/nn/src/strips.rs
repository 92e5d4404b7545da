//! Rows of a map in the form that depthwise kernels read, and those kernels.
//!
//! A strip is one row of sixteen channels, `[width, 16]`, with zeros on both sides. Kernels then need no edges, no rest of
//! channels and one distance in memory: a tile of pixels is accumulated in registers, and every source pixel that is
//! loaded serves all the taps that it takes part in.

use pulp::{Arch, Simd, WithSimd};

use crate::kernel::simd;
use crate::pool::Buf;
use crate::real::Real;

/// Channels of a strip.
pub(crate) const LANES: usize = 16;

/// Pixels accumulated at once.
pub(crate) const TILE: usize = 8;

/// Where strips are packed from.
pub(crate) trait Rows<T>: Sync {
    /// Channels `from..from + len` (at most [`LANES`]) of every pixel of a row, rows counted over all images, as the first
    /// `len` values of each pixel of `to`, `[W, LANES]`.
    fn pack(&self, row: usize, from: usize, len: usize, to: &mut [T]);
}

/// Rows of a tensor `[N, H, W, C]`.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a, T> {
    pub(crate) data: &'a [T],
    /// Values in a row, `W C`.
    pub(crate) line: usize,
    pub(crate) c: usize,
}

impl<T: Real> Rows<T> for Plain<'_, T> {
    fn pack(&self, row: usize, from: usize, len: usize, to: &mut [T]) {
        let line = &self.data[row * self.line..][..self.line];
        simd(
            #[inline(always)]
            || {
                for (to, pixel) in to.chunks_exact_mut(LANES).zip(line.chunks_exact(self.c)) {
                    copy(to, &pixel[from..][..len]);
                }
            },
        );
    }
}

/// Adds a strip's pixels to every `step`-th pixel of a row from `first` on, or writes them there.
pub(crate) fn unpack<T: Real>(
    strip: &[T],
    (line, c): (&mut [T], usize),
    (from, len): (usize, usize),
    (first, step): (usize, usize),
    add: bool,
) {
    simd(
        #[inline(always)]
        || {
            for (strip, pixel) in strip.chunks_exact(LANES).zip(line[first * c..].chunks_mut(step * c)) {
                let pixel = &mut pixel[from..][..len];
                if add && len == LANES {
                    pixel[..LANES].iter_mut().zip(strip).for_each(|(p, &s)| *p += s);
                } else if add {
                    pixel.iter_mut().zip(strip).for_each(|(p, &s)| *p += s);
                } else {
                    copy(pixel, &strip[..len]);
                }
            }
        },
    );
}

/// Copies the shorter one's length; whole and half strips without a loop.
#[inline(always)]
pub(crate) fn copy<T: Real>(to: &mut [T], from: &[T]) {
    let len = to.len().min(from.len());
    if len == LANES {
        to[..LANES].copy_from_slice(&from[..LANES]);
        return;
    }
    let mut at = 0;
    if len >= LANES / 2 {
        to[..LANES / 2].copy_from_slice(&from[..LANES / 2]);
        at = LANES / 2;
    }
    for (to, &from) in to[at..len].iter_mut().zip(&from[at..]) {
        *to = from;
    }
}

/// The newest rows of a map as strips, each packed once while a kernel moves down.
pub(crate) struct Ring<T: Real> {
    data: Buf<T>,
    left: usize,
    pixels: usize,
    width: usize,
    slots: usize,
    next: usize,
}

impl<T: Real> Ring<T> {
    /// For rows of `pixels`, with `left` zeros before them, `width` in all; `slots` rows are held.
    pub(crate) fn new(left: usize, pixels: usize, width: usize, slots: usize) -> Self {
        Self { data: Buf::zeros(slots * width * LANES), left, pixels, width, slots, next: 0 }
    }

    /// Forgets the rows; what stands before and after them stays zero.
    pub(crate) fn restart(&mut self) {
        self.next = 0;
    }

    /// Makes rows `first..=last` available, which are no more than there are slots, and later than those before.
    pub(crate) fn hold(&mut self, rows: &dyn Rows<T>, (from, len): (usize, usize), first: usize, last: usize) {
        for row in self.next.max(first)..=last {
            let at = (row % self.slots * self.width + self.left) * LANES;
            rows.pack(row, from, len, &mut self.data[at..][..self.pixels * LANES]);
        }
        self.next = last + 1;
    }

    /// All of it: [`Ring::at`] says where.
    pub(crate) fn data(&self) -> &[T] {
        &self.data
    }

    /// Where column `column - left` of a row that is held begins.
    pub(crate) fn at(&self, row: usize, column: usize) -> usize {
        (row % self.slots * self.width + column) * LANES
    }
}

/// Runs the block for each source pixel `j` of a tile with `taps` taps and a step. Written out, since only then the
/// accumulators stay in registers.
macro_rules! source_pixels {
    ($j:ident in $taps:ident, $step:ident $body:block) => {
        source_pixels!(@ $j $taps $step $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22);
    };
    (@ $j:ident $taps:ident $step:ident $body:block) => {};
    (@ $j:ident $taps:ident $step:ident $body:block $at:literal $($more:literal)*) => {
        if $at < (TILE - 1) * $step + $taps {
            let $j: usize = $at;
            $body
        }
        source_pixels!(@ $j $taps $step $body $($more)*);
    };
}

/// How taps lie in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taps {
    /// How many.
    pub(crate) count: usize,
    /// Pixels between two of them (dilation).
    pub(crate) spread: usize,
    /// Source pixels from one result to the next (stride).
    pub(crate) step: usize,
}

/// `out[i] = Σ over rows, taps j of weight[j] source[i step + j spread]`, or added to `out`; all `[_, LANES]`. `out` is a
/// number of whole tiles. For each row of taps `rows` says where its source and its weights begin.
pub(crate) fn correlate<T: Real>(
    out: &mut [T],
    source: &[T],
    weights: &[T],
    rows: &[(usize, usize)],
    taps: Taps,
    add: bool,
) {
    Arch::new().dispatch(Correlate { out, source, weights, rows, taps, add });
}

struct Correlate<'a, T> {
    out: &'a mut [T],
    source: &'a [T],
    weights: &'a [T],
    rows: &'a [(usize, usize)],
    taps: Taps,
    add: bool,
}

impl<T: Real> WithSimd for Correlate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let Taps { count, spread, step } = self.taps;
        for lane in (0..LANES).step_by(T::lanes::<S>()) {
            match (count, step, spread) {
                (1, 1, _) => self.slide::<S, 1, 1>(s, lane),
                (2, 1, 1) => self.slide::<S, 2, 1>(s, lane),
                (3, 1, 1) => self.slide::<S, 3, 1>(s, lane),
                (4, 1, 1) => self.slide::<S, 4, 1>(s, lane),
                (5, 1, 1) => self.slide::<S, 5, 1>(s, lane),
                (7, 1, 1) => self.slide::<S, 7, 1>(s, lane),
                (9, 1, 1) => self.slide::<S, 9, 1>(s, lane),
                (3, 2, 1) => self.slide::<S, 3, 2>(s, lane),
                (5, 2, 1) => self.slide::<S, 5, 2>(s, lane),
                (7, 2, 1) => self.slide::<S, 7, 2>(s, lane),
                (9, 2, 1) => self.slide::<S, 9, 2>(s, lane),
                _ => self.any::<S>(s, lane),
            }
        }
    }
}

impl<T: Real> Correlate<'_, T> {
    #[inline(always)]
    fn start<S: Simd>(&self, s: S, tile: usize, lane: usize) -> [T::V<S>; TILE] {
        let mut acc = [T::zeros(s); TILE];
        if self.add {
            for (t, acc) in acc.iter_mut().enumerate() {
                *acc = T::load::<S, true>(s, &self.out[(tile * TILE + t) * LANES + lane..][..T::lanes::<S>()]);
            }
        }
        acc
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, tile: usize, lane: usize, acc: [T::V<S>; TILE]) {
        for (t, acc) in acc.into_iter().enumerate() {
            T::store::<S, true>(s, &mut self.out[(tile * TILE + t) * LANES + lane..][..T::lanes::<S>()], acc);
        }
    }

    #[inline(always)]
    fn slide<S: Simd, const K: usize, const STEP: usize>(&mut self, s: S, lane: usize) {
        let lanes = T::lanes::<S>();
        for tile in 0..self.out.len() / (TILE * LANES) {
            let mut acc = self.start(s, tile, lane);
            for &(source, weights) in self.rows {
                let source = &self.source[source + tile * TILE * STEP * LANES..][..((TILE - 1) * STEP + K) * LANES];
                let weights = &self.weights[weights..][..K * LANES];
                let w: [T::V<S>; K] =
                    std::array::from_fn(|j| T::load::<S, true>(s, &weights[j * LANES + lane..][..lanes]));
                source_pixels!(j in K, STEP {
                    let x = T::load::<S, true>(s, &source[j * LANES + lane..][..lanes]);
                    for (t, acc) in acc.iter_mut().enumerate() {
                        if t * STEP <= j && j < t * STEP + K {
                            *acc = T::vfma(s, x, w[j - t * STEP], *acc);
                        }
                    }
                });
            }
            self.finish(s, tile, lane, acc);
        }
    }

    #[inline(always)]
    fn any<S: Simd>(&mut self, s: S, lane: usize) {
        let lanes = T::lanes::<S>();
        let Taps { count, spread, step } = self.taps;
        for tile in 0..self.out.len() / (TILE * LANES) {
            let mut acc = self.start(s, tile, lane);
            for &(source, weights) in self.rows {
                let (source, weights) = (&self.source[source..], &self.weights[weights..]);
                for j in 0..count {
                    let w = T::load::<S, true>(s, &weights[j * LANES + lane..][..lanes]);
                    for (t, acc) in acc.iter_mut().enumerate() {
                        let at = ((tile * TILE + t) * step + j * spread) * LANES + lane;
                        *acc = T::vfma(s, T::load::<S, true>(s, &source[at..][..lanes]), w, *acc);
                    }
                }
            }
            self.finish(s, tile, lane, acc);
        }
    }
}

/// `sums[v][j] += Σ over i of g[i] source[i step + j spread]` from where each row `v` of the source begins; `g` is a number
/// of whole tiles.
pub(crate) fn tap_sums<T: Real>(sums: &mut [T], g: &[T], source: &[T], rows: &[usize], taps: Taps) {
    Arch::new().dispatch(TapSums { sums, g, source, rows, taps });
}

struct TapSums<'a, T> {
    sums: &'a mut [T],
    g: &'a [T],
    source: &'a [T],
    rows: &'a [usize],
    taps: Taps,
}

impl<T: Real> WithSimd for TapSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let Taps { count, spread, step } = self.taps;
        for lane in (0..LANES).step_by(T::lanes::<S>()) {
            match (self.rows.len(), count, step, spread) {
                (3, 3, 1, 1) => self.slide::<S, 3, 1, 3>(s, lane, 0),
                (3, 3, 2, 1) => self.slide::<S, 3, 2, 3>(s, lane, 0),
                (rows, 5, 1, 1) => (0..rows).for_each(|v| self.slide::<S, 5, 1, 1>(s, lane, v)),
                (rows, 7, 1, 1) => (0..rows).for_each(|v| self.slide::<S, 7, 1, 1>(s, lane, v)),
                (rows, 9, 1, 1) => (0..rows).for_each(|v| self.slide::<S, 9, 1, 1>(s, lane, v)),
                (rows, 5, 2, 1) => (0..rows).for_each(|v| self.slide::<S, 5, 2, 1>(s, lane, v)),
                (rows, 7, 2, 1) => (0..rows).for_each(|v| self.slide::<S, 7, 2, 1>(s, lane, v)),
                (rows, 9, 2, 1) => (0..rows).for_each(|v| self.slide::<S, 9, 2, 1>(s, lane, v)),
                (rows, ..) => (0..rows).for_each(|v| self.any::<S>(s, lane, v)),
            }
        }
    }
}

impl<T: Real> TapSums<'_, T> {
    /// Rows `v..v + V`.
    #[inline(always)]
    fn slide<S: Simd, const K: usize, const STEP: usize, const V: usize>(&mut self, s: S, lane: usize, v: usize) {
        let lanes = T::lanes::<S>();
        let sums = &mut self.sums[v * K * LANES..][..V * K * LANES];
        let mut acc = [[T::zeros(s); K]; V];
        for (i, acc) in acc.as_flattened_mut().iter_mut().enumerate() {
            *acc = T::load::<S, true>(s, &sums[i * LANES + lane..][..lanes]);
        }
        for (tile, g) in self.g.chunks_exact(TILE * LANES).enumerate() {
            let g: [T::V<S>; TILE] = std::array::from_fn(|t| T::load::<S, true>(s, &g[t * LANES + lane..][..lanes]));
            for (acc, row) in acc.iter_mut().zip(&self.rows[v..]) {
                let source = &self.source[row + tile * TILE * STEP * LANES..][..((TILE - 1) * STEP + K) * LANES];
                source_pixels!(j in K, STEP {
                    let x = T::load::<S, true>(s, &source[j * LANES + lane..][..lanes]);
                    for (t, &g) in g.iter().enumerate() {
                        if t * STEP <= j && j < t * STEP + K {
                            acc[j - t * STEP] = T::vfma(s, x, g, acc[j - t * STEP]);
                        }
                    }
                });
            }
        }
        for (i, acc) in acc.as_flattened().iter().enumerate() {
            T::store::<S, true>(s, &mut sums[i * LANES + lane..][..lanes], *acc);
        }
    }

    #[inline(always)]
    fn any<S: Simd>(&mut self, s: S, lane: usize, v: usize) {
        let lanes = T::lanes::<S>();
        let Taps { count, spread, step } = self.taps;
        let source = &self.source[self.rows[v]..];
        for j in 0..count {
            let mut acc = [T::zeros(s); TILE];
            for (tile, g) in self.g.chunks_exact(TILE * LANES).enumerate() {
                for (t, acc) in acc.iter_mut().enumerate() {
                    let at = ((tile * TILE + t) * step + j * spread) * LANES + lane;
                    let g = T::load::<S, true>(s, &g[t * LANES + lane..][..lanes]);
                    *acc = T::vfma(s, T::load::<S, true>(s, &source[at..][..lanes]), g, *acc);
                }
            }
            let to = &mut self.sums[(v * count + j) * LANES + lane..][..lanes];
            let one = T::splat(s, T::one());
            let sum = acc.into_iter().fold(T::load::<S, true>(s, to), |sum, acc| T::vfma(s, one, acc, sum));
            T::store::<S, true>(s, to, sum);
        }
    }
}
