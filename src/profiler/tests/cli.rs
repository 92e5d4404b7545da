//! The device binary.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use inas_graph::{OnnxOptions, SeededWeights, network};
use inas_profiler::Profile;

fn binary() -> Command {
    Command::new(cargo_bin("inas-profiler"))
}

/// Exit code, standard output and standard error.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn profile_writes_a_folder_that_reads() {
    let folder = tempfile::tempdir().unwrap();
    let space = folder.path().join("tiny.toml");
    fs::write(&space, common::TINY).unwrap();
    let out = folder.path().join("out");
    let profile = || {
        let mut command = binary();
        command.args(["profile", "--max-runs", "3", "--min-runs", "2", "--warmup", "1", "--seed", "4", "--space"]);
        command.arg(&space).arg("--out").arg(&out);
        command
    };
    let (code, stdout, stderr) = run(&mut profile());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("blocks of `tiny` at 32 px"), "{stdout}");
    assert!(stderr.contains("blocks, "), "{stderr}");
    let read = Profile::read(&out).unwrap();
    assert_eq!((read.facts().seed, read.facts().protocol.max_runs), (4, 3));
    let command = &read.facts().command;
    assert!(command.starts_with("inas-profiler profile ") && command.contains("--seed 4"), "{command}");
    let (code, _, stderr) = run(&mut profile());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--resume"), "{stderr}");
    let (code, ..) = run(profile().arg("--resume"));
    assert_eq!(code, Some(0));
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let mut child = binary().arg("device").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn json_progress_has_a_line_for_every_block() {
    let folder = tempfile::tempdir().unwrap();
    let space = folder.path().join("tiny.toml");
    fs::write(&space, common::TINY).unwrap();
    let mut command = binary();
    command
        .args(["profile", "--max-runs", "2", "--min-runs", "2", "--max-passes", "1", "--json-progress", "--space"])
        .arg(&space);
    let (code, _, stderr) = run(command.arg("--out").arg(folder.path().join("out")));
    assert_eq!(code, Some(0), "{stderr}");
    let lines: Vec<serde_json::Value> = stderr.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), common::measured_blocks());
    assert!(lines.iter().enumerate().all(|(i, l)| l["done"] == i + 1 && l["total"] == lines.len()), "{stderr}");
    assert!(lines.iter().all(|l| l["key"].is_string() && l["median_us"].as_f64() > Some(0.0)), "{stderr}");
    assert_eq!(lines.last().unwrap()["eta_s"], 0.0);
}

#[test]
fn interrupt_ends_with_130_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let profile = |more: &[&str]| {
        let mut command = binary();
        // Runs enough to be still at work when the signal comes.
        command.args([
            "profile",
            "--space",
            "nano",
            "--px",
            "32",
            "--min-runs",
            "200",
            "--max-runs",
            "200",
            "--max-passes",
            "1",
            "--out",
        ]);
        command.arg(folder.path().join("out")).args(more).stderr(Stdio::piped());
        command
    };
    let child = profile(&[]).spawn().unwrap();
    let records = folder.path().join("out/records.jsonl");
    let lines = || fs::read_to_string(&records).map_or(0, |t| t.lines().count());
    for _ in 0..500 {
        if lines() > 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted after") && stderr.contains("resume"), "{stderr}");
    let before = lines();
    assert!(before > 3);
    let (code, _, stderr) = run(&mut profile(&["--resume"]));
    assert_eq!(code, Some(0), "{stderr}");
    let read = Profile::read(&folder.path().join("out")).unwrap();
    let measured = read.rows().keys().filter(|k| !k.is_identity()).count();
    assert_eq!(lines(), measured + 1);
}

