//! Training of a segmentation head through the public interface.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor};
use inas_dots::segment::{
    IGNORED, PixelBatch, PixelBatches, PixelSource, SegmentConfig, SegmentRecord, SegmentTrainer,
};
use inas_dots::train::{Progress, read_lines};
use inas_dots::{Error, Genotype, Result};

const PX: usize = 32;

/// Images whose left part is bright and of class 1; the middle counts for nothing.
fn batch(seed: usize) -> Result<PixelBatch> {
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    for n in 0..4 {
        for i in 0..PX * PX {
            let (x, edge) = (i % PX, 8 + (seed * 5 + n * 3) % 16);
            values.extend([if x < edge { 1.0f32 } else { -1.0 }, (i % 7) as f32 / 7.0, 0.0]);
            classes.push(if x == edge { IGNORED } else { u32::from(x < edge) });
        }
    }
    Ok(PixelBatch { images: Tensor::from_vec(values, (4, PX, PX, 3), &Device::Cpu)?, classes })
}

/// So many batches an epoch; the rest of three fail.
struct Images(usize);

impl PixelSource for Images {
    fn steps(&self) -> usize {
        3
    }

    fn training(&self, epoch: usize) -> PixelBatches<'_> {
        let failing = || Err(Error::Source("no batch".into()));
        Box::new((0..3).map(move |i| if i < self.0 { batch(epoch * 3 + i) } else { failing() }))
    }

    fn validation(&self) -> PixelBatches<'_> {
        Box::new([batch(50)].into_iter())
    }
}

fn config() -> SegmentConfig {
    SegmentConfig { channels: 2, cells: 3, width: 8, classes: 2, epochs: 3, batch: 4, ..SegmentConfig::default() }
}

fn cells() -> Genotype {
    Genotype::published("dots-c10").unwrap()
}

/// Runs to the end, or until so many steps are done.
fn run(trainer: &mut SegmentTrainer<'_>, stop: usize) -> Option<SegmentRecord> {
    let (cancel, mut steps) = (AtomicBool::new(false), 0);
    let mut count = |_: &Progress, record: Option<&SegmentRecord>| {
        steps += usize::from(record.is_none());
        cancel.store(steps == stop, Ordering::Relaxed);
    };
    trainer.run(&mut count, &cancel).unwrap()
}

fn weights(trainer: &SegmentTrainer<'_>) -> Vec<(String, Vec<f32>)> {
    let mut all: Vec<_> = trainer.net.params.tensors().into_iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.into_iter().map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

#[test]
fn an_interrupted_training_equals_an_uninterrupted_one() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let images = Images(3);
    let mut whole = SegmentTrainer::new(config(), cells(), &images, a.path()).unwrap();
    let last = run(&mut whole, usize::MAX).unwrap();
    let records: Vec<SegmentRecord> = read_lines(&SegmentTrainer::records(a.path()));
    assert_eq!((records.len(), &records[2]), (3, &last));
    assert!(last.loss < records[0].loss && last.lr < records[0].lr);
    let mut parts = SegmentTrainer::new(config(), cells(), &images, b.path()).unwrap();
    // Within an epoch, and at its end.
    for stop in [2, 4] {
        assert!(run(&mut parts, stop).is_none());
        parts = SegmentTrainer::resume(config(), cells(), &images, b.path()).unwrap();
    }
    assert_eq!(run(&mut parts, usize::MAX).unwrap(), last);
    assert_eq!(weights(&whole), weights(&parts));
    let read = |dir: &Path| std::fs::read_to_string(SegmentTrainer::records(dir)).unwrap();
    assert_eq!(read(a.path()), read(b.path()));
    let other = SegmentConfig { lr: 0.1, ..config() };
    assert!(SegmentTrainer::resume(other, cells(), &images, b.path()).is_err());
}

#[test]
fn what_makes_no_training_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [
        SegmentConfig { width: 12, ..config() },
        SegmentConfig { epochs: 0, ..config() },
        SegmentConfig { classes: 0, ..config() },
    ] {
        assert!(SegmentTrainer::new(bad, cells(), &Images(3), dir.path()).is_err());
    }
    let mut trainer = SegmentTrainer::new(config(), cells(), &Images(1), dir.path()).unwrap();
    let error = trainer.run(&mut |_, _| (), &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("no batch"));
}
