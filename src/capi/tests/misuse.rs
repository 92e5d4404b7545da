//! Null pointers, short buffers, odd sizes and broken models through the C interface.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(unsafe_code, reason = "calls of a C interface")]

mod common;

use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};
use std::sync::{LazyLock, Mutex, PoisonError};

use common::model_file;
use inas_c::*;
use proptest::prelude::*;

fn message() -> String {
    // SAFETY: it is never null and valid until the next failing call.
    unsafe { CStr::from_ptr(inas_last_error()) }.to_str().unwrap().to_owned()
}

/// A model that is freed in the end.
struct Owned(*mut InasModel);

// SAFETY: a model may move between threads (inas.h).
unsafe impl Send for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it came from `inas_model_load`.
        unsafe { inas_model_free(self.0) }
    }
}

fn load() -> Owned {
    let path = CString::new(model_file().to_str().unwrap()).unwrap();
    let mut model = null_mut();
    // SAFETY: all pointers are valid.
    assert_eq!(unsafe { inas_model_load(path.as_ptr(), null(), &raw mut model) }, InasStatus::Ok);
    Owned(model)
}

fn plane(data: &[u8], row_stride: usize, pixel_stride: usize) -> InasPlane {
    InasPlane { data: data.as_ptr(), len: data.len(), row_stride, pixel_stride }
}

#[test]
fn null_pointers_are_told() {
    let path = CString::new(model_file().to_str().unwrap()).unwrap();
    let mut model = null_mut();
    let data = [0_u8; 64];
    let frame = InasFrame { width: 4, height: 4, rotation: 0, format: 0, planes: [plane(&data, 12, 3); 3] };
    let mut hollow = frame;
    hollow.planes[0].data = null();
    let owned = load();
    let mut mask = [0_u8; 16];
    let (mut width, mut height) = (0, 0);
    // SAFETY: null pointers are what is tested; the others are valid.
    unsafe {
        for status in [
            inas_model_load(null(), null(), &raw mut model),
            inas_model_load(path.as_ptr(), null(), null_mut()),
            inas_model_from_bytes(null(), 10, null(), &raw mut model),
            inas_model_from_bytes(data.as_ptr(), 10, null(), null_mut()),
            inas_model_input_size(null(), &raw mut width, &raw mut height),
            inas_model_input_size(owned.0, null_mut(), &raw mut height),
            inas_model_warm_up(null_mut(), 1),
            inas_model_set_smoothing(null_mut(), 0.5),
            inas_model_forget(null_mut()),
            inas_model_mask(null_mut(), &raw const frame, mask.as_mut_ptr(), 16, 4, null_mut()),
            inas_model_mask(owned.0, null(), mask.as_mut_ptr(), 16, 4, null_mut()),
            inas_model_mask(owned.0, &raw const frame, null_mut(), 16, 4, null_mut()),
            inas_model_mask(owned.0, &raw const hollow, mask.as_mut_ptr(), 16, 4, null_mut()),
        ] {
            assert_eq!(status, InasStatus::Null);
            assert!(message().contains("is null"), "{}", message());
        }
        inas_model_free(null_mut());
        assert_eq!(inas_model_mask(owned.0, &raw const frame, mask.as_mut_ptr(), 16, 4, null_mut()), InasStatus::Ok);
        assert_eq!(inas_model_input_size(owned.0, &raw mut width, &raw mut height), InasStatus::Ok);
    }
    assert!(model.is_null());
    assert_eq!((width, height), (128, 128));
}

