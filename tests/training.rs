//! A training run that is stopped and resumed equals one that was not, bit for bit.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use inas_host::data::{Sample, read_list};
use inas_host::supernet::Supernet;
use inas_host::train::parallel::Peers;
use inas_host::train::{Progress, TrainConfig, TrainDir, TrainError, Trainer};
use inas_space::Space;

fn samples() -> Vec<Sample> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/mini/train.lst");
    read_list(&list, None).unwrap().into_iter().take(8).collect()
}

fn config() -> TrainConfig {
    TrainConfig {
        steps: 5,
        batch: 3,
        accumulate: 2,
        ema_teacher: 0.9,
        px: vec![32, 64],
        warmup_steps: 2,
        checkpoint_every: 2,
        validate_every: 2,
        calibration: 4,
        ..TrainConfig::default()
    }
}

fn open(dir: &Path, config: TrainConfig, resume: bool) -> Result<Trainer, TrainError> {
    let net = Supernet::new(Space::preset("nano").unwrap(), 1, &Device::Cpu).unwrap();
    Trainer::open(net, config, dir, resume, Peers::Alone)
}

/// Trains until `stop_after` steps are done, or to the end.
fn train(dir: &Path, resume: bool, stop_after: Option<usize>) -> Result<PathBuf, TrainError> {
    let cancel = AtomicBool::new(false);
    let mut observer = |progress: &Progress<'_>| match progress {
        Progress::Step(record) if Some(record.step + 1) == stop_after => cancel.store(true, Ordering::Relaxed),
        _ => {}
    };
    open(dir, config(), resume)?.run(samples(), &samples()[..2], &mut observer, &cancel)?;
    Ok(TrainDir::new(dir).supernet())
}

/// Losses and step numbers, without the times.
fn records(dir: &Path) -> Vec<(usize, u32, Vec<f32>)> {
    TrainDir::new(dir).records().into_iter().map(|r| (r.step, r.px, r.losses)).collect()
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = std::fs::read(train(whole.path(), false, None).unwrap()).unwrap();
    assert!(matches!(train(parts.path(), false, Some(3)), Err(TrainError::Interrupted { step: 3, .. })));
    // A line that a crash cut off does not count.
    let metrics = TrainDir::new(parts.path()).metrics();
    let cut = std::fs::read_to_string(&metrics).unwrap() + "{\"step\":3,\"lr\"";
    std::fs::write(&metrics, cut).unwrap();
    let resumed = std::fs::read(train(parts.path(), true, None).unwrap()).unwrap();
    assert!(resumed == expected, "the resumed supernet differs");
    assert_eq!(records(parts.path()), records(whole.path()));
    assert_eq!(records(whole.path()).len(), 5);
    let (whole, parts) = (TrainDir::new(whole.path()), TrainDir::new(parts.path()));
    assert_eq!(whole.validations(), parts.validations());
    // After steps 2, 4 and the last: largest, smallest and one random network each.
    assert_eq!(whole.validations().iter().map(|v| v.step).collect::<Vec<_>>(), [2, 2, 2, 4, 4, 4, 5, 5, 5]);
    for file in [TrainDir::best, TrainDir::checkpoint] {
        assert!(
            std::fs::read(file(&whole)).unwrap() == std::fs::read(file(&parts)).unwrap(),
            "{}",
            file(&whole).display()
        );
    }
    assert_eq!(std::fs::read_dir(parts.events()).unwrap().count(), 2, "an event file for each start");
}

#[test]
fn a_folder_is_not_mixed_up_with_another_run() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), false, Some(1)).unwrap_err();
    assert!(matches!(open(dir.path(), config(), false), Err(TrainError::AlreadyStarted { .. })));
    let other = TrainConfig { lr: 1.0, ..config() };
    let error = open(dir.path(), other, true).err().unwrap();
    assert!(matches!(&error, TrainError::OtherRun { what, .. } if what.contains("`lr`")), "{error}");
    std::fs::write(TrainDir::new(dir.path()).checkpoint(), b"not tensors").unwrap();
    assert!(matches!(open(dir.path(), config(), true), Err(TrainError::Checkpoint { .. })));
}

