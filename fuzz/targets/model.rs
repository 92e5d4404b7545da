//! Damaged model files.
#![no_main]

#[path = "../calls.rs"]
mod calls;

use std::slice;

/// Where libFuzzer begins; what tract panics about and the library catches is not told.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerInitialize(_: *mut i32, _: *mut *mut *mut u8) -> i32 {
    std::panic::set_hook(Box::new(|_| ()));
    0
}

/// One input. A panic that leaves it ends the program.
#[unsafe(no_mangle)]
unsafe extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, len: usize) -> i32 {
    // SAFETY: libFuzzer's promise; the pointer may be null when there are no bytes.
    calls::model(if len == 0 { &[] } else { unsafe { slice::from_raw_parts(data, len) } });
    0
}
