//! Profiles of a tiny space: measured, interrupted, resumed, damaged.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Pretend, measured_blocks, options, tiny};
use inas_profiler::calibrate::{Calibration, Verification};
use inas_profiler::networks::spread;
use inas_profiler::{Backend, Error, Profile, Protocol, Result, RunOptions, RuntimeKind, open, profile_space};
use inas_space::BlockKey;

fn profile(backend: &dyn Backend, options: &RunOptions) -> Result<Profile> {
    profile_space(&tiny(), 32, backend, options, &mut |_| {}, &AtomicBool::new(false))
}

/// Profiles until `blocks` are recorded.
fn interrupted(options: &RunOptions, blocks: usize) {
    let cancel = AtomicBool::new(false);
    let mut observer = |p: &inas_profiler::Progress| cancel.store(p.done == blocks, Ordering::Relaxed);
    let error = profile_space(&tiny(), 32, &Pretend::default(), options, &mut observer, &cancel).unwrap_err();
    assert!(matches!(error, Error::Interrupted { done, .. } if done == blocks), "{error}");
}

fn recorded_keys(folder: &Path) -> Vec<BlockKey> {
    let text = fs::read_to_string(folder.join("records.jsonl")).unwrap();
    let key = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["key"].as_str().unwrap().parse().unwrap()
    };
    text.lines().skip(1).map(key).collect()
}

fn assert_each_key_once(folder: &Path) {
    let keys = recorded_keys(folder);
    assert_eq!(keys.len(), measured_blocks());
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
}

#[test]
fn tiny_space_with_tract_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(RuntimeKind::Tract, 1, None).unwrap();
    let mut seen = Vec::new();
    let options = options(folder.path(), false);
    let mut observer = |p: &inas_profiler::Progress| seen.push((p.done, p.total, p.key));
    let cancel = AtomicBool::new(false);
    let profile = profile_space(&tiny(), 32, backend.as_ref(), &options, &mut observer, &cancel).unwrap();
    assert_eq!(seen.len(), measured_blocks());
    assert_eq!(seen.last().map(|(done, total, _)| (*done, *total)), Some((seen.len(), seen.len())));
    assert!(!seen.is_sorted_by_key(|(.., key)| *key), "the order must be shuffled");

    let read = Profile::read(folder.path()).unwrap();
    assert_eq!(read, profile);
    assert_eq!((read.space(), read.input_px()), (&tiny(), 32));
    let facts = read.facts();
    assert_eq!((facts.runtime.name.as_str(), facts.threads, facts.command.as_str()), ("tract", 1, "test"));
    assert!(facts.created.ends_with('Z') && facts.created.len() == 20, "{}", facts.created);
    assert_eq!(read.rows().len(), tiny().block_keys(32).unwrap().len());
    for (key, row) in read.rows() {
        assert_eq!(row.measurement.median_us > 0.0, !key.is_identity(), "{key}");
        assert_eq!(row.cost.macs == 0, key.is_identity() || row.cost.params == 0, "{key}");
    }
    let arch = tiny().max();
    let by_hand: f64 =
        tiny().blocks(&arch, 32).unwrap().iter().map(|b| read.rows()[&b.key].measurement.median_us).sum();
    let predicted = read.predict(&arch).unwrap();
    assert!((predicted.total().0 - by_hand).abs() < 1e-6);
    assert!(predicted.backbone.0 > 0.0 && predicted.transport.0 > 0.0 && predicted.decoder.0 > 0.0);
}

#[test]
fn order_follows_the_seed() {
    let order = |seed| {
        let folder = tempfile::tempdir().unwrap();
        profile(&Pretend::default(), &RunOptions { seed, ..options(folder.path(), false) }).unwrap();
        recorded_keys(folder.path())
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn interrupted_run_resumes_whatever_was_cut() {
    // Bytes cut from the end: nothing, the line's end, half a line, two lines and a half.
    for cut in [0, 1, 40, 600] {
        let folder = tempfile::tempdir().unwrap();
        interrupted(&options(folder.path(), false), 7);
        assert!(matches!(Profile::read(folder.path()), Err(Error::ProfileFile { .. })));
        let path = folder.path().join("records.jsonl");
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - cut]).unwrap();
        let done = profile(&Pretend::default(), &options(folder.path(), true)).unwrap();
        assert_each_key_once(folder.path());
        assert_eq!(Profile::read(folder.path()).unwrap(), done);
    }
}

#[test]
fn resuming_at_the_edges() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    // Nothing there yet, even no header.
    fs::write(&path, "{\"schema\":1,\"fing").unwrap();
    let first = profile(&Pretend::default(), &options(folder.path(), true)).unwrap();
    assert_each_key_once(folder.path());
    // All there already: nothing is measured again.
    let again = profile(&Pretend::default(), &options(folder.path(), true)).unwrap();
    assert_eq!(again.rows(), first.rows());
    assert_each_key_once(folder.path());
    // A folder that does not exist.
    profile(&Pretend::default(), &options(&folder.path().join("a/b"), true)).unwrap();
}

