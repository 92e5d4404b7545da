//! Depthwise convolution on its own, dilated if wanted.

use candle_core::{Result, bail};

use super::source::InputRows;
use super::{Tape, Value, Weight, prefix};
use crate::gemm::transposed;
use crate::ops::depthwise_kernel::{Geometry, backward, forward};
use crate::pool::Buf;
use crate::real::Real;
use crate::strips::{Plain, Rows};

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
        let taps = transposed(&prefix::<T>(w, c * k * k)?, k * k);
        let (ho, wo) = (geometry.ho(), geometry.wo());
        let mut y = Buf::stale(n * ho * wo * c);
        let input = x.input();
        let rows = InputRows { input: &input, w: wd, c };
        forward(&[geometry], &rows, &[&taps], &mut [&mut y], || (), |(), _, _, _| ());
        let out = self.value([n, ho, wo, c], y);
        let (id, x_id, saved, w) = (out.id, x.id, x.saved_for(self.wanted, false), w.clone());
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let rows = InputRows { input: &saved, w: wd, c };
            let parameters = flow.wanted.parameters();
            let (mut dx, adds) = flow.start(x_id, n * h * wd * c);
            let dw = backward(
                &[geometry],
                parameters.then_some(&rows as &dyn Rows<T>),
                &[&Plain { data: &g, line: wo * c, c }],
                &[&taps],
                x_id.is_some().then_some((&mut dx, adds)),
            );
            flow.put(x_id, dx);
            if parameters {
                super::add(flow.of(&w)?, &transposed(&dw[0], c));
            }
            Ok(())
        });
        Ok(out)
    }
}
