//! Batches: order, augmentation, normalisation (spec section 9).

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::Result;
use crate::net::Batch;

/// Mean and deviation of each channel of pictures in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by.
    pub std: [f32; 3],
}

impl Default for Normalise {
    /// CIFAR-10's, which the released code uses for CIFAR-100 too.
    fn default() -> Self {
        Self { mean: [0.491_399_68, 0.482_158_27, 0.446_531_24], std: [0.247_032_33, 0.243_485_05, 0.261_587_68] }
    }
}

/// Random changes of training pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Zeros around a picture before it is cut out again, px.
    pub pad: usize,
    /// Mirror every second picture.
    pub flip: bool,
    /// Side of the square that is set to zero after normalisation, px; 0: none.
    pub cutout: usize,
}

impl Augment {
    /// That of search.
    pub const SEARCH: Self = Self { pad: 4, flip: true, cutout: 0 };
    /// That of evaluation training.
    pub const EVALUATION: Self = Self { cutout: 16, ..Self::SEARCH };
    /// None.
    pub const NONE: Self = Self { pad: 0, flip: false, cutout: 0 };
}

/// A random order of `n` pictures; a function of the seed alone.
pub fn order(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}

impl Dataset {
    /// These pictures, changed at random as a function of the seed, as a batch.
    ///
    /// # Errors
    /// When candle cannot make the tensor.
    pub fn batch(&self, indices: &[usize], normalise: Normalise, augment: Augment, seed: u64) -> Result<Batch> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let px = self.px;
        let mut out = vec![0f32; indices.len() * px * px * 3];
        for (to, index) in out.chunks_exact_mut(px * px * 3).zip(indices) {
            let from = self.picture(*index);
            let shift = |rng: &mut ChaCha8Rng| rng.random_range(0..=2 * augment.pad) as isize - augment.pad as isize;
            let (dy, dx) = (shift(&mut rng), shift(&mut rng));
            let flip = augment.flip && rng.random::<bool>();
            for y in 0..px {
                for x in 0..px {
                    let column = if flip { px - 1 - x } else { x };
                    let (sy, sx) = (y as isize + dy, column as isize + dx);
                    let inside = (0..px as isize).contains(&sy) && (0..px as isize).contains(&sx);
                    for c in 0..3 {
                        let at = (sy * px as isize + sx) * 3 + c as isize;
                        let v = if inside { f32::from(from[at as usize]) / 255.0 } else { 0.0 };
                        to[(y * px + x) * 3 + c] = (v - normalise.mean[c]) / normalise.std[c];
                    }
                }
            }
            if augment.cutout > 0 {
                let (cy, cx) = (rng.random_range(0..px), rng.random_range(0..px));
                let half = augment.cutout / 2;
                let span = |c: usize| c.saturating_sub(half)..(c + half).min(px);
                for y in span(cy) {
                    let columns = span(cx);
                    to[(y * px + columns.start) * 3..(y * px + columns.end) * 3].fill(0.0);
                }
            }
        }
        let images = Tensor::from_vec(out, (indices.len(), px, px, 3), &Device::Cpu)?;
        Ok(Batch { images, labels: indices.iter().map(|i| self.labels[*i]).collect() })
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the same operations")]
mod tests {
    use super::*;

    fn gray(values: impl Iterator<Item = u8>) -> Dataset {
        let pixels: Vec<u8> = values.flat_map(|v| [v; 3]).collect();
        Dataset { px: 32, classes: 10, labels: vec![1; pixels.len() / 3072], pixels }
    }

    fn values(batch: &Batch) -> Vec<f32> {
        batch.images.flatten_all().unwrap().to_vec1().unwrap()
    }

    const PLAIN: Normalise = Normalise { mean: [0.0; 3], std: [1.0; 3] };

    #[test]
    fn nothing_changes_without_augmentation() {
        let set = gray((0..1024).map(|i| (i % 251) as u8));
        let batch = set.batch(&[0], PLAIN, Augment::NONE, 3).unwrap();
        assert!(values(&batch).iter().zip(&set.pixels).all(|(a, b)| *a == f32::from(*b) / 255.0));
        let normed = set.batch(&[0], Normalise::default(), Augment::NONE, 3).unwrap();
        assert!((values(&normed)[1] + 0.482_158_27 / 0.243_485_05).abs() < 1e-6);
    }

    #[test]
    fn crops_and_flips_are_shifts_and_mirrors() {
        let set = gray((0..1024).map(|i| (i % 32 * 8) as u8));
        let augment = Augment { pad: 4, flip: true, cutout: 0 };
        let (mut shifts, mut flips) = (std::collections::BTreeSet::new(), 0);
        for seed in 0..200 {
            let v = values(&set.batch(&[0], PLAIN, augment, seed).unwrap());
            // Twelve columns of the middle row are inside whatever the shift.
            let at = |x: usize| (v[(16 * 32 + x) * 3] * 255.0 / 8.0).round() as i32;
            let step = at(16) - at(15);
            assert!(step.abs() == 1);
            flips += usize::from(step < 0);
            shifts.insert(if step > 0 { at(16) - 16 } else { at(16) - 15 });
        }
        assert_eq!(shifts.into_iter().collect::<Vec<_>>(), (-4..=4).collect::<Vec<_>>());
        assert!((60..140).contains(&flips));
    }

    #[test]
    fn cutout_is_a_square_clipped_at_the_border() {
        let set = gray((0..1024).map(|_| 255));
        let augment = Augment { pad: 0, flip: false, cutout: 16 };
        let mut areas = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let v = values(&set.batch(&[0], PLAIN, augment, seed).unwrap());
            let area = v.iter().filter(|v| **v == 0.0).count() / 3;
            let sides = (8..=16).flat_map(|a| (8..=16).map(move |b| a * b)).collect::<Vec<_>>();
            assert!(sides.contains(&area), "{area}");
            areas.insert(area);
        }
        assert!(areas.contains(&256) && areas.len() > 20);
    }

    #[test]
    fn orders_are_permutations() {
        let mut a = order(50, 1);
        assert_eq!(a, order(50, 1));
        assert_ne!(a, order(50, 2));
        a.sort_unstable();
        assert_eq!(a, (0..50).collect::<Vec<_>>());
    }
}
