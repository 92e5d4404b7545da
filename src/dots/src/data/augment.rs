//! Random changes of training pictures (spec sections 8.3 and 9).

use image::RgbImage;
use image::imageops::{self, FilterType};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Tries to find a part of the wanted area and shape.
const TRIES: usize = 10;

/// Ratios of width to height of random parts.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// A part of a picture is cut out at random and scaled (`RandomResizedCrop`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Smallest share of the picture's area.
    pub least: f64,
    /// Largest share.
    pub most: f64,
}

/// Strengths of random changes of colour (`ColorJitter`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jitter {
    /// Brightness is multiplied by one plus or minus this.
    pub brightness: f64,
    /// The same of contrast.
    pub contrast: f64,
    /// The same of saturation.
    pub saturation: f64,
    /// Hue is turned by plus or minus this, at most half a turn.
    pub hue: f64,
}

/// Random changes of training pictures, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Cut a part out of a picture; none: all of it, in files the centre.
    #[serde(default)]
    pub area: Option<Area>,
    /// Zeros around a picture before it is cut out again, px.
    pub pad: usize,
    /// Mirror every second picture.
    pub flip: bool,
    /// Change colours.
    #[serde(default)]
    pub jitter: Option<Jitter>,
    /// Side of the square that is set to zero after normalisation, px; 0: none.
    pub cutout: usize,
}

impl Augment {
    /// None.
    pub const NONE: Self = Self { area: None, pad: 0, flip: false, jitter: None, cutout: 0 };
    /// That of search on CIFAR.
    pub const SEARCH: Self = Self { pad: 4, flip: true, ..Self::NONE };
    /// That of evaluation training on CIFAR.
    pub const EVALUATION: Self = Self { cutout: 16, ..Self::SEARCH };
    /// That of search on ImageNet.
    pub const IMAGENET_SEARCH: Self = Self { area: Some(Area { least: 0.08, most: 1.0 }), flip: true, ..Self::NONE };
    /// That of evaluation training on ImageNet.
    pub const IMAGENET: Self = Self {
        jitter: Some(Jitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.2 }),
        ..Self::IMAGENET_SEARCH
    };
}

impl Augment {
    /// Refuses strengths that make no sense.
    ///
    /// # Errors
    /// When a share is not in (0, 1] or larger than its end, or a strength is negative.
    pub(crate) fn check(&self) -> Result<()> {
        let area = self.area.is_none_or(|a| 0.0 < a.least && a.least <= a.most && a.most <= 1.0);
        let strength = |v: f64| v.is_finite() && v >= 0.0;
        let jitter = self
            .jitter
            .is_none_or(|j| [j.brightness, j.contrast, j.saturation, j.hue].into_iter().all(strength) && j.hue <= 0.5);
        if area && jitter { Ok(()) } else { Err(Error::Config(format!("changes of pictures: {self:?}"))) }
    }
}

impl Area {
    /// Left, top, width and height of a part of a picture of `width` by `height`; the largest central one of an allowed
    /// shape when none of the wanted area fits.
    fn part(self, (width, height): (u32, u32), rng: &mut ChaCha8Rng) -> [u32; 4] {
        let (w, h) = (f64::from(width), f64::from(height));
        for _ in 0..TRIES {
            let area = w * h * rng.random_range(self.least..=self.most);
            let ratio = rng.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
            let (part_w, part_h) = ((area * ratio).sqrt().round() as u32, (area / ratio).sqrt().round() as u32);
            if (1..=width).contains(&part_w) && (1..=height).contains(&part_h) {
                let left = rng.random_range(0..=width - part_w);
                return [left, rng.random_range(0..=height - part_h), part_w, part_h];
            }
        }
        let (part_w, part_h) = if w / h < RATIO.0 {
            (width, (w / RATIO.0).round() as u32)
        } else if w / h > RATIO.1 {
            ((h * RATIO.1).round() as u32, height)
        } else {
            (width, height)
        };
        [(width - part_w) / 2, (height - part_h) / 2, part_w, part_h]
    }

    /// A part of the picture at side `px`, bilinear.
    pub(super) fn cut(self, picture: &RgbImage, px: u32, rng: &mut ChaCha8Rng) -> RgbImage {
        let [left, top, width, height] = self.part(picture.dimensions(), rng);
        let part = imageops::crop_imm(picture, left, top, width, height);
        imageops::resize(&*part, px, px, FilterType::Triangle)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn senseless_changes_are_refused() {
        assert!(Augment::IMAGENET.check().is_ok() && Augment::EVALUATION.check().is_ok());
        for (least, most) in [(0.0, 1.0), (0.5, 0.4), (0.5, 1.1), (f64::NAN, 1.0)] {
            assert!(Augment { area: Some(Area { least, most }), ..Augment::NONE }.check().is_err());
        }
        for (brightness, hue) in [(-0.1, 0.0), (f64::INFINITY, 0.0), (0.0, 0.6)] {
            let jitter = Some(Jitter { brightness, contrast: 0.0, saturation: 0.0, hue });
            assert!(Augment { jitter, ..Augment::NONE }.check().is_err());
        }
    }

    #[test]
    fn parts_have_the_wanted_area_and_shape() {
        let (area, size) = (Area { least: 0.08, most: 1.0 }, (300u32, 200u32));
        let mut shares = Vec::new();
        for seed in 0..300 {
            let [x, y, w, h] = area.part(size, &mut ChaCha8Rng::seed_from_u64(seed));
            assert!(x + w <= 300 && y + h <= 200);
            let ratio = f64::from(w) / f64::from(h);
            assert!((0.72..=1.38).contains(&ratio), "{ratio}");
            shares.push(f64::from(w * h) / 60000.0);
        }
        assert!(shares.iter().all(|s| (0.078..=1.0).contains(s)));
        // Shares are drawn evenly; the largest ones do not fit.
        let mean = shares.iter().sum::<f64>() / 300.0;
        assert!((0.4..0.56).contains(&mean), "{mean}");
        // Nothing of an allowed shape covers so much: the centre.
        let whole = Area { least: 1.0, most: 1.0 };
        assert_eq!(whole.part(size, &mut ChaCha8Rng::seed_from_u64(0)), [16, 0, 267, 200]);
    }
}
