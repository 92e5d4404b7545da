use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use image::{GrayImage, RgbImage};
use inas_runtime::preprocess::{resize_label, resize_photo};

use super::{Item, Result};

/// A sample decoded and resized, 8 bits: a quarter of what normalised floats would take.
#[derive(Debug)]
pub(crate) struct Resized {
    pub(crate) image: RgbImage,
    /// Label, if it is a map.
    pub(crate) label: Option<GrayImage>,
}

/// Resized samples by their files and size. Fills up to its limit and then keeps what it has: shuffled epochs touch
/// every sample equally often, so replacing entries would gain nothing.
#[derive(Debug)]
pub(crate) struct Cache<S> {
    limit_bytes: usize,
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S> {
    bytes: usize,
    entries: HashMap<(S, u32), Arc<Resized>>,
}

impl<S: Item> Cache<S> {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, state: Mutex::new(State { bytes: 0, entries: HashMap::new() }) }
    }

    /// The sample at `px`, from memory or from its files.
    pub(crate) fn get(&self, sample: &S, px: u32) -> Result<Arc<Resized>> {
        let key = (sample.clone(), px);
        if let Some(found) = self.lock().entries.get(&key) {
            return Ok(Arc::clone(found));
        }
        let (photo, label) = sample.decode()?;
        let label = label.map(|label| resize_label(&label, px));
        let loaded = Arc::new(Resized { image: resize_photo(&photo, px), label });
        let bytes = loaded.image.len() + loaded.label.as_ref().map_or(0, |label| label.len());
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
    fn lock(&self) -> std::sync::MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
