//! Frames as cameras give them: every format, lying every way, against the upright photo.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::{LazyLock, Mutex, PoisonError};

use common::{nano_onnx, photo, tract};
use image::imageops::{self, FilterType};
use image::{GrayImage, Rgb, RgbImage};
use inas_backend::{Backend, OperatorTime, Result, RuntimeInfo, Session, Values, ValuesMut};
use inas_graph::OnnxOptions;
use inas_runtime::{Error, Frame, Model, Pixels, Plane, Rotation};
use proptest::prelude::*;

fn model() -> Model {
    Model::from_bytes(&nano_onnx(&OnnxOptions::default()), tract().as_ref()).unwrap()
}

fn mask(model: &mut Model, frame: &Frame<'_>) -> GrayImage {
    let mut mask = GrayImage::new(frame.width, frame.height);
    model.mask_into(frame, &mut mask, frame.width as usize).unwrap();
    mask
}

/// A picture that is smooth, as coarse colour must not matter.
fn smooth(width: u32, height: u32) -> RgbImage {
    imageops::resize(&photo(7, 5), width, height, FilterType::CatmullRom)
}

/// The planes of a photo: brightness, and blue and red difference of every 2 x 2 pixels.
fn yuv(photo: &RgbImage) -> [Vec<u8>; 3] {
    let (width, height) = photo.dimensions();
    let of = |[r, g, b]: [f32; 3]| {
        let y = 0.299 * r + 0.587 * g + 0.114 * b;
        [y, (b - y) / 1.772 + 128.0, (r - y) / 1.402 + 128.0]
    };
    let pixel = |x: u32, y: u32| photo.get_pixel(x.min(width - 1), y.min(height - 1)).0.map(f32::from);
    let mut planes = [vec![], vec![], vec![]];
    for y in 0..height {
        planes[0].extend((0..width).map(|x| of(pixel(x, y))[0].round() as u8));
    }
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
            let mean = [0, 1, 2].map(|c| four.iter().map(|p| p[c]).sum::<f32>() / 4.0);
            planes[1].push(of(mean)[1].round() as u8);
            planes[2].push(of(mean)[2].round() as u8);
        }
    }
    planes
}

/// Rows with `pad` bytes between them, the last without, pixels `step` bytes apart.
fn spread(plane: &[u8], width: usize, step: usize, pad: usize) -> (Vec<u8>, usize) {
    let stride = width * step + pad;
    let rows = plane.len() / width;
    let mut out = vec![77; (rows - 1) * stride + (width - 1) * step + 1];
    for (i, value) in plane.iter().enumerate() {
        out[i / width * stride + i % width * step] = *value;
    }
    (out, stride)
}

type Turn = (Rotation, fn(&RgbImage) -> RgbImage, fn(&GrayImage) -> GrayImage);

#[test]
fn turned_frames_give_the_turned_mask_of_the_upright_photo() {
    let mut model = model();
    let upright = photo(90, 50);
    let wanted = mask(&mut model, &Frame::rgb(90, 50, upright.as_raw()));
    // A frame that must be turned clockwise is the photo turned the other way.
    let cases: [Turn; 3] = [
        (Rotation::Clockwise90, imageops::rotate270, imageops::rotate270),
        (Rotation::Clockwise180, imageops::rotate180, imageops::rotate180),
        (Rotation::Clockwise270, imageops::rotate90, imageops::rotate90),
    ];
    for (rotation, turn, turn_mask) in cases {
        let lying = turn(&upright);
        let frame = Frame { rotation, ..Frame::rgb(lying.width(), lying.height(), lying.as_raw()) };
        let (got, wanted) = (mask(&mut model, &frame), turn_mask(&wanted));
        assert_eq!(got.dimensions(), lying.dimensions());
        // Rows and columns are summed in another order.
        let worst = got.as_raw().iter().zip(wanted.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= 2, "{rotation:?}: {worst}");
    }
}

