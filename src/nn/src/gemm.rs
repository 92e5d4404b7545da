//! Matrix products on slices, one thread each: callers divide the rows.
//!
//! The products of a network are long and thin (thousands of positions, 16 to 1152 channels) and their operands are in
//! cache already, so nothing is packed: a tile of the result is accumulated in registers, one row of `b` at a time.

use pulp::{Arch, Simd, WithSimd};

use crate::real::Real;

/// A matrix inside a slice: element `(r, c)` at `r * row_step + c * col_step`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
}

impl<'a, T> Mat<'a, T> {
    /// The first `cols` columns of rows that lie `row_step` apart.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize, row_step: usize) -> Self {
        Self { data, rows, cols, row_step, col_step: 1 }
    }

    pub(crate) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_step: self.col_step, col_step: self.row_step, ..self }
    }

    fn last(&self) -> usize {
        (self.rows - 1) * self.row_step + (self.cols - 1) * self.col_step
    }
}

/// The transpose of a row-major matrix with `cols` columns.
pub(crate) fn transposed<T: Real>(m: &[T], cols: usize) -> Vec<T> {
    /// Rows read together, so that whole lines of the result are written.
    const ROWS: usize = 16;
    let rows = m.len() / cols;
    let mut out = vec![T::zero(); m.len()];
    for (block, m) in m.chunks(ROWS * cols).enumerate() {
        for (c, to) in out.chunks_exact_mut(rows).enumerate() {
            let column = m[c..].iter().step_by(cols);
            to[block * ROWS..].iter_mut().zip(column).for_each(|(to, &v)| *to = v);
        }
    }
    out
}

/// `dst = a b`, or `dst += a b`, with rows of `dst` that lie `dst_step` apart. Rows of `b` are contiguous.
pub(crate) fn matmul<T: Real>(dst: &mut [T], dst_step: usize, a: Mat<'_, T>, b: Mat<'_, T>, add: bool) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(k == b.rows && n <= dst_step, "matmul: {m}x{k} by {}x{n}, row step {dst_step}", b.rows);
    assert!(b.col_step == 1, "matmul: rows of the second operand must be contiguous");
    assert!(a.last() < a.data.len() && b.last() < b.data.len() && (m - 1) * dst_step + n <= dst.len());
    let run = Run { dst, dst_step, a, b, add };
    #[cfg(target_arch = "x86_64")]
    if n * size_of::<T>() <= 32
        && let Some(narrow) = pulp::x86::V3::try_new()
    {
        return Simd::vectorize(narrow, run);
    }
    Arch::new().dispatch(run);
}

struct Run<'a, T> {
    dst: &'a mut [T],
    dst_step: usize,
    a: Mat<'a, T>,
    b: Mat<'a, T>,
    add: bool,
}

impl<T: Real> WithSimd for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let (lanes, n) = (T::lanes::<S>(), self.b.cols);
        let mut at = 0;
        while at < n {
            // At most three vectors wide; four are two and two, as one alone waits for its loads.
            let wide = match (n - at).div_ceil(lanes) {
                v @ 1..=3 => v,
                4 => 2,
                _ => 3,
            };
            let width = (n - at).min(wide * lanes);
            let last = width - (wide - 1) * lanes;
            match (wide, last == lanes) {
                (1, true) => self.panel::<S, 1, true>(s, at, last),
                (1, false) => self.panel::<S, 1, false>(s, at, last),
                (2, true) => self.panel::<S, 2, true>(s, at, last),
                (2, false) => self.panel::<S, 2, false>(s, at, last),
                (_, true) => self.panel::<S, 3, true>(s, at, last),
                (_, false) => self.panel::<S, 3, false>(s, at, last),
            }
            at += width;
        }
    }
}

