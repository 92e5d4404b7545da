//! Reverse-mode differentiation for weight-sharing networks on the CPU.
//!
//! candle's own graph keeps every activation until the end, adds each gradient to a tensor of zeros, and pads the
//! gradient of a slice to the whole parameter. A [`Tape`] records blocks (convolution, batch norm and activation as one)
//! and runs them backward once: gradients of parameters are added in place where the slice lies, activations that are
//! cheap to compute again are not kept, and every buffer is freed when its last reader has run and used again.
//! Results do not depend on the number of threads.

mod classify;
mod depthwise;
mod fuse;
mod gate;
mod layout;
mod mix;
mod norm;
mod passes;
mod plain_depthwise;
mod pointwise;
mod raw;
mod simple;
mod source;
mod stem;
mod window;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Tensor, bail};

use crate::kernel::with_data;
use crate::ops::BatchStats;
use crate::pool::Buf;
pub use crate::real::Real;

pub use depthwise::Branch;
pub use mix::{Factor, Part, Term};
pub use pointwise::{After, Gate};
pub use raw::Raw;
use source::{Input, Source};
pub use window::Window;

/// Which gradients a backward pass is to give. What only the others need is neither kept nor computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// Of parameters and of factors of sums.
    #[default]
    All,
    /// Of parameters alone.
    Parameters,
    /// Of the factors of [`Tape::mix`] alone.
    Factors,
}

impl Wanted {
    fn parameters(self) -> bool {
        self != Self::Factors
    }

    fn factors(self) -> bool {
        self != Self::Parameters
    }
}

/// A parameter and its name.
#[derive(Debug, Clone)]
pub struct Weight {
    /// Under which its gradient is found.
    pub name: String,
    /// All of it; operators read the part they need.
    pub tensor: Tensor,
}

/// A batch norm: its parameters, and its statistics unless those of the batch are to be used.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Under which the statistics of the batch are reported.
    pub name: String,
    /// Scale and shift of each channel, of which the first ones are read; one and zero without them.
    pub affine: Option<(Weight, Weight)>,
    /// Mean and variance to use instead of those of the batch; nothing is recorded then.
    pub fixed: Option<(Tensor, Tensor)>,
    /// Added to the variance.
    pub eps: f64,
}

/// An activation `[N, H, W, C]`.
pub struct Value<T: Real> {
    id: Option<usize>,
    dims: [usize; 4],
    /// Made when something reads it as a whole.
    data: Arc<OnceLock<Arc<Buf<T>>>>,
    /// What computes it again.
    source: Option<Arc<dyn Source<T>>>,
}

impl<T: Real> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { id: self.id, dims: self.dims, data: self.data.clone(), source: self.source.clone() }
    }
}

impl<T: Real> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("id", &self.id).field("dims", &self.dims).finish_non_exhaustive()
    }
}

impl<T: Real> Value<T> {
    /// `[N, H, W, C]`
    pub fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.dims[3]
    }

    /// A copy as a tensor.
    ///
    /// # Errors
    /// When candle cannot make the tensor.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Tensor::from_slice(self.data(), &self.dims, &Device::Cpu)
    }

    /// All values.
    fn data(&self) -> &Arc<Buf<T>> {
        self.data.get_or_init(|| {
            let empty = || Arc::new(Buf::stale(0));
            self.source.as_ref().map_or_else(empty, |s| Arc::new(s.all()))
        })
    }

    /// For what reads the values piece by piece: as they are, or as they are computed.
    fn input(&self) -> Input<T> {
        match (&self.source, self.data.get()) {
            (Some(source), None) => Input::Again(source.clone()),
            _ => Input::Kept(self.data().clone()),
        }
    }

    /// What the gradient of a parameter needs of these values: nothing where it is not wanted.
    fn saved_for(&self, wanted: Wanted, anyway: bool) -> Input<T> {
        if wanted.parameters() || anyway { self.saved() } else { Input::none() }
    }

    /// What a backward pass needs to have these values.
    fn saved(&self) -> Input<T> {
        match &self.source {
            Some(source) => Input::Again(source.clone()),
            None => Input::Kept(self.data().clone()),
        }
    }
}

