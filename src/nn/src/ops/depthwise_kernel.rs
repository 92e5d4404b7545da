//! Depthwise convolutions on the CPU, forward and backward, of one input with one or several kernels.
//!
//! Sixteen channels at a time, a range of rows is walked from top to bottom; every row is packed once for all kernels that
//! read it (see [`crate::strips`]). Weights are `[k, k, C]` here.

use rayon::prelude::*;

use crate::kernel::part_len;
use crate::pool::Buf;
use crate::real::Real;
use crate::strips::{LANES, Plain, Ring, Rows, TILE, Taps, correlate, tap_sums, unpack};

/// Fewest rows of a part: rows around it are packed for its neighbours too.
const LEAST_ROWS: usize = 14;

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

/// Weights `[k k, C]` in blocks of channels, `[blocks, taps, LANES]`, the taps in the order of the list.
fn blocks<T: Real>(weights: &[T], c: usize, taps: &(impl Iterator<Item = usize> + Clone)) -> Buf<T> {
    let mut out = Buf::zeros(c.div_ceil(LANES) * taps.clone().count() * LANES);
    let mut lanes = out.chunks_exact_mut(LANES);
    for_blocks(c, |_, (from, len)| {
        for (tap, to) in taps.clone().zip(&mut lanes) {
            to[..len].copy_from_slice(&weights[tap * c + from..][..len]);
        }
    });
    out
}

/// How the gradient of every `s`-th pixel of a row is made: from the same taps.
struct Phase {
    /// Columns of the kernel, such that the result's gradient is read from left to right.
    columns: Vec<usize>,
    /// Column of the gradient that the first one meets at the first pixel.
    first: isize,
    /// Columns of the gradient between two of them.
    spread: usize,
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

    fn taps(&self) -> Taps {
        Taps { count: self.k, spread: self.d, step: self.s }
    }

    /// The input row that tap row `ky` of output row `oy` reads.
    fn input_row(&self, oy: usize, ky: usize) -> Option<usize> {
        let y = (oy * self.s + ky * self.d).checked_sub(self.pad())?;
        (y < self.h).then_some(y)
    }

    /// The output row whose tap row `ky` reads input row `iy`.
    fn output_row(&self, iy: usize, ky: usize) -> Option<usize> {
        let y = (iy + self.pad()).checked_sub(ky * self.d)?;
        (y.is_multiple_of(self.s) && y / self.s < self.ho()).then_some(y / self.s)
    }

    fn phase(&self, phase: usize) -> Phase {
        let offset = |kx: usize| (phase + self.pad()) as isize - (kx * self.d) as isize;
        let s = self.s as isize;
        let columns: Vec<usize> = (0..self.k).rev().filter(|kx| offset(*kx).rem_euclid(s) == 0).collect();
        let first = columns.first().map_or(0, |kx| offset(*kx).div_euclid(s));
        let spread = columns.windows(2).next().map_or(1, |pair| (pair[0] - pair[1]) * self.d / self.s);
        Phase { columns, first, spread }
    }

    fn plain<'a, T>(&self, x: &'a [T]) -> Plain<'a, T> {
        Plain { data: x, line: self.w * self.c, c: self.c }
    }

    fn plain_out<'a, T>(&self, y: &'a [T]) -> Plain<'a, T> {
        Plain { data: y, line: self.wo() * self.c, c: self.c }
    }

    pub(crate) fn forward<T: Real>(&self, x: &[T], weights: &[T]) -> Vec<T> {
        let mut y = vec![T::zero(); self.n * self.ho() * self.wo() * self.c];
        forward(&[*self], &self.plain(x), &[weights], &mut [&mut y], || (), |(), _, _, _| ());
        y
    }

    pub(crate) fn input_gradient<T: Real>(&self, g: &[T], weights: &[T]) -> Vec<T> {
        let mut dx = vec![T::zero(); self.n * self.h * self.w * self.c];
        backward(&[*self], None, &[&self.plain_out(g)], &[weights], Some((&mut dx, false)));
        dx
    }

    /// `[k, k, C]`
    pub(crate) fn weight_gradient<T: Real>(&self, x: &[T], g: &[T]) -> Vec<T> {
        backward(&[*self], Some(&self.plain(x)), &[&self.plain_out(g)], &[&[]], None).remove(0)
    }
}

/// Rows of the result in a part, whole range.
fn part(geometry: &Geometry) -> usize {
    part_len(geometry.n * geometry.ho()).max(LEAST_ROWS)
}

