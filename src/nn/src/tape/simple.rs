//! Pools.

use candle_core::Result;

use super::{Tape, Value};
use crate::ops::pool::Pool;
use crate::pool::Buf;
use crate::real::Real;

impl<T: Real> Tape<T> {
    /// Mean over `k` x `k` windows with stride `k`; a remainder at the border is dropped.
    ///
    /// # Errors
    /// When the input is smaller than a window.
    pub fn avg_pool(&mut self, x: &Value<T>, k: usize) -> Result<Value<T>> {
        Ok(self.pool(x, Pool::of("avg_pool", x.dims, k, false)?))
    }

    /// Maximum over `k` x `k` windows with stride `k`; a remainder at the border is dropped. The gradient goes to the
    /// first maximum of a window in row-major order.
    ///
    /// # Errors
    /// When the input is smaller than a window.
    pub fn max_pool(&mut self, x: &Value<T>, k: usize) -> Result<Value<T>> {
        Ok(self.pool(x, Pool::of("max_pool", x.dims, k, true)?))
    }

    fn pool(&mut self, x: &Value<T>, pool: Pool) -> Value<T> {
        let (ho, wo) = pool.out();
        let mut y = Buf::stale(x.dims[0] * ho * wo * x.dims[3]);
        pool.forward_into(x.data(), &mut y);
        let out = self.value([x.dims[0], ho, wo, x.dims[3]], y);
        let (id, x_id, len) = (out.id, x.id, x.data().len());
        let saved = pool.max.then(|| x.saved());
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            let mut dx = flow.take(x_id).unwrap_or_else(|| Buf::zeros(len));
            let x = saved.map(super::Input::get);
            pool.add_backward(x.as_ref().map_or(&[][..], |x| &x[..]), &g, &mut dx);
            flow.put(x_id, dx);
            Ok(())
        });
        out
    }
}
