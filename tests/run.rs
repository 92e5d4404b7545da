//! `inas run` on the frames of a video, with the built-in model.
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
