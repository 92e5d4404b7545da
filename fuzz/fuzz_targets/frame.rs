#![no_main]

use std::ptr::{null, null_mut};

use inas_c::{InasModel, InasStatus, inas_model_from_bytes};

thread_local! {
    static MODEL: *mut InasModel = {
        let onnx = include_bytes!("../corpus/model/tiny-relu.onnx");
        let mut model = null_mut();
        // SAFETY: all pointers are valid.
        let status = unsafe { inas_model_from_bytes(onnx.as_ptr(), onnx.len(), null(), &raw mut model) };
        assert_eq!(status, InasStatus::Ok);
        model
    };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| MODEL.with(|model| inas_fuzz::frame_on(*model, data)));
