use std::io::Cursor;
use std::path::Path;

use image::error::{DecodingError, ImageFormatHint};
use image::{DynamicImage, GrayImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, RgbImage};

use super::{DataError, Result, Sample};

/// Difference of aspect ratios up to which an image and its label are taken to show the same frame.
const ASPECT_TOLERANCE: f64 = 0.02;

/// Decodes a photo of a data set as RGB, 8 bits; the pixels as stored, without applying an orientation tag.
pub fn decode_photo(path: &Path) -> Result<RgbImage> {
    Ok(open(path)?.into_rgb8())
}

/// Decodes somebody's photo as RGB, 8 bits, turned upright as its orientation tag says; `name` stands for it in errors.
///
/// More than `max_pixels` are refused before memory is taken, and so are files that are cut off.
pub fn decode_upright(bytes: &[u8], name: &Path, max_pixels: u64) -> Result<RgbImage> {
    let failed = |source| undecoded(name, source);
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| failed(e.into()))?;
    if reader.format() == Some(ImageFormat::Jpeg) && is_cut_off(bytes) {
        let format = ImageFormatHint::Exact(ImageFormat::Jpeg);
        return Err(failed(ImageError::Decoding(DecodingError::new(format, "it is cut off"))));
    }
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(DataError::Pixels { path: name.to_owned(), width, height, max_pixels });
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut photo = DynamicImage::from_decoder(decoder).map_err(failed)?;
    photo.apply_orientation(orientation);
    Ok(photo.into_rgb8())
}

/// Whether a JPEG file has no end. Its decoder does not mind, and paints what is missing grey.
///
/// The file is a row of segments, each a marker (0xFF and another byte) and mostly a length. Coded pixels follow some of
/// them; 0xFF is there followed by 0 or by a restart marker.
fn is_cut_off(jpeg: &[u8]) -> bool {
    const END: u8 = 0xd9;
    let mut at = 0;
    while let Some(next) = jpeg.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)) {
        at += next + 1;
        match jpeg.get(at..) {
            Some([END, ..]) => return false,
            // Coded pixels, markers without a length, or one more 0xFF, which may stand before any marker.
            Some([0x00 | 0x01 | 0xd0..=0xd8 | 0xff, ..]) => {}
            Some([_, high, low, ..]) => at += 1 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => return true,
        }
    }
    true
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
    let bytes = std::fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    // By content, not by name: data sets hold JPEG files called .png.
    image::load_from_memory(&bytes).map_err(|source| undecoded(path, source))
}

fn undecoded(path: &Path, source: ImageError) -> DataError {
    DataError::Decode { path: path.to_owned(), source: Box::new(source) }
}
