use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use inas_runtime::preprocess::{resize_label, resize_photo};

use super::{Result, Sample, decode::decode_pair};

/// A sample decoded and resized, 8 bits: a quarter of what normalised floats would take.
#[derive(Debug)]
pub(crate) struct Resized {
    /// RGB, `px * px * 3` bytes.
    pub(crate) image: Vec<u8>,
    /// Label, `px * px` bytes.
    pub(crate) label: Vec<u8>,
}

/// Resized samples by their files and size. Fills up to its limit and then keeps what it has: shuffled epochs touch
/// every sample equally often, so replacing entries would gain nothing.
#[derive(Debug)]
pub(crate) struct Cache {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    entries: HashMap<(Sample, u32), Arc<Resized>>,
}

impl Cache {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, state: Mutex::default() }
    }

    /// The sample at `px`, from memory or from its files.
    pub(crate) fn get(&self, sample: &Sample, px: u32) -> Result<Arc<Resized>> {
        let key = (sample.clone(), px);
        if let Some(found) = self.lock().entries.get(&key) {
            return Ok(Arc::clone(found));
        }
        let (photo, label) = decode_pair(sample)?;
        let loaded = Arc::new(Resized {
            image: resize_photo(&photo, px).into_raw(),
            label: resize_label(&label, px).into_raw(),
        });
        let bytes = loaded.image.len() + loaded.label.len();
        let mut state = self.lock();
        if state.bytes + bytes <= self.limit_bytes && !state.entries.contains_key(&key) {
            state.bytes += bytes;
            state.entries.insert(key, Arc::clone(&loaded));
        }
        Ok(loaded)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Entries are whole or absent at every moment, so a panic elsewhere leaves the cache usable.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