type Step<T> = Box<dyn FnOnce(&mut Flow<'_, T>) -> Result<()> + Send>;

/// A record of blocks that ran forward.
pub struct Tape<T: Real> {
    steps: Vec<Step<T>>,
    recording: bool,
    wanted: Wanted,
    values: usize,
    /// Statistics of every batch norm that used those of the batch, by name, in the order of the blocks.
    pub seen: Vec<(String, BatchStats)>,
}

impl<T: Real> fmt::Debug for Tape<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape")
            .field("steps", &self.steps.len())
            .field("recording", &self.recording)
            .finish_non_exhaustive()
    }
}

impl<T: Real> Tape<T> {
    /// An empty tape. Without `recording` blocks run forward only, and keep nothing.
    pub fn new(recording: bool) -> Self {
        Self { steps: Vec::new(), recording, wanted: Wanted::All, values: 0, seen: Vec::new() }
    }

    /// An empty tape that records for these gradients only.
    pub fn recording(wanted: Wanted) -> Self {
        Self { wanted, ..Self::new(true) }
    }

    /// An input `[N, H, W, C]` that takes no gradient.
    ///
    /// # Errors
    /// When the tensor has another rank, dtype or device.
    pub fn constant(&mut self, x: &Tensor) -> Result<Value<T>> {
        let (n, h, w, c) = x.dims4()?;
        let data = with_data::<T, _>(x, |x| Buf::copy(x))?;
        Ok(Value { id: None, dims: [n, h, w, c], data: kept(data), source: None })
    }

    /// An input `[N, H, W, C]` whose gradient is added under the weight's name.
    ///
    /// # Errors
    /// When the tensor has another rank, dtype or device.
    pub fn variable(&mut self, w: &Weight) -> Result<Value<T>> {
        let constant = self.constant(&w.tensor)?;
        let x = self.value(constant.dims, constant.data().clone());
        let (id, w) = (x.id, w.clone());
        self.record(move |flow| {
            let Some(g) = flow.take(id) else { return Ok(()) };
            add(flow.of(&w)?, &g);
            Ok(())
        });
        Ok(x)
    }

    /// Adds to `grads` the gradients of the parameters, given those of some values. Values that are still held are
    /// copied where they would otherwise be overwritten.
    ///
    /// # Errors
    /// When a gradient does not fit its value.
    pub fn backward(mut self, seeds: Vec<(Value<T>, Tensor)>, grads: &mut Gradients<T>) -> Result<()> {
        let mut flow = Flow { acts: (0..self.values).map(|_| None).collect(), wanted: self.wanted, grads };
        for (value, g) in seeds {
            if value.dims[..] != *g.dims() {
                bail!("tape: a gradient of shape {:?} for a value of shape {:?}", g.dims(), value.dims)
            }
            let g = with_data::<T, _>(&g, |g| Buf::copy(g))?;
            flow.give(value.id, g);
        }
        while let Some(step) = self.steps.pop() {
            step(&mut flow)?;
        }
        Ok(())
    }

    fn record(&mut self, step: impl FnOnce(&mut Flow<'_, T>) -> Result<()> + Send + 'static) {
        if self.recording {
            self.steps.push(Box::new(step));
        }
    }

    fn value(&mut self, dims: [usize; 4], data: impl Into<Arc<Buf<T>>>) -> Value<T> {
        Value { id: self.next_id(), dims, data: kept(data), source: None }
    }

    /// A value that is computed piece by piece when it is read.
    fn computed(&mut self, dims: [usize; 4], source: Arc<impl Source<T> + 'static>) -> Value<T> {
        Value { id: self.next_id(), dims, data: Arc::default(), source: Some(source) }
    }

    fn next_id(&mut self) -> Option<usize> {
        let id = self.recording.then_some(self.values);
        self.values += 1;
        id
    }
}

fn kept<T: Real>(data: impl Into<Arc<Buf<T>>>) -> Arc<OnceLock<Arc<Buf<T>>>> {
    Arc::new(OnceLock::from(data.into()))
}

/// Summed gradients of parameters.
#[derive(Debug, Default)]
pub struct Gradients<T> {
    by_name: BTreeMap<String, (Vec<usize>, Vec<T>)>,
}

impl<T: Real> Gradients<T> {
    /// None yet.
    pub fn new() -> Self {
        Self { by_name: BTreeMap::new() }
    }

