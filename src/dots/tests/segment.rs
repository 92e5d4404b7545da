//! Training of a segmentation head through the public interface.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use candle_core::{Device, Tensor};
use inas_dots::segment::{IGNORED, PixelBatch, SegmentConfig, SegmentRecord, SegmentTrainer};
use inas_dots::{Error, Genotype};

const PX: usize = 32;

/// Images whose left part is bright and of class 1; the middle counts for nothing.
fn batch(seed: usize) -> Result<PixelBatch, Error> {
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

fn config() -> SegmentConfig {
    SegmentConfig { channels: 2, cells: 3, width: 8, classes: 2, epochs: 3, batch: 4, ..SegmentConfig::default() }
}

fn cells() -> Genotype {
    Genotype::published("dots-c10").unwrap()
}

fn epoch(trainer: &mut SegmentTrainer, stop: usize) -> Option<SegmentRecord> {
    let at = trainer.next().unwrap();
    let batches = (0..3).map(move |i| batch(at * 3 + i));
    trainer.epoch((batches, 3), [batch(50)].into_iter(), &mut |step, _| step != stop).unwrap()
}

fn weights(trainer: &SegmentTrainer) -> Vec<(String, Vec<f32>)> {
    let mut all: Vec<_> = trainer.net.params.tensors().into_iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.into_iter().map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

#[test]
fn an_interrupted_training_equals_an_uninterrupted_one() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut whole = SegmentTrainer::new(config(), cells(), a.path()).unwrap();
    let records: Vec<_> = (0..3).map(|_| epoch(&mut whole, usize::MAX).unwrap()).collect();
    assert_eq!(whole.next(), None);
    assert!(records[2].loss < records[0].loss && records[2].lr < records[0].lr);
    let mut parts = SegmentTrainer::new(config(), cells(), b.path()).unwrap();
    epoch(&mut parts, usize::MAX).unwrap();
    // Stopped in the second epoch, which then begins anew.
    assert!(epoch(&mut parts, 1).is_none());
    let mut parts = SegmentTrainer::resume(config(), cells(), b.path()).unwrap();
    while parts.next().is_some() {
        epoch(&mut parts, usize::MAX).unwrap();
    }
    assert_eq!(weights(&whole), weights(&parts));
    let read = |dir: &Path| std::fs::read_to_string(SegmentTrainer::records(dir)).unwrap();
    assert_eq!(read(a.path()), read(b.path()));
    let other = SegmentConfig { lr: 0.1, ..config() };
    assert!(SegmentTrainer::resume(other, cells(), b.path()).is_err());
}

#[test]
fn what_makes_no_training_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [
        SegmentConfig { width: 12, ..config() },
        SegmentConfig { epochs: 0, ..config() },
        SegmentConfig { classes: 0, ..config() },
    ] {
        assert!(SegmentTrainer::new(bad, cells(), dir.path()).is_err());
    }
    let mut trainer = SegmentTrainer::new(config(), cells(), dir.path()).unwrap();
    let failing = [Err(Error::Config("no batch".into()))].into_iter();
    let error = trainer.epoch((failing, 1), std::iter::empty(), &mut |_, _| true).unwrap_err();
    assert!(error.to_string().contains("no batch"));
}
