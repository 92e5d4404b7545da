//! Pictures made of a photo and its mask.

use image::{DynamicImage, GrayImage, RgbImage};
use inas_runtime::preprocess::{self, PreprocessError};

/// A picture made of a photo and its mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Picture {
    /// How salient each pixel is, grey.
    Mask,
    /// The photo with the mask as transparency.
    Cutout,
    /// The photo with its background blurred.
    Blur,
    /// The photo in front of another picture.
    Background,
}

impl Picture {
    /// Its name, e.g. in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::Cutout => "cutout",
            Self::Blur => "blur",
            Self::Background => "background",
        }
    }

    /// Makes it; without a picture to put `behind`, the background is blurred.
    pub fn of(
        self,
        photo: &RgbImage,
        mask: &GrayImage,
        behind: Option<&RgbImage>,
    ) -> Result<DynamicImage, PreprocessError> {
        Ok(match (self, behind) {
            (Self::Mask, _) => mask.clone().into(),
            (Self::Cutout, _) => preprocess::cut_out(photo, mask)?.into(),
            (Self::Background, Some(picture)) => preprocess::replace_background(photo, mask, picture)?.into(),
            (Self::Blur | Self::Background, _) => preprocess::blur_background(photo, mask)?.into(),
        })
    }
}
