//! Profiling over a real adb and a real ssh, on an emulated arm64 device, with the cross-compiled program.
//!
//! `scripts/test` makes the device and the program: `scripts/emulated-device cargo test … --test devices -- --ignored`.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use inas_device::session::{DEVICE_FILE, Visit};
use inas_profiler::Profile;

const TINY: &str = include_str!("tiny-space.toml");

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through scripts/emulated-device"))
}

/// Root folder of the device.
fn root() -> PathBuf {
    variable("INAS_TEST_ROOT").into()
}

/// What scripts/build-device made.
fn program(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_inas")).parent().unwrap().parent().unwrap();
    let file = target.join("device").join(name).join("inas-profiler");
    assert!(file.is_file(), "no {}: run scripts/build-device --profile device-test {name}", file.display());
    file
}

fn inas(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// `inas profile` of the tiny space on targets, with a program for them.
fn profile(folder: &Path, targets: &[&str], program_name: &str, seed: &str) -> Command {
    let space = folder.join("tiny.toml");
    std::fs::write(&space, TINY).unwrap();
    let mut command = inas(&["profile", "--max-runs", "12", "--max-seconds", "2", "--cold-runs", "0", "--seed", seed]);
    command.arg("--space").arg(space).arg("--out").arg(folder.join("out"));
    command.arg("--profiler-bin").arg(program(program_name));
    for target in targets {
        command.args(["--target", target]);
    }
    command
}

fn visit(folder: &Path) -> Visit {
    serde_json::from_slice(&std::fs::read(folder.join(DEVICE_FILE)).unwrap()).unwrap()
}

/// Blocks in the records of runs that are under way on the phone.
fn measured_on_phone() -> usize {
    let folders = std::fs::read_dir(root().join("data/local/tmp/inas")).into_iter().flatten().flatten();
    let texts = folders.filter_map(|f| std::fs::read_to_string(f.path().join("records.jsonl")).ok());
    texts.map(|t| t.lines().filter(|l| l.contains("\"key\"")).count()).sum()
}

/// Starts a run over adb, ends adbd once some blocks are measured, and returns what the run said.
fn cut_off(folder: &Path, seed: &str) -> (String, String) {
    let mut run = profile(folder, &[&variable("INAS_TEST_ADB")], "musl", seed);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while measured_on_phone() < 3 {
        assert!(start.elapsed() < Duration::from_mins(2), "nothing was measured");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = std::fs::read_to_string(Path::new(&variable("INAS_TEST_DIR")).join("adbd.pid")).unwrap();
    assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    let told = words(&output);
    assert!(output.status.success(), "{told:?}");
    told
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn a_phone_and_a_board_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let (adb, ssh) = (variable("INAS_TEST_ADB"), variable("INAS_TEST_SSH"));
    let output = profile(folder.path(), &[&adb, &ssh], "musl", "1").output().unwrap();
    let (out, err) = words(&output);
    assert!(output.status.success(), "{out}{err}");
    for (target, home) in [(&adb, "data/local/tmp/inas"), (&ssh, "home/nano/.cache/inas")] {
        let made = folder.path().join("out").join(target.replace([':', '@'], "-"));
        let profile = Profile::read(&made).unwrap();
        let device = &profile.facts().device;
        assert_eq!((device.arch.as_deref(), device.emulator.as_deref()), (Some("aarch64"), Some("qemu-aarch64")));
        assert_eq!(device.cores.first().and_then(|c| c.governor.as_deref()), Some("schedutil"));
        assert!(profile.rows().values().any(|r| r.measurement.median_us > 0.0));
        assert_eq!((visit(&made).target.as_str(), visit(&made).cuts), (target.as_str(), 0));
        assert!(!root().join(home).exists(), "{home} is left on the device");
        assert!(out.contains(target.as_str()), "{out}");
    }
    assert!(err.contains("say nothing of a real device"), "{err}");
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn a_pulled_cable_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let (_, err) = cut_off(folder.path(), "2");
    assert!(err.contains("connection lost") && err.contains("back, going on"), "{err}");
    let out = folder.path().join("out");
    Profile::read(&out).unwrap();
    assert_eq!((visit(&out).cuts, visit(&out).reboots), (1, 0));
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn a_restart_of_the_device_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(Path::new(&variable("INAS_TEST_DIR")).join("reboot"), "").unwrap();
    let (_, err) = cut_off(folder.path(), "3");
    assert!(err.contains("back after a restart"), "{err}");
    let out = folder.path().join("out");
    Profile::read(&out).unwrap();
    assert_eq!(visit(&out).reboots, 1);
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn the_board_runs_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = profile(folder.path(), &[&variable("INAS_TEST_SSH")], "jetson", "4");
    let output = run.args(["--runtime", "ort", "--ort-lib", &variable("INAS_TEST_ORT")]).output().unwrap();
    let told = words(&output);
    assert!(output.status.success(), "{told:?}");
    let profile = Profile::read(&folder.path().join("out")).unwrap();
    assert_eq!(
        (profile.facts().runtime.name.as_str(), profile.facts().runtime.version.as_str()),
        ("onnxruntime", "1.23.2")
    );
    assert!(profile.facts().device.emulator.is_some());
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn devices_and_doctor_tell_what_is_there_and_what_is_wrong() {
    let (adb, ssh) = (variable("INAS_TEST_ADB"), variable("INAS_TEST_SSH"));
    let output = inas(&["devices", "--json", "--target", &adb, "--target", &ssh]).output().unwrap();
    assert!(output.status.success(), "{:?}", words(&output));
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |target: &str| list.as_array().unwrap().iter().find(|d| d["target"] == target).unwrap()["facts"].clone();
    assert_eq!((&of(&adb)["model"], &of(&adb)["machine"]), (&"Emulated".into(), &"aarch64".into()));
    assert_eq!(of(&adb)["battery"]["percent"], 87);
    assert_eq!(of(&ssh)["machine"], "aarch64");

    let musl = program("musl");
    let doctor = |target: &str, program: &Path| {
        let output = inas(&["doctor", "--target", target, "--profiler-bin"]).arg(program).output().unwrap();
        (output.status.code(), words(&output).0)
    };
    for target in [&adb, &ssh] {
        let (code, out) = doctor(target, &musl);
        assert_eq!(code, Some(0), "{out}");
        assert!(out.contains("works, under the emulator qemu-aarch64") && out.contains("governor: schedutil"), "{out}");
        assert!(out.contains("tract: ") && !out.contains("FAILED"), "{out}");
    }
    let (code, out) = doctor(&adb, Path::new(env!("CARGO_BIN_EXE_inas")));
    assert!(code == Some(1) && out.contains("FAILED") && out.contains("the device is aarch64"), "{out}");
    for (target, found, remedy) in [
        ("ssh:nano@127.0.0.1:9", "Connection refused", "sshd"),
        ("ssh:nobody@127.0.0.1:2222", "Permission denied", "ssh-copy-id"),
        ("adb:127.0.0.1:9", "not found", "cable"),
        ("adb:R58M000000", "no such device", "USB debugging"),
    ] {
        let (code, out) = doctor(target, &musl);
        assert!(code == Some(1) && out.contains(found) && out.contains(remedy), "{target}: {out}");
    }
}
