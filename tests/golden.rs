//! A user checks the program against the reference data of the published systems.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn inas() -> Command {
    Command::new(env!("CARGO_BIN_EXE_inas"))
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_supernet_equals_the_reference() {
    let output = inas().arg("parity").arg(golden("supernet")).assert().success().get_output().clone();
    let table = text(&output.stdout);
    assert_eq!(table.matches("  ok").count(), 10, "{table}");
}

#[test]
fn a_changed_reference_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden("supernet")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    // The last tensor of the file is a map: its last value moves by much more than the tolerance.
    let path = dir.path().join("tensors.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&9f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let output = inas().arg("parity").arg(dir.path()).assert().code(1).get_output().clone();
    assert!(text(&output.stdout).contains("DIFFERS"));
}

#[test]
fn lookups_equal_the_reference() {
    let output = inas()
        .arg("latency")
        .arg(golden("lut/lut_sums.json"))
        .arg("--table")
        .arg(golden("lut/lut_224.txt"))
        .assert()
        .success()
        .get_output()
        .clone();
    assert!(text(&output.stdout).contains("largest difference"));
}

#[test]
fn metrics_equal_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..10 {
        for (kind, prefix) in [("pred", "pred"), ("gt", "gt")] {
            std::fs::create_dir_all(dir.path().join(kind)).unwrap();
            let from = golden("metrics").join(format!("{prefix}_{i}.png"));
            std::fs::copy(from, dir.path().join(kind).join(format!("{i}.png"))).unwrap();
        }
    }
    let (pred, gt) = (dir.path().join("pred"), dir.path().join("gt"));
    let run = |gt: &Path| inas().arg("metrics").arg("--pred").arg(&pred).arg("--gt").arg(gt).arg("--json").assert();
    let ours: serde_json::Value = serde_json::from_slice(&run(&gt).success().get_output().stdout).unwrap();
    let text = std::fs::read_to_string(golden("metrics/expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = expected["dataset"].as_object().unwrap();
    assert_eq!(ours.as_object().unwrap().keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, value) in expected {
        let difference = (ours[name].as_f64().unwrap() - value.as_f64().unwrap()).abs();
        assert!(difference < 1e-6, "{name}: {difference}");
    }
    // A ground truth without its prediction is an error that names it.
    std::fs::copy(gt.join("0.png"), gt.join("lonely.png")).unwrap();
    let output = run(&gt).code(1).get_output().clone();
    assert!(self::text(&output.stderr).contains("lonely"));
}
