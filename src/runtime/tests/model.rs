//! Small seeded networks on made-up photos.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{PX, nano_onnx, photo, tract};
use image::RgbImage;
use inas_graph::{OnnxOptions, SeededWeights, block};
use inas_runtime::{Error, Model, preprocess};
use inas_space::Space;

#[test]
fn mask_has_the_size_of_the_photo_and_repeats() {
    let backend = tract();
    let mut model = Model::from_bytes(&nano_onnx(&OnnxOptions::default()), backend.as_ref()).unwrap();
    assert_eq!(model.input_size(), (PX, PX));
    for (width, height) in [(100, 37), (PX, PX), (1, 1), (3, 200)] {
        let photo = photo(width, height);
        let saliency = model.run(&photo).unwrap();
        assert_eq!(saliency.mask.dimensions(), (width, height));
        assert!(saliency.latency_ms() > 0.0);
        assert_eq!(model.run(&photo).unwrap().mask, saliency.mask);
        preprocess::cut_out(&photo, &saliency.mask).unwrap();
    }
    assert!(matches!(model.run(&RgbImage::new(0, 4)), Err(Error::FrameSize { width: 0, height: 4 })));
}

#[test]
fn mask_is_the_network_applied_to_the_normalised_planes() {
    let backend = tract();
    let onnx = nano_onnx(&OnnxOptions::default());
    let photo = photo(PX, PX);
    let mask = Model::from_bytes(&onnx, backend.as_ref()).unwrap().run(&photo).unwrap().mask;
    let mut session = backend.load(&onnx).unwrap();
    let value = |c: usize, x: u32, y: u32| {
        (f32::from(photo.get_pixel(x, y).0[c]) / 255.0 - preprocess::MEAN[c]) / preprocess::STD[c]
    };
    let mut planes = Vec::new();
    for c in 0..3 {
        for y in 0..PX {
            planes.extend((0..PX).map(|x| value(c, x, y)));
        }
    }
    session.set_inputs(&[&planes]).unwrap();
    session.run().unwrap();
    let expected = preprocess::map_to_u8(&session.output(0).unwrap(), PX, PX).unwrap();
    assert_eq!(mask, expected);
    assert!(mask.as_raw().iter().min() < mask.as_raw().iter().max(), "the map must depend on the photo");
}

#[test]
fn file_with_open_batch_loads_and_gives_the_same() {
    let backend = tract();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, nano_onnx(&OnnxOptions { dynamic_batch: true, ..OnnxOptions::default() })).unwrap();
    let photo = photo(90, 60);
    let from_file = Model::load(&path, backend.as_ref()).unwrap().run(&photo).unwrap().mask;
    let fixed =
        Model::from_bytes(&nano_onnx(&OnnxOptions::default()), backend.as_ref()).unwrap().run(&photo).unwrap().mask;
    assert_eq!(from_file, fixed);
}

#[test]
fn other_models_and_files_are_refused_with_the_reason() {
    let backend = tract();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let missing = Model::load(&path, backend.as_ref()).unwrap_err();
    assert!(missing.to_string().contains("model.onnx"), "{missing}");
    std::fs::write(&path, "no model").unwrap();
    let broken = Model::load(&path, backend.as_ref()).unwrap_err();
    assert!(broken.to_string().contains("model.onnx") && broken.to_string().contains("tract"), "{broken}");
    let space = Space::preset("nano").unwrap();
    let key = *space.block_keys(PX).unwrap().first().unwrap();
    let stem = block(&space, &key, &mut SeededWeights::new(0)).unwrap();
    let stem = stem.to_onnx(&OnnxOptions::default()).unwrap();
    let other = Model::from_bytes(&stem, backend.as_ref()).unwrap_err();
    assert!(other.to_string().contains("[1, 8, 32, 32]"), "{other}");
}
