//! Batches: order, changes of pictures, normalisation (spec section 9).

use std::borrow::Cow;
use std::path::Path;

use candle_core::{Device, Tensor};
use image::RgbImage;
use image::imageops::{self, FilterType};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Augment, Dataset, Source};
use crate::net::Batch;
use crate::{Error, Result};

/// Mean and deviation of each channel of pictures in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by.
    pub std: [f32; 3],
}

impl Normalise {
    /// ImageNet's.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
}

impl Default for Normalise {
    /// CIFAR-10's, which the released code uses for CIFAR-100 too.
    fn default() -> Self {
        Self { mean: [0.491_399_68, 0.482_158_27, 0.446_531_24], std: [0.247_032_33, 0.243_485_05, 0.261_587_68] }
    }
}

/// A random order of `n` pictures; a function of the seed alone.
pub fn order(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}

/// Images of noise, `[n, px, px, 3]`, of mean zero and variance one.
///
/// # Errors
/// When candle cannot make the tensor.
pub fn noise(n: usize, px: usize, seed: u64) -> Result<Tensor> {
    let (mut rng, half) = (ChaCha8Rng::seed_from_u64(seed), 3f32.sqrt());
    let values: Vec<f32> = (0..n * px * px * 3).map(|_| rng.random_range(-half..half)).collect();
    Ok(Tensor::from_vec(values, (n, px, px, 3), &Device::Cpu)?)
}

impl Dataset {
    /// The picture at side `px`, changed by what needs more than its pixels at that side.
    fn picture(&self, index: usize, augment: Augment, rng: &mut ChaCha8Rng) -> Result<Cow<'_, [u8]>> {
        let (px, len) = (self.px as u32, self.px * self.px * 3);
        match (&self.source, augment.area) {
            (Source::Memory(pixels), None) => Ok(Cow::Borrowed(&pixels[index * len..][..len])),
            (Source::Memory(pixels), Some(area)) => {
                let whole = RgbImage::from_raw(px, px, pixels[index * len..][..len].to_vec());
                let whole = whole.ok_or_else(|| Error::Batch(format!("picture {index} has not {len} bytes")))?;
                Ok(Cow::Owned(area.cut(&whole, px, rng).into_raw()))
            }
            (Source::Files(files), Some(area)) => Ok(Cow::Owned(area.cut(&decode(&files[index])?, px, rng).into_raw())),
            (Source::Files(files), None) => Ok(Cow::Owned(centre(&decode(&files[index])?, px).into_raw())),
        }
    }

    /// Writes a picture, changed at random, normalised.
    fn write(
        &self,
        index: usize,
        (normalise, augment): (Normalise, Augment),
        rng: &mut ChaCha8Rng,
        to: &mut [f32],
    ) -> Result<()> {
        let px = self.px;
        let from = self.picture(index, augment, rng)?;
        let shift = |rng: &mut ChaCha8Rng| rng.random_range(0..=2 * augment.pad) as isize - augment.pad as isize;
        let (dy, dx) = (shift(rng), shift(rng));
        let flip = augment.flip && rng.random::<bool>();
        let mut pixels = vec![[0f32; 3]; px * px];
        for y in 0..px {
            for x in 0..px {
                let column = if flip { px - 1 - x } else { x };
                let (sy, sx) = (y as isize + dy, column as isize + dx);
                if (0..px as isize).contains(&sy) && (0..px as isize).contains(&sx) {
                    let at = (sy * px as isize + sx) as usize * 3;
                    pixels[y * px + x] = [0, 1, 2].map(|c| f32::from(from[at + c]) / 255.0);
                }
            }
        }
        if let Some(jitter) = augment.jitter {
            jitter.apply(&mut pixels, rng);
        }
        for (to, pixel) in to.chunks_exact_mut(3).zip(&pixels) {
            for c in 0..3 {
                to[c] = (pixel[c] - normalise.mean[c]) / normalise.std[c];
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
        Ok(())
    }

    /// These pictures as a batch, each changed at random as a function of the seed and of its index in the set, whatever
    /// else is in the batch.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn batch(&self, indices: &[usize], normalise: Normalise, augment: Augment, seed: u64) -> Result<Batch> {
        let px = self.px;
        let mut out = vec![0f32; indices.len() * px * px * 3];
        out.par_chunks_exact_mut(px * px * 3).zip(indices).try_for_each(|(to, index)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(*index as u64);
            self.write(*index, (normalise, augment), &mut rng, to)
        })?;
        let images = Tensor::from_vec(out, (indices.len(), px, px, 3), &Device::Cpu)?;
        Ok(Batch { images, labels: indices.iter().map(|i| self.labels[*i]).collect() })
    }
}

