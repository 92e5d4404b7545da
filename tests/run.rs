//! Shipped models: `inas run` on the frames of a video and on what is no photo, `inas convert`.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// Writes three frames of one size, the first black and the others the same photo.
fn frames(folder: &Path) {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/photos");
    let mut found: Vec<PathBuf> = std::fs::read_dir(photos).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "jpg"));
    found.sort();
    let photo = image::open(found.remove(0)).unwrap().thumbnail(120, 120).into_rgb8();
    std::fs::create_dir_all(folder).unwrap();
    image::RgbImage::new(photo.width(), photo.height()).save(folder.join("frame-1.png")).unwrap();
    photo.save(folder.join("frame-2.png")).unwrap();
    photo.save(folder.join("frame-3.png")).unwrap();
}

fn masks(video: &Path, out: &Path, options: &[&str]) -> Vec<Vec<u8>> {
    let mut run = Command::new(env!("CARGO_BIN_EXE_inas"));
    run.arg("run").arg(video).args(["--write", "mask", "-o"]).arg(out).args(options).assert().success();
    (1..=3).map(|i| image::open(out.join(format!("frame-{i}_mask.png"))).unwrap().into_luma8().into_raw()).collect()
}

#[test]
fn masks_of_a_video_are_steadied() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("video");
    frames(&video);
    let alone = masks(&video, &folder.path().join("alone"), &[]);
    let steady = masks(&video, &folder.path().join("steady"), &["--smooth", "0.75"]);
    assert_eq!(steady[0], alone[0]);
    let mut shares = [0.75, 0.75 * 0.75].into_iter();
    for (frame, steady) in steady.iter().enumerate().skip(1) {
        let share = shares.next().unwrap();
        for ((got, first), own) in steady.iter().zip(&alone[0]).zip(&alone[frame]) {
            let wanted = f64::from(*first) * share + f64::from(*own) * (1.0 - share);
            // The mean is of the network's values, before they are rounded and enlarged.
            assert!((f64::from(*got) - wanted).abs() < 2.5, "frame {frame}: {got} instead of {wanted}");
        }
    }
    assert_ne!(steady[1], alone[1]);
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_inas"));
    let error = wrong.arg("run").arg(&video).args(["--smooth", "1"]).assert().failure().get_output().clone();
    assert!(String::from_utf8_lossy(&error.stderr).contains("below 1"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs the program; whether it worked, and what it said on either stream.
fn inas(args: &[&str], input: &[u8]) -> (bool, Vec<u8>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    let output = command.args(args).write_stdin(input).current_dir(root()).output().unwrap();
    (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_photo_goes_through_a_pipe_and_what_is_none_is_refused() {
    let photo = std::fs::read(root().join("data/photos/coffee.jpg")).unwrap();
    let (worked, png, _) = inas(&["run", "-", "--write", "cutout"], &photo);
    let cutout = image::load_from_memory(&png).unwrap();
    assert!(worked && cutout.color().has_alpha());
    for (input, reason) in [(&photo[..3000], "it is cut off"), (&b"no photo"[..], "PNG or JPEG"), (&[], "PNG or JPEG")]
    {
        let (worked, png, error) = inas(&["run", "-"], input);
        assert!(!worked && png.is_empty() && error.contains(reason), "{error}");
    }
    let (worked, _, error) = inas(&["run", "-", "data/photos/coffee.jpg"], &photo);
    assert!(!worked && error.contains("allows no other"), "{error}");
    let (worked, _, error) = inas(&["run", "data/photos/no-such.jpg"], b"");
    assert!(!worked && error.contains("cannot read data/photos/no-such.jpg"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.onnx");
    std::fs::write(&damaged, &std::fs::read(root().join("models/fast.onnx")).unwrap()[..100_000]).unwrap();
    for command in [&["run"][..], &["eval", "--data", "data/mini/val.lst"], &["serve", "--listen", "127.0.0.1:0"]] {
        let photo = command.iter().filter(|c| **c == "run").map(|_| "data/photos/coffee.jpg");
        let args: Vec<&str> = command.iter().copied().chain([damaged.to_str().unwrap()]).chain(photo).collect();
        let (worked, _, error) = inas(&args, b"");
        assert!(
            !worked && error.contains("cannot load ") && error.contains("hint: needed is a whole ONNX file"),
            "{error}"
        );
    }
}

#[test]
fn shipped_models_are_converted_without_their_supernet() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let lists = ["--train-data", "data/mini/train.lst", "--val-data", "data/mini/val.lst", "-o", out];
    let convert = |model: &str, options: &[&str]| inas(&[&["convert", model][..], &lists[..], options].concat(), b"");
    let (worked, report, error) = convert("models/fast.onnx", &["--format", "fp32,int8"]);
    assert!(worked, "{error}");
    let report = String::from_utf8(report).unwrap();
    let differences = |line: &str| -> Vec<f64> {
        line.split(['(', ')']).skip(1).step_by(2).map(|number| number.parse().unwrap()).collect()
    };
    let scored: Vec<Vec<f64>> = report.lines().filter(|l| l.contains("max F")).map(differences).collect();
    // The file itself, as fp32, as int8; each in tract and ONNX Runtime.
    assert_eq!(scored.len(), 6, "{report}");
    assert!(scored[..4].iter().flatten().all(|d| d.abs() < 1e-4), "{report}");
    assert!(scored[4..].iter().flatten().all(|d| d.abs() < 0.03), "{report}");
    let bytes = |file: &str| std::fs::metadata(folder.path().join(file)).unwrap().len();
    assert!(bytes("fast_fp32.onnx") > bytes("fast_int8.onnx"), "{report}");

    let again = folder.path().join("fast_fp32.onnx");
    let (worked, _, error) = convert(again.to_str().unwrap(), &["--format", "fp16", "--pixels"]);
    assert!(worked, "{error}");
    let shipped = std::fs::read(root().join("models/fast.onnx")).unwrap();
    let (worked, _, error) = convert(again.to_str().unwrap(), &["--format", "fp16"]);
    let converted = std::fs::read(folder.path().join("fast_fp32_fp16.onnx")).unwrap();
    assert!(worked, "{error}");
    let weights = |file: &[u8]| inas_graph::with_metadata(file, &[]).unwrap();
    assert!(weights(&shipped) == weights(&converted), "there and back gives the file");

    let integers = folder.path().join("fast_int8.onnx");
    let (worked, _, error) = convert(integers.to_str().unwrap(), &[]);
    assert!(!worked && error.contains("has no floats"), "{error}");
    let (worked, _, error) = convert("models/fast.onnx", &["--space", "lite"]);
    assert!(!worked && error.contains("cannot convert"), "{error}");
}
