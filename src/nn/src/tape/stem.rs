//! Dense convolution.

use std::sync::Arc;

use candle_core::{Result, bail};

use super::pointwise::{After, Kernel};
use super::{Recipe, Tape, Value, Weight};
use crate::ops::conv::Conv;
use crate::pool::Buf;
use crate::real::Real;

impl<T: Real> Tape<T> {
    /// Convolution padded by half the kernel, to `out` channels with the first rows and columns of `w` `[O, I, k, k]`.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit.
    pub fn conv(
        &mut self,
        x: &Value<T>,
        w: &Weight,
        out: usize,
        stride: usize,
        after: After<'_, T>,
    ) -> Result<Value<T>> {
        let ([n, h, wd, c], k) = (x.dims, w.tensor.dim(2)?);
        if stride == 0 {
            bail!("tape: `{}`: stride {stride}", w.name)
        }
        let conv = Conv { n, h, w: wd, c, k, stride, padding: k / 2 };
        let ((ho, wo), (rows, cols)) = (conv.out(), conv.patches());
        let image = x.data.clone();
        let patches: Recipe<T> = Arc::new(move || {
            let mut out = Buf::zeros(rows * cols);
            conv.im2col_into(&image, &mut out);
            out
        });
        let dims = [n, ho, wo, cols];
        let data = Arc::new(patches());
        if x.id.is_none() {
            let x = Value { id: None, dims, data, again: Some(patches) };
            return self.convolve(&x, None, &Kernel::new(w, out, c, k)?, after);
        }
        let patches = self.value(dims, data, Some(patches));
        let (id, x_id) = (patches.id, x.id);
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            flow.give(x_id, Buf::copy(&conv.col2im(&g)));
            Ok(())
        });
        self.convolve(&patches, None, &Kernel::new(w, out, c, k)?, after)
    }
}
