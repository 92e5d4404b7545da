//! Loading, running and freeing a model.

use std::ffi::c_char;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use inas_runtime::Model;

use crate::status::{Failure, InasStatus, guard};
use crate::types::{InasFrame, InasOptions, bytes, utf8_path};

/// A loaded model. It may be used from any thread; calls on one model wait for each other.
#[derive(Debug)]
pub struct InasModel(pub(crate) Mutex<Model>);

impl InasModel {
    pub(crate) fn new(model: Model) -> Self {
        Self(Mutex::new(model))
    }
}

/// Loads an ONNX file (`path` in UTF-8). `options` may be null. `*model` is null unless it worked.
///
/// # Safety
///
/// Pointers are null or valid; strings end with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inas_model_load(
    path: *const c_char,
    options: *const InasOptions,
    model: *mut *mut InasModel,
) -> InasStatus {
    // SAFETY: the caller's promise is passed on.
    guard(|| unsafe {
        if path.is_null() {
            return put(model, Err(Failure::null("path")));
        }
        let read = utf8_path(path).and_then(|path| {
            let read = std::fs::read(path);
            let read = read.map_err(|source| inas_runtime::Error::Read { path: path.to_owned(), source });
            Ok(read?)
        });
        put(model, read.and_then(|onnx| load(&onnx, options)))
    })
}

/// Loads an ONNX model from memory, which is not needed afterwards. `options` may be null. `*model` is null unless it
/// worked.
///
/// # Safety
///
/// Pointers are null or valid, `data` for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inas_model_from_bytes(
    data: *const u8,
    len: usize,
    options: *const InasOptions,
    model: *mut *mut InasModel,
) -> InasStatus {
    // SAFETY: the caller's promise is passed on.
    guard(|| unsafe { put(model, bytes(data, len, "data").and_then(|onnx| load(onnx, options))) })
}

pub(crate) unsafe fn load(onnx: &[u8], options: *const InasOptions) -> Result<Model, Failure> {
    // SAFETY: the caller's promise is passed on.
    let options = unsafe { options.as_ref() }.unwrap_or(&InasOptions::DEFAULT);
    // SAFETY: the same.
    let backend = unsafe { options.open()? };
    Ok(match options.size() {
        Some(size) => Model::from_bytes_sized(onnx, size, backend.as_ref())?,
        None => Model::from_bytes(onnx, backend.as_ref())?,
    })
}

/// Hands a model over, or null.
unsafe fn put(to: *mut *mut InasModel, model: Result<Model, Failure>) -> Result<(), Failure> {
    // SAFETY: the caller's promise is passed on.
    let to = unsafe { to.as_mut() }.ok_or_else(|| Failure::null("model"))?;
    *to = ptr::null_mut();
    *to = Box::into_raw(Box::new(InasModel::new(model?)));
    Ok(())
}

unsafe fn locked<'a>(model: *const InasModel) -> Result<MutexGuard<'a, Model>, Failure> {
    // SAFETY: the caller's promise is passed on.
    let model = unsafe { model.as_ref() }.ok_or_else(|| Failure::null("model"))?;
    Ok(model.0.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Frees a model; null is allowed. It must not be in use.
///
/// # Safety
///
/// `model` is null or came from this library and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inas_model_free(model: *mut InasModel) {
    guard(|| {
        if !model.is_null() {
            // SAFETY: it was made by `Box::into_raw`.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

/// Width and height of the network's input, px; the picture is resized to it.
///
/// # Safety
///
/// Pointers are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inas_model_input_size(
    model: *const InasModel,
    width: *mut u32,
    height: *mut u32,
) -> InasStatus {
    // SAFETY: the caller's promise is passed on.
    guard(|| unsafe {
        let size = locked(model)?.input_size();
        let (Some(width), Some(height)) = (width.as_mut(), height.as_mut()) else {
            return Err(Failure::null("width or height"));
        };
        (*width, *height) = size;
        Ok(())
    })
}

/// Runs the network `runs` times, at most 1000: the first inferences are slower than the rest.
///
/// # Safety
///
/// `model` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inas_model_warm_up(model: *mut InasModel, runs: u32) -> InasStatus {
    // SAFETY: the caller's promise is passed on.
    guard(|| Ok(unsafe { locked(model)? }.warm_up(runs.min(1000) as usize)?))
}

/// Steadies the masks of a video: `weight` (at least 0, below 1) is the part that the mean of the frames before has.
/// 0, the default, switches it off.
///
/// # Safety
///
/// `model` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inas_model_set_smoothing(model: *mut InasModel, weight: f32) -> InasStatus {
    // SAFETY: the caller's promise is passed on.
    guard(|| Ok(unsafe { locked(model)? }.set_smoothing(weight)?))
}

/// Forgets the frames before, e.g. at a cut of the video.
///
/// # Safety
///
/// `model` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inas_model_forget(model: *mut InasModel) -> InasStatus {
    // SAFETY: the caller's promise is passed on.
    guard(|| {
        unsafe { locked(model)? }.forget();
        Ok(())
    })
}

/// Finds what is salient in a frame: `mask` takes 0..255 for each pixel, lying as the frame does, its rows `row_stride`
/// bytes apart. `inference_ms` may be null; it takes the time of the inference alone.
///
/// # Safety
///
/// Pointers are null or valid: the frame's planes and `mask` for the lengths given, without overlapping.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inas_model_mask(
    model: *mut InasModel,
    frame: *const InasFrame,
    mask: *mut u8,
    mask_len: usize,
    row_stride: usize,
    inference_ms: *mut f64,
) -> InasStatus {
    // SAFETY: the caller's promise is passed on.
    guard(|| unsafe {
        let mut model = locked(model)?;
        let frame = frame.as_ref().ok_or_else(|| Failure::null("frame"))?.frame()?;
        bytes(mask, mask_len, "mask")?;
        let mask = std::slice::from_raw_parts_mut(mask, mask_len);
        let latency = model.mask_into(&frame, mask, row_stride)?;
        if let Some(ms) = inference_ms.as_mut() {
            *ms = latency.as_secs_f64() * 1e3;
        }
        Ok(())
    })
}
