//! From a photo to a network's input and from its output back to a map of the photo's size.
//!
//! Training, evaluation and the device share this code, so that all see the same numbers. Resizing is on 8-bit values,
//! bilinear with half-pixel centres, and averages over the covered area when it shrinks (a triangle filter whose support
//! grows with the factor); label resizing is nearest neighbour.

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

pub use crate::{MEAN, STD};
use crate::{normalised_values, quantised};

/// A buffer or picture whose size does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreprocessError {
    /// A map's buffer does not hold width x height values.
    #[error("a map of {width}x{height} needs as many values, at least one; got {len}")]
    MapLength {
        /// Width, pixels.
        width: u32,
        /// Height, pixels.
        height: u32,
        /// Values given.
        len: usize,
    },
    /// A cut-out's mask has another size than its photo.
    #[error("the mask is {}x{} but the photo {}x{}", mask.0, mask.1, photo.0, photo.1)]
    MaskSize {
        /// Width and height of the mask, pixels.
        mask: (u32, u32),
        /// Width and height of the photo, pixels.
        photo: (u32, u32),
    },
}

/// Resizes a photo to `px` x `px`, bilinear.
pub fn resize_photo(photo: &RgbImage, px: u32) -> RgbImage {
    imageops::resize(photo, px, px, FilterType::Triangle)
}

/// Resizes a label to `px` x `px`, nearest neighbour, so that binary labels stay binary.
pub fn resize_label(label: &GrayImage, px: u32) -> GrayImage {
    imageops::resize(label, px, px, FilterType::Nearest)
}

/// Normalises interleaved RGB bytes into `out` (same length, same order): `(v / 255 - mean) / std` per channel.
///
/// Stops at the shorter of the two.
pub fn normalise_into(rgb: &[u8], out: &mut [f32]) {
    let table = normalised_values();
    for (values, bytes) in out.chunks_exact_mut(3).zip(rgb.chunks_exact(3)) {
        for c in 0..3 {
            values[c] = table[c][usize::from(bytes[c])];
        }
    }
}

/// Scales label bytes to 0..1 into `out` (stops at the shorter).
///
/// No threshold: labels may be soft maps, and a binary label gives exactly 0 and 1 anyway.
pub fn label_into(grey: &[u8], out: &mut [f32]) {
    for (value, &byte) in out.iter_mut().zip(grey) {
        *value = f32::from(byte) / 255.0;
    }
}

/// A photo as network input: resized to `px` x `px` and normalised, NHWC order `[px, px, 3]`.
pub fn photo_to_nhwc(photo: &RgbImage, px: u32) -> Vec<f32> {
    let small = resize_photo(photo, px);
    let mut out = vec![0.0; small.as_raw().len()];
    normalise_into(small.as_raw(), &mut out);
    out
}

/// A label as training target: resized to `px` x `px`, 0..1, order `[px, px, 1]`; soft values are kept.
pub fn label_to_nhwc(label: &GrayImage, px: u32) -> Vec<f32> {
    let small = resize_label(label, px);
    let mut out = vec![0.0; small.as_raw().len()];
    label_into(small.as_raw(), &mut out);
    out
}

/// A network's map (row-major, nominally 0..1) in 8 bits: clamped to 0..1, times 255, rounded down; not a number is 0.
pub fn map_to_u8(map: &[f32], width: u32, height: u32) -> Result<GrayImage, PreprocessError> {
    let bytes = map.iter().copied().map(quantised).collect();
    let wrong = PreprocessError::MapLength { width, height, len: map.len() };
    if map.is_empty() || map.len() as u64 != u64::from(width) * u64::from(height) {
        return Err(wrong);
    }
    GrayImage::from_raw(width, height, bytes).ok_or(wrong)
}

/// A network's `width` x `height` map as an 8-bit map of the photo's size `(width, height)`: [`map_to_u8`], then bilinear.
pub fn postprocess(map: &[f32], width: u32, height: u32, photo: (u32, u32)) -> Result<GrayImage, PreprocessError> {
    let small = map_to_u8(map, width, height)?;
    if photo == (width, height) {
        return Ok(small);
    }
    Ok(imageops::resize(&small, photo.0, photo.1, FilterType::Triangle))
}

/// The photo with the mask as its alpha channel; both must have the same size.
pub fn cut_out(photo: &RgbImage, mask: &GrayImage) -> Result<RgbaImage, PreprocessError> {
    if photo.dimensions() != mask.dimensions() {
        return Err(PreprocessError::MaskSize { mask: mask.dimensions(), photo: photo.dimensions() });
    }
    let mut out = RgbaImage::new(photo.width(), photo.height());
    for ((to, Rgb([r, g, b])), Luma([a])) in out.pixels_mut().zip(photo.pixels()).zip(mask.pixels()) {
        *to = Rgba([*r, *g, *b, *a]);
    }
    Ok(out)
}

/// Width of the blur of [`blur_background`], as a part of the photo's longer side.
const BLUR: f32 = 0.015;

/// The photo with what is not salient blurred.
pub fn blur_background(photo: &RgbImage, mask: &GrayImage) -> Result<RgbImage, PreprocessError> {
    let (width, height) = photo.dimensions();
    blend(photo, mask, &imageops::fast_blur(photo, (width.max(height) as f32 * BLUR).max(1.0)))
}

