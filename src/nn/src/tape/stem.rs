//! Dense convolution.

use std::sync::Arc;

use candle_core::{Result, bail};

use super::pointwise::{After, Kernel};
use super::{Recipe, Tape, Value, Weight};
use crate::ops::conv::Conv;
use crate::pool::Buf;
use crate::real::Real;

impl<T: Real> Tape<T> {
    /// Convolution of an input that takes no gradient, padded by half the kernel, to `out` channels with the first rows
    /// and columns of `w` `[O, I, k, k]`.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit, or the input takes a gradient.
    pub fn conv(
        &mut self,
        x: &Value<T>,
        w: &Weight,
        out: usize,
        stride: usize,
        after: After<'_, T>,
    ) -> Result<Value<T>> {
        let ([n, h, wd, c], k) = (x.dims, w.tensor.dim(2)?);
        if stride == 0 || x.id.is_some() {
            bail!("tape: `{}`: stride {stride}, or an input that takes a gradient", w.name)
        }
        let conv = Conv { n, h, w: wd, c, k, stride, padding: k / 2 };
        let ((ho, wo), (rows, cols)) = (conv.out(), conv.patches());
        let image = x.data.clone();
        let patches: Recipe<T> = Arc::new(move || {
            let mut out = Buf::zeros(rows * cols);
            conv.im2col_into(&image, &mut out);
            out
        });
        let x = Value { id: None, dims: [n, ho, wo, cols], data: Arc::new(patches()), again: Some(patches) };
        self.convolve(&x, None, &Kernel::new(w, out, c, k)?, after)
    }
}