/// Runs `f` for each block of channels: its number, first channel and channels.
fn for_blocks(c: usize, mut f: impl FnMut(usize, (usize, usize))) {
    for (block, from) in (0..c).step_by(LANES).enumerate() {
        f(block, (from, LANES.min(c - from)));
    }
}

fn ring_of_inputs<T: Real>(geometry: &Geometry, pad: usize) -> Ring<T> {
    let Geometry { w, s, .. } = *geometry;
    let width = ((geometry.wo().next_multiple_of(TILE) - 1) * s + 2 * pad + 1).max(pad + w);
    Ring::new(pad, w, width, 2 * pad + 1)
}

/// Overwrites each `y` with the result of its kernel; the geometries differ in it alone. `see` gets every row of a result
/// while it is in cache: the part's value of `init`, which kernel, the first channel, how many, and the strip
/// `[wo, LANES]`, which it may change before it is stored. Parts are fixed; their values come in order.
pub(crate) fn forward<T: Real, A: Send>(
    geometries: &[Geometry],
    x: &dyn Rows<T>,
    weights: &[&[T]],
    ys: &mut [&mut [T]],
    init: impl Fn() -> A + Sync,
    see: impl Fn(&mut A, usize, (usize, usize), &mut [T]) + Sync,
) -> Vec<A> {
    let shape = geometries[0];
    let (ho, wo, c, h) = (shape.ho(), shape.wo(), shape.c, shape.h);
    let (part, line) = (part(&shape), wo * c);
    let weights: Vec<Buf<T>> = geometries.iter().zip(weights).map(|(g, w)| blocks(w, c, &(0..g.k * g.k))).collect();
    let pad = geometries.iter().map(Geometry::pad).max().unwrap_or(0);
    by_part(ys, part * line)
        .into_par_iter()
        .enumerate()
        .map(|(p, mut ys)| {
            let mut seen = init();
            let mut strip = Buf::zeros(wo.next_multiple_of(TILE) * LANES);
            let (mut ring, mut taps) = (ring_of_inputs::<T>(&shape, pad), Vec::new());
            for_blocks(c, |block, channels| {
                ring.restart();
                for r in 0..ys[0].len() / line {
                    let (image, oy) = ((p * part + r) / ho, (p * part + r) % ho);
                    let centre = oy * shape.s;
                    let (first, last) = (centre.saturating_sub(pad), (centre + pad).min(h - 1));
                    ring.hold(x, channels, image * h + first, image * h + last);
                    for (b, (g, y)) in geometries.iter().zip(&mut ys).enumerate() {
                        let w = &weights[b][block * g.k * g.k * LANES..];
                        taps.clear();
                        taps.extend((0..g.k).filter_map(|ky| {
                            let row = image * h + g.input_row(oy, ky)?;
                            Some((ring.at(row, pad - g.pad()), ky * g.k * LANES))
                        }));
                        correlate(&mut strip, ring.data(), w, &taps, g.taps(), false);
                        let strip = &mut strip[..wo * LANES];
                        see(&mut seen, b, channels, strip);
                        unpack(strip, (&mut y[r * line..][..line], c), channels, (0, 1), false);
                    }
                }
            });
            seen
        })
        .collect()
}