/// Killed without a chance to tidy up, at several moments, a run goes on and has each block once in the end.
#[test]
fn killed_runs_resume_to_each_block_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let run_space = |more: &[&str]| {
        let mut command = binary();
        command.args(["run", "--space", "nano", "--px", "32", "--max-passes", "2", "--record"]).arg(&out).args(more);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let lines = || fs::read_to_string(out.join("records.jsonl")).map_or(0, |t| t.lines().count());
    for (round, more) in [&[][..], &["--resume"], &["--resume"]].into_iter().enumerate() {
        let mut child = run_space(more).spawn().unwrap();
        for _ in 0..1000 {
            if lines() > 30 * (round + 1) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (code, stdout, stderr) = run(run_space(&["--resume"]).stdout(Stdio::piped()).stderr(Stdio::piped()));
    assert_eq!(code, Some(0), "{stderr}");
    for line in stdout.lines() {
        let line: inas_profiler::records::StreamLine = serde_json::from_str(line).unwrap();
        assert_eq!(line.record.key, line.key);
    }
    let text = fs::read_to_string(out.join("records.jsonl")).unwrap();
    let mut keys: Vec<String> = text
        .lines()
        .skip(1)
        .map(|l| serde_json::from_str::<inas_profiler::records::Record>(l).unwrap().key.to_string())
        .collect();
    keys.sort();
    let profile = Profile::read(&out).unwrap();
    let mut wanted: Vec<String> = profile.rows().keys().filter(|k| !k.is_identity()).map(ToString::to_string).collect();
    wanted.sort();
    assert_eq!(keys, wanted);
}

#[test]
fn bench_prints_a_line_or_json() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    let space = common::tiny();
    let graph = network(&space, &space.min(), 32, &mut SeededWeights::new(1)).unwrap();
    fs::write(&model, graph.to_onnx(&OnnxOptions::default()).unwrap()).unwrap();
    let (code, stdout, _) = run(binary().arg("bench").arg(&model));
    assert_eq!((code, stdout.lines().count()), (Some(0), 1), "{stdout}");
    assert!(stdout.contains("ms median") && stdout.contains("tract"), "{stdout}");
    let (code, stdout, _) = run(binary().arg("bench").arg(&model).args(["--json", "--threads", "2"]));
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["threads"], 2);
    assert!(json["latency"]["median_us"].as_f64().unwrap() > 0.0);
    fs::write(&model, "garbage").unwrap();
    let (code, stdout, stderr) = run(binary().arg("bench").arg(&model));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("error: tract cannot load"), "{stderr}");
}

#[test]
fn device_is_json() {
    let (code, stdout, _) = run(binary().arg("device"));
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["fingerprint"], inas_profiler::DeviceFacts::read().fingerprint());
    assert_eq!(json["facts"]["arch"], std::env::consts::ARCH);
}

#[test]
fn wrong_usage_is_2() {
    for args in [
        &["profile"][..],
        &["bench", "x.onnx", "--runtime", "tensorrt"],
        &["nonsense"],
        &["profile", "--space", "nano", "--out", "/nonexistent/x", "--max-runs", "1"],
    ] {
        assert_eq!(run(binary().args(args)).0, Some(2), "{args:?}");
    }
}

#[cfg(feature = "ort")]
#[test]
fn missing_library_says_where_was_looked() {
    let empty = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let profile = |command: &mut Command| {
        run(command.args(["profile", "--runtime", "ort", "--space", "nano", "--out"]).arg(folder.path().join("x")))
    };
    // No python3 on an empty PATH.
    let (code, _, stderr) = profile(binary().env_remove("ORT_DYLIB_PATH").env("PATH", empty.path()));
    assert_eq!(code, Some(1));
    for part in ["--ort-lib", "ORT_DYLIB_PATH", "Python package", "pip install onnxruntime"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let (code, _, stderr) = profile(binary().env("ORT_DYLIB_PATH", "/nonexistent/lib.so"));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("/nonexistent/lib.so (ORT_DYLIB_PATH)"), "{stderr}");
    assert!(!folder.path().join("x").exists(), "nothing is made before the runtime is there");
}
