//! What the fuzzer calls, and the stable test `src/capi/tests/corpus.rs` with the kept inputs.
#![allow(clippy::unwrap_used, missing_docs, unsafe_code, reason = "calls of a C interface")]
#![allow(dead_code, reason = "each target makes one of the calls")]

use std::ptr::{null, null_mut};

use inas_c::*;

/// A damaged model must be refused or run, whatever its bytes are.
pub fn model(onnx: &[u8]) {
    let mut model = null_mut();
    // SAFETY: all pointers are valid.
    let status = unsafe { inas_model_from_bytes(onnx.as_ptr(), onnx.len(), null(), &raw mut model) };
    assert_ne!(status, InasStatus::Internal, "a panic got through");
    if status == InasStatus::Ok {
        frame_on(model, &[7, 9, 0, 0]);
        // SAFETY: it was just loaded.
        unsafe { inas_model_free(model) }
    }
}

/// Sizes, strides, format and rotation from the first bytes, the planes from the rest.
pub fn frame_on(model: *mut InasModel, bytes: &[u8]) {
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    // Mostly small, now and then huge.
    let number = |i: usize| match at(i) {
        255 => usize::MAX,
        254 => usize::MAX / 2 + 1,
        253 => 1 << 31,
        252 => 40_000,
        small => usize::from(small),
    };
    let rest = bytes.get(16..).unwrap_or(&[]);
    let plane = |i: usize| {
        let len = (rest.len() * usize::from(at(12 + i)) / 255).min(rest.len());
        InasPlane { data: rest.as_ptr(), len, row_stride: number(4 + 2 * i), pixel_stride: number(5 + 2 * i) }
    };
    let frame = InasFrame {
        width: number(0) as u32,
        height: number(1) as u32,
        rotation: u32::from(at(2) % 5) * 90,
        format: u32::from(at(3) % 5),
        planes: [plane(0), plane(1), plane(2)],
    };
    let mut mask = vec![0; usize::from(at(10)) * usize::from(at(15))];
    // SAFETY: the lengths are true; an empty vector's pointer is not null.
    let status =
        unsafe { inas_model_mask(model, &raw const frame, mask.as_mut_ptr(), mask.len(), number(11), null_mut()) };
    assert_ne!(status, InasStatus::Internal, "a panic got through");
}