/// `inas train` on the mini set for six steps, with a checkpoint every two.
fn program(out: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inas"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command.args(["train", "--data", "data/mini/train.lst", "--steps", "6", "--batch", "4", "--px", "64", "--resume"]);
    command.args(["--set", "train.checkpoint_every=2", "-q", "-o"]).arg(out);
    command
}

#[test]
fn a_killed_run_loses_only_the_steps_since_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    assert!(program(&whole).status().unwrap().success());
    let mut child = program(&killed).spawn().unwrap();
    // Killed without warning once the third step is on record, in the middle of whatever it does then.
    while TrainDir::new(&killed).records().len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!TrainDir::new(&killed).supernet().exists());
    assert!(program(&killed).status().unwrap().success());
    let read = |dir: &Path| std::fs::read(TrainDir::new(dir).supernet()).unwrap();
    assert!(read(&whole) == read(&killed), "the resumed supernet differs");
    assert_eq!(records(&whole), records(&killed));
    // Two at once would mix their records.
    let held = std::fs::File::open(&whole).unwrap();
    held.lock().unwrap();
    let output = program(&whole).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another process"), "{output:?}");
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_tells() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inas"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command.args(["train", "--data", "data/mini/train.lst", "--steps", "1", "--batch", "1", "--px", "64", "-o"]);
    let mut child = command.arg(dir.path()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(TrainDir::new(dir.path()).supernet().exists());
}

#[test]
fn a_loss_that_is_not_finite_stops_with_the_batch_and_the_last_state() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(dir.path(), TrainConfig { lr: 1e30, accumulate: 1, ema_teacher: 0.0, ..config() }, false)
        .unwrap()
        .run(samples(), &[], &mut |_| {}, &AtomicBool::new(false))
        .err()
        .unwrap();
    assert!(matches!(&error, TrainError::Step { files, .. } if files.len() == 3), "{error}");
    assert!(error.to_string().contains("last good state: "), "{error}");
}

