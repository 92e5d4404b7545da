//! Nothing of this crate allocates per frame: a counting allocator beside a backend that marks where the inference
//! itself runs. One test a program, since the counter is everyone's.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(unsafe_code, reason = "an allocator can be written in no other way")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use inas_backend::{Backend, OperatorTime, Result, RuntimeInfo, Session, Values, ValuesMut};
use inas_graph::OnnxOptions;
use inas_runtime::{Frame, Model, Pixels, Plane, Rotation};

static COUNTING: AtomicBool = AtomicBool::new(false);
static OURS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Ordering::Relaxed) {
            OURS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// tract, whose own work on tensors is left out of the count.
struct Marked(Box<dyn Backend>);

struct MarkedSession(Box<dyn Session>);

impl Backend for Marked {
    fn info(&self) -> RuntimeInfo {
        self.0.info()
    }

    fn threads(&self) -> usize {
        self.0.threads()
    }

    fn load_sized(&self, onnx: &[u8], open: &[usize]) -> Result<Box<dyn Session>> {
        Ok(Box::new(MarkedSession(self.0.load_sized(onnx, open)?)))
    }

    fn operator_times(&self, onnx: &[u8], inputs: &[&[f32]], runs: usize) -> Result<Vec<OperatorTime>> {
        self.0.operator_times(onnx, inputs, runs)
    }
}

impl Session for MarkedSession {
    fn input_shapes(&self) -> &[Vec<usize>] {
        self.0.input_shapes()
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        self.0.output_shapes()
    }

    fn input_mut(&mut self, index: usize) -> Result<ValuesMut<'_>> {
        self.0.input_mut(index)
    }

    fn run(&mut self) -> Result<()> {
        let counting = COUNTING.swap(false, Ordering::Relaxed);
        let result = self.0.run();
        COUNTING.store(counting, Ordering::Relaxed);
        result
    }

    fn output_values(&self, index: usize) -> Result<Values<'_>> {
        self.0.output_values(index)
    }
}

#[test]
fn no_allocation_per_frame() {
    let backend = Marked(common::tract());
    let mut model = Model::from_bytes(&common::nano_onnx(&OnnxOptions::default()), &backend).unwrap();
    model.set_smoothing(0.5).unwrap();
    let (width, height) = (122, 93);
    let data = vec![90; 122 * 94 * 4];
    let plane = |row_stride, pixel_stride| Plane { data: &data, row_stride, pixel_stride };
    let formats = [
        Pixels::Rgb8 { data: &data, row_stride: 122 * 3 },
        Pixels::Rgba8 { data: &data, row_stride: 122 * 4 },
        Pixels::Nv21 { y: &data, y_stride: 128, vu: &data, vu_stride: 128 },
        Pixels::Yuv420 { y: plane(122, 1), u: plane(128, 2), v: plane(128, 2) },
    ];
    let mut mask = vec![0; 122 * 93];
    for pixels in formats {
        for degrees in [0, 90, 180, 270] {
            let rotation = Rotation::from_degrees(degrees).unwrap();
            let frame = Frame { width, height, rotation, pixels };
            OURS.store(0, Ordering::Relaxed);
            COUNTING.store(true, Ordering::Relaxed);
            model.mask_into(&frame, &mut mask, 122).unwrap();
            let first = OURS.swap(0, Ordering::Relaxed);
            for _ in 0..3 {
                model.mask_into(&frame, &mut mask, 122).unwrap();
            }
            COUNTING.store(false, Ordering::Relaxed);
            assert_eq!(OURS.load(Ordering::Relaxed), 0, "{degrees} degrees; the first frame: {first}");
        }
    }
}
