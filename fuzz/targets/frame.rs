//! Frames of any size, stride and length, on a small network.
#![no_main]

#[path = "../calls.rs"]
mod calls;

use std::{ptr, slice};

use inas_c::{InasModel, InasStatus, inas_model_from_bytes};

static ONNX: &[u8] = include_bytes!("../corpus/model/tiny-relu.onnx");

thread_local! {
    static MODEL: *mut InasModel = {
        let mut model = ptr::null_mut();
        // SAFETY: all pointers are valid.
        let status = unsafe { inas_model_from_bytes(ONNX.as_ptr(), ONNX.len(), ptr::null(), &raw mut model) };
        assert_eq!(status, InasStatus::Ok);
        model
    };
}

/// One input. A panic that leaves it ends the program.
#[unsafe(no_mangle)]
unsafe extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, len: usize) -> i32 {
    // SAFETY: libFuzzer's promise; the pointer may be null when there are no bytes.
    let bytes = if len == 0 { &[] } else { unsafe { slice::from_raw_parts(data, len) } };
    MODEL.with(|model| calls::frame_on(*model, bytes));
    0
}