#[test]
fn wrong_arguments_and_models_have_their_codes() {
    let mut model = null_mut();
    let missing = c"/nonexistent.onnx";
    let onnx = std::fs::read(model_file()).unwrap();
    let options = |threads, runtime| InasOptions { threads, runtime, onnx_library: null(), width: 0, height: 0 };
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(inas_model_load(missing.as_ptr(), null(), &raw mut model), InasStatus::File);
        assert!(message().contains("/nonexistent.onnx"), "{}", message());
        for len in [0, 1, 100, onnx.len() / 2, onnx.len() - 1] {
            assert_eq!(inas_model_from_bytes(onnx.as_ptr(), len, null(), &raw mut model), InasStatus::Model, "{len}");
            assert!(model.is_null() && !message().is_empty());
        }
        let load = |options: InasOptions, to| inas_model_from_bytes(onnx.as_ptr(), onnx.len(), &raw const options, to);
        assert_eq!(load(options(1, 7), &raw mut model), InasStatus::Argument);
        assert_eq!(load(options(u32::MAX, INAS_RUNTIME_TRACT), &raw mut model), InasStatus::Ok);
    }
    let owned = Owned(model);
    let mut mask = [0_u8; 16];
    let data = [0_u8; 64];
    let frame = InasFrame { width: 4, height: 4, rotation: 0, format: 0, planes: [plane(&data, 12, 3); 3] };
    // SAFETY: all pointers are valid.
    let mut call = |frame: InasFrame, stride| unsafe {
        inas_model_mask(owned.0, &raw const frame, mask.as_mut_ptr(), 16, stride, null_mut())
    };
    assert_eq!(call(InasFrame { format: 9, ..frame }, 4), InasStatus::Argument);
    assert_eq!(call(InasFrame { rotation: 91, ..frame }, 4), InasStatus::Argument);
    assert_eq!(call(InasFrame { width: 0, ..frame }, 4), InasStatus::Argument);
    assert_eq!(call(InasFrame { height: 99, ..frame }, 4), InasStatus::Argument);
    assert_eq!(call(frame, 3), InasStatus::Argument);
    assert_eq!(call(frame, 5), InasStatus::Argument);
    assert!(message().contains("mask needs 19 bytes, but 16"), "{}", message());
    assert_eq!(call(frame, 4), InasStatus::Ok);
}

#[test]
fn one_model_serves_several_threads() {
    struct Shared(*mut InasModel);
    // SAFETY: the interface allows calls from any thread.
    unsafe impl Sync for Shared {}
    let owned = load();
    let shared = Shared(owned.0);
    let shared = &shared;
    let photo = common::photo();
    let (width, height) = common::SIZE;
    let wanted = common::wanted(inas_runtime::Rotation::None);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let planes = [plane(&photo, 3 * width as usize, 3); 3];
                let frame = InasFrame { width, height, rotation: 0, format: INAS_FORMAT_RGB8, planes };
                let mut mask = vec![0; wanted.len()];
                for _ in 0..3 {
                    // SAFETY: all pointers are valid.
                    let status = unsafe {
                        inas_model_mask(
                            shared.0,
                            &raw const frame,
                            mask.as_mut_ptr(),
                            mask.len(),
                            width as usize,
                            null_mut(),
                        )
                    };
                    assert_eq!(status, InasStatus::Ok);
                    assert_eq!(mask, wanted);
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_frame_is_taken_or_refused(
        size in (prop_oneof![0_u32..40, any::<u32>()], prop_oneof![0_u32..40, any::<u32>()]),
        rotation in prop_oneof![Just(0_u32), Just(90), Just(180), Just(270), any::<u32>()],
        format in 0_u32..5,
        strides in prop::array::uniform6(prop_oneof![0_usize..99, any::<usize>()]),
        lens in prop::array::uniform4(0_usize..4000),
        stride in prop_oneof![0_usize..99, any::<usize>()],
    ) {
        static MODEL: LazyLock<Mutex<Owned>> = LazyLock::new(|| Mutex::new(load()));
        let data = vec![50_u8; 4000];
        let planes = [0, 1, 2].map(|i| plane(&data[..lens[i]], strides[2 * i], strides[2 * i + 1]));
        let frame = InasFrame { width: size.0, height: size.1, rotation, format, planes };
        let mut mask = vec![0_u8; lens[3]];
        let model = MODEL.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: lengths are true.
        let status =
            unsafe { inas_model_mask(model.0, &raw const frame, mask.as_mut_ptr(), mask.len(), stride, null_mut()) };
        prop_assert!(matches!(status, InasStatus::Ok | InasStatus::Argument), "{status:?}: {}", message());
    }
}
