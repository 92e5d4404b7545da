//! Depthwise convolution on its own, dilated if wanted.

use candle_core::{Result, bail};

use super::{Tape, Value, Weight, prefix};
use crate::ops::depthwise_kernel::Geometry;
use crate::pool::Buf;
use crate::real::Real;

impl<T: Real> Tape<T> {
    /// Depthwise convolution with `w` `[C, 1, k, k]`, `k` odd, padded by `dilation (k - 1) / 2`.
    ///
    /// # Errors
    /// When shapes or dtypes do not fit.
    pub fn depthwise(&mut self, x: &Value<T>, w: &Weight, stride: usize, dilation: usize) -> Result<Value<T>> {
        let [n, h, wd, c] = x.dims;
        let k = match w.tensor.dims() {
            &[o, 1, k, other] if o == c && k == other && k % 2 == 1 && stride > 0 && dilation > 0 => k,
            d => bail!("tape: `{}` of shape {d:?} does not fit {c} channels with stride {stride}", w.name),
        };
        let geometry = Geometry { n, h, w: wd, c, k, s: stride, d: dilation };
        let taps = transposed(&prefix::<T>(w, c * k * k)?, c, k * k);
        let (ho, wo) = (geometry.ho(), geometry.wo());
        let mut y = Buf::stale(n * ho * wo * c);
        geometry.forward_into(&x.data, &taps, &mut y, || (), |(), _| ());
        let out = self.value([n, ho, wo, c], y, None);
        let (id, x_id, saved, w) = (out.id, x.id, x.saved_for(self.wanted, false), w.clone());
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            if flow.wanted.parameters() {
                let dw = geometry.weight_gradient(&saved.get(), &g);
                super::add(flow.of(&w)?, &transposed(&dw, k * k, c));
            }
            if x_id.is_some() {
                let (mut dx, adds) = flow.start(x_id, n * h * wd * c);
                geometry.input_gradient_into(&g, &taps, &mut dx, adds);
                flow.put(x_id, dx);
            }
            Ok(())
        });
        Ok(out)
    }
}

/// The transpose of a `[rows, cols]` matrix.
fn transposed<T: Real>(m: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..rows * cols).map(|i| m[i % rows * cols + i / rows]).collect()
}
