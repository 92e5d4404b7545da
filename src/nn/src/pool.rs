//! Reused buffers: large blocks fresh from the system cost a page fault every 4 kB.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::real::Real;

/// Shorter buffers are left to the allocator.
const SMALL: usize = 1 << 12;

/// Bytes that a buffer starts at a multiple of: loads of whole registers then touch one cache line each.
const ALIGNMENT: usize = 64;

/// Free buffers of one type by length, and what is in use.
pub struct Pool<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    free: BTreeMap<usize, Vec<Vec<T>>>,
    free_len: usize,
    live: usize,
    /// Most that was ever in use: free buffers beyond it are given back.
    peak: usize,
}

impl<T: Real> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State { free: BTreeMap::new(), free_len: 0, live: 0, peak: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Real> State<T> {
    fn take(&mut self, len: usize) -> Option<Vec<T>> {
        let fitting = self.free.range(len..=len + len / 8).next().map(|(n, _)| *n);
        let found = fitting.and_then(|n| self.remove(n));
        self.live += found.as_ref().map_or(len, Vec::len);
        self.peak = self.peak.max(self.live);
        // Nothing fits: make room for a new one.
        while found.is_none() && self.live + self.free_len > self.peak {
            let Some(n) = self.free.keys().next_back().copied() else { break };
            self.remove(n);
        }
        found
    }

    fn remove(&mut self, n: usize) -> Option<Vec<T>> {
        let list = self.free.get_mut(&n)?;
        let v = list.pop();
        if list.is_empty() {
            self.free.remove(&n);
        }
        self.free_len -= v.as_ref().map_or(0, Vec::len);
        v
    }
}

/// A buffer that returns to the pool.
#[derive(Debug)]
pub(crate) struct Buf<T: Real> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Real> Buf<T> {
    /// `len` values that the caller overwrites: what they are is not specified.
    pub(crate) fn stale(len: usize) -> Self {
        let room = len + ALIGNMENT / size_of::<T>();
        let reused = if len < SMALL { None } else { T::pool().lock().take(room) };
        let data = reused.unwrap_or_else(|| vec![T::zero(); room]);
        let start = data.as_ptr().align_offset(ALIGNMENT).min(data.len() - len);
        Self { data, start, len }
    }

    pub(crate) fn zeros(len: usize) -> Self {
        let mut buf = Self::stale(len);
        buf.fill(T::zero());
        buf
    }

    /// Stale values, of this buffer or a larger one in its place.
    pub(crate) fn at_least(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            *self = Self::stale(len);
        }
        &mut self[..len]
    }

    pub(crate) fn copy(of: &[T]) -> Self {
        let mut buf = Self::stale(of.len());
        buf.copy_from_slice(of);
        buf
    }
}

impl<T: Real> Drop for Buf<T> {
    fn drop(&mut self) {
        let n = self.data.len();
        if self.len >= SMALL {
            let mut state = T::pool().lock();
            state.live -= n;
            state.free_len += n;
            state.free.entry(n).or_default().push(std::mem::take(&mut self.data));
        }
    }
}

impl<T: Real> Deref for Buf<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<T: Real> DerefMut for Buf<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}