#[test]
fn bad_pairs_are_named_by_line_and_left_out_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let good = &samples()[0];
    let copy = |from: &Path, name: &str| std::fs::copy(from, dir.path().join(name)).unwrap();
    copy(&good.image, "a.jpg");
    copy(&good.label, "a.png");
    std::fs::write(dir.path().join("broken.jpg"), b"\xff\xd8\xff no picture").unwrap();
    let list = dir.path().join("x.lst");
    let run = |text: &str, skip: bool| {
        std::fs::write(&list, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inas"));
        command.args(["train", "--steps", "1", "--batch", "1", "--px", "64", "--data"]).arg(&list);
        command.arg("-o").arg(dir.path().join(format!("run{}", text.len() * 2 + usize::from(skip))));
        let output = command.args(skip.then_some("--skip-bad")).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for (text, line, what) in [
        ("a.jpg a.png\nbroken.jpg a.png\n", "line 2", "broken.jpg"),
        ("a.jpg a.png\na.jpg absent.png\n\n", "x.lst:2", "absent.png"),
        ("a.jpg a.png\n\na.jpg\n", "x.lst:3", "1 fields"),
    ] {
        let (ok, told) = run(text, false);
        assert!(!ok && told.contains(line) && told.contains(what), "{told}");
        let (ok, told) = run(text, true);
        assert!(ok && told.contains("left out: ") && told.contains(line) && told.contains(what), "{told}");
    }
}

/// A folder of two classes, told apart by brightness: six photos each to train on and two to validate.
fn light_and_dark(root: &Path) {
    for (part, photos) in [("train", 6), ("val", 2)] {
        for (class, base) in [("dark", 40), ("light", 200)] {
            let folder = root.join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..photos {
                let photo = image::RgbImage::from_fn(48, 40, |x, y| {
                    let value = base + ((x * 7 + y * 13 + i * 31) % 40) as u8;
                    image::Rgb([value, value, value / 2])
                });
                photo.save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn a_backbone_is_pretrained_then_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let (photos, out) = (dir.path().join("photos"), dir.path().join("run"));
    light_and_dark(&photos);
    let run = |extra: &[&str]| {
        let mut command = program(&out);
        command.arg("--pretrain-data").arg(&photos);
        for set in ["steps=60", "batch=6", "px=[64]", "lr=3e-3", "warmup_steps=2", "validate_every=20"] {
            command.args(["--set", &format!("pretrain.{set}")]);
        }
        let output = command.args(extra).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["--set", "train.lr=1e-9"]);
    let (before, after) = (TrainDir::new(&out).pretraining(), TrainDir::new(&out));
    let scores: Vec<_> = before.validations().iter().map(|v| (v.network.clone(), v.score.main())).collect();
    // So few steps do not reach every random network.
    assert!(scores.len() == 9 && scores[6..8].iter().all(|(_, top1)| *top1 > 0.7), "{scores:?}");

    // The second stage starts from the backbone of the first (next to nothing is learned at this rate), with a new head.
    let load = |dir: &TrainDir| candle_core::safetensors::load(dir.supernet(), &Device::Cpu).unwrap();
    let (pretrained, trained) = (load(&before), load(&after));
    assert!(pretrained.contains_key("classifier.weight") && !trained.contains_key("classifier.weight"));
    let name = "backbone.stage_1.0.depth_conv.convbn.conv.weight";
    let difference = (&pretrained[name] - &trained[name]).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);

    // A file that holds a backbone alone is a start too; the largest network can learn alone.
    let (backbone, alone) = (dir.path().join("backbone.safetensors"), dir.path().join("alone"));
    let part: std::collections::HashMap<_, _> =
        trained.into_iter().filter(|(name, _)| name.starts_with("backbone.")).collect();
    candle_core::safetensors::save(&part, &backbone).unwrap();
    let mut command = program(&alone);
    command.arg("--init").arg(&backbone).args(["--val-data", "data/mini/val.lst"]);
    for set in ["lr=1e-9", "smallest=false", "random_subnets=0", "validate_random=0", "paste=0.5", "colour=0.2"] {
        command.args(["--set", &format!("train.{set}")]);
    }
    assert!(command.status().unwrap().success());
    let alone = TrainDir::new(&alone);
    assert!(alone.records().len() == 6 && alone.records().iter().all(|r| r.losses.len() == 1));
    let difference = (&part[name] - &load(&alone)[name]).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);

    // Again: the first stage is not repeated.
    let written = std::fs::metadata(before.supernet()).unwrap().modified().unwrap();
    run(&["--set", "train.lr=1e-9"]);
    assert_eq!(std::fs::metadata(before.supernet()).unwrap().modified().unwrap(), written);
}

#[test]
fn two_processes_take_the_steps_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (alone, together) = (dir.path().join("alone"), dir.path().join("together"));
    assert!(program(&alone).args(["--set", "train.accumulate=2"]).status().unwrap().success());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |rank: &str| {
        let mut command = program(&together);
        command.arg("--parallel").env("RANK", rank).env("WORLD_SIZE", "2").env("MASTER_PORT", port.to_string());
        command.spawn().unwrap()
    };
    let (mut first, mut second) = (start("0"), start("1"));
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    let (a, b) = (records(&alone), records(&together));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((a.0, a.1), (b.0, b.1));
        // The order of a sum differs, and the first step's rounding is in all that follow.
        let near = |(x, y): (&f32, &f32)| (x - y).abs() < 1e-3 * y.abs();
        assert!(a.2.iter().zip(&b.2).all(near), "{a:?} {b:?}");
    }
}