#[test]
fn cut_in_the_middle_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    interrupted(&options(folder.path(), false), 7);
    let path = folder.path().join("records.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (broken, reason) in [("{\"key\": \"st", "line 4"), (lines[1], "too often"), (&lines[1].replace("32", "99"), "")]
    {
        let mut lines = lines.clone();
        lines[3] = broken;
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        let error = profile(&Pretend::default(), &options(folder.path(), true)).unwrap_err();
        assert!(matches!(error, Error::Record { line: 4, .. }) && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn records_of_other_circumstances_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    interrupted(&options(folder.path(), false), 3);
    let resume = options(folder.path(), true);
    let protocol = Protocol { max_runs: 3, ..common::quick() };
    let other_backend = Pretend { version: "2", threads: 4 };
    for (error, names) in [
        (profile(&other_backend, &resume).unwrap_err(), vec!["runtime: ", "threads: 1, now 4"]),
        (profile(&Pretend::default(), &RunOptions { protocol, ..resume.clone() }).unwrap_err(), vec!["protocol: "]),
        (profile(&Pretend::default(), &RunOptions { seed: 9, ..resume.clone() }).unwrap_err(), vec!["seed: 1, now 9"]),
    ] {
        assert!(matches!(error, Error::Mixed { .. }), "{error}");
        let text = error.to_string();
        assert!(names.iter().all(|n| text.contains(n)), "{text}");
        assert!(!text.contains("space_hash"), "{text}");
    }
    let path = folder.path().join("records.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let fingerprint = inas_profiler::DeviceFacts::read().fingerprint();
    fs::write(&path, text.replacen(&fingerprint, "0123456789abcdef", 1)).unwrap();
    let error = profile(&Pretend::default(), &resume).unwrap_err().to_string();
    assert!(error.contains("fingerprint: \"0123456789abcdef\""), "{error}");
    assert_eq!(recorded_keys(folder.path()).len(), 3, "a refused resume changes nothing");
}

#[test]
fn used_folders_are_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    interrupted(&options(folder.path(), false), 2);
    let error = profile(&Pretend::default(), &options(folder.path(), false)).unwrap_err();
    assert!(error.to_string().contains("--resume"), "{error}");
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.doc"), "").unwrap();
    for resume in [true, false] {
        let error = profile(&Pretend::default(), &options(foreign.path(), resume)).unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }) && error.to_string().contains("another folder"), "{error}");
    }
}

#[test]
fn damaged_profiles_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    profile(&Pretend::default(), &options(folder.path(), false)).unwrap();
    let (json, csv) = (folder.path().join("profile.json"), folder.path().join("blocks.csv"));
    let (good_json, good_csv) = (fs::read_to_string(&json).unwrap(), fs::read_to_string(&csv).unwrap());
    let rows: Vec<&str> = good_csv.lines().collect();
    let lines = |list: &[&str]| list.join("\n") + "\n";
    let other_row = rows[1].replacen("3-4", "3-5", 1);
    let expect = |path: &Path, text: &str, parts: &[&str]| {
        fs::write(path, text).unwrap();
        let error = Profile::read(folder.path()).unwrap_err().to_string();
        assert!(parts.iter().all(|p| error.contains(p)), "{error}");
        fs::write(&json, &good_json).unwrap();
        fs::write(&csv, &good_csv).unwrap();
    };
    expect(&csv, &good_csv[..good_csv.len() - 1], &["blocks.csv", "truncated"]);
    expect(&csv, &lines(&rows[..5]), &["blocks.csv", "truncated: 4 rows"]);
    expect(&csv, &lines(&[&rows[..4], &["stem 32-16"]].concat()), &["blocks.csv", "line: 5"]);
    expect(&csv, &lines(&[&rows[..], &rows[1..2]].concat()), &["listed twice"]);
    expect(&csv, &lines(&[&[rows[0]], &[other_row.as_str()], &rows[2..]].concat()), &["1 missing, 1 unknown", "tiny"]);
    expect(&csv, &good_csv.replacen("median_us", "median", 1), &["blocks.csv", "median"]);
    expect(&json, &good_json.replacen("\"schema\": 2", "\"schema\": 3", 1), &["schema version 3", "update"]);
    expect(&json, &good_json.replacen("\"schema\": 2", "\"schema\": 0.5", 1), &["profile.json", "schema"]);
    expect(&json, &good_json.replacen("space_hash\": \"", "space_hash\": \"0", 1), &["profile.json", "hash"]);
    expect(&json, &good_json.replacen("channels = [4]", "channels = [5]", 1), &["profile.json", "hash"]);
    expect(&json, &good_json[..good_json.len() / 2], &["profile.json"]);
    assert!(Profile::read(folder.path()).is_ok());
    for (path, name) in [(&csv, "blocks.csv"), (&json, "profile.json")] {
        fs::remove_file(path).unwrap();
        let error = Profile::read(folder.path()).unwrap_err();
        assert!(matches!(error, Error::ProfileFile { file, .. } if file == name), "{error}");
    }
}

