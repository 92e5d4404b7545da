//! CPU kernels of the depthwise convolution. Channels are the vector; a tile of output
//! pixels is accumulated in registers over all taps. Weights are `[k, k, C]` here.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::kernel::part_len;
use crate::real::Real;

/// Pixels accumulated at once.
const TILE: usize = 8;

/// Runs the block for every pixel `j` that a tile and `K` taps cover. Written out, since
/// only then the accumulators stay in registers.
macro_rules! source_pixels {
    ($j:ident in $k:ident $body:block) => {
        source_pixels!(@ $j $k $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    };
    (@ $j:ident $k:ident $body:block) => {};
    (@ $j:ident $k:ident $body:block $at:literal $($more:literal)*) => {
        if $at < TILE + $k - 1 {
            let $j: usize = $at;
            $body
        }
        source_pixels!(@ $j $k $body $($more)*);
    };
}

/// Shapes of one depthwise convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) k: usize,
    /// Stride.
    pub(crate) s: usize,
    /// Dilation.
    pub(crate) d: usize,
}

impl Geometry {
    pub(crate) fn ho(&self) -> usize {
        (self.h - 1) / self.s + 1
    }

    pub(crate) fn wo(&self) -> usize {
        (self.w - 1) / self.s + 1
    }

    fn pad(&self) -> usize {
        self.d * (self.k - 1) / 2
    }

    fn group(&self) -> usize {
        if self.s == 1 && self.d == 1 { self.k } else { 0 }
    }

    /// The input row that tap `ky` of output row `oy` reads.
    fn input_row(&self, oy: usize, ky: usize) -> Option<usize> {
        let y = (oy * self.s + ky * self.d).checked_sub(self.pad())?;
        (y < self.h).then_some(y)
    }

    pub(crate) fn forward<T: Real>(&self, x: &[T], weights: &[T]) -> Vec<T> {
        let mut y = vec![T::zero(); self.n * self.ho() * self.wo() * self.c];
        self.forward_into(x, weights, &mut y, || (), |(), _| ());
        y
    }

    /// Overwrites `y`, in fixed parts; `see` gets each row while it is in cache, with its part's value of `init`.
    pub(crate) fn forward_into<T: Real, A: Send>(
        &self,
        x: &[T],
        weights: &[T],
        y: &mut [T],
        init: impl Fn() -> A + Sync,
        see: impl Fn(&mut A, &mut [T]) + Sync,
    ) -> Vec<A> {
        let (ho, row_len) = (self.ho(), self.wo() * self.c);
        let part = part_len(self.n * ho);
        y.par_chunks_mut(part * row_len)
            .enumerate()
            .map(|(p, y)| {
                let mut seen = init();
                for (r, dst) in y.chunks_exact_mut(row_len).enumerate() {
                    self.forward_row(x, weights, p * part + r, dst);
                    see(&mut seen, dst);
                }
                seen
            })
            .collect()
    }

    pub(crate) fn forward_row<T: Real>(&self, x: &[T], weights: &[T], row: usize, dst: &mut [T]) {
        let (ho, wo, c) = (self.ho(), self.wo(), self.c);
        {
            let (img, oy) = (row / ho, row % ho);
            let mut taps = Vec::with_capacity(self.k * self.k);
            for ky in 0..self.k {
                let Some(iy) = self.input_row(oy, ky) else {
                    continue;
                };
                taps.extend((0..self.k).map(|kx| Tap {
                    row: (img * self.h + iy) * self.w,
                    dx: (kx * self.d) as isize - self.pad() as isize,
                    weight: ky * self.k + kx,
                }));
            }
            let run = Run {
                dst,
                src: x,
                weights,
                w_step: c,
                w_at: 0,
                taps: &taps,
                c,
                src_w: self.w,
                first: 0,
                out_step: 1,
                count: wo,
                in_step: self.s,
                group: self.group(),
                add: false,
            };
            dispatch::<T>(c, run);
        }
    }

    pub(crate) fn input_gradient<T: Real>(&self, g: &[T], weights: &[T]) -> Vec<T> {
        let mut dx = vec![T::zero(); self.n * self.h * self.w * self.c];
        self.input_gradient_into(g, weights, &mut dx, false);
        dx
    }