/// Gradients: of the weights (`[k, k, C]` each, empty without `x`), and of the input, which is overwritten or added to.
/// `gs` are the gradients of the results.
pub(crate) fn backward<T: Real>(
    geometries: &[Geometry],
    x: Option<&dyn Rows<T>>,
    gs: &[&dyn Rows<T>],
    weights: &[&[T]],
    dx: Option<(&mut [T], bool)>,
) -> Vec<Vec<T>> {
    let shape = geometries[0];
    let Geometry { n, h, w, c, s, .. } = shape;
    let (ho, wo, part) = (shape.ho(), shape.wo(), part(&shape));
    let pad = geometries.iter().map(Geometry::pad).max().unwrap_or(0);
    let phases: Vec<Vec<Phase>> = geometries.iter().map(|g| (0..s.min(w)).map(|p| g.phase(p)).collect()).collect();
    let (mut dx, add) = dx.map_or((None, false), |(dx, add)| (Some(dx), add));
    // For each kernel and phase the weights of the rows of taps that it reads.
    let flipped: Vec<Vec<Buf<T>>> = if dx.is_none() {
        Vec::new()
    } else {
        let of = |(g, w): (&Geometry, &[T]), p: &Phase| {
            blocks(w, c, &(0..g.k).flat_map(|ky| p.columns.iter().map(move |kx| ky * g.k + kx)))
        };
        let pairs = geometries.iter().zip(weights.iter().copied());
        pairs.zip(&phases).map(|(pair, phases)| phases.iter().map(|p| of(pair, p)).collect()).collect()
    };
    let starts = (0..n * ho).step_by(part);
    let input_row = |row: usize| if row >= n * ho { n * h } else { row / ho * h + row % ho * s };
    let pieces: Vec<Option<&mut [T]>> = starts
        .clone()
        .map(|row| {
            let len = (input_row(row + part) - input_row(row)) * w * c;
            let rest = dx.take()?;
            let (piece, rest) = rest.split_at_mut(len);
            dx = Some(rest);
            Some(piece)
        })
        .collect();
    let sums: Vec<Vec<Buf<T>>> = pieces
        .into_par_iter()
        .zip(starts.collect::<Vec<_>>())
        .map(|(mut dx, start)| {
            let room = |g: &Geometry| if x.is_some() { c.div_ceil(LANES) * g.k * g.k * LANES } else { 0 };
            let mut sums: Vec<Buf<T>> = geometries.iter().map(|g| Buf::zeros(room(g))).collect();
            let mut strip = Buf::zeros(wo.next_multiple_of(TILE) * LANES);
            let mut inputs = ring_of_inputs::<T>(&shape, pad);
            let gradient_ring =
                |g: &Geometry| Ring::new(g.pad(), wo, 2 * g.pad() + wo.next_multiple_of(TILE), 2 * g.pad() + 1);
            let mut rings: Vec<Ring<T>> = geometries.iter().map(gradient_ring).collect();
            let (mut rows, mut taps) = (Vec::new(), Vec::new());
            for_blocks(c, |block, channels| {
                inputs.restart();
                rings.iter_mut().for_each(Ring::restart);
                for r in start..(start + part).min(n * ho) {
                    let (image, oy) = (r / ho, r % ho);
                    for ((g, ring), rows) in geometries.iter().zip(&mut rings).zip(gs) {
                        let (first, last) = (oy.saturating_sub(g.pad()), (oy + g.pad()).min(ho - 1));
                        ring.hold(*rows, channels, image * ho + first, image * ho + last);
                    }
                    if let Some(x) = x {
                        let (first, last) = ((oy * s).saturating_sub(pad), (oy * s + pad).min(h - 1));
                        inputs.hold(x, channels, image * h + first, image * h + last);
                        for ((g, ring), sums) in geometries.iter().zip(&rings).zip(&mut sums) {
                            let area = g.k * g.k * LANES;
                            let gradient = &ring.data()[ring.at(r, g.pad())..][..wo.next_multiple_of(TILE) * LANES];
                            let sums = &mut sums[block * area..][..area];
                            rows.clear();
                            let present = (0..g.k).filter_map(|ky| Some((ky, g.input_row(oy, ky)?)));
                            rows.extend(present.clone().map(|(_, y)| inputs.at(image * h + y, pad - g.pad())));
                            // The rows of taps that lie inside the image are consecutive.
                            let first = present.map(|(ky, _)| ky).next().unwrap_or(0);
                            tap_sums(&mut sums[first * g.k * LANES..], gradient, inputs.data(), &rows, g.taps());
                        }
                    }
                    let Some(dx) = &mut dx else { continue };
                    for iy in oy * s..h.min((oy + 1) * s) {
                        let row = image * h + iy - input_row(start);
                        let line = &mut dx[row * w * c..][..w * c];
                        for phase in 0..s.min(w) {
                            let count = (w - phase).div_ceil(s);
                            let strip = &mut strip[..count.next_multiple_of(TILE) * LANES];
                            for (b, (g, ring)) in geometries.iter().zip(&rings).enumerate() {
                                let Phase { columns, first, spread } = &phases[b][phase];
                                let len = columns.len() * LANES;
                                let weights = &flipped[b][phase][block * g.k * len..][..g.k * len];
                                let at = g.pad().saturating_add_signed(*first);
                                taps.clear();
                                taps.extend((0..g.k).rev().filter_map(|ky| {
                                    let row = image * ho + g.output_row(iy, ky)?;
                                    Some((ring.at(row, at), ky * len))
                                }));
                                let of_row = Taps { count: columns.len(), spread: *spread, step: 1 };
                                correlate(strip, ring.data(), weights, &taps, of_row, b > 0);
                            }
                            unpack(&strip[..count * LANES], (line, c), channels, (phase, s), add);
                        }
                    }
                }
            });
            sums
        })
        .collect();
    let mut total: Vec<Buf<T>> = geometries.iter().map(|_| Buf::stale(0)).collect();
    for part in sums {
        for (total, sums) in total.iter_mut().zip(part) {
            if total.is_empty() {
                *total = sums;
            } else {
                crate::kernel::simd(
                    #[inline(always)]
                    || total.iter_mut().zip(sums.iter()).for_each(|(t, &s)| *t += s),
                );
            }
        }
    }
    let unblocked = |(sums, g): (&Buf<T>, &Geometry)| {
        let mut out = vec![T::zero(); if sums.is_empty() { 0 } else { g.k * g.k * c }];
        for_blocks(c, |block, (from, len)| {
            let sums = &sums[(block * g.k * g.k * LANES).min(sums.len())..];
            for (to, sums) in out.chunks_exact_mut(c).zip(sums.chunks_exact(LANES)) {
                to[from..][..len].copy_from_slice(&sums[..len]);
            }
        });
        out
    };
    total.iter().zip(geometries).map(unblocked).collect()
}