#[test]
fn writing_leaves_no_parts_and_replaces_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let done = profile(&Pretend::default(), &options(folder.path(), false)).unwrap();
    let copy = folder.path().join("copy");
    done.write(&copy).unwrap();
    done.write(&copy).unwrap();
    assert_eq!(Profile::read(&copy).unwrap(), done);
    let mut names: Vec<_> = fs::read_dir(&copy).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["blocks.csv", "profile.json"]);
    let error = done.write(&copy.join("blocks.csv/x")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn wrong_input_size_is_refused_before_the_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("profile");
    let cancel = AtomicBool::new(false);
    let result = profile_space(&tiny(), 33, &Pretend::default(), &options(&dir, false), &mut |_| {}, &cancel);
    assert!(matches!(result, Err(Error::Space(_))));
    assert!(!dir.exists());
}

/// A device of known faults: an offset a network and cold weights that a block in a loop does not show.
#[test]
fn calibration_recovers_what_the_sum_does_not_know_and_is_kept_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let space = inas_space::Space::preset("nano").unwrap();
    let device = inas_profiler::release::import(&table_of(&space), "simulated", &space, 128, "test".into()).unwrap();
    device.write(folder.path()).unwrap();
    let mut profile = Profile::read(folder.path()).unwrap();
    let truth = |arch: &inas_space::Architecture| 1.12 * profile.predict(arch).unwrap().total().0 + 150.0;
    let draw = |n, seed| spread(&space, &device.table(), 128, n, seed, &BTreeSet::new()).unwrap();
    let measured: Vec<_> = draw(24, 1).into_iter().map(|arch| (arch.clone(), truth(&arch), 0.0)).collect();
    let fresh = draw(60, 2);
    let latencies: Vec<f64> = fresh.iter().map(truth).collect();
    assert_eq!(Verification::new(&profile, &fresh, &latencies).unwrap().calibrated, None);
    let calibration = Calibration::fit(&profile, &measured, [0.0; 2]).unwrap();
    assert!(calibration.cross_validated_mape_percent < 0.3, "{calibration:?}");
    profile.calibrate(calibration, Some(folder.path())).unwrap();
    let read = Profile::read(folder.path()).unwrap();
    assert_eq!(read, profile);
    let found = Verification::new(&read, &fresh, &latencies).unwrap();
    let calibrated = found.calibrated.unwrap();
    assert!(found.sum.bias_percent < -10.0 && found.sum.within_10_percent < 5.0, "{found:?}");
    assert!(calibrated.mape_percent < 0.3 && calibrated.kendall > 0.99, "{found:?}");
    let (low, high) =
        read.calibration().unwrap().around(read.model(false).latency(&space, &fresh[0], 128).unwrap().total());
    assert!(low.0 <= latencies[0] * 1.01 && latencies[0] <= high.0 * 1.01);
    // It goes with these measurements only.
    let csv = fs::read_to_string(folder.path().join("blocks.csv")).unwrap();
    let line = csv.lines().find(|l| l.starts_with("stem")).unwrap();
    let other = line.replacen(line.split(',').nth(1).unwrap(), "12345.0", 1);
    fs::write(folder.path().join("blocks.csv"), csv.replace(line, &other)).unwrap();
    let error = Profile::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("calibration.json") && error.contains("calibrate again"), "{error}");
    assert!(matches!(Calibration::fit(&profile, &measured[..5], [0.0; 2]), Err(Error::Calibration { .. })));
}

/// A release table with made-up latencies that follow the cost.
fn table_of(space: &inas_space::Space) -> String {
    let line = |key: &BlockKey| {
        let macs = if key.is_identity() { 0 } else { inas_graph::cost::of_block(space, key).unwrap().macs };
        let ms = macs as f64 / 3e6 + if key.is_identity() { 0.0 } else { 0.004 };
        format!("{} latency_mean:{ms:.6} latency_var:0.0\n", key.to_release())
    };
    space.block_keys(128).unwrap().iter().map(line).collect()
}

#[test]
fn merging_keeps_the_fastest_and_refuses_others() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = profile(&Pretend::default(), &options(a.path(), false)).unwrap();
    let second = profile(&Pretend::default(), &options(b.path(), false)).unwrap();
    let merged = Profile::merge(&[first.clone(), second.clone()], "merge".into()).unwrap();
    for (key, row) in merged.rows() {
        let medians = [&first, &second].map(|p| p.rows()[key].measurement.median_us);
        assert_eq!(row.measurement.median_us.to_bits(), medians[0].min(medians[1]).to_bits());
        assert_eq!(row.passes, if key.is_identity() { 0 } else { 2 });
    }
    let c = tempfile::tempdir().unwrap();
    let other = profile(&Pretend { version: "2", threads: 3 }, &options(c.path(), false)).unwrap();
    let error = Profile::merge(&[first, other], "merge".into()).unwrap_err().to_string();
    assert!(error.contains("runtime") && error.contains("threads: 1, 3") && !error.contains("space"), "{error}");
}