    /// Overwrites `dx`, or adds to it.
    pub(crate) fn input_gradient_into<T: Real>(&self, g: &[T], weights: &[T], dx: &mut [T], add: bool) {
        let (ho, wo, c, s) = (self.ho(), self.wo(), self.c, self.s);
        dx.par_chunks_mut(self.w * c).enumerate().for_each(|(row, dst)| {
            let (img, iy) = (row / self.h, row % self.h);
            let mut taps = Vec::with_capacity(self.k * self.k);
            // Pixels of one phase (column modulo stride) are reached by the same taps.
            for phase in 0..s.min(self.w) {
                taps.clear();
                for ky in (0..self.k).rev() {
                    let Some(y) = (iy + self.pad()).checked_sub(ky * self.d) else {
                        continue;
                    };
                    if y % s != 0 || y / s >= ho {
                        continue;
                    }
                    for kx in (0..self.k).rev() {
                        let x = (phase + self.pad()) as isize - (kx * self.d) as isize;
                        if x.rem_euclid(s as isize) == 0 {
                            taps.push(Tap {
                                row: (img * ho + y / s) * wo,
                                dx: x.div_euclid(s as isize),
                                weight: ky * self.k + kx,
                            });
                        }
                    }
                }
                let count = (self.w - phase).div_ceil(s);
                let run = Run {
                    dst: &mut *dst,
                    src: g,
                    weights,
                    w_step: c,
                    w_at: 0,
                    taps: &taps,
                    c,
                    src_w: wo,
                    first: phase,
                    out_step: s,
                    count,
                    in_step: 1,
                    group: self.group(),
                    add,
                };
                dispatch::<T>(c, run);
            }
        });
    }

    /// Gradient of the weights, `[k, k, C]`: partial sums over fixed ranges of output
    /// rows, then added in order.
    pub(crate) fn weight_gradient<T: Real>(&self, x: &[T], g: &[T]) -> Vec<T> {
        let rows = self.n * self.ho();
        let part = part_len(rows);
        let parts: Vec<Vec<T>> = (0..rows.div_ceil(part))
            .into_par_iter()
            .map(|p| {
                let mut dw = vec![T::zero(); self.k * self.k * self.c];
                let rows = p * part..rows.min((p + 1) * part);
                dispatch::<T>(self.c, WeightRun { dw: &mut dw, dw_step: self.c, dw_at: 0, x, g, rows, geo: *self });
                dw
            })
            .collect();
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_default();
        for p in parts {
            for (a, b) in sum.iter_mut().zip(p) {
                *a += b;
            }
        }
        sum
    }
}

/// Runs `f` with the widest vectors that `c` channels fill.
fn dispatch<T: Real>(c: usize, f: impl WithSimd<Output = ()>) {
    #[cfg(target_arch = "x86_64")]
    if c * size_of::<T>() < 64
        && let Some(narrow) = pulp::x86::V3::try_new()
    {
        return Simd::vectorize(narrow, f);
    }
    Arch::new().dispatch(f);
}

/// One kernel position as seen from a destination row.
struct Tap {
    /// Index of the first pixel of the source row.
    row: usize,
    /// Source column read for the destination pixel 0.
    dx: isize,
    /// Index of the weight.
    weight: usize,
}

/// Destination pixels `first + i * out_step`, `i < count`, as sums over the taps of
/// weight times the source pixel in column `dx + i * in_step`.
struct Run<'a, T> {
    dst: &'a mut [T],
    src: &'a [T],
    /// Of tap `t` and channel `i`: `t * w_step + w_at + i`, with `w_at` moved along with the channels.
    weights: &'a [T],
    w_step: usize,
    w_at: usize,
    taps: &'a [Tap],
    c: usize,
    src_w: usize,
    first: usize,
    out_step: usize,
    count: usize,
    in_step: usize,
    /// The taps come in groups of this many with consecutive `dx`, and both steps are
    /// one: a source pixel then serves several taps. Zero when it is not so.
    group: usize,
    /// Whether the sums are added to what is there.
    add: bool,
}

impl<T: Real> WithSimd for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let lanes = T::lanes::<S>();
        let full = self.c / lanes * lanes;
        for c0 in (0..full).step_by(lanes) {
            self.w_at = c0;
            self.channels::<S, true>(s, c0, lanes);
        }
        if full == self.c {
            return;
        }
        if full == 0 {
            return self.channels::<S, false>(s, 0, self.c);
        }
        // The rest, with channels that were done before to make a whole vector: the same values again, or, where
        // values are added, with weights of zero.
        let c0 = self.c - lanes;
        self.w_at = c0;
        if !self.add {
            return self.channels::<S, true>(s, c0, lanes);
        }
        let mut weights = Vec::with_capacity(self.weights.len() / self.c * lanes);
        for w in self.weights.chunks_exact(self.c) {
            weights.extend((c0..self.c).map(|i| if i < full { T::zero() } else { w[i] }));
        }
        let mut rest = Run { weights: &weights, w_step: lanes, w_at: 0, ..self };
        rest.channels::<S, true>(s, c0, lanes);
    }
}