/// Chunk `i` of every slice, for each `i`.
fn by_part<'a, T>(slices: &'a mut [&mut [T]], len: usize) -> Vec<Vec<&'a mut [T]>> {
    let mut out: Vec<Vec<&mut [T]>> = Vec::new();
    for slice in slices {
        for (i, chunk) in slice.chunks_mut(len).enumerate() {
            if out.len() == i {
                out.push(Vec::new());
            }
            out[i].push(chunk);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::Geometry;

    fn values(len: usize, seed: usize) -> Vec<f64> {
        (0..len).map(|i| (((i + seed) * 7919) % 61) as f64 / 32.0 - 1.0).collect()
    }

    /// Every shape against the sums of the definition: more and fewer channels than a strip has, widths around a tile's,
    /// parts that begin inside an image.
    #[test]
    fn results_and_gradients_are_the_sums_of_the_definition() {
        for (n, h, w, c) in [(1, 1, 1, 1), (2, 5, 7, 3), (1, 9, 16, 16), (3, 11, 9, 20), (1, 40, 19, 33)] {
            for (k, s, d) in [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 3, 1), (3, 1, 2), (3, 2, 2), (5, 1, 1)]
                .into_iter()
                .chain([(5, 2, 1), (5, 2, 2), (7, 1, 1), (7, 2, 1), (9, 1, 1), (9, 2, 1), (11, 1, 1), (5, 3, 2)])
            {
                let geometry = Geometry { n, h, w, c, k, s, d };
                let (ho, wo) = (geometry.ho(), geometry.wo());
                let (x, weights) = (values(n * h * w * c, 1), values(k * k * c, 2));
                let g = values(n * ho * wo * c, 3);
                let (mut y, mut dx, mut dw) = (vec![0.0; g.len()], vec![0.0; x.len()], vec![0.0; weights.len()]);
                for (i, (y, &g)) in y.iter_mut().zip(&g).enumerate() {
                    let (at, channel) = (i / c, i % c);
                    let (image, oy, ox) = (at / (ho * wo), at / wo % ho, at % wo);
                    for tap in 0..k * k {
                        let inside = |o: usize, t: usize, size: usize| {
                            (o * s + t * d).checked_sub(geometry.pad()).filter(|v| *v < size)
                        };
                        let (Some(iy), Some(ix)) = (inside(oy, tap / k, h), inside(ox, tap % k, w)) else { continue };
                        let from = ((image * h + iy) * w + ix) * c + channel;
                        *y += weights[tap * c + channel] * x[from];
                        dx[from] += weights[tap * c + channel] * g;
                        dw[tap * c + channel] += x[from] * g;
                    }
                }
                let near = |what: &str, got: &[f64], want: &[f64], tolerance: f64| {
                    for (i, (a, b)) in got.iter().zip(want).enumerate() {
                        assert!((a - b).abs() < tolerance, "{what} {i} of {geometry:?}: {a} {b}");
                    }
                };
                near("result", &geometry.forward(&x, &weights), &y, 1e-10);
                near("input gradient", &geometry.input_gradient(&g, &weights), &dx, 1e-10);
                near("weight gradient", &geometry.weight_gradient(&x, &g), &dw, 1e-9);
                let narrow = |v: &[f64]| -> Vec<f32> { v.iter().map(|&v| v as f32).collect() };
                let wide = |v: Vec<f32>| -> Vec<f64> { v.into_iter().map(f64::from).collect() };
                let (x, g, weights) = (narrow(&x), narrow(&g), narrow(&weights));
                near("result", &wide(geometry.forward(&x, &weights)), &y, 1e-4);
                near("input gradient", &wide(geometry.input_gradient(&g, &weights)), &dx, 1e-4);
                near("weight gradient", &wide(geometry.weight_gradient(&x, &g)), &dw, 1e-2);
            }
        }
    }
}
