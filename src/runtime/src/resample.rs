//! Resizing of bytes with weights and buffers that are kept.
//!
//! The filter is a triangle whose support grows with the factor when it shrinks, first down the columns, then along the
//! rows, in 32-bit floats, rounded once: the very numbers of `image::imageops::resize` with `FilterType::Triangle`.

use crate::frame::Layer;

/// Weights from `from` values to `to` values along one direction.
#[derive(Debug, Default)]
struct Axis {
    from: usize,
    to: usize,
    /// Weights of one output value; those that fewer values have are filled up with zeros.
    taps: usize,
    starts: Vec<usize>,
    weights: Vec<f32>,
}

impl Axis {
    /// Computes the weights if the sizes are others than last time.
    fn fit(&mut self, from: usize, to: usize) {
        if (self.from, self.to) == (from, to) {
            return;
        }
        let ratio = from as f32 / to as f32;
        let scale = ratio.max(1.0);
        let range = |i: usize| {
            let centre = (i as f32 + 0.5) * ratio;
            let left = ((centre - scale).floor() as i64).clamp(0, from as i64 - 1) as usize;
            let right = ((centre + scale).ceil() as i64).clamp(left as i64 + 1, from as i64) as usize;
            (centre - 0.5, left, right)
        };
        self.taps = (0..to).map(range).map(|(_, left, right)| right - left).max().unwrap_or(1);
        self.starts.clear();
        self.weights.clear();
        for i in 0..to {
            let (centre, left, right) = range(i);
            let weight = |j: usize| (1.0 - ((j as f32 - centre) / scale).abs()).max(0.0);
            let sum: f32 = (left..right).map(weight).sum();
            // Zeros in front where zeros behind would reach past the end.
            let start = left.min(from - self.taps);
            self.starts.push(start);
            let inside = |j: usize| if (left..right).contains(&j) { weight(j) / sum } else { 0.0 };
            self.weights.extend((start..start + self.taps).map(inside));
        }
        (self.from, self.to) = (from, to);
    }
}

/// Resizes layers; one for each layer of a frame, so that the weights of its size are kept.
#[derive(Debug, Default)]
pub(crate) struct Resampler {
    down: Axis,
    along: Axis,
    /// One row of the source's width at the target's height.
    row: Vec<f32>,
}

impl Resampler {
    /// Resizes `layer` to `width` x `height`; `row(channel, y, values)` takes the rows as they come.
    pub(crate) fn run(
        &mut self,
        layer: &Layer<'_>,
        (width, height): (usize, usize),
        line: &mut [u8],
        mut row: impl FnMut(usize, usize, &[u8]),
    ) {
        self.down.fit(layer.height, height);
        self.along.fit(layer.width, width);
        let len = layer.row_len();
        self.row.resize(len, 0.0);
        let line = &mut line[..width];
        for y in 0..height {
            self.row.fill(0.0);
            let start = self.down.starts[y];
            let weights = &self.down.weights[y * self.down.taps..][..self.down.taps];
            for (i, weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
                let source = &layer.data[(start + i) * layer.row_stride..][..len];
                for (sum, value) in self.row.iter_mut().zip(source) {
                    *sum += f32::from(*value) * weight;
                }
            }
            for channel in 0..layer.channels {
                self.along(channel, layer.pixel_stride, line);
                row(channel, y, line);
            }
        }
    }

    /// One channel of the kept row, along the rows.
    fn along(&self, channel: usize, stride: usize, line: &mut [u8]) {
        let taps = self.along.taps;
        let windows = self.along.starts.iter().zip(self.along.weights.chunks_exact(taps));
        for (to, (start, weights)) in line.iter_mut().zip(windows) {
            let first = start * stride + channel;
            let mut sum = 0.0;
            if stride == 1 {
                for (value, weight) in self.row[first..first + taps].iter().zip(weights) {
                    sum += value * weight;
                }
            } else {
                let window = &self.row[first..=first + (taps - 1) * stride];
                for (value, weight) in window.iter().step_by(stride).zip(weights) {
                    sum += value * weight;
                }
            }
            *to = sum.clamp(0.0, 255.0).round() as u8;
        }
    }
}

#[cfg(all(test, feature = "image"))]
mod tests {
    use image::imageops::{FilterType, resize};
    use image::{GrayImage, RgbImage};
    use proptest::prelude::*;

    use super::*;

    fn noise(seed: u32, len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
    }

    fn resized(layer: &Layer<'_>, (width, height): (usize, usize)) -> Vec<u8> {
        let mut out = vec![0; width * height * layer.channels];
        let put = |c: usize, y: usize, row: &[u8]| {
            for (x, value) in row.iter().enumerate() {
                out[(y * width + x) * layer.channels + c] = *value;
            }
        };
        Resampler::default().run(layer, (width, height), &mut vec![0; width], put);
        out
    }

    proptest! {
        #[test]
        fn same_bytes_as_the_image_crate(
            (width, height, to_width, to_height) in (1_usize..90, 1_usize..90, 1_usize..90, 1_usize..90),
            seed: u32,
            pad in 0_usize..5,
        ) {
            let photo = RgbImage::from_raw(width as u32, height as u32, noise(seed, width * height * 3)).unwrap();
            let row_stride = width * 3 + pad;
            let padded: Vec<u8> =
                photo.as_raw().chunks(width * 3).flat_map(|r| r.iter().copied().chain(vec![9; pad])).collect();
            let layer = Layer { data: &padded, row_stride, pixel_stride: 3, channels: 3, width, height };
            let wanted = resize(&photo, to_width as u32, to_height as u32, FilterType::Triangle);
            prop_assert_eq!(&resized(&layer, (to_width, to_height)), wanted.as_raw());

            let grey = GrayImage::from_raw(width as u32, height as u32, noise(seed, width * height)).unwrap();
            let layer = Layer { data: grey.as_raw(), row_stride: width, pixel_stride: 1, channels: 1, width, height };
            let wanted = resize(&grey, to_width as u32, to_height as u32, FilterType::Triangle);
            prop_assert_eq!(&resized(&layer, (to_width, to_height)), wanted.as_raw());
        }
    }
}
