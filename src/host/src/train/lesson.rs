//! What a supernet can learn: saliency maps, or classes in pre-training.

use std::fmt;

use candle_core::{Device, Tensor};
use inas_space::Architecture;
use serde::{Deserialize, Serialize};

use super::{Result, TrainConfig};
use crate::data::{Batch, ClassPhoto, Item, Loader, LoaderOptions, Sample};
use crate::evaluate::Images;
use crate::supernet::{self, Outputs, Sandwich, Step, Supernet, recalibrate_part};

/// How good a sub-network is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Score {
    /// Of saliency maps.
    Saliency {
        /// Maximum F of averaged precision and recall, 0..1.
        max_f: f64,
        /// Mean absolute error, 0..1.
        mae: f64,
    },
    /// Of classes.
    Classes {
        /// Share of photos whose best class is right.
        top1: f64,
        /// Share of photos with the right class among the best five.
        top5: f64,
    },
}

impl Score {
    /// The one that "best" goes by, more is better.
    pub fn main(&self) -> f64 {
        match self {
            Self::Saliency { max_f, .. } => *max_f,
            Self::Classes { top1, .. } => *top1,
        }
    }

    /// Both with their names.
    pub fn named(&self) -> [(&'static str, f64); 2] {
        match *self {
            Self::Saliency { max_f, mae } => [("max F", max_f), ("MAE", mae)],
            Self::Classes { top1, top5 } => [("top-1", top1), ("top-5", top5)],
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(a, x), (b, y)] = self.named();
        write!(f, "{a} {x:.4} {b} {y:.4}")
    }
}

/// Samples that a supernet learns from.
pub trait Lesson: Item {
    /// Images that validate, decoded once.
    type Exam;

    /// Losses and gradients of a sandwich on a batch.
    fn learn(
        net: &mut Supernet,
        image: &Tensor,
        batch: &Batch,
        sandwich: &Sandwich,
        config: &TrainConfig,
    ) -> supernet::Result<Step>;

    /// Reads what validation needs.
    fn exam(
        training: &[Self],
        validation: &[Self],
        px: u32,
        config: &TrainConfig,
        device: &Device,
    ) -> Result<Self::Exam>;

    /// Score of a sub-network with BN recalibrated.
    fn score(exam: &Self::Exam, net: &Supernet, arch: &Architecture) -> Result<Score>;
}

impl Lesson for Sample {
    type Exam = Images;

    fn learn(
        net: &mut Supernet,
        image: &Tensor,
        batch: &Batch,
        sandwich: &Sandwich,
        _config: &TrainConfig,
    ) -> supernet::Result<Step> {
        let px = batch.px as usize;
        let label = Tensor::from_slice(&batch.labels, (batch.n, px, px, 1), image.device())?;
        net.sandwich(image, &label, sandwich, false)
    }

    fn exam(training: &[Self], validation: &[Self], px: u32, config: &TrainConfig, device: &Device) -> Result<Images> {
        Ok(Images::new(training.to_vec(), config.calibration, validation, px, config.seed, device)?)
    }

    fn score(exam: &Images, net: &Supernet, arch: &Architecture) -> Result<Score> {
        let score = exam.score(net, arch)?;
        Ok(Score::Saliency { max_f: score.max_f, mae: score.mae })
    }
}

/// Batches of photos to recalibrate BN on, and to score classes on.
#[derive(Debug)]
pub struct ClassExam {
    calibration: Vec<Tensor>,
    /// Images `[N, px, px, 3]` and their classes.
    validation: Vec<(Tensor, Vec<u32>)>,
}

impl Lesson for ClassPhoto {
    type Exam = ClassExam;

    fn learn(
        net: &mut Supernet,
        image: &Tensor,
        batch: &Batch,
        sandwich: &Sandwich,
        config: &TrainConfig,
    ) -> supernet::Result<Step> {
        let classes = Tensor::from_slice(&batch.labels, batch.n, image.device())?;
        net.classification(image, &classes, config.label_smoothing, sandwich)
    }

    fn exam(
        training: &[Self],
        validation: &[Self],
        px: u32,
        config: &TrainConfig,
        device: &Device,
    ) -> Result<ClassExam> {
        let batches = |photos: &[Self], options: LoaderOptions, count: usize| -> Result<Vec<(Tensor, Vec<u32>)>> {
            let loader = Loader::new(photos.to_vec(), LoaderOptions { seed: config.seed, ..options })?;
            let side = px as usize;
            let of = |batch: std::result::Result<Batch, _>| {
                let batch = batch?;
                let image = Tensor::from_slice(&batch.images, (batch.n, side, side, 3), device)?;
                Ok((image, batch.labels.iter().map(|class| *class as u32).collect()))
            };
            loader.epoch(0, |_| Some(px)).take(count).map(of).collect()
        };
        let options = LoaderOptions { shuffle: true, ..LoaderOptions::default() };
        let count = config.calibration.div_ceil(options.batch).max(1);
        let calibration = batches(training, options, count)?.into_iter().map(|(image, _)| image).collect();
        Ok(ClassExam { calibration, validation: batches(validation, LoaderOptions::default(), usize::MAX)? })
    }

    fn score(exam: &ClassExam, net: &Supernet, arch: &Architecture) -> Result<Score> {
        let statistics = recalibrate_part(net, arch, &exam.calibration, Outputs::Features)?;
        let (mut top1, mut top5, mut photos) = (0, 0, 0usize);
        for (image, classes) in &exam.validation {
            for (scores, &class) in net.classify(arch, image, &statistics)?.to_vec2::<f32>()?.iter().zip(classes) {
                let right = scores[class as usize];
                let better = scores.iter().filter(|s| **s > right).count();
                photos += 1;
                top1 += usize::from(better < 1);
                top5 += usize::from(better < 5);
            }
        }
        let share = |n: usize| n as f64 / photos.max(1) as f64;
        Ok(Score::Classes { top1: share(top1), top5: share(top5) })
    }
}
