//! What every CPU kernel shares: access to tensor data, splitting of work.

use std::borrow::Cow;

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, bail};

use crate::real::Real;

/// Number of partial sums a parallel reduction is split in. Fixed, so that results do
/// not depend on the number of threads.
pub(crate) const PARTS: usize = 16;

/// Elements a task of an elementwise kernel handles.
pub(crate) const GRAIN: usize = 1 << 14;

/// Runs `$body` with `$T` bound to the Rust type of a floating point dtype.
macro_rules! by_dtype {
    ($dtype:expr, $op:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => {
                candle_core::bail!("{}: dtype {other:?} is not supported, use f32 or f64", $op)
            }
        }
    };
}
pub(crate) use by_dtype;

/// Runs `f` compiled for the widest vector unit of this processor.
#[inline(always)]
pub(crate) fn simd<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// The elements of a storage in row-major order: borrowed when contiguous, else copied.
pub(crate) fn read<'a, T: Real>(s: &'a CpuStorage, l: &Layout) -> Result<Cow<'a, [T]>> {
    let all = T::cpu_storage_as_slice(s)?;
    if let Some((from, to)) = l.contiguous_offsets() {
        return Ok(Cow::Borrowed(&all[from..to]));
    }
    let mut out = Vec::with_capacity(l.shape().elem_count());
    gather(all, l.start_offset(), l.dims(), l.stride(), &mut out);
    Ok(Cow::Owned(out))
}

/// Appends the elements of a strided view in row-major order.
fn gather<T: Real>(all: &[T], at: usize, dims: &[usize], strides: &[usize], out: &mut Vec<T>) {
    match (dims, strides) {
        (&[n], &[1]) => out.extend_from_slice(&all[at..at + n]),
        (&[n], &[step]) => out.extend((0..n).map(|i| all[at + i * step])),
        (&[n, ref dims @ ..], &[step, ref strides @ ..]) => {
            for i in 0..n {
                gather(all, at + i * step, dims, strides, out);
            }
        }
        _ => out.push(all[at]),
    }
}

/// Calls `f` with the elements of a CPU tensor in row-major order.
pub(crate) fn with_data<T: Real, R>(t: &Tensor, f: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => Ok(f(&read::<T>(s, layout)?)),
        _ => bail!("a CPU kernel got a tensor on {:?}", t.device().location()),
    }
}

/// What a custom operator returns from its forward pass.
pub(crate) fn output<T: Real>(data: Vec<T>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(data), shape.into())
}

/// A new CPU tensor around `data`.
pub(crate) fn tensor<T: Real>(data: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &candle_core::Device::Cpu)
}

/// Length of each of at most [`PARTS`] consecutive parts of `n` items.
pub(crate) fn part_len(n: usize) -> usize {
    n.div_ceil(PARTS).max(1)
}

/// The four extents of an activation, or an error that names the operator.
pub(crate) fn nhwc(op: &str, x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    let &[n, h, w, c] = x.dims() else { bail!("{op}: expected an input of shape [N, H, W, C], got {:?}", x.dims()) };
    if n * h * w * c == 0 {
        bail!("{op}: the input of shape {:?} is empty", x.dims())
    }
    Ok((n, h, w, c))
}

/// Errors unless `v` has shape `[c]`.
pub(crate) fn channel_vector(op: &str, name: &str, v: &Tensor, c: usize) -> Result<()> {
    if v.dims() != [c] {
        bail!("{op}: {name} has shape {:?}, the input has {c} channels", v.dims())
    }
    Ok(())
}

/// Errors unless the two tensors have one dtype and one device.
pub(crate) fn alike(op: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype() != b.dtype() {
        bail!("{op}: inputs of different dtypes {:?} and {:?}", a.dtype(), b.dtype())
    }
    if !a.device().same_device(b.device()) {
        bail!("{op}: inputs on different devices")
    }
    Ok(())
}
