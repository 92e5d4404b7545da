//! The Java class on this machine's Java VM, with the same native library as on Android.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(feature = "jni")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{SIZE, libraries, model_file, photo, rgba, root, run, wanted};
use inas_runtime::Rotation;

/// Compiles the class with `programs` of tests and the example into `to`.
fn compile(programs: &[&Path], to: &Path) {
    let android = root().join("android");
    let class = android.join("java/inas/SaliencyModel.java");
    run(Command::new("javac")
        .args(["--release", "11", "-Xlint:all", "-Werror", "-Xlint:-options", "-d"])
        .arg(to)
        .arg(class)
        .args(programs));
}

fn java(classes: &Path) -> Command {
    let mut java = Command::new("java");
    // -Xcheck:jni: the VM looks at every call of native code.
    java.args(["-Xcheck:jni", "-Djava.library.path=".to_owned().as_str()]);
    java.arg(format!("-Djava.library.path={}", libraries().display())).arg("-cp").arg(classes);
    java
}

#[test]
fn example_gives_the_mask_that_rust_gives() {
    let folder = tempfile::tempdir().unwrap();
    compile(&[&root().join("android/example/Mask.java")], folder.path());
    let (pixels, mask) = (folder.path().join("photo.rgba"), folder.path().join("mask.grey"));
    std::fs::write(&pixels, rgba(&photo())).unwrap();
    for (degrees, rotation) in [(0, Rotation::None), (90, Rotation::Clockwise90)] {
        let (width, height) = (SIZE.0.to_string(), SIZE.1.to_string());
        let text = run(java(folder.path())
            .arg("Mask")
            .arg(model_file())
            .arg(&pixels)
            .args([width, height, degrees.to_string()])
            .arg(&mask));
        assert!(text.contains("128 x 128 px network"), "{text}");
        assert!(!text.contains("WARNING"), "{text}");
        assert_eq!(std::fs::read(&mask).unwrap(), wanted(rotation), "{degrees}");
    }
}

#[test]
fn misuse_is_an_exception_and_not_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    compile(&[&root().join("src/capi/tests/Misuse.java")], folder.path());
    let text = run(java(folder.path()).arg("Misuse").arg(model_file()));
    assert!(text.contains("all refused"), "{text}");
}