#[test]
fn formats_of_cameras_give_the_mask_of_the_photo() {
    let mut model = model();
    for (width, height) in [(96, 64), (101, 67), (3, 5), (1, 1)] {
        let photo = smooth(width, height);
        let wanted = mask(&mut model, &Frame::rgb(width, height, photo.as_raw()));
        let [y, u, v] = yuv(&photo);
        let half = (width as usize).div_ceil(2);
        let rgba: Vec<u8> = photo.pixels().flat_map(|Rgb([r, g, b])| [*r, *g, *b, 99]).collect();
        let (y, y_stride) = spread(&y, width as usize, 1, 3);
        let (u2, uv_stride) = spread(&u, half, 2, 4);
        let (v2, _) = spread(&v, half, 2, 4);
        let mut vu = vec![0; u2.len() + 1];
        for (i, value) in v2.iter().enumerate() {
            vu[i] = *value;
        }
        for i in (0..u2.len()).step_by(2) {
            vu[i + 1] = u2[i];
        }
        let plane = |data, row_stride, pixel_stride| Plane { data, row_stride, pixel_stride };
        let formats = [
            (0, Pixels::Rgba8 { data: &rgba, row_stride: width as usize * 4 }),
            (12, Pixels::Nv21 { y: &y, y_stride, vu: &vu, vu_stride: uv_stride }),
            (
                12,
                Pixels::Yuv420 { y: plane(&y, y_stride, 1), u: plane(&u2, uv_stride, 2), v: plane(&v2, uv_stride, 2) },
            ),
            (12, Pixels::Yuv420 { y: plane(&y, y_stride, 1), u: plane(&u, half, 1), v: plane(&v, half, 1) }),
        ];
        for (limit, pixels) in formats {
            let got = mask(&mut model, &Frame { width, height, rotation: Rotation::None, pixels });
            let off: u32 =
                got.as_raw().iter().zip(wanted.as_raw()).map(|(a, b)| u32::from(a.abs_diff(*b))).max().unwrap();
            assert!(off <= limit, "{width}x{height} {off} {pixels:.0?}");
        }
    }
}

/// Says that what is red is salient; its input has an open size.
struct Red {
    bytes: bool,
}

struct RedSession {
    inputs: Vec<Vec<usize>>,
    outputs: Vec<Vec<usize>>,
    floats: Vec<f32>,
    bytes: Vec<u8>,
    red_floats: Vec<f32>,
    red_bytes: Vec<u8>,
}

impl Backend for Red {
    fn info(&self) -> RuntimeInfo {
        RuntimeInfo { name: "red".into(), version: "1".into(), options: std::collections::BTreeMap::new() }
    }

    fn threads(&self) -> usize {
        1
    }

    fn operator_times(&self, _onnx: &[u8], _inputs: &[&[f32]], _runs: usize) -> Result<Vec<OperatorTime>> {
        Ok(Vec::new())
    }

    fn load_sized(&self, _onnx: &[u8], open: &[usize]) -> Result<Box<dyn Session>> {
        let (h, w) = (open[0], open[1]);
        let (input, output) = if self.bytes { ([1, h, w, 3], [1, h, w, 1]) } else { ([1, 3, h, w], [1, 1, h, w]) };
        let floats = if self.bytes { 0 } else { h * w };
        let bytes = h * w - floats;
        Ok(Box::new(RedSession {
            inputs: vec![input.to_vec()],
            outputs: vec![output.to_vec()],
            floats: vec![0.0; 3 * floats],
            bytes: vec![0; 3 * bytes],
            red_floats: vec![0.0; floats],
            red_bytes: vec![0; bytes],
        }))
    }
}

impl Session for RedSession {
    fn input_shapes(&self) -> &[Vec<usize>] {
        &self.inputs
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.outputs
    }

    fn input_mut(&mut self, _index: usize) -> Result<ValuesMut<'_>> {
        let floats = !self.floats.is_empty();
        Ok(if floats { ValuesMut::F32(&mut self.floats) } else { ValuesMut::U8(&mut self.bytes) })
    }

    fn run(&mut self) -> Result<()> {
        for (to, value) in self.red_floats.iter_mut().zip(&self.floats) {
            // Half a step up: the map is rounded down.
            *to = value * inas_runtime::STD[0] + inas_runtime::MEAN[0] + 0.5 / 255.0;
        }
        for (to, pixel) in self.red_bytes.iter_mut().zip(self.bytes.chunks(3)) {
            *to = pixel[0];
        }
        Ok(())
    }

    fn output_values(&self, _index: usize) -> Result<Values<'_>> {
        let floats = !self.floats.is_empty();
        Ok(if floats { Values::F32(&self.red_floats) } else { Values::U8(&self.red_bytes) })
    }
}

#[test]
fn networks_of_bytes_or_floats_need_not_be_square() {
    let photo = photo(57, 31);
    let red = GrayImage::from_fn(57, 31, |x, y| image::Luma([photo.get_pixel(x, y).0[0]]));
    let (width, height) = (32, 64);
    let small = imageops::resize(&red, width, height, FilterType::Triangle);
    let wanted = imageops::resize(&small, 57, 31, FilterType::Triangle);
    for bytes in [false, true] {
        let mut model = Model::from_bytes_sized(b"", (width, height), &Red { bytes }).unwrap();
        assert_eq!(model.input_size(), (width, height));
        assert_eq!(mask(&mut model, &Frame::rgb(57, 31, photo.as_raw())), wanted, "bytes: {bytes}");
        // Lying frames go the same way, so the map of a turned one is of the network's size, turned.
        let lying = imageops::rotate90(&photo);
        let frame = Frame { rotation: Rotation::Clockwise270, ..Frame::rgb(31, 57, lying.as_raw()) };
        let got = mask(&mut model, &frame);
        let turned = imageops::resize(&imageops::rotate90(&red), height, width, FilterType::Triangle);
        assert_eq!(got, imageops::resize(&turned, 31, 57, FilterType::Triangle), "bytes: {bytes}");
    }
}

