//! Small seeded networks and made-up photos.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "helpers of several test programs")]

use image::{Rgb, RgbImage};
use inas_graph::{OnnxOptions, SeededWeights, network};
use inas_runtime::{Backend, RuntimeKind, open};
use inas_space::Space;

pub const PX: u32 = 64;

pub fn tract() -> Box<dyn Backend> {
    open(RuntimeKind::Tract, 1, None).unwrap()
}

pub fn nano_onnx(options: &OnnxOptions) -> Vec<u8> {
    let space = Space::preset("nano").unwrap();
    let graph = network(&space, &space.min(), PX, &mut SeededWeights::new(5)).unwrap();
    graph.to_onnx(options).unwrap()
}

pub fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x ^ y) % 256) as u8]))
}