impl<T: Real> Run<'_, T> {
    /// Columns from `at` on, `V` vectors of them, of which the last holds `last` (all of them when `FULL`).
    #[inline(always)]
    fn panel<S: Simd, const V: usize, const FULL: bool>(&mut self, s: S, at: usize, last: usize) {
        let rows = self.a.rows;
        let mut row = 0;
        if S::REGISTER_COUNT >= 32 {
            while row + 8 <= rows {
                self.tile::<S, 8, V, FULL>(s, row, at, last);
                row += 8;
            }
        }
        while row + 4 <= rows {
            self.tile::<S, 4, V, FULL>(s, row, at, last);
            row += 4;
        }
        while row < rows {
            self.tile::<S, 1, V, FULL>(s, row, at, last);
            row += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize, const FULL: bool>(
        &mut self,
        s: S,
        row: usize,
        at: usize,
        last: usize,
    ) {
        let lanes = T::lanes::<S>();
        let len = |v: usize| if v + 1 == V { last } else { lanes };
        let load = |from: &[T], v: usize| {
            if FULL || v + 1 < V { T::load::<S, true>(s, from) } else { T::load::<S, false>(s, from) }
        };
        let mut acc = [[T::zeros(s); V]; M];
        let (mut a, mut b) = (&raw const self.a.data[row * self.a.row_step], &raw const self.b.data[at]);
        for _ in 0..self.a.cols {
            #[expect(unsafe_code, reason = "checks of bounds would cost as much as the arithmetic")]
            // SAFETY: `matmul` asserts that the last elements of both matrices lie inside their slices. Rows up to
            // `row + M` and columns up to `at + width` exist (see `panel` and `with_simd`), so every element that is
            // read is one of the matrices'; pointers past them are made by wrapping and never read.
            unsafe {
                let b: [T::V<S>; V] =
                    std::array::from_fn(|v| load(std::slice::from_raw_parts(b.add(v * lanes), len(v)), v));
                for (m, acc) in acc.iter_mut().enumerate() {
                    let a = T::splat(s, *a.add(m * self.a.row_step));
                    for (acc, b) in acc.iter_mut().zip(b) {
                        *acc = T::vfma(s, a, b, *acc);
                    }
                }
            }
            a = a.wrapping_add(self.a.col_step);
            b = b.wrapping_add(self.b.row_step);
        }
        let one = T::splat(s, T::one());
        for (m, acc) in acc.into_iter().enumerate() {
            for (v, mut acc) in acc.into_iter().enumerate() {
                let to = &mut self.dst[(row + m) * self.dst_step + at + v * lanes..][..len(v)];
                if self.add {
                    acc = T::vfma(s, one, load(to, v), acc);
                }
                if FULL || v + 1 < V {
                    T::store::<S, true>(s, to, acc);
                } else {
                    T::store::<S, false>(s, to, acc);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mat, matmul, transposed};
    use crate::real::Real;

    /// All sizes around the tiles' edges, `a` as it lies and transposed, written over and added, against plain sums.
    fn agrees<T: Real>(tolerance: f64) {
        let value = |i: usize| T::of(((i * 7919) % 31) as f64 / 16.0 - 1.0);
        let (k, room) = (5, 3);
        for m in [1, 3, 4, 7, 8, 9, 13, 17] {
            for n in [1, 3, 8, 15, 16, 17, 31, 33, 48, 50, 64, 65, 97, 112] {
                let a: Vec<T> = (0..m * k).map(value).collect();
                let b: Vec<T> = (0..k * (n + room)).map(|i| value(i + 3)).collect();
                let lying = transposed(&a, k);
                for add in [false, true] {
                    let before: Vec<T> = (0..m * (n + room)).map(|i| value(i + 11)).collect();
                    let want = |r: usize, c: usize| {
                        let sum: f64 = (0..k).map(|p| a[r * k + p].wide() * b[p * (n + room) + c].wide()).sum();
                        if add { sum + before[r * (n + room) + c].wide() } else { sum }
                    };
                    for a in [Mat::new(&a, m, k, k), Mat::new(&lying, k, m, m).t()] {
                        let mut got = before.clone();
                        matmul(&mut got, n + room, a, Mat::new(&b, k, n, n + room), add);
                        for r in 0..m {
                            for c in 0..n {
                                let (got, want) = (got[r * (n + room) + c].wide(), want(r, c));
                                assert!((got - want).abs() <= tolerance, "{m}x{k}x{n} at {r}, {c}: {got} {want}");
                            }
                            let beyond = r * (n + room) + n..(r + 1) * (n + room);
                            assert!(got[beyond.clone()] == before[beyond], "{m}x{k}x{n}: wrote beyond row {r}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn products_are_those_of_plain_sums() {
        agrees::<f32>(1e-5);
        agrees::<f64>(1e-13);
    }
}
