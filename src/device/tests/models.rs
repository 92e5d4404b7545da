//! Measuring models on the scripted device: rounds, cut cables, failing programs.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use inas_device::mock::{Fault, MockDevice, Script};
use inas_device::{Error, ModelJob, bench_models};

fn job(program: PathBuf) -> ModelJob {
    ModelJob {
        options: vec!["--runtime".into(), "tract".into()],
        profiler: Some(program),
        ort_lib: None,
        keep: false,
        rounds: 3,
        silence: Duration::from_secs(5),
        reconnect: Duration::from_secs(5),
        pause: Duration::from_millis(1),
    }
}

fn files(dir: &tempfile::TempDir) -> (PathBuf, Vec<PathBuf>) {
    let write = |name: &str, size: usize| {
        let path = dir.path().join(name);
        std::fs::write(&path, vec![name.len() as u8; size]).unwrap();
        path
    };
    (write("program", 10), [1000, 2000, 500].map(|n| write(&format!("m{n}.onnx"), n)).into())
}

#[test]
fn every_model_is_measured_once_a_round_through_cut_cables() {
    let dir = tempfile::tempdir().unwrap();
    let (program, models) = files(&dir);
    let cut = Fault::Cut { attempts: 2, meanwhile: 0 };
    let faults = VecDeque::from([(2, cut.clone()), (4, Fault::Garbage(vec!["noise".into()])), (7, cut)]);
    let mut device = MockDevice::new(Script { faults, ..Script::default() });
    let mut last = 0;
    let found =
        bench_models(&mut device, &models, &job(program), &mut |done| last = done, &AtomicBool::new(false)).unwrap();
    assert_eq!(last, 9);
    for (measured, us) in found.rounds.iter().zip([1000.0, 2000.0, 500.0]) {
        assert_eq!(measured.iter().map(|m| m.latency.median_us).collect::<Vec<_>>(), [us; 3]);
    }
    assert!(device.files.is_empty(), "files are left: {:?}", device.files.keys());
}

#[test]
fn the_program_stays_for_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let (program, models) = files(&dir);
    let mut device = MockDevice::new(Script::default());
    let job = ModelJob { keep: true, rounds: 1, ..job(program) };
    let found = bench_models(&mut device, &models, &job, &mut |_| (), &AtomicBool::new(false)).unwrap();
    assert_eq!(found.fastest().map(|b| b.latency.median_us).collect::<Vec<_>>(), [1000.0, 2000.0, 500.0]);
    assert_eq!(device.files.keys().map(String::as_str).collect::<Vec<_>>(), ["/mock/inas-profiler"]);
}

#[test]
fn a_failing_program_tells_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let (program, models) = files(&dir);
    let faults = VecDeque::from([(1, Fault::Exit(1, "no such operator".into()))]);
    let mut device = MockDevice::new(Script { faults, ..Script::default() });
    let error = bench_models(&mut device, &models, &job(program), &mut |_| (), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(&error, Error::Command { said, .. } if said.contains("no such operator")), "{error}");
    assert!(device.files.is_empty(), "files are left: {:?}", device.files.keys());
}
