//! The C interface of `inas-runtime`; `include/inas.h` is generated from this crate.
//!
//! Every function returns an [`InasStatus`]; what went wrong in words is [`inas_last_error`]. Null pointers, short
//! buffers, odd sizes and broken models are errors; panics end at this border. With the feature `jni` the library also
//! holds the native methods of the Java class `inas.SaliencyModel`.

#![allow(unsafe_code, reason = "pointers come from C")]

#[cfg(feature = "jni")]
mod java;
mod model;
mod status;
mod types;

pub use model::{
    InasModel, inas_model_forget, inas_model_free, inas_model_from_bytes, inas_model_input_size, inas_model_load,
    inas_model_mask, inas_model_set_smoothing, inas_model_warm_up,
};
pub use status::{InasStatus, inas_last_error, inas_version};
pub use types::{
    INAS_FORMAT_NV21, INAS_FORMAT_RGB8, INAS_FORMAT_RGBA8, INAS_FORMAT_YUV420, INAS_RUNTIME_ONNX, INAS_RUNTIME_TRACT,
    InasFrame, InasOptions, InasPlane,
};
