//! Models that take bytes or have an open size give the masks of the plain ones, in both runtimes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{PX, nano_onnx, photo};
use inas_graph::{Edge, OnnxOptions};
use inas_runtime::{Backend, Error, Frame, Model, RuntimeKind, open};

fn backends() -> Vec<Box<dyn Backend>> {
    let kinds =
        if cfg!(feature = "ort") { vec![RuntimeKind::Tract, RuntimeKind::Ort] } else { vec![RuntimeKind::Tract] };
    kinds.into_iter().map(|kind| open(kind, 1, None).unwrap_or_else(|e| panic!("{e}"))).collect()
}

fn mask(model: &mut Model, (width, height): (u32, u32)) -> Vec<u8> {
    let photo = photo(width, height);
    let mut mask = vec![0; (width * height) as usize];
    model.mask_into(&Frame::rgb(width, height, photo.as_raw()), &mut mask, width as usize).unwrap();
    mask
}

#[test]
fn bytes_in_and_out_are_the_same_network() {
    let plain = nano_onnx(&OnnxOptions::default());
    let pixels = nano_onnx(&OnnxOptions { edge: Edge::Pixels, ..OnnxOptions::default() });
    for backend in backends() {
        let mut plain = Model::from_bytes(&plain, backend.as_ref()).unwrap();
        let mut pixels = Model::from_bytes(&pixels, backend.as_ref()).unwrap();
        for size in [(PX, PX), (151, 40)] {
            let (a, b) = (mask(&mut plain, size), mask(&mut pixels, size));
            // A value next to a step may be rounded down to either side of it.
            let worst = a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            let differ = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            assert!(worst <= 1 && differ * 50 <= a.len(), "{}: {worst}, {differ}", backend.info().name);
            assert!(a.iter().min() < a.iter().max());
        }
    }
}

#[test]
fn an_open_size_is_chosen_when_the_model_is_loaded() {
    let fixed = nano_onnx(&OnnxOptions::default());
    for edge in [Edge::Floats, Edge::Pixels] {
        let onnx = nano_onnx(&OnnxOptions { edge, dynamic_size: true, ..OnnxOptions::default() });
        let mut wide = Vec::new();
        for backend in backends() {
            let mut open = Model::from_bytes_sized(&onnx, (PX, PX), backend.as_ref()).unwrap();
            let mut fixed = Model::from_bytes(&fixed, backend.as_ref()).unwrap();
            let (a, b) = (mask(&mut open, (90, 70)), mask(&mut fixed, (90, 70)));
            assert!(a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 1), "{} {edge:?}", backend.info().name);

            let mut model = Model::from_bytes_sized(&onnx, (160, 96), backend.as_ref()).unwrap();
            assert_eq!(model.input_size(), (160, 96));
            wide.push(mask(&mut model, (160, 96)));
            assert!(Model::from_bytes(&onnx, backend.as_ref()).is_err(), "its size was not told");
            for odd in [(161, 96), (160, 95), (0, 96), (1 << 20, 96)] {
                let refused = Model::from_bytes_sized(&onnx, odd, backend.as_ref());
                assert!(matches!(refused, Err(Error::OpenSize { .. })), "{odd:?}");
            }
        }
        for other in &wide[1..] {
            assert!(wide[0].iter().zip(other).all(|(a, b)| a.abs_diff(*b) <= 1), "{edge:?}");
        }
    }
}
