//! Native methods of `inas.SaliencyModel` (`android/java`). They throw what went wrong as a `RuntimeException`.
#![allow(unreachable_pub, reason = "found by name, by the Java VM")]

use std::fmt;
use std::sync::PoisonError;

use jni::errors::ThrowRuntimeExAndDefault;
use jni::objects::{JByteArray, JByteBuffer, JClass};
use jni::sys::{jdouble, jfloat, jint, jlong};
use jni::{Env, EnvUnowned};

use crate::model::{InasModel, load};
use crate::status::Failure;
use crate::types::{INAS_FORMAT_NV21, INAS_FORMAT_YUV420, InasFrame, InasOptions, InasPlane};

impl From<jni::errors::Error> for Failure {
    fn from(error: jni::errors::Error) -> Self {
        Self::argument(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A model that Java holds as a number; the Java class never passes one after `close`.
fn model<'a>(handle: jlong) -> Result<&'a InasModel, Failure> {
    // SAFETY: it came from `nativeLoad`, or is 0.
    unsafe { (handle as *const InasModel).as_ref() }.ok_or_else(|| Failure::null("model"))
}

fn unsigned(value: jint, name: &str) -> Result<u32, Failure> {
    u32::try_from(value).map_err(|_| Failure::argument(format!("{name} of {value}")))
}

/// Loads a model; returns its handle.
#[unsafe(no_mangle)]
pub extern "system" fn Java_inas_SaliencyModel_nativeLoad<'local>(
    mut env: EnvUnowned<'local>,
    _class: JClass<'local>,
    onnx: JByteArray<'local>,
    threads: jint,
    width: jint,
    height: jint,
) -> jlong {
    let loaded = env.with_env(|env| -> Result<jlong, Failure> {
        let onnx = env.convert_byte_array(&onnx)?;
        let (width, height) = (unsigned(width, "width")?, unsigned(height, "height")?);
        let options = InasOptions { threads: unsigned(threads, "threads")?, width, height, ..InasOptions::DEFAULT };
        // SAFETY: the options are valid.
        let model = unsafe { load(&onnx, &raw const options)? };
        Ok(Box::into_raw(Box::new(InasModel::new(model))) as jlong)
    });
    loaded.resolve::<ThrowRuntimeExAndDefault>()
}

/// Frees a model.
#[unsafe(no_mangle)]
pub extern "system" fn Java_inas_SaliencyModel_nativeFree<'local>(
    mut env: EnvUnowned<'local>,
    _class: JClass<'local>,
    handle: jlong,
) {
    let freed = env.with_env(|_| -> Result<(), Failure> {
        // SAFETY: it came from `nativeLoad`, or is 0; the Java class frees it once.
        unsafe { crate::inas_model_free(handle as *mut InasModel) };
        Ok(())
    });
    freed.resolve::<ThrowRuntimeExAndDefault>();
}

/// Width of the network's input in the upper 32 bits, height in the lower.
#[unsafe(no_mangle)]
pub extern "system" fn Java_inas_SaliencyModel_nativeInputSize<'local>(
    mut env: EnvUnowned<'local>,
    _class: JClass<'local>,
    handle: jlong,
) -> jlong {
    let size = env.with_env(|_| -> Result<jlong, Failure> {
        let (width, height) = lock(handle)?.input_size();
        Ok(i64::from(width) << 32 | i64::from(height))
    });
    size.resolve::<ThrowRuntimeExAndDefault>()
}

/// Runs the network a few times.
#[unsafe(no_mangle)]
pub extern "system" fn Java_inas_SaliencyModel_nativeWarmUp<'local>(
    mut env: EnvUnowned<'local>,
    _class: JClass<'local>,
    handle: jlong,
    runs: jint,
) {
    let ran = env.with_env(|_| -> Result<(), Failure> {
        Ok(lock(handle)?.warm_up(unsigned(runs, "runs")?.min(1000) as usize)?)
    });
    ran.resolve::<ThrowRuntimeExAndDefault>();
}

/// Sets the weight of the frames before.
#[unsafe(no_mangle)]
pub extern "system" fn Java_inas_SaliencyModel_nativeSetSmoothing<'local>(
    mut env: EnvUnowned<'local>,
    _class: JClass<'local>,
    handle: jlong,
    weight: jfloat,
) {
    let set = env.with_env(|_| -> Result<(), Failure> { Ok(lock(handle)?.set_smoothing(weight)?) });
    set.resolve::<ThrowRuntimeExAndDefault>();
}

/// Finds what is salient; all buffers are direct ones. Returns the milliseconds of the inference.
#[unsafe(no_mangle)]
pub extern "system" fn Java_inas_SaliencyModel_nativeMask<'local>(
    mut env: EnvUnowned<'local>,
    _class: JClass<'local>,
    handle: jlong,
    format: jint,
    width: jint,
    height: jint,
    rotation: jint,
    first: JByteBuffer<'local>,
    first_row: jint,
    first_pixel: jint,
    second: JByteBuffer<'local>,
    second_row: jint,
    second_pixel: jint,
    third: JByteBuffer<'local>,
    third_row: jint,
    third_pixel: jint,
    mask: JByteBuffer<'local>,
    mask_row: jint,
) -> jdouble {
    let ran = env.with_env(|env| -> Result<jdouble, Failure> {
        let format = unsigned(format, "format")?;
        let planes = match format {
            INAS_FORMAT_YUV420 => 3,
            INAS_FORMAT_NV21 => 2,
            _ => 1,
        };
        let given =
            [(&first, first_row, first_pixel), (&second, second_row, second_pixel), (&third, third_row, third_pixel)];
        let mut frame = InasFrame {
            width: unsigned(width, "width")?,
            height: unsigned(height, "height")?,
            rotation: unsigned(rotation, "rotation")?,
            format,
            planes: [InasPlane { data: std::ptr::null(), len: 0, row_stride: 0, pixel_stride: 0 }; 3],
        };
        for (to, (buffer, row, pixel)) in frame.planes.iter_mut().zip(given).take(planes) {
            let (data, len) = direct(env, buffer, "plane")?;
            let row_stride = unsigned(row, "row stride")? as usize;
            let pixel_stride = unsigned(pixel, "pixel stride")? as usize;
            *to = InasPlane { data, len, row_stride, pixel_stride };
        }
        let (mask, len) = direct(env, &mask, "mask")?;
        // SAFETY: Java keeps direct buffers where they are until this call returns.
        let (frame, mask) = unsafe { (frame.frame()?, std::slice::from_raw_parts_mut(mask, len)) };
        let latency = lock(handle)?.mask_into(&frame, mask, unsigned(mask_row, "row stride")? as usize)?;
        Ok(latency.as_secs_f64() * 1e3)
    });
    ran.resolve::<ThrowRuntimeExAndDefault>()
}

fn lock<'a>(handle: jlong) -> Result<std::sync::MutexGuard<'a, inas_runtime::Model>, Failure> {
    Ok(model(handle)?.0.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Address and length of a direct buffer.
fn direct(env: &Env<'_>, buffer: &JByteBuffer<'_>, name: &str) -> Result<(*mut u8, usize), Failure> {
    if buffer.is_null() {
        return Err(Failure::null(name));
    }
    let address = env.get_direct_buffer_address(buffer);
    let address = address.map_err(|_| Failure::argument(format!("the {name} is no direct buffer")))?;
    Ok((address, env.get_direct_buffer_capacity(buffer)?))
}
