//! Pictures with their classes: CIFAR's binary files, idx files, folders of images.

mod augment;
mod batch;
mod colour;
mod load;

use std::path::PathBuf;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

pub use augment::{Area, Augment, Jitter};
pub use batch::{Normalise, noise, order};
pub use load::{cifar, folder, idx};

use crate::{Error, Result};

/// Where the pixels of pictures are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In memory, all of one size: `[N, px, px, 3]`.
    Memory(Vec<u8>),
    /// In image files of any size, read when their turn comes.
    Files(Vec<PathBuf>),
}

/// Pictures with their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Side of a picture in a batch, px.
    pub px: usize,
    /// Number of classes.
    pub classes: usize,
    /// Their pixels.
    pub source: Source,
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

    /// These pictures as a set of their own.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let len = self.px * self.px * 3;
        let source = match &self.source {
            Source::Memory(pixels) => {
                Source::Memory(indices.iter().flat_map(|i| &pixels[i * len..][..len]).copied().collect())
            }
            Source::Files(files) => Source::Files(indices.iter().map(|i| files[*i].clone()).collect()),
        };
        Self { px: self.px, classes: self.classes, source, labels: indices.iter().map(|i| self.labels[*i]).collect() }
    }

    /// Pictures `from..to` as a set of their own.
    #[must_use]
    pub fn range(&self, from: usize, to: usize) -> Self {
        let to = to.min(self.len());
        self.select(&(from.min(to)..to).collect::<Vec<_>>())
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

    /// Two samples without common pictures that hold these shares of each class, at least one picture of it; the same
    /// for a seed (spec section 9, ImageNet).
    ///
    /// # Errors
    /// When the shares are not positive or more than all, or a class has fewer than two pictures.
    pub fn shares(&self, (a, b): (f64, f64), seed: u64) -> Result<(Self, Self)> {
        if !(a > 0.0 && b > 0.0 && a + b <= 1.0) {
            return Err(Error::Config(format!("shares {a} and {b} of the pictures")));
        }
        let mut by_class = vec![Vec::new(); self.classes];
        for (i, label) in self.labels.iter().enumerate() {
            by_class[*label as usize].push(i);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (class, mut indices) in by_class.into_iter().enumerate() {
            let n = indices.len();
            if n < 2 {
                return Err(Error::Batch(format!("class {class} has {n} pictures, two are needed")));
            }
            indices.shuffle(&mut rng);
            let of = |share: f64| ((share * n as f64).round() as usize).max(1);
            let middle = of(a).min(n - 1);
            first.extend(&indices[..middle]);
            second.extend(&indices[middle..n.min(middle + of(b))]);
        }
        Ok((self.select(&first), self.select(&second)))
    }

    /// The pictures of both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.labels.extend(&other.labels);
        match (&mut all.source, &other.source) {
            (Source::Memory(a), Source::Memory(b)) => a.extend(b),
            (Source::Files(a), Source::Files(b)) => a.extend(b.iter().cloned()),
            // Parts of one set are of one kind.
            (Source::Memory(_), Source::Files(_)) | (Source::Files(_), Source::Memory(_)) => all.labels = vec![],
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_every_class_and_nothing_twice() {
        let labels: Vec<u32> = (0..60).map(|i| i / 20).collect();
        let source = Source::Files((0..60).map(|i| format!("{i}").into()).collect());
        let set = Dataset { px: 8, classes: 3, source, labels };
        let (a, b) = set.shares((0.5, 0.1), 4).unwrap();
        assert_eq!((a.len(), b.len()), (30, 6));
        assert_eq!((a.clone(), b.clone()), set.shares((0.5, 0.1), 4).unwrap());
        assert_ne!(a, set.shares((0.5, 0.1), 5).unwrap().0);
        let all = a.and(&b);
        let Source::Files(files) = &all.source else { panic!("files stay files") };
        assert_eq!(files.iter().collect::<std::collections::BTreeSet<_>>().len(), 36);
        for class in 0..3 {
            assert_eq!(all.labels.iter().filter(|l| **l == class).count(), 12);
        }
        for bad in [(0.0, 0.5), (0.7, 0.4), (f64::NAN, 0.1)] {
            assert!(set.shares(bad, 0).is_err());
        }
        assert!(set.range(0, 21).shares((0.5, 0.5), 0).is_err(), "one picture of a class");
        assert_eq!(set.halves().unwrap().1.labels[0], 1);
    }
}
