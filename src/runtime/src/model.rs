//! A loaded saliency network with its buffers.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use inas_backend::{Backend, Values};

use crate::frame::{Frame, Layer, Rotation};
use crate::network::Network;
use crate::resample::Resampler;
use crate::{Error, MAX_SIDE, Result, SIZE_STEP, quantised};

/// A saliency network, ready for photos and frames of any size.
///
/// Its input is `[1, 3, h, w]` (normalised RGB, float32) and its output `[1, 1, h, w]` in 0..1, or both are bytes:
/// `[1, h, w, 3]` and `[1, 1, h, w]` or `[1, h, w, 1]`. It may be sent to another thread, and works for one frame at a time.
pub struct Model {
    network: Network,
    layers: [Resampler; 3],
    enlarge: Resampler,
    /// The frame at the network's size, in planes.
    small: Vec<u8>,
    /// The network's map, as the frame lies.
    map: Vec<u8>,
    line: Vec<u8>,
    smoothing: Smoothing,
}

/// A running mean over frames, on the network's upright map.
#[derive(Debug, Default)]
struct Smoothing {
    weight: f32,
    mean: Vec<f32>,
    /// Of the frames in the mean: size and rotation.
    of: Option<(u32, u32, Rotation)>,
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
        Self::sized(onnx, None, backend)
    }

    /// Loads an ONNX model whose size is open, to run at `width` x `height` px, multiples of [`crate::SIZE_STEP`]; a model of
    /// fixed size keeps its own.
    pub fn from_bytes_sized(onnx: &[u8], (width, height): (u32, u32), backend: &dyn Backend) -> Result<Self> {
        let fits = |side: u32| (SIZE_STEP..=MAX_SIDE).contains(&side) && side.is_multiple_of(SIZE_STEP);
        if !fits(width) || !fits(height) {
            return Err(Error::OpenSize { width, height });
        }
        Self::sized(onnx, Some((width, height)), backend)
    }

    fn sized(onnx: &[u8], size: Option<(u32, u32)>, backend: &dyn Backend) -> Result<Self> {
        let network = Network::load(onnx, size, backend)?;
        let (input, map) = (network.input.0 * network.input.1, network.map.0 * network.map.1);
        Ok(Self {
            network,
            layers: <[Resampler; 3]>::default(),
            enlarge: Resampler::default(),
            small: vec![0; 3 * input],
            map: vec![0; map],
            line: Vec::new(),
            smoothing: Smoothing { mean: vec![0.0; map], ..Smoothing::default() },
        })
    }

    /// Width and height of the network's input, px.
    pub fn input_size(&self) -> (u32, u32) {
        (self.network.input.0 as u32, self.network.input.1 as u32)
    }

    /// Runs the network `runs` times on whatever its input holds: the first inferences are slower than the rest.
    pub fn warm_up(&mut self, runs: usize) -> Result<()> {
        (0..runs).try_for_each(|_| self.network.run())
    }

    /// Steadies masks of a video: each is `weight` parts of the mean so far and `1 - weight` of the new one. 0, the
    /// default, switches it off. A frame of another size or rotation starts again.
    pub fn set_smoothing(&mut self, weight: f32) -> Result<()> {
        if !(0.0..1.0).contains(&weight) {
            return Err(Error::Smoothing { weight });
        }
        self.smoothing.weight = weight;
        self.forget();
        Ok(())
    }

    /// Forgets the frames before, e.g. at a cut of the video.
    pub fn forget(&mut self) {
        self.smoothing.of = None;
    }

    /// Finds what is salient in a frame; `mask` takes 0..255 for each pixel, lying as the frame does, its rows
    /// `row_stride` bytes apart. Returns the time of the inference alone, without resizing.
    ///
    /// Once a size of frames has been seen, nothing here allocates; the inference runtime may.
    pub fn mask_into(&mut self, frame: &Frame<'_>, mask: &mut [u8], row_stride: usize) -> Result<Duration> {
        let layers = frame.layers()?;
        let (width, height) = (frame.width as usize, frame.height as usize);
        let plane = "mask";
        if row_stride < width && height > 1 {
            return Err(Error::Stride { plane, row_stride, pixel_stride: 1 });
        }
        let needed = (height - 1).checked_mul(row_stride).and_then(|n| n.checked_add(width)).unwrap_or(usize::MAX);
        if mask.len() < needed {
            return Err(Error::ShortBuffer { plane, needed, len: mask.len() });
        }

        let lying = frame.rotation.turned(self.network.input);
        self.line.resize(width.max(lying.0).max(self.line.len()), 0);
        let mut first = 0;
        for (layer, resampler) in layers.layers.iter().flatten().zip(&mut self.layers) {
            let small = &mut self.small;
            resampler.run(layer, lying, &mut self.line, |channel, y, row| {
                small[((first + channel) * lying.1 + y) * lying.0..][..lying.0].copy_from_slice(row);
            });
            first += layer.channels;
        }
        self.network.put(&self.small, layers.colour, frame.rotation)?;

        let start = Instant::now();
        self.network.run()?;
        let latency = start.elapsed();

        self.smoothing.add(&self.network.values()?, frame);
        let lying = frame.rotation.turned(self.network.map);
        for y in 0..self.network.map.1 {
            for x in 0..self.network.map.0 {
                self.map[frame.rotation.source(lying, x, y)] =
                    quantised(self.smoothing.mean[y * self.network.map.0 + x]);
            }
        }
        let (row, tall) = lying;
        let small = Layer { data: &self.map, row_stride: row, pixel_stride: 1, channels: 1, width: row, height: tall };
        self.enlarge.run(&small, (width, height), &mut self.line, |_, y, row| {
            mask[y * row_stride..][..width].copy_from_slice(row);
        });
        Ok(latency)
    }
}

impl Smoothing {
    fn add(&mut self, map: &Values<'_>, frame: &Frame<'_>) {
        let of = (frame.width, frame.height, frame.rotation);
        let weight = if self.of == Some(of) { self.weight } else { 0.0 };
        let mix = |(mean, new): (&mut f32, f32)| {
            // Without weight nothing of the past may stay, not even what is no number.
            *mean = if weight == 0.0 { new } else { *mean * weight + new * (1.0 - weight) };
        };
        match map {
            Values::F32(values) => self.mean.iter_mut().zip(values.iter().copied()).for_each(mix),
            // The middle of a byte's range, so that it is found again when rounded down.
            Values::U8(values) => {
                self.mean.iter_mut().zip(values.iter().map(|v| (f32::from(*v) + 0.5) / 255.0)).for_each(mix);
            }
        }
        self.of = Some(of);
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("input", &self.network.input).finish_non_exhaustive()
    }
}