    /// The gradients by parameter name; a parameter that nothing used has none.
    ///
    /// # Errors
    /// When candle cannot make a tensor.
    pub fn into_tensors(self) -> Result<BTreeMap<String, Tensor>> {
        let tensor = |(name, (dims, data))| Ok((name, Tensor::from_vec(data, dims, &Device::Cpu)?));
        self.by_name.into_iter().map(tensor).collect()
    }
}

/// Gradients on their way backward.
struct Flow<'a, T: Real> {
    acts: Vec<Option<Buf<T>>>,
    wanted: Wanted,
    grads: &'a mut Gradients<T>,
}

impl<T: Real> Flow<'_, T> {
    /// The complete gradient of a value; none when no loss depends on it.
    fn take(&mut self, id: Option<usize>) -> Option<Buf<T>> {
        self.acts.get_mut(id?)?.take()
    }

    /// The gradient of a value so far, to be added to (`true`), or a stale buffer to be overwritten; empty for a value
    /// that takes none.
    fn start(&mut self, id: Option<usize>, len: usize) -> (Buf<T>, bool) {
        match self.take(id) {
            Some(g) => (g, true),
            None => (Buf::stale(if id.is_some() { len } else { 0 }), false),
        }
    }

    fn put(&mut self, id: Option<usize>, g: Buf<T>) {
        if let Some(slot) = id.and_then(|id| self.acts.get_mut(id)) {
            *slot = Some(g);
        }
    }

    /// Adds a gradient that was computed on its own.
    fn give(&mut self, id: Option<usize>, g: Buf<T>) {
        let g = match self.take(id) {
            Some(mut sum) => {
                add_parallel(&mut sum, &g);
                sum
            }
            None => g,
        };
        self.put(id, g);
    }

    /// The summed gradient of a parameter, all of it.
    fn of(&mut self, w: &Weight) -> Result<&mut [T]> {
        if !self.grads.by_name.contains_key(&w.name) {
            let zeros = vec![T::zero(); w.tensor.elem_count()];
            self.grads.by_name.insert(w.name.clone(), (w.tensor.dims().to_vec(), zeros));
        }
        match self.grads.by_name.get_mut(&w.name) {
            Some((dims, g)) if dims == w.tensor.dims() => Ok(g),
            _ => bail!("tape: two parameters are called `{}`", w.name),
        }
    }
}

#[inline(always)]
fn add<T: Real>(to: &mut [T], from: &[T]) {
    for (a, &b) in to.iter_mut().zip(from) {
        *a += b;
    }
}

fn add_parallel<T: Real>(to: &mut [T], from: &[T]) {
    use rayon::prelude::*;
    let grain = crate::kernel::GRAIN;
    to.par_chunks_mut(grain).zip(from.par_chunks(grain)).for_each(|(a, b)| {
        crate::kernel::simd(
            #[inline(always)]
            || add(a, b),
        );
    });
}

/// The first `len` values of a parameter.
fn prefix<T: Real>(w: &Weight, len: usize) -> Result<Vec<T>> {
    match with_data::<T, _>(&w.tensor, |v| v.get(..len).map(<[T]>::to_vec))? {
        Some(v) => Ok(v),
        None => bail!("tape: `{}` has shape {:?}, {len} values are needed", w.name, w.tensor.dims()),
    }
}