/// What is salient in front of another picture, which is scaled to cover the photo's frame.
pub fn replace_background(photo: &RgbImage, mask: &GrayImage, picture: &RgbImage) -> Result<RgbImage, PreprocessError> {
    let (width, height) = photo.dimensions();
    let picture = image::DynamicImage::from(picture.clone()).resize_to_fill(width, height, FilterType::Triangle);
    blend(photo, mask, &picture.into_rgb8())
}

/// `photo` where the mask is 255, `behind` where it is 0; all of one size.
fn blend(photo: &RgbImage, mask: &GrayImage, behind: &RgbImage) -> Result<RgbImage, PreprocessError> {
    if photo.dimensions() != mask.dimensions() {
        return Err(PreprocessError::MaskSize { mask: mask.dimensions(), photo: photo.dimensions() });
    }
    let mut out = behind.clone();
    for ((to, front), Luma([alpha])) in out.pixels_mut().zip(photo.pixels()).zip(mask.pixels()) {
        let alpha = u16::from(*alpha);
        for (to, front) in to.0.iter_mut().zip(front.0) {
            *to = ((u16::from(front) * alpha + u16::from(*to) * (255 - alpha) + 127) / 255) as u8;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photo_is_normalised_per_channel_in_nhwc_order() {
        let photo = RgbImage::from_fn(2, 2, |x, y| Rgb([255, (x * 100) as u8, (y * 50) as u8]));
        let input = photo_to_nhwc(&photo, 2);
        assert_eq!(input.len(), 12);
        let wanted = |v: f32, c: usize| (v / 255.0 - MEAN[c]) / STD[c];
        for (i, (x, y)) in [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().enumerate() {
            for (c, v) in [255.0, x as f32 * 100.0, y as f32 * 50.0].into_iter().enumerate() {
                assert!((input[i * 3 + c] - wanted(v, c)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn shrinking_averages_and_growing_interpolates() {
        // One-pixel stripes shrunk sixteenfold are grey, not aliased to black or white.
        let stripes = RgbImage::from_fn(64, 64, |x, _| Rgb([(x % 2 * 255) as u8; 3]));
        assert!(resize_photo(&stripes, 4).as_raw().iter().all(|v| (120..=135).contains(v)));
        let step = RgbImage::from_fn(2, 2, |x, _| Rgb([(x * 200) as u8; 3]));
        let row: Vec<u8> = resize_photo(&step, 4).as_raw()[..12].iter().step_by(3).copied().collect();
        assert_eq!(row, [0, 50, 150, 200]);
    }

    #[test]
    fn labels_keep_soft_values_and_stay_binary() {
        let soft = GrayImage::from_raw(2, 1, vec![51, 204]).unwrap();
        let label = label_to_nhwc(&soft, 2);
        assert_eq!(label, [0.2, 0.8, 0.2, 0.8]);
        let binary = GrayImage::from_fn(37, 23, |x, y| Luma([u8::from((x * y) % 3 == 0) * 255]));
        let small = resize_label(&binary, 16);
        assert!(small.as_raw().iter().all(|v| [0, 255].contains(v)));
    }

    #[test]
    fn map_is_clamped_truncated_and_resized() {
        let map = [-1.0, 0.5, 0.999, 7.0, f32::NAN, 1.0];
        let grey = map_to_u8(&map, 3, 2).unwrap();
        assert_eq!(grey.as_raw(), &[0, 127, 254, 255, 0, 255]);
        let big = postprocess(&map, 3, 2, (30, 11)).unwrap();
        assert_eq!(big.dimensions(), (30, 11));
        assert_eq!(postprocess(&map, 3, 2, (3, 2)).unwrap(), grey);
        let error = map_to_u8(&map, 4, 2).unwrap_err();
        assert_eq!(error, PreprocessError::MapLength { width: 4, height: 2, len: 6 });
        assert!(map_to_u8(&[], 0, 0).is_err());
    }

    #[test]
    fn backgrounds_show_only_where_the_mask_is_dark() {
        let photo = RgbImage::from_fn(9, 6, |x, _| Rgb([(x % 2 * 200) as u8, 9, 30]));
        let (nothing, all) = (GrayImage::new(9, 6), GrayImage::from_pixel(9, 6, Luma([255])));
        let blue = RgbImage::from_pixel(2, 2, Rgb([0, 0, 255]));
        assert_eq!(replace_background(&photo, &all, &blue).unwrap(), photo);
        assert!(replace_background(&photo, &nothing, &blue).unwrap().pixels().all(|p| *p == Rgb([0, 0, 255])));
        assert_eq!(blur_background(&photo, &all).unwrap(), photo);
        let blurred = blur_background(&photo, &nothing).unwrap();
        assert!(blurred.pixels().all(|p| (40..160).contains(&p.0[0])), "{blurred:?}");
        assert!(blur_background(&photo, &GrayImage::new(1, 1)).is_err());
    }

    #[test]
    fn cut_out_keeps_colour_and_takes_alpha() {
        let photo = RgbImage::from_pixel(2, 1, Rgb([1, 2, 3]));
        let mask = GrayImage::from_raw(2, 1, vec![0, 200]).unwrap();
        assert_eq!(cut_out(&photo, &mask).unwrap().as_raw(), &[1, 2, 3, 0, 1, 2, 3, 200]);
        assert!(matches!(cut_out(&photo, &GrayImage::new(1, 1)), Err(PreprocessError::MaskSize { .. })));
    }
}
