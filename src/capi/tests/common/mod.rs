//! A model, a photo and what Rust makes of it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "helpers of several test programs")]

use std::path::{Path, PathBuf};
use std::process::Command;

use inas_runtime::{Frame, Model, Pixels, Rotation, RuntimeKind, open};

pub const SIZE: (u32, u32) = (151, 97);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

pub fn model_file() -> PathBuf {
    root().join("models/fast.onnx")
}

/// Folder with the shared and the static library, beside this test program.
pub fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// Red, green and blue: a bright disc on a striped ground.
pub fn photo() -> Vec<u8> {
    let pixel = |x: i32, y: i32| {
        let inside = (x - 70).pow(2) + (y - 50).pow(2) < 900;
        if inside { [250, 200, 40] } else { [(x * 2 % 90) as u8, 80, (y % 60) as u8] }
    };
    (0..SIZE.1 as i32).flat_map(|y| (0..SIZE.0 as i32).flat_map(move |x| pixel(x, y))).collect()
}

pub fn rgba(photo: &[u8]) -> Vec<u8> {
    photo.chunks(3).flat_map(|p| [p[0], p[1], p[2], 0]).collect()
}

/// The mask by the Rust interface.
pub fn wanted(rotation: Rotation) -> Vec<u8> {
    let backend = open(RuntimeKind::Tract, 1, None).unwrap();
    let mut model = Model::load(&model_file(), backend.as_ref()).unwrap();
    let photo = photo();
    let pixels = Pixels::Rgb8 { data: &photo, row_stride: 3 * SIZE.0 as usize };
    let mut mask = vec![0; photo.len() / 3];
    model.mask_into(&Frame { width: SIZE.0, height: SIZE.1, rotation, pixels }, &mut mask, SIZE.0 as usize).unwrap();
    mask
}

/// Runs a program that must succeed; returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
