//! Pictures, scaled down and embedded as data URIs.

use std::io::Cursor;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, ImageReader, ImageResult};

use super::{ReportError, Result};

/// Longest side of an embedded picture, pixels.
const LONGEST_PX: u32 = 320;
/// Quality of an embedded JPEG, 1 to 100.
const JPEG_QUALITY: u8 = 85;

/// A picture ready for an `img` element.
#[derive(Debug, serde::Serialize)]
pub(super) struct Picture {
    /// Data URI.
    pub(super) uri: String,
    /// Width, pixels.
    pub(super) width: u32,
    /// Height, pixels.
    pub(super) height: u32,
}

/// A photo, as JPEG.
pub(super) fn photo(path: &Path) -> Result<Picture> {
    embed(path, |image| jpeg(&image))
}

/// A saliency map, as grey PNG.
pub(super) fn mask(path: &Path) -> Result<Picture> {
    embed(path, |image| png(&fit(&image.to_luma8().into())))
}

/// A cut-out, as PNG that keeps its transparency.
pub(super) fn cut_out(path: &Path) -> Result<Picture> {
    embed(path, |image| if image.color().has_alpha() { png(&fit_transparent(&image)) } else { jpeg(&image) })
}

fn embed(path: &Path, encode: impl FnOnce(DynamicImage) -> ImageResult<Picture>) -> Result<Picture> {
    let read = |source| ReportError::Read { path: path.to_path_buf(), source };
    // The content decides the format: a photo need not have the right extension. Pixels are taken as stored, as the
    // models take them.
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(read)?;
    reader.decode().and_then(encode).map_err(|source| ReportError::Picture { path: path.to_path_buf(), source })
}

fn jpeg(image: &DynamicImage) -> ImageResult<Picture> {
    let image = fit(&image.to_rgb8().into());
    let mut bytes = Vec::new();
    image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
    Ok(picture("image/jpeg", &bytes, &image))
}

fn png(image: &DynamicImage) -> ImageResult<Picture> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_with_encoder(PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, PngFilter::Adaptive))?;
    Ok(picture("image/png", bytes.get_ref(), image))
}

fn picture(media: &str, bytes: &[u8], image: &DynamicImage) -> Picture {
    let (width, height) = image.dimensions();
    Picture { uri: format!("data:{media};base64,{}", STANDARD.encode(bytes)), width, height }
}

/// Scales down to the longest side; a smaller picture stays as it is.
fn fit(image: &DynamicImage) -> DynamicImage {
    let (width, height) = image.dimensions();
    if width.max(height) <= LONGEST_PX {
        return image.clone();
    }
    image.resize(LONGEST_PX, LONGEST_PX, FilterType::CatmullRom)
}

/// Scales down with colour weighted by opacity, so that what was cut away does not bleed into the edges; fully
/// transparent pixels become black, which compresses well.
fn fit_transparent(image: &DynamicImage) -> DynamicImage {
    let mut weighted = image.to_rgba32f();
    for pixel in weighted.pixels_mut() {
        let [r, g, b, a] = pixel.0;
        pixel.0 = [r * a, g * a, b * a, a];
    }
    let mut small = fit(&weighted.into()).to_rgba32f();
    for pixel in small.pixels_mut() {
        let [r, g, b, a] = pixel.0;
        pixel.0 = if a < 0.5 / 255.0 { [0.0; 4] } else { [r / a, g / a, b / a, a].map(|v| v.clamp(0.0, 1.0)) };
    }
    DynamicImage::from(small).to_rgba8().into()
}
