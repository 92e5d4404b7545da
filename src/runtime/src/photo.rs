//! Photos as types of the crate `image`.

use std::time::Duration;

use image::{GrayImage, RgbImage};

use crate::{Frame, Model, Result};

/// What a network says of a photo.
#[derive(Debug, Clone, PartialEq)]
pub struct Saliency {
    /// How salient each pixel is, 0..255, of the photo's size.
    pub mask: GrayImage,
    /// Time of the inference alone, without resizing.
    pub latency: Duration,
}

impl Saliency {
    /// Time of the inference alone, in milliseconds.
    pub fn latency_ms(&self) -> f64 {
        self.latency.as_secs_f64() * 1e3
    }
}

impl Model {
    /// Finds what is salient in a photo.
    pub fn run(&mut self, photo: &RgbImage) -> Result<Saliency> {
        let (width, height) = photo.dimensions();
        let frame = Frame::rgb(width, height, photo.as_raw());
        frame.layers()?;
        let mut mask = GrayImage::new(width, height);
        let latency = self.mask_into(&frame, &mut mask, width as usize)?;
        Ok(Saliency { mask, latency })
    }
}
