//! Dense convolution.

use std::sync::Arc;

use candle_core::{Result, bail};

use super::pointwise::{After, Kernel};
use super::source::Source;
use super::{Tape, Value, Weight};
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
        let ((ho, wo), (_, cols)) = (conv.out(), conv.patches());
        let dims = [n, ho, wo, cols];
        let source = Arc::new(Patches { image: x.data().clone(), conv });
        if x.id.is_none() {
            let x = Value { id: None, dims, data: Arc::default(), source: Some(source) };
            return self.convolve(&x, None, &Kernel::new(w, out, c, k)?, after);
        }
        let patches = self.computed(dims, source);
        let (id, x_id) = (patches.id, x.id);
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            flow.give(x_id, Buf::copy(&conv.col2im(&g)));
            Ok(())
        });
        self.convolve(&patches, None, &Kernel::new(w, out, c, k)?, after)
    }
}

/// The patches of an image, `[N, H', W', k k I]`.
struct Patches<T: Real> {
    image: Arc<Buf<T>>,
    conv: Conv,
}

impl<T: Real> Source<T> for Patches<T> {
    fn size(&self) -> (usize, usize) {
        self.conv.patches()
    }

    fn fill(&self, first: usize, to: &mut [T]) {
        let (_, cols) = self.conv.patches();
        for (i, patch) in to.chunks_exact_mut(cols).enumerate() {
            self.conv.patch(&self.image, first + i, patch);
        }
    }
}