fn decode(path: &Path) -> Result<RgbImage> {
    let bad = |e: image::ImageError| Error::File { path: path.to_owned(), reason: e.to_string() };
    Ok(image::open(path).map_err(bad)?.to_rgb8())
}

/// The centre of a picture whose shorter side is scaled to 256 for an input of 224 px, and so on.
fn centre(picture: &RgbImage, px: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let side = (f64::from(px) * 256.0 / 224.0).round();
    let scale = side / f64::from(width.min(height));
    let scaled = |v: u32| ((f64::from(v) * scale).round() as u32).max(px);
    let (width, height) = (scaled(width), scaled(height));
    let whole = imageops::resize(picture, width, height, FilterType::Triangle);
    imageops::crop_imm(&whole, (width - px) / 2, (height - px) / 2, px, px).to_image()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the same operations")]
mod tests {
    use super::*;

    fn gray(values: impl Iterator<Item = u8>) -> Dataset {
        let pixels: Vec<u8> = values.flat_map(|v| [v; 3]).collect();
        Dataset { px: 32, classes: 10, labels: vec![1; pixels.len() / 3072], source: Source::Memory(pixels) }
    }

    fn values(batch: &Batch) -> Vec<f32> {
        batch.images.flatten_all().unwrap().to_vec1().unwrap()
    }

    const PLAIN: Normalise = Normalise { mean: [0.0; 3], std: [1.0; 3] };

    #[test]
    fn nothing_changes_without_augmentation() {
        let set = gray((0..1024).map(|i| (i % 251) as u8));
        let batch = set.batch(&[0], PLAIN, Augment::NONE, 3).unwrap();
        let Source::Memory(pixels) = &set.source else { panic!("in memory") };
        assert!(values(&batch).iter().zip(pixels).all(|(a, b)| *a == f32::from(*b) / 255.0));
        let normed = set.batch(&[0], Normalise::default(), Augment::NONE, 3).unwrap();
        assert!((values(&normed)[1] + 0.482_158_27 / 0.243_485_05).abs() < 1e-6);
    }

    #[test]
    fn crops_and_flips_are_shifts_and_mirrors() {
        let set = gray((0..1024).map(|i| (i % 32 * 8) as u8));
        let augment = Augment::SEARCH;
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
        let augment = Augment { cutout: 16, ..Augment::NONE };
        let mut areas = std::collections::BTreeSet::new();
        for seed in 0..300 {
            // White is not zero once it is normalised; the square is.
            let v = values(&set.batch(&[0], Normalise::default(), augment, seed).unwrap());
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

    #[test]
    fn a_picture_does_not_see_the_others() {
        let set = gray((0..3 * 1024).map(|i| (i % 253) as u8));
        for augment in [Augment::EVALUATION, Augment::IMAGENET] {
            let of = |indices: &[usize]| values(&set.batch(indices, PLAIN, augment, 5).unwrap());
            let all = of(&[2, 0, 1]);
            assert_eq!(all, [of(&[2]), of(&[0]), of(&[1])].concat());
            assert_ne!(of(&[0]), values(&set.batch(&[0], PLAIN, augment, 6).unwrap()));
        }
    }

    #[test]
    fn files_are_read_when_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        // 64 x 40, red grows to the right; green is one in the upper half.
        let pixel = |x: u32, y: u32| image::Rgb([(x * 4) as u8, if y < 20 { 255 } else { 0 }, 0]);
        RgbImage::from_fn(64, 40, pixel).save(&path).unwrap();
        let set = Dataset { px: 28, classes: 1, source: Source::Files(vec![path.clone()]), labels: vec![0] };
        let v = values(&set.batch(&[0], PLAIN, Augment::NONE, 0).unwrap());
        // The shorter side becomes 32, so that 51 x 32 is left; the middle pixel is column 25.5 of 51.
        let at = |x: usize, y: usize, c: usize| v[(y * 28 + x) * 3 + c];
        assert!((at(13, 14, 0) - 0.5).abs() < 0.03 && at(14, 3, 1) == 1.0 && at(14, 24, 1) == 0.0);
        // Parts differ, and lie within the picture.
        let parts = [1, 2].map(|seed| values(&set.batch(&[0], PLAIN, Augment::IMAGENET_SEARCH, seed).unwrap()));
        assert!(parts[0] != parts[1] && parts.iter().flatten().all(|v| (0.0..=1.0).contains(v)));
        std::fs::remove_file(path).unwrap();
        assert!(set.batch(&[0], PLAIN, Augment::NONE, 0).unwrap_err().to_string().contains("a.png"));
    }
}
