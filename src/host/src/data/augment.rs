//! Changes that make a new picture of known ones: objects of other samples laid over it, other colours.

use image::imageops::{self, FilterType};
use image::{GrayImage, RgbImage};
use rand::{Rng, RngExt};

/// Smallest side of a pasted picture as a share of the one it is pasted into.
const LEAST_SCALE: f64 = 0.5;

/// Where another sample's objects are laid over a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Paste {
    /// Side of the other picture as a share of this one's.
    scale: f64,
    /// Where it lies, as shares of what is left over.
    at: (f64, f64),
}

impl Paste {
    pub(crate) fn draw<R: Rng>(rng: &mut R) -> Self {
        Self { scale: rng.random_range(LEAST_SCALE..=1.0), at: (rng.random(), rng.random()) }
    }

    /// Lays the objects of `other` over a picture of the same side; each label is its picture's opacity.
    pub(crate) fn apply(&self, photo: &mut RgbImage, label: &mut GrayImage, other: (&RgbImage, &GrayImage)) {
        let whole = photo.width();
        let side = ((f64::from(whole) * self.scale).round() as u32).clamp(1, whole);
        let place = |at: f64| (at * f64::from(whole - side)).round() as u32;
        let (left, top) = (place(self.at.0), place(self.at.1));
        let colours = imageops::resize(other.0, side, side, FilterType::Triangle);
        let opacity = imageops::resize(other.1, side, side, FilterType::Triangle);
        for (x, y, alpha) in opacity.enumerate_pixels().filter(|(_, _, alpha)| alpha.0[0] > 0) {
            let share = f32::from(alpha.0[0]) / 255.0;
            let mix =
                |under: &mut u8, over: f32| *under = (f32::from(*under) * (1.0 - share) + over * share).round() as u8;
            let colour = colours.get_pixel(x, y);
            for (under, over) in photo.get_pixel_mut(left + x, top + y).0.iter_mut().zip(colour.0) {
                mix(under, f32::from(over));
            }
            mix(&mut label.get_pixel_mut(left + x, top + y).0[0], 255.0);
        }
    }
}

/// Brightness, contrast and saturation as factors, 1 for none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Colour {
    brightness: f32,
    contrast: f32,
    saturation: f32,
}

impl Colour {
    /// Factors within `1 - strength ..= 1 + strength`.
    pub(crate) fn draw<R: Rng>(strength: f64, rng: &mut R) -> Self {
        let mut factor = || rng.random_range(1.0 - strength..=1.0 + strength) as f32;
        Self { brightness: factor(), contrast: factor(), saturation: factor() }
    }

    pub(crate) fn apply(&self, photo: &mut RgbImage) {
        // Luma weights of ITU-R BT.601, as in the conversion to grey.
        let grey = |rgb: [f32; 3]| 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
        let pixels = photo.pixels().len() as f32;
        let mean = photo.pixels().map(|p| grey(p.0.map(f32::from))).sum::<f32>() / pixels.max(1.0);
        for pixel in photo.pixels_mut() {
            let rgb = pixel.0.map(|v| ((f32::from(v) - mean) * self.contrast + mean) * self.brightness);
            let luma = grey(rgb);
            pixel.0 = rgb.map(|v| ((v - luma) * self.saturation + luma).round().clamp(0.0, 255.0) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{Luma, Rgb};

    use super::*;

    /// A picture whose left half is an object.
    fn half(object: [u8; 3], ground: [u8; 3], side: u32) -> (RgbImage, GrayImage) {
        let inside = |x: u32| x < side / 2;
        let photo = RgbImage::from_fn(side, side, |x, _| Rgb(if inside(x) { object } else { ground }));
        (photo, GrayImage::from_fn(side, side, |x, _| Luma([if inside(x) { 255 } else { 0 }])))
    }

    #[test]
    fn a_pasted_object_covers_what_is_below_and_is_labelled() {
        let (mut photo, mut label) = half([200, 0, 0], [0, 0, 90], 16);
        let other = half([0, 250, 0], [7, 7, 7], 16);
        Paste { scale: 0.5, at: (1.0, 1.0) }.apply(&mut photo, &mut label, (&other.0, &other.1));
        // The other's left half lies over columns 8 to 11 of the lower right quarter.
        assert_eq!((photo.get_pixel(9, 12).0, label.get_pixel(9, 12).0), ([0, 250, 0], [255]));
        assert_eq!((photo.get_pixel(14, 12).0, label.get_pixel(14, 12).0), ([0, 0, 90], [0]));
        assert_eq!((photo.get_pixel(9, 2).0, label.get_pixel(9, 2).0), ([0, 0, 90], [0]));
        assert_eq!((photo.get_pixel(2, 12).0, label.get_pixel(2, 12).0), ([200, 0, 0], [255]));
    }

    #[test]
    fn colours_change_as_their_factors_say() {
        let (photo, _) = half([200, 100, 50], [20, 40, 60], 4);
        let changed = |brightness, contrast, saturation| {
            let mut copy = photo.clone();
            Colour { brightness, contrast, saturation }.apply(&mut copy);
            (copy.get_pixel(0, 0).0, copy.get_pixel(3, 0).0)
        };
        assert_eq!(changed(1.0, 1.0, 1.0), ([200, 100, 50], [20, 40, 60]));
        assert_eq!(changed(0.5, 1.0, 1.0), ([100, 50, 25], [10, 20, 30]));
        // Luma of the two: 124 and 36, mean 80.
        assert_eq!(changed(1.0, 0.0, 1.0), ([80; 3], [80; 3]));
        assert_eq!(changed(1.0, 1.0, 0.0), ([124; 3], [36; 3]));
        assert_eq!(changed(2.0, 1.0, 1.0).0, [255, 200, 100]);
    }
}
