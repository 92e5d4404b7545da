//! The C example, compiled and run with the shared and the static library.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{SIZE, libraries, model_file, photo, root, run, wanted};
use inas_runtime::Rotation;

fn compile(program: &Path, link: &[String]) {
    let capi = root().join("src/capi");
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-I"]).arg(capi.join("include"));
    run(cc.arg(capi.join("examples/mask.c")).args(link).arg("-o").arg(program));
}

#[test]
fn example_gives_the_mask_that_rust_gives() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("photo.ppm");
    std::fs::write(&picture, [format!("P6 {} {} 255\n", SIZE.0, SIZE.1).as_bytes(), &photo()].concat()).unwrap();
    let libraries = libraries();
    let shared = ["-L".to_owned() + libraries.to_str().unwrap(), "-linas_c".into()];
    let fixed =
        [libraries.join("libinas_c.a").to_str().unwrap().to_owned(), "-lm".into(), "-lpthread".into(), "-ldl".into()];
    for (name, link) in [("shared", &shared[..]), ("static", &fixed[..])] {
        let (program, mask) = (folder.path().join(name), folder.path().join("mask.pgm"));
        compile(&program, link);
        let example = |model: &Path, picture: &Path| {
            let mut command = Command::new(&program);
            command.env("LD_LIBRARY_PATH", &libraries).arg(model).arg(picture).arg(&mask);
            command
        };
        let text = run(&mut example(&model_file(), &picture));
        assert!(text.contains("151 x 97 px in"), "{text}");
        let written = std::fs::read(&mask).unwrap();
        let (header, pixels) = written.split_at(written.len() - (SIZE.0 * SIZE.1) as usize);
        assert_eq!(header, format!("P5 {} {} 255\n", SIZE.0, SIZE.1).as_bytes(), "{name}");
        assert_eq!(pixels, wanted(Rotation::None), "{name}");
        let broken = example(&picture, &picture).output().unwrap();
        assert_eq!(broken.status.code(), Some(1));
        let text = String::from_utf8_lossy(&broken.stderr).into_owned();
        assert!(text.contains("tract cannot load the model"), "{text}");
    }
}