impl<T: Real> Run<'_, T> {
    #[inline(always)]
    fn channels<S: Simd, const FULL: bool>(&mut self, s: S, c0: usize, len: usize) {
        let mut i = 0;
        while i + TILE <= self.count {
            match self.group {
                3 => self.slide::<S, FULL, 3>(s, c0, len, i),
                5 => self.slide::<S, FULL, 5>(s, c0, len, i),
                7 => self.slide::<S, FULL, 7>(s, c0, len, i),
                9 => self.slide::<S, FULL, 9>(s, c0, len, i),
                _ => self.tile::<S, FULL, TILE>(s, c0, len, i),
            }
            i += TILE;
        }
        while i < self.count {
            self.tile::<S, FULL, 1>(s, c0, len, i);
            i += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const FULL: bool, const N: usize>(&mut self, s: S, c0: usize, len: usize, i: usize) {
        let (c, step, width) = (self.c, self.in_step, self.src_w as isize);
        let mut acc = [T::zeros(s); N];
        if self.add {
            for (t, acc) in acc.iter_mut().enumerate() {
                let at = (self.first + (i + t) * self.out_step) * c + c0;
                *acc = T::load::<S, FULL>(s, &self.dst[at..][..len]);
            }
        }
        for tap in self.taps {
            let x0 = tap.dx + (i * step) as isize;
            let x1 = x0 + ((N - 1) * step) as isize;
            if x1 < 0 || x0 >= width {
                continue;
            }
            let w = T::load::<S, FULL>(s, &self.weights[tap.weight * self.w_step + self.w_at..][..len]);
            if x0 >= 0 && x1 < width {
                let src = &self.src[(tap.row + x0 as usize) * c + c0..];
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = T::vfma(s, T::load::<S, FULL>(s, &src[t * step * c..][..len]), w, *acc);
                }
            } else {
                for (t, acc) in acc.iter_mut().enumerate() {
                    let x = x0 + (t * step) as isize;
                    if x >= 0 && x < width {
                        let src = &self.src[(tap.row + x as usize) * c + c0..][..len];
                        *acc = T::vfma(s, T::load::<S, FULL>(s, src), w, *acc);
                    }
                }
            }
        }
        for (t, &acc) in acc.iter().enumerate() {
            let to = (self.first + (i + t) * self.out_step) * c + c0;
            T::store::<S, FULL>(s, &mut self.dst[to..][..len], acc);
        }
    }
}

impl<T: Real> Run<'_, T> {
    /// A tile whose taps come in groups of `K`: every source pixel is loaded once for all
    /// the products it takes part in.
    #[inline(always)]
    fn slide<S: Simd, const FULL: bool, const K: usize>(&mut self, s: S, c0: usize, len: usize, i: usize) {
        let start = self.taps.first().map_or(0, |t| t.dx) + i as isize;
        if start < 0 || start as usize + TILE + K - 1 > self.src_w {
            self.slide_from::<S, FULL, K, true>(s, c0, len, i, start);
        } else {
            self.slide_from::<S, FULL, K, false>(s, c0, len, i, start);
        }
    }

    #[inline(always)]
    fn slide_from<S: Simd, const FULL: bool, const K: usize, const EDGE: bool>(
        &mut self,
        s: S,
        c0: usize,
        len: usize,
        i: usize,
        start: isize,
    ) {
        let c = self.c;
        let mut acc = [T::zeros(s); TILE];
        if self.add {
            for (t, acc) in acc.iter_mut().enumerate() {
                let at = (self.first + i + t) * c + c0;
                *acc = T::load::<S, FULL>(s, &self.dst[at..][..len]);
            }
        }
        for taps in self.taps.chunks_exact(K) {
            let w: [T::V<S>; K] = std::array::from_fn(|j| {
                T::load::<S, FULL>(s, &self.weights[taps[j].weight * self.w_step + self.w_at..][..len])
            });
            let row = taps[0].row as isize;
            source_pixels!(j in K {
                let at = start + j as isize;
                if !EDGE || (at >= 0 && at < self.src_w as isize) {
                    let from = (row + at) as usize * c + c0;
                    let x = T::load::<S, FULL>(s, &self.src[from..][..len]);
                    for (t, acc) in acc.iter_mut().enumerate() {
                        if t <= j && j < t + K {
                            *acc = T::vfma(s, x, w[j - t], *acc);
                        }
                    }
                }
            });
        }
        for (t, &acc) in acc.iter().enumerate() {
            let to = (self.first + i + t) * c + c0;
            T::store::<S, FULL>(s, &mut self.dst[to..][..len], acc);
        }
    }
}

/// Adds the weight gradient of some output rows to `dw`.
struct WeightRun<'a, T> {
    dw: &'a mut [T],
    dw_step: usize,
    dw_at: usize,
    x: &'a [T],
    g: &'a [T],
    rows: std::ops::Range<usize>,
    geo: Geometry,
}

