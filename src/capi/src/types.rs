//! What C passes in.

use std::ffi::{CStr, c_char};
use std::path::Path;
use std::slice;

use inas_runtime::{Backend, Frame, Pixels, Plane, Rotation, RuntimeKind, open};

use crate::status::Failure;

/// Red, green, blue in `planes[0]`; its pixel stride is ignored.
pub const INAS_FORMAT_RGB8: u32 = 0;
/// Red, green, blue and an ignored byte in `planes[0]`; its pixel stride is ignored.
pub const INAS_FORMAT_RGBA8: u32 = 1;
/// Y in `planes[0]`, V and U in turn in `planes[1]`; pixel strides are ignored.
pub const INAS_FORMAT_NV21: u32 = 2;
/// Y, U and V in `planes[0..3]`, as Android's `YUV_420_888`.
pub const INAS_FORMAT_YUV420: u32 = 3;

/// The built-in runtime.
pub const INAS_RUNTIME_TRACT: u32 = 0;
/// ONNX Runtime, whose shared library is loaded; only in builds with it.
pub const INAS_RUNTIME_ONNX: u32 = 1;

/// How to load a model. All zeros is a good start.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct InasOptions {
    /// Threads of one inference; 0 for one.
    pub threads: u32,
    /// `INAS_RUNTIME_…`
    pub runtime: u32,
    /// Path of ONNX Runtime's library (UTF-8), or null to look for it.
    pub onnx_library: *const c_char,
    /// Width at which a model of open size runs, px; 0 for a model of fixed size.
    pub width: u32,
    /// Height at which a model of open size runs, px; 0 for a model of fixed size.
    pub height: u32,
}

/// One plane of a frame.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct InasPlane {
    /// Its first pixel.
    pub data: *const u8,
    /// Bytes that may be read from `data`.
    pub len: usize,
    /// Bytes from one row to the next.
    pub row_stride: usize,
    /// Bytes from one pixel to the next.
    pub pixel_stride: usize,
}

/// A photo or a camera's frame.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct InasFrame {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Degrees clockwise that make it upright: 0, 90, 180 or 270.
    pub rotation: u32,
    /// `INAS_FORMAT_…`
    pub format: u32,
    /// As the format says; the others are ignored.
    pub planes: [InasPlane; 3],
}

impl InasPlane {
    /// # Safety
    ///
    /// `len` bytes from `data` on can be read for `'a`, unless it is null.
    unsafe fn plane<'a>(&self, name: &str) -> Result<Plane<'a>, Failure> {
        let Self { data, len, row_stride, pixel_stride } = *self;
        // SAFETY: as promised above.
        Ok(Plane { data: unsafe { bytes(data, len, name)? }, row_stride, pixel_stride })
    }
}

impl InasFrame {
    /// # Safety
    ///
    /// The planes of its format can be read for `'a`, unless they are null.
    pub(crate) unsafe fn frame<'a>(&self) -> Result<Frame<'a>, Failure> {
        let Self { width, height, planes: [first, second, third], .. } = self;
        // SAFETY: as promised above.
        let pixels = unsafe {
            let first = first.plane("planes[0].data")?;
            match self.format {
                INAS_FORMAT_RGB8 => Pixels::Rgb8 { data: first.data, row_stride: first.row_stride },
                INAS_FORMAT_RGBA8 => Pixels::Rgba8 { data: first.data, row_stride: first.row_stride },
                INAS_FORMAT_NV21 => {
                    let vu = second.plane("planes[1].data")?;
                    Pixels::Nv21 { y: first.data, y_stride: first.row_stride, vu: vu.data, vu_stride: vu.row_stride }
                }
                INAS_FORMAT_YUV420 => {
                    Pixels::Yuv420 { y: first, u: second.plane("planes[1].data")?, v: third.plane("planes[2].data")? }
                }
                other => return Err(Failure::argument(format!("there is no format {other}"))),
            }
        };
        let rotation = Rotation::from_degrees(self.rotation).ok_or_else(|| {
            Failure::argument(format!("a rotation of {} degrees: 0, 90, 180 or 270 are possible", self.rotation))
        })?;
        Ok(Frame { width: *width, height: *height, rotation, pixels })
    }
}

impl InasOptions {
    pub(crate) const DEFAULT: Self =
        Self { threads: 0, runtime: INAS_RUNTIME_TRACT, onnx_library: std::ptr::null(), width: 0, height: 0 };

    /// # Safety
    ///
    /// `onnx_library` is null or a string that ends with a zero byte.
    pub(crate) unsafe fn open(&self) -> Result<Box<dyn Backend>, Failure> {
        let kind = match self.runtime {
            INAS_RUNTIME_TRACT => RuntimeKind::Tract,
            INAS_RUNTIME_ONNX => RuntimeKind::Ort,
            other => return Err(Failure::argument(format!("there is no runtime {other}"))),
        };
        // SAFETY: as promised above.
        let library = unsafe { (!self.onnx_library.is_null()).then(|| utf8_path(self.onnx_library)) }.transpose()?;
        let backend = open(kind, self.threads.clamp(1, 64) as usize, library);
        backend.map_err(|error| Failure::from(inas_runtime::Error::from(error)))
    }

    /// The size a model of open size is to have.
    pub(crate) fn size(&self) -> Option<(u32, u32)> {
        (self.width > 0 && self.height > 0).then_some((self.width, self.height))
    }
}

/// # Safety
///
/// `data` is null or can be read for `len` bytes during `'a`.
pub(crate) unsafe fn bytes<'a>(data: *const u8, len: usize, name: &str) -> Result<&'a [u8], Failure> {
    if data.is_null() {
        return Err(Failure::null(name));
    }
    if len > isize::MAX as usize {
        return Err(Failure::argument(format!("{name} of {len} bytes")));
    }
    // SAFETY: as promised above.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// # Safety
///
/// `text` is a string that ends with a zero byte and is not null.
pub(crate) unsafe fn utf8_path<'a>(text: *const c_char) -> Result<&'a Path, Failure> {
    // SAFETY: as promised above.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Path::new).map_err(|_| Failure::argument("a path is not UTF-8"))
}
