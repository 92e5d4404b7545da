//! Pixels as photos and cameras give them.

use crate::{Error, Result};

/// Longest side of a frame, px.
pub const MAX_SIDE: u32 = 1 << 15;

/// How far a frame has to be turned clockwise to be upright, as Android's `rotationDegrees` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rotation {
    /// It is upright.
    #[default]
    None,
    /// A quarter turn.
    Clockwise90,
    /// It is upside down.
    Clockwise180,
    /// Three quarters.
    Clockwise270,
}

impl Rotation {
    /// From degrees clockwise: 0, 90, 180 or 270.
    pub fn from_degrees(degrees: u32) -> Option<Self> {
        Some(match degrees {
            0 => Self::None,
            90 => Self::Clockwise90,
            180 => Self::Clockwise180,
            270 => Self::Clockwise270,
            _ => return None,
        })
    }

    /// Size of the upright picture of a frame of this size, and the reverse.
    pub(crate) fn turned(self, (width, height): (usize, usize)) -> (usize, usize) {
        match self {
            Self::None | Self::Clockwise180 => (width, height),
            Self::Clockwise90 | Self::Clockwise270 => (height, width),
        }
    }

    /// Where in a frame of `width` x `height` the pixel (x, y) of its upright picture lies, row-major.
    pub(crate) fn source(self, (width, height): (usize, usize), x: usize, y: usize) -> usize {
        let (column, row) = match self {
            Self::None => (x, y),
            Self::Clockwise90 => (y, height - 1 - x),
            Self::Clockwise180 => (width - 1 - x, height - 1 - y),
            Self::Clockwise270 => (width - 1 - y, x),
        };
        row * width + column
    }
}

/// One plane of a frame in planes.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// From its first pixel on. The last row may end with its last pixel, without the rest of the stride.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub row_stride: usize,
    /// Bytes from one pixel to the next.
    pub pixel_stride: usize,
}

/// The pixels of a frame. YUV is that of cameras and JPEG files: BT.601, full range.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// Red, green, blue.
    Rgb8 {
        /// The rows.
        data: &'a [u8],
        /// Bytes from one row to the next.
        row_stride: usize,
    },
    /// Red, green, blue and a byte that is ignored.
    Rgba8 {
        /// The rows.
        data: &'a [u8],
        /// Bytes from one row to the next.
        row_stride: usize,
    },
    /// Android's camera format: brightness, then V and U in turn for every 2 x 2 pixels.
    Nv21 {
        /// Brightness.
        y: &'a [u8],
        /// Bytes from one row of `y` to the next.
        y_stride: usize,
        /// V, U, V, U and so on.
        vu: &'a [u8],
        /// Bytes from one row of `vu` to the next.
        vu_stride: usize,
    },
    /// `YUV_420_888`: three planes, the last two for every 2 x 2 pixels.
    Yuv420 {
        /// Brightness.
        y: Plane<'a>,
        /// Blue difference.
        u: Plane<'a>,
        /// Red difference.
        v: Plane<'a>,
    },
}

/// A photo or a camera's frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How it lies.
    pub rotation: Rotation,
    /// Its pixels.
    pub pixels: Pixels<'a>,
}

/// Channels that lie in one buffer: what is resized at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) row_stride: usize,
    pub(crate) pixel_stride: usize,
    pub(crate) channels: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Layer<'_> {
    /// Bytes of a row from its first pixel to its last.
    pub(crate) fn row_len(&self) -> usize {
        (self.width - 1) * self.pixel_stride + self.channels
    }

    fn check(self, plane: &'static str) -> Result<Self> {
        let Self { row_stride, pixel_stride, .. } = self;
        let row = (self.width - 1).checked_mul(pixel_stride).and_then(|n| n.checked_add(self.channels));
        let row = row.filter(|row| pixel_stride >= self.channels && (self.height == 1 || row_stride >= *row));
        let row = row.ok_or(Error::Stride { plane, row_stride, pixel_stride })?;
        let needed = (self.height - 1).checked_mul(row_stride).and_then(|n| n.checked_add(row)).unwrap_or(usize::MAX);
        if self.data.len() < needed {
            return Err(Error::ShortBuffer { plane, needed, len: self.data.len() });
        }
        Ok(self)
    }
}

/// The layers of a frame and what their channels are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'a> {
    pub(crate) layers: [Option<Layer<'a>>; 3],
    pub(crate) colour: Colour,
}

/// Order of the three channels in the layers of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Rgb,
    Yuv,
    Yvu,
}

impl<'a> Frame<'a> {
    /// An upright photo: red, green, blue without gaps.
    pub fn rgb(width: u32, height: u32, data: &'a [u8]) -> Self {
        let row_stride = width as usize * 3;
        Self { width, height, rotation: Rotation::None, pixels: Pixels::Rgb8 { data, row_stride } }
    }

    /// Its layers, all checked to lie within their buffers.
    pub(crate) fn layers(&self) -> Result<Layers<'a>> {
        let (width, height) = (self.width as usize, self.height as usize);
        if !(1..=MAX_SIDE).contains(&self.width) || !(1..=MAX_SIDE).contains(&self.height) {
            return Err(Error::FrameSize { width: self.width, height: self.height });
        }
        let layer = |data, row_stride, pixel_stride, channels| Layer {
            data,
            row_stride,
            pixel_stride,
            channels,
            width,
            height,
        };
        let half = |layer: Layer<'a>| Layer { width: width.div_ceil(2), height: height.div_ceil(2), ..layer };
        let plane = |plane: Plane<'a>| layer(plane.data, plane.row_stride, plane.pixel_stride, 1);
        Ok(match self.pixels {
            Pixels::Rgb8 { data, row_stride } => Layers {
                layers: [Some(layer(data, row_stride, 3, 3).check("RGB buffer")?), None, None],
                colour: Colour::Rgb,
            },
            Pixels::Rgba8 { data, row_stride } => {
                // The last pixel's fourth byte belongs to the frame, though nothing reads it.
                layer(data, row_stride, 4, 4).check("RGBA buffer")?;
                Layers { layers: [Some(layer(data, row_stride, 4, 3)), None, None], colour: Colour::Rgb }
            }
            Pixels::Nv21 { y, y_stride, vu, vu_stride } => Layers {
                layers: [
                    Some(layer(y, y_stride, 1, 1).check("Y plane")?),
                    Some(half(layer(vu, vu_stride, 2, 2)).check("VU plane")?),
                    None,
                ],
                colour: Colour::Yvu,
            },
            Pixels::Yuv420 { y, u, v } => Layers {
                layers: [
                    Some(plane(y).check("Y plane")?),
                    Some(half(plane(u)).check("U plane")?),
                    Some(half(plane(v)).check("V plane")?),
                ],
                colour: Colour::Yuv,
            },
        })
    }
}

impl Colour {
    /// Red, green and blue of a pixel.
    pub(crate) fn rgb(self, [a, b, c]: [u8; 3]) -> [u8; 3] {
        let (u, v) = match self {
            Self::Rgb => return [a, b, c],
            Self::Yuv => (b, c),
            Self::Yvu => (c, b),
        };
        let (y, u, v) = (f32::from(a), f32::from(u) - 128.0, f32::from(v) - 128.0);
        let byte = |value: f32| (value + 0.5) as u8;
        [byte(y + 1.402 * v), byte(y - 0.344_136 * u - 0.714_136 * v), byte(y + 1.772 * u)]
    }
}
