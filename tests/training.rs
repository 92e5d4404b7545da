//! A training run that is stopped and resumed equals one that was not, bit for bit.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use inas_host::data::{Sample, read_list};
use inas_host::supernet::Supernet;
use inas_host::train::{TrainConfig, TrainDir, TrainError, Trainer};
use inas_space::Space;

fn samples() -> Vec<Sample> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/mini/train.lst");
    read_list(&list, None).unwrap().into_iter().take(8).collect()
}

fn config() -> TrainConfig {
    TrainConfig { steps: 5, batch: 4, px: vec![32, 64], warmup_steps: 2, checkpoint_every: 2, ..TrainConfig::default() }
}

fn open(dir: &Path, config: TrainConfig, resume: bool) -> Result<Trainer, TrainError> {
    let net = Supernet::new(Space::preset("nano").unwrap(), 1, &Device::Cpu).unwrap();
    Trainer::open(net, config, dir, resume)
}

/// Trains until `stop_after` steps are done, or to the end.
fn train(dir: &Path, resume: bool, stop_after: Option<usize>) -> Result<PathBuf, TrainError> {
    let cancel = AtomicBool::new(false);
    let mut observer = |record: &inas_host::train::StepRecord, _: usize| {
        if Some(record.step + 1) == stop_after {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    open(dir, config(), resume)?.run(samples(), &mut observer, &cancel)?;
    Ok(TrainDir::new(dir).supernet())
}

/// Losses and step numbers, without the times.
fn records(dir: &Path) -> Vec<(usize, u32, Vec<f32>)> {
    TrainDir::new(dir).records().unwrap().into_iter().map(|r| (r.step, r.px, r.losses)).collect()
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
