//! Matrix products on slices, one thread each: callers divide the rows.

use ::gemm::Parallelism;

use crate::real::Real;

/// A matrix inside a slice: element `(r, c)` at `r * row_step + c * col_step`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_step: usize,
    pub(crate) col_step: usize,
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

/// `dst = a b`, or `dst += a b`, with rows of `dst` that lie `dst_step` apart.
pub(crate) fn matmul<T: Real>(dst: &mut [T], dst_step: usize, a: Mat<'_, T>, b: Mat<'_, T>, add: bool) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(k == b.rows && n <= dst_step, "matmul: {m}x{k} by {}x{n}, row step {dst_step}", b.rows);
    assert!(a.last() < a.data.len() && b.last() < b.data.len() && (m - 1) * dst_step + n <= dst.len());
    #[expect(unsafe_code, reason = "the library takes pointers")]
    // SAFETY: every element that is addressed lies inside its slice, as asserted; `dst` is borrowed mutably, so it
    // overlaps neither operand.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_step as isize,
            add,
            a.data.as_ptr(),
            a.col_step as isize,
            a.row_step as isize,
            b.data.as_ptr(),
            b.col_step as isize,
            b.row_step as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