impl<T: Real> WithSimd for WeightRun<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let lanes = T::lanes::<S>();
        let c = self.geo.c;
        let full = c / lanes * lanes;
        for c0 in (0..full).step_by(lanes) {
            self.dw_at = c0;
            self.channels::<S, true>(s, c0, lanes);
        }
        if full == 0 {
            self.channels::<S, false>(s, 0, c);
        } else if full < c {
            // A whole vector that ends at the last channel; of its sums only those that are missing are used.
            let c0 = c - lanes;
            let mut sums = vec![T::zero(); self.dw.len() / c * lanes];
            let mut rest = WeightRun {
                dw: &mut sums,
                dw_step: lanes,
                dw_at: 0,
                x: self.x,
                g: self.g,
                rows: self.rows.clone(),
                geo: self.geo,
            };
            rest.channels::<S, true>(s, c0, lanes);
            for (dw, sums) in self.dw.chunks_exact_mut(c).zip(sums.chunks_exact(lanes)) {
                dw[full..].copy_from_slice(&sums[full - c0..]);
            }
        }
    }
}

impl<T: Real> WeightRun<'_, T> {
    #[inline(always)]
    fn channels<S: Simd, const FULL: bool>(&mut self, s: S, c0: usize, len: usize) {
        let geo = self.geo;
        for row in self.rows.clone() {
            let (img, oy) = (row / geo.ho(), row % geo.ho());
            for ky in 0..geo.k {
                let Some(iy) = geo.input_row(oy, ky) else {
                    continue;
                };
                let src = (img * geo.h + iy) * geo.w;
                match geo.k {
                    3 => self.taps::<S, FULL, 3>(s, c0, len, row, src, ky, 0),
                    5 => self.taps::<S, FULL, 5>(s, c0, len, row, src, ky, 0),
                    7 => self.taps::<S, FULL, 7>(s, c0, len, row, src, ky, 0),
                    9 => self.taps::<S, FULL, 9>(s, c0, len, row, src, ky, 0),
                    k => {
                        for kx in 0..k {
                            self.taps::<S, FULL, 1>(s, c0, len, row, src, ky, kx);
                        }
                    }
                }
            }
        }
    }

    /// `K` taps of kernel row `ky` from `kx` on.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "inlined inner loop")]
    fn taps<S: Simd, const FULL: bool, const K: usize>(
        &mut self,
        s: S,
        c0: usize,
        len: usize,
        row: usize,
        src: usize,
        ky: usize,
        kx: usize,
    ) {
        let Geometry { w, c, k, s: stride, d, .. } = self.geo;
        let (wo, pad) = (self.geo.wo(), self.geo.pad());
        let mut acc = [T::zeros(s); K];
        for (j, acc) in acc.iter_mut().enumerate() {
            *acc = T::load::<S, FULL>(s, &self.dw[(ky * k + kx + j) * self.dw_step + self.dw_at..][..len]);
        }
        let tiled = if K > 1 && stride == 1 && d == 1 { wo / TILE * TILE } else { 0 };
        for ox in (0..tiled).step_by(TILE) {
            let start = ox as isize - pad as isize;
            let g: [T::V<S>; TILE] =
                std::array::from_fn(|t| T::load::<S, FULL>(s, &self.g[(row * wo + ox + t) * c + c0..][..len]));
            source_pixels!(j in K {
                let at = start + j as isize;
                if at >= 0 && at < w as isize {
                    let from = (src + at as usize) * c + c0;
                    let x = T::load::<S, FULL>(s, &self.x[from..][..len]);
                    for (tap, acc) in acc.iter_mut().enumerate() {
                        if tap <= j && j < tap + TILE {
                            *acc = T::vfma(s, x, g[j - tap], *acc);
                        }
                    }
                }
            });
        }
        for ox in tiled..wo {
            let g = T::load::<S, FULL>(s, &self.g[(row * wo + ox) * c + c0..][..len]);
            let x0 = ox * stride + kx * d;
            if x0 >= pad && x0 + (K - 1) * d < w + pad {
                let x = &self.x[(src + x0 - pad) * c + c0..];
                for (j, acc) in acc.iter_mut().enumerate() {
                    *acc = T::vfma(s, T::load::<S, FULL>(s, &x[j * d * c..][..len]), g, *acc);
                }
            } else {
                for (j, acc) in acc.iter_mut().enumerate() {
                    let x = x0 + j * d;
                    if x >= pad && x < w + pad {
                        let x = &self.x[(src + x - pad) * c + c0..][..len];
                        *acc = T::vfma(s, T::load::<S, FULL>(s, x), g, *acc);
                    }
                }
            }
        }
        for (j, &acc) in acc.iter().enumerate() {
            T::store::<S, FULL>(s, &mut self.dw[(ky * k + kx + j) * self.dw_step + self.dw_at..][..len], acc);
        }
    }
}
