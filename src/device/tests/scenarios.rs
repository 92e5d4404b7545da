//! Profiling on a device that is cut off, restarts, heats up and talks nonsense.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inas_device::mock::{Fault, MockDevice, Script};
use inas_device::session::{DEVICE_FILE, Visit};
use inas_device::{Device as _, Error, Event, Job, Result, profile_on};
use inas_profiler::Profile;
use inas_space::Space;

struct Bench {
    folder: tempfile::TempDir,
    job: Job,
    blocks: usize,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    let space = Space::preset("nano").unwrap();
    let blocks = space.block_keys(space.input_px).unwrap().iter().filter(|k| !k.is_identity()).count();
    let job = Job {
        space,
        options: vec!["--threads".into(), "1".into()],
        profiler: Some(program),
        ort_lib: None,
        out: folder.path().join("out"),
        resume: false,
        discard: false,
        keep: false,
        silence: Duration::from_secs(5),
        reconnect: Duration::ZERO,
        pause: Duration::ZERO,
    };
    Bench { folder, job, blocks }
}

/// An hour of patience that passes at once.
fn patient(bench: &mut Bench) -> &Job {
    bench.job.reconnect = Duration::from_hours(1);
    &bench.job
}

fn faulty(faults: &[(usize, Fault)]) -> MockDevice {
    MockDevice::new(Script { faults: faults.iter().cloned().collect(), ..Script::default() })
}

fn run(device: &mut MockDevice, job: &Job) -> (Result<Profile>, Vec<Event>) {
    let mut events = Vec::new();
    let result = profile_on(device, job, &mut |e| events.push(e.clone()), &AtomicBool::new(false));
    (result, events)
}

fn visit(out: &Path) -> Visit {
    serde_json::from_slice(&std::fs::read(out.join(DEVICE_FILE)).unwrap()).unwrap()
}

#[test]
fn a_quiet_device_gives_its_profile_and_is_left_as_it_was() {
    let b = bench();
    let mut device = faulty(&[]);
    let (profile, events) = run(&mut device, &b.job);
    assert_eq!(profile.unwrap().rows().values().filter(|r| r.measurement.runs > 0).count(), b.blocks);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Block(_))).count(), b.blocks);
    assert_eq!(Profile::read(&b.job.out).unwrap().space().name, "nano");
    assert!(device.files.is_empty() && device.records.is_empty(), "{:?}", device.files.keys());
    assert_eq!((visit(&b.job.out).cuts, device.runs.len()), (0, 1));
    let error = run(&mut device, &b.job).0.unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
}

#[test]
fn a_cut_cable_is_waited_for_and_what_was_measured_meanwhile_counts() {
    let mut b = bench();
    let mut device = faulty(&[(5, Fault::Cut { attempts: 3, meanwhile: 4 })]);
    let (profile, events) = run(&mut device, patient(&mut b));
    profile.unwrap();
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Block(_))).count(), b.blocks - 4);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Lost(_))).count(), 1);
    assert!(events.iter().any(|e| matches!(e, Event::Back { rebooted: false })));
    assert!(device.runs[1].contains("--resume") && !device.runs[0].contains("--resume"), "{:?}", device.runs);
    assert_eq!(device.sent, 2, "the program and the space travel once");
    assert_eq!(visit(&b.job.out).cuts, 1);
}

#[test]
fn a_run_that_ended_while_the_cable_was_out_is_fetched() {
    let mut b = bench();
    let mut device = faulty(&[(b.blocks - 2, Fault::Cut { attempts: 2, meanwhile: 99 })]);
    run(&mut device, patient(&mut b)).0.unwrap();
}

#[test]
fn a_reboot_is_told_and_survived() {
    let mut b = bench();
    let mut device = faulty(&[(3, Fault::Reboot { attempts: 2 }), (9, Fault::Reboot { attempts: 4 })]);
    let (profile, events) = run(&mut device, patient(&mut b));
    profile.unwrap();
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Back { rebooted: true })).count(), 2);
    assert_eq!((visit(&b.job.out).reboots, visit(&b.job.out).cuts), (2, 2));
}

