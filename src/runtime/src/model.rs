//! A loaded saliency network.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use image::{GrayImage, RgbImage};
use inas_profiler::{Backend, Session};
use inas_space::Micros;

use crate::preprocess::{photo_to_nhwc, postprocess};
use crate::{Error, Result};

/// A saliency network, ready to run on photos of any size.
///
/// Its input is `[1, 3, px, px]` (normalised RGB), its output `[1, 1, px, px]` in 0..1.
pub struct Model {
    session: Box<dyn Session>,
    px: u32,
    /// Input values in NCHW order.
    planes: Vec<f32>,
}

/// What a network says of a photo.
#[derive(Debug, Clone, PartialEq)]
pub struct Saliency {
    /// How salient each pixel is, 0..255, of the photo's size.
    pub mask: GrayImage,
    /// Time of the inference alone, without resizing.
    pub latency: Micros,
}

impl Model {
    /// Loads an ONNX file.
    pub fn load(path: &Path, backend: &dyn Backend) -> Result<Self> {
        let onnx = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&onnx, backend)
            .map_err(|source| Error::File { path: path.to_owned(), source: Box::new(source) })
    }

    /// Loads an ONNX model from memory.
    pub fn from_bytes(onnx: &[u8], backend: &dyn Backend) -> Result<Self> {
        let session = backend.load(onnx)?;
        let (inputs, outputs) = (session.input_shapes(), session.output_shapes());
        let side = match (inputs, outputs) {
            ([input], [output]) => match (input.as_slice(), output.as_slice()) {
                ([1, 3, h, w], [1, 1, oh, ow]) if h == w && h == oh && w == ow => u32::try_from(*h).ok(),
                _ => None,
            },
            _ => None,
        };
        let shapes = || Error::Shapes { inputs: inputs.to_vec(), outputs: outputs.to_vec() };
        let px = side.filter(|px| *px > 0).ok_or_else(shapes)?;
        Ok(Self { session, px, planes: vec![0.0; 3 * (px as usize).pow(2)] })
    }

    /// Side of the square network input, px.
    pub fn input_px(&self) -> u32 {
        self.px
    }

    /// Finds what is salient in a photo.
    pub fn run(&mut self, photo: &RgbImage) -> Result<Saliency> {
        let (width, height) = photo.dimensions();
        if width == 0 || height == 0 {
            return Err(Error::EmptyPhoto { width, height });
        }
        pack_planes(&photo_to_nhwc(photo, self.px), &mut self.planes);
        self.session.set_inputs(&[&self.planes])?;
        let start = Instant::now();
        self.session.run()?;
        let latency = Micros(start.elapsed().as_secs_f64() * 1e6);
        let map = self.session.output(0)?;
        Ok(Saliency { mask: postprocess(&map, self.px, self.px, (width, height))?, latency })
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("px", &self.px).finish_non_exhaustive()
    }
}

/// From interleaved RGB (NHWC) to one plane a channel (NCHW).
fn pack_planes(nhwc: &[f32], planes: &mut [f32]) {
    let area = planes.len() / 3;
    for (i, pixel) in nhwc.chunks_exact(3).enumerate() {
        for (c, value) in pixel.iter().enumerate() {
            planes[c * area + i] = *value;
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values are only moved")]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_planes() {
        let mut planes = [0.0; 6];
        pack_planes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut planes);
        assert_eq!(planes, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
