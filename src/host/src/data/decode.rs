use std::path::Path;

use image::{DynamicImage, GrayImage, RgbImage};

use super::{DataError, Result, Sample};

/// Difference of aspect ratios up to which an image and its label are taken to show the same frame.
const ASPECT_TOLERANCE: f64 = 0.02;

/// Decodes a photo as RGB, 8 bits; the pixels as stored, without applying an orientation tag.
pub fn decode_photo(path: &Path) -> Result<RgbImage> {
    Ok(open(path)?.into_rgb8())
}

/// As [`decode_photo`], of bytes; `name` stands for the file in errors.
pub fn decode_photo_bytes(bytes: &[u8], name: &Path) -> Result<RgbImage> {
    let decoded = image::load_from_memory(bytes);
    let failed = |source| DataError::Decode { path: name.to_owned(), source: Box::new(source) };
    Ok(decoded.map_err(failed)?.into_rgb8())
}

/// Decodes a label as grey, 8 bits (a 1-bit PNG gives 0 and 255).
pub fn decode_label(path: &Path) -> Result<GrayImage> {
    Ok(open(path)?.into_luma8())
}

/// Decodes both files of a sample; their aspect ratios must agree.
pub fn decode_pair(sample: &Sample) -> Result<(RgbImage, GrayImage)> {
    decode_matching(sample).map_err(|e| match sample.line {
        0 => e,
        line => DataError::Line { line, source: Box::new(e) },
    })
}

fn decode_matching(sample: &Sample) -> Result<(RgbImage, GrayImage)> {
    let (photo, label) = (decode_photo(&sample.image)?, decode_label(&sample.label)?);
    let (image_size, label_size) = (photo.dimensions(), label.dimensions());
    let ratio = |(width, height): (u32, u32)| f64::from(width) / f64::from(height);
    if (ratio(image_size) / ratio(label_size) - 1.0).abs() > ASPECT_TOLERANCE {
        return Err(DataError::ShapeMismatch {
            image: sample.image.clone(),
            label: sample.label.clone(),
            image_size,
            label_size,
        });
    }
    Ok((photo, label))
}

fn open(path: &Path) -> Result<DynamicImage> {
    let failed = |source| DataError::Decode { path: path.to_owned(), source: Box::new(source) };
    // By content, not by name: data sets hold JPEG files called .png.
    let reader = image::ImageReader::open(path)
        .and_then(image::ImageReader::with_guessed_format)
        .map_err(|error| failed(error.into()))?;
    reader.decode().map_err(failed)
}