#[test]
fn the_wait_is_bounded_and_a_later_run_resumes() {
    let mut b = bench();
    let mut device = faulty(&[(7, Fault::Cut { attempts: 9, meanwhile: 0 })]);
    let error = run(&mut device, &b.job).0.unwrap_err();
    assert!(matches!(error, Error::Gone { .. }) && error.to_string().contains("--resume"), "{error}");
    // A device that does not answer at all is told at once.
    let (result, events) = run(&mut device, &Job { reconnect: Duration::from_hours(1), ..b.job.clone() });
    assert!(matches!(result.unwrap_err(), Error::Lost { .. }) && events.is_empty(), "{events:?}");
    while device.connect().is_err() {}
    // Neither overwritten nor continued without being asked.
    let error = run(&mut device, &b.job).0.unwrap_err();
    assert!(matches!(error, Error::Unfinished { .. }), "{error}");
    b.job.resume = true;
    let (profile, events) = run(&mut device, &b.job);
    profile.unwrap();
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Block(_))).count(), b.blocks - 7);
}

#[test]
fn discard_starts_over() {
    let mut b = bench();
    let mut device = faulty(&[(7, Fault::Exit(1, "error: disk full".into()))]);
    let error = run(&mut device, &b.job).0.unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    b.job.discard = true;
    let (profile, events) = run(&mut device, &b.job);
    profile.unwrap();
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Block(_))).count(), b.blocks);
}

#[test]
fn cuts_without_progress_end() {
    let mut b = bench();
    let cut = || (5, Fault::Cut { attempts: 1, meanwhile: 0 });
    let mut device = faulty(&[cut(), cut(), cut(), cut(), cut(), cut()]);
    let error = run(&mut device, patient(&mut b)).0.unwrap_err();
    assert!(matches!(error, Error::Stuck { times: 4, .. }), "{error}");
}

#[test]
fn a_killed_program_goes_on_and_a_wrong_one_does_not() {
    let mut b = bench();
    let mut device = faulty(&[(5, Fault::Exit(137, "Killed".into()))]);
    run(&mut device, patient(&mut b)).0.unwrap();
    for (code, word) in [(126, "Permission denied"), (127, "not found"), (132, "")] {
        let b = bench();
        let error = run(&mut faulty(&[(0, Fault::Exit(code, word.into()))]), &b.job).0.unwrap_err();
        assert!(matches!(&error, Error::Unfit { .. }) && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn garbage_is_counted_and_harmless() {
    let b = bench();
    let lines =
        ["WARNING: linker: x", "{\"key\": 1}", "", "\u{fffd}\u{fffd}", "inas-exit 0x"].map(str::to_owned).to_vec();
    let mut device = faulty(&[(4, Fault::Garbage(lines))]);
    run(&mut device, &b.job).0.unwrap();
    assert_eq!(visit(&b.job.out).garbage_lines, 5);
}

#[test]
fn heat_and_noise_reach_the_profile_and_the_record_of_the_visit() {
    let b = bench();
    let script = Script { heating_celsius: 0.5, noise: 0.05, ..Script::default() };
    let profile = run(&mut MockDevice::new(script), &b.job).0.unwrap();
    let mut times: Vec<f64> = profile.rows().values().map(|r| r.measurement.median_us).filter(|t| *t > 0.0).collect();
    times.sort_by(f64::total_cmp);
    assert!(times[0] < 1000.0 && times[times.len() - 1] > 1100.0, "{times:?}");
    let celsius = |f: &inas_device::Facts| f.hottest().and_then(|z| z.celsius).unwrap();
    let visit = visit(&b.job.out);
    assert!(celsius(&visit.after) > celsius(&visit.before) + 10.0);
}

#[test]
fn an_interrupt_leaves_the_records_on_the_device() {
    let b = bench();
    let cancel = AtomicBool::new(false);
    let mut device = faulty(&[(5, Fault::Reboot { attempts: 50 })]);
    let job = Job { reconnect: Duration::from_hours(1), ..b.job.clone() };
    let mut observer = |e: &Event| cancel.store(matches!(e, Event::Lost(_)), Ordering::Relaxed);
    let error = profile_on(&mut device, &job, &mut observer, &cancel).unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert_eq!(device.records.values().map(Vec::len).sum::<usize>(), 5);
    assert!(!b.job.out.exists());
    assert_eq!(b.folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_program_for_another_processor_is_refused_before_it_travels() {
    let mut b = bench();
    b.job.profiler = Some(std::env::current_exe().unwrap());
    let mut script = Script::default();
    script.facts.machine = Some("armv7l".into());
    let mut device = MockDevice::new(script);
    let error = run(&mut device, &b.job).0.unwrap_err();
    assert!(matches!(error, Error::Unfit { .. }) && error.to_string().contains("armv7l"), "{error}");
    assert_eq!(device.sent, 0);
}
