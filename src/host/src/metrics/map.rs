use std::path::Path;

use super::{MetricError, Result};

/// An 8-bit single-channel map, row by row: a prediction (0..255) or a ground truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapU8 {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl MapU8 {
    /// Wraps a row-major buffer of `width * height` values.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<Self> {
        let len = data.len();
        if len == 0 || len as u64 != u64::from(width) * u64::from(height) {
            return Err(MetricError::BadMap { width, height, len });
        }
        Ok(Self { width, height, data })
    }

    /// Decodes a PNG or JPEG file as grey.
    pub fn open(path: &Path) -> Result<Self> {
        let decoded = image::open(path)
            .map_err(|source| MetricError::Decode { path: path.to_owned(), source: Box::new(source) })?;
        let grey = decoded.into_luma8();
        Self::new(grey.width(), grey.height(), grey.into_raw())
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The values, row by row.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Fails unless `gt` has this map's size; the names go into the error.
    pub(crate) fn check_size(&self, gt: &Self, pred_name: &str, gt_name: &str) -> Result<()> {
        let (pred_size, gt_size) = ((self.width, self.height), (gt.width, gt.height));
        if pred_size == gt_size {
            return Ok(());
        }
        Err(MetricError::SizeMismatch { pred: pred_name.to_owned(), gt: gt_name.to_owned(), pred_size, gt_size })
    }
}

impl From<image::GrayImage> for MapU8 {
    /// Takes over the buffer of a grey image (which must not be empty to be scored).
    fn from(grey: image::GrayImage) -> Self {
        Self { width: grey.width(), height: grey.height(), data: grey.into_raw() }
    }
}