#[test]
fn rows_of_the_mask_may_lie_apart_and_what_is_between_stays() {
    let photo = photo(10, 4);
    let mut model = model();
    let frame = Frame::rgb(10, 4, photo.as_raw());
    let tight = mask(&mut model, &frame);
    let mut apart = vec![7; 16 * 3 + 10];
    model.mask_into(&frame, &mut apart, 16).unwrap();
    for (row, wanted) in apart.chunks(16).zip(tight.as_raw().chunks(10)) {
        assert_eq!(&row[..10], wanted);
        assert!(row[10..].iter().all(|v| *v == 7));
    }
    let error = model.mask_into(&frame, &mut apart[1..], 16).unwrap_err();
    assert!(matches!(error, Error::ShortBuffer { plane: "mask", needed: 58, len: 57 }), "{error}");
}

#[test]
fn smoothing_is_a_running_mean_that_starts_again_with_another_size() {
    let mut model = model();
    let (dark, light) = (RgbImage::new(40, 30), smooth(40, 30));
    let (dark, light) = (Frame::rgb(40, 30, dark.as_raw()), Frame::rgb(40, 30, light.as_raw()));
    let (a, b) = (mask(&mut model, &dark), mask(&mut model, &light));
    assert_ne!(a, b);
    model.set_smoothing(0.5).unwrap();
    assert_eq!(mask(&mut model, &dark), a, "the first frame is itself");
    let mixed = mask(&mut model, &light);
    for ((m, a), b) in mixed.as_raw().iter().zip(a.as_raw()).zip(b.as_raw()) {
        let mean = f32::midpoint(f32::from(*a), f32::from(*b));
        assert!((f32::from(*m) - mean).abs() <= 1.5, "{m} between {a} and {b}");
    }
    model.forget();
    assert_eq!(mask(&mut model, &light), b);
    assert_eq!(mask(&mut model, &dark), mixed, "half of each again");
    let lying = Frame { rotation: Rotation::Clockwise180, ..dark };
    let turned = mask(&mut model, &lying);
    model.set_smoothing(0.0).unwrap();
    assert_eq!(turned, mask(&mut model, &lying), "another rotation starts again");
    for wrong in [-0.1, 1.0, f32::NAN] {
        assert!(matches!(model.set_smoothing(wrong), Err(Error::Smoothing { .. })));
    }
    model.warm_up(2).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Any description of a frame either works or is refused: no read or write outside the buffers, no overflow.
    #[test]
    fn any_sizes_and_strides_are_safe(
        width in prop_oneof![0_u32..70, Just(u32::MAX), Just(1 << 15)],
        height in prop_oneof![0_u32..70, Just(u32::MAX), Just(1 << 15)],
        strides in prop::array::uniform4(prop_oneof![0_usize..300, Just(usize::MAX), Just(usize::MAX / 2)]),
        len in 0_usize..20_000,
        rest in (0_usize..6_000, 0_usize..6_000, 0_usize..6_000),
        form in 0..4,
        turn in 0_u32..4,
    ) {
        let data = vec![100_u8; len];
        let plane = |len: usize, i: usize| Plane { data: &data[..len.min(data.len())], row_stride: strides[i], pixel_stride: strides[3] % 5 };
        let pixels = match form {
            0 => Pixels::Rgb8 { data: &data, row_stride: strides[0] },
            1 => Pixels::Rgba8 { data: &data, row_stride: strides[0] },
            2 => Pixels::Nv21 { y: &data, y_stride: strides[0], vu: plane(rest.0, 0).data, vu_stride: strides[1] },
            _ => Pixels::Yuv420 { y: plane(len, 0), u: plane(rest.0, 1), v: plane(rest.1, 2) },
        };
        let rotation = Rotation::from_degrees(turn * 90).unwrap();
        let mut mask = vec![0; rest.2];
        let mut model = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = model.mask_into(&Frame { width, height, rotation, pixels }, &mut mask, strides[2]);
    }
}

/// Not a thread's own: the runtime's own thread locals may be gone when those are dropped.
static SHARED: LazyLock<Mutex<Model>> = LazyLock::new(|| Mutex::new(model()));
