//! From a photo's bytes to a picture's.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, RgbImage};

use super::places::Models;
use crate::picture::Picture;

/// Why there is no picture.
pub(super) enum Refusal {
    /// The photo is at fault.
    Photo(String),
    /// The server is.
    Failed(String),
}

/// A PNG, and the time of the inference alone.
pub(super) fn make(
    models: &Models,
    photo: &[u8],
    picture: Picture,
    max_pixels: u64,
) -> Result<(Vec<u8>, Duration), Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::Failed(error.to_string());
    let work = || {
        let photo = decode(photo, max_pixels)?;
        let saliency = models.with(|model| model.run(&photo)).map_err(|e| failed(&e))?;
        let picture = picture.of(&photo, &saliency.mask, None).map_err(|e| failed(&e))?;
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png).map_err(|e| failed(&e))?;
        Ok((png.into_inner(), saliency.latency))
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Refusal::Failed("internal failure".into())))
}

/// Decodes a photo and turns it upright; its size is looked at before memory is taken.
fn decode(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, Refusal> {
    let bad = |error: image::ImageError| Refusal::Photo(format!("cannot decode the photo (PNG or JPEG): {error}"));
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut decoder = reader.map_err(|e| bad(e.into()))?.into_decoder().map_err(bad)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(Refusal::Photo(format!("the photo has {width} x {height} pixels, more than {max_pixels} in all")));
    }
    let orientation = decoder.orientation().map_err(bad)?;
    let mut photo = DynamicImage::from_decoder(decoder).map_err(bad)?;
    photo.apply_orientation(orientation);
    Ok(photo.into_rgb8())
}
