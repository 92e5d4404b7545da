//! Pictures with their classes: CIFAR's binary files, idx files, folders of images.

mod batch;
mod load;

pub use batch::{Augment, Normalise, order};
pub use load::{cifar, folder, idx};

use crate::{Error, Result};

/// Pictures of one size in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Side, px.
    pub px: usize,
    /// Number of classes.
    pub classes: usize,
    /// `[N, px, px, 3]`
    pub pixels: Vec<u8>,
    /// `N` classes.
    pub labels: Vec<u32>,
}

impl Dataset {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of a picture, `[px, px, 3]`.
    pub fn picture(&self, index: usize) -> &[u8] {
        let len = self.px * self.px * 3;
        &self.pixels[index * len..][..len]
    }

    /// Pictures `from..to` as a set of their own.
    #[must_use]
    pub fn range(&self, from: usize, to: usize) -> Self {
        let (to, len) = (to.min(self.len()), self.px * self.px * 3);
        let from = from.min(to);
        Self {
            px: self.px,
            classes: self.classes,
            pixels: self.pixels[from * len..to * len].to_vec(),
            labels: self.labels[from..to].to_vec(),
        }
    }

    /// The first and the second half (spec section 9: weights learn from one, architectures from the other).
    ///
    /// # Errors
    /// When there are fewer than two pictures.
    pub fn halves(&self) -> Result<(Self, Self)> {
        if self.len() < 2 {
            return Err(Error::Batch(format!("{} pictures cannot be split in two halves", self.len())));
        }
        let middle = self.len() / 2;
        Ok((self.range(0, middle), self.range(middle, self.len())))
    }
}
