//! Accuracy of sub-networks with inherited weights (thesis section 3.2.4, spec section 4).

use candle_core::{Device, Tensor};
use inas_runtime::preprocess;
use inas_space::Architecture;

use inas_profiler::backend::{Session, Values, ValuesMut};

use crate::data::{DataError, Loader, LoaderOptions, Sample, decode_pair};
use crate::metrics::{DatasetMetrics, DatasetSummary, FastScore, FastSummary, ImageMetrics, MapU8, MetricError};
use crate::supernet::{Statistics, Supernet, recalibrate};

/// Images evaluated at once.
const BATCH: usize = 8;

/// What can go wrong while evaluating.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The supernet failed.
    #[error(transparent)]
    Supernet(#[from] crate::supernet::Error),
    /// A deployed network did not run.
    #[error(transparent)]
    Runtime(#[from] inas_profiler::backend::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed: {}", crate::supernet::short(.0))]
    Tensor(#[from] candle_core::Error),
    /// An image could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A map could not be scored.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// A map could not be turned into a mask.
    #[error(transparent)]
    Preprocess(#[from] preprocess::PreprocessError),
}

/// Result of evaluating.
pub type Result<T> = std::result::Result<T, EvaluateError>;

/// Fixed images to recalibrate and score sub-networks on, decoded once.
#[derive(Debug)]
pub struct Images {
    /// `[N, px, px, 3]` each.
    pub(crate) calibration: Vec<Tensor>,
    /// Validation images `[N, px, px, 3]` with each label at its own size.
    pub(crate) validation: Vec<(Tensor, Vec<MapU8>)>,
    px: u32,
}

impl Images {
    /// Reads `calibration_images` of the training samples and all validation samples at side `px`.
    ///
    /// The calibration images are the first ones of the seed's order; the published systems take 100 to 200.
    pub fn new(
        training: Vec<Sample>,
        calibration_images: usize,
        validation: &[Sample],
        px: u32,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let side = px as usize;
        let batch = BATCH.min(training.len().max(1));
        let batches = calibration_images.div_ceil(batch).max(1);
        let options = LoaderOptions { batch, seed, shuffle: true, ..LoaderOptions::default() };
        let loader = Loader::new(training, options)?;
        let mut calibration = Vec::with_capacity(batches);
        for batch in loader.epoch(0, |_| Some(px)).take(batches) {
            let batch = batch?;
            calibration.push(Tensor::from_slice(&batch.images, (batch.n, side, side, 3), device)?);
        }
        let mut groups = Vec::new();
        for group in validation.chunks(BATCH) {
            let mut images = Vec::with_capacity(group.len() * side * side * 3);
            let mut labels = Vec::with_capacity(group.len());
            for sample in group {
                let (photo, label) = decode_pair(sample)?;
                images.extend(preprocess::photo_to_nhwc(&photo, px));
                labels.push(MapU8::from(label));
            }
            groups.push((Tensor::from_vec(images, (group.len(), side, side, 3), device)?, labels));
        }
        Ok(Self { calibration, validation: groups, px })
    }

    /// Maximum F (of averaged precision and recall) and MAE of `arch` on the validation images.
    pub fn score(&self, net: &Supernet, arch: &Architecture) -> Result<FastSummary> {
        let mut score = FastScore::default();
        // On a thread of the pool, so that its many short parallel parts need no hand-over each.
        rayon::scope(|_| self.each_map(net, arch, |map, label| Ok(score.push(map, label)?)))?;
        Ok(score.finish()?)
    }

    /// Side of the images, px.
    pub fn px(&self) -> u32 {
        self.px
    }

    /// A calibration image `[1, px, px, 3]`, for checking exports.
    pub fn probe(&self) -> Result<Tensor> {
        Ok(self.calibration[0].narrow(0, 0, 1)?)
    }

    /// Up to `n` calibration images as a deployed network takes them, `[3, px, px]` each.
    pub fn calibration_planes(&self, n: usize) -> Result<Vec<Vec<f32>>> {
        let batches = self.calibration.iter().map(planes).collect::<Result<Vec<_>>>()?;
        Ok(batches.into_iter().flatten().take(n).collect())
    }

    /// As [`Images::score`], of a deployed network: a float32 input `[1, 3, px, px]` and output `[1, 1, px, px]`, or bytes
    /// `[1, px, px, 3]` and `[1, 1, px, px]`.
    pub fn score_deployed(&self, session: &mut dyn Session) -> Result<FastSummary> {
        let mut score = FastScore::default();
        for (images, labels) in &self.validation {
            for (image, label) in planes(images)?.iter().zip(labels) {
                if matches!(session.input_mut(0)?, ValuesMut::U8(_)) {
                    session.set_inputs(&[&pixels(image)])?;
                } else {
                    session.set_inputs(&[image])?;
                }
                session.run()?;
                let map = match session.output_values(0)? {
                    // The middle of a byte's range, so that it is found again when rounded down.
                    Values::U8(bytes) => bytes.iter().map(|v| (f32::from(*v) + 0.5) / 255.0).collect(),
                    floats @ Values::F32(_) => floats.to_f32(),
                };
                score.push(&self.mask(&map, label)?, label)?;
            }
        }
        Ok(score.finish()?)
    }

    fn each_map(
        &self,
        net: &Supernet,
        arch: &Architecture,
        mut see: impl FnMut(&MapU8, &MapU8) -> Result<()>,
    ) -> Result<()> {
        let statistics = recalibrate(net, arch, &self.calibration)?;
        (0..self.validation.len()).try_for_each(|batch| self.each_map_of(net, arch, &statistics, batch, &mut see))
    }

    /// Maps and labels of validation batch number `batch`.
    pub(crate) fn each_map_of(
        &self,
        net: &Supernet,
        arch: &Architecture,
        statistics: &Statistics,
        batch: usize,
        mut see: impl FnMut(&MapU8, &MapU8) -> Result<()>,
    ) -> Result<()> {
        let (images, labels) = &self.validation[batch];
        let area = (self.px * self.px) as usize;
        let maps = net.eval_with(arch, images, statistics)?.flatten_all()?.to_vec1::<f32>()?;
        for (map, label) in maps.chunks(area).zip(labels) {
            see(&self.mask(map, label)?, label)?;
        }
        Ok(())
    }

    /// A network's map at its label's size.
    fn mask(&self, map: &[f32], label: &MapU8) -> Result<MapU8> {
        let size = (label.width(), label.height());
        Ok(MapU8::from(preprocess::postprocess(map, self.px, self.px, size)?))
    }
}

/// Recalibrates and scores sub-networks of one supernet on fixed images.
#[derive(Debug)]
pub struct Evaluator {
    net: Supernet,
    images: Images,
}

impl Evaluator {
    /// A supernet with its [`Images::new`].
    pub fn new(
        net: Supernet,
        training: Vec<Sample>,
        calibration_images: usize,
        validation: &[Sample],
        px: u32,
        seed: u64,
    ) -> Result<Self> {
        let images = Images::new(training, calibration_images, validation, px, seed, net.params.device())?;
        Ok(Self { net, images })
    }

    /// The supernet that is evaluated.
    pub fn net(&self) -> &Supernet {
        &self.net
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Side of the images, px.
    pub fn px(&self) -> u32 {
        self.images.px
    }

    /// Number of validation images, and of images for recalibration.
    pub fn sizes(&self) -> (usize, usize) {
        let calibration = self.images.calibration.iter().map(|batch| batch.dims()[0]).sum();
        (self.images.validation.iter().map(|(_, labels)| labels.len()).sum(), calibration)
    }

    /// BN statistics of `arch` on the calibration images.
    pub fn statistics(&self, arch: &Architecture) -> Result<Statistics> {
        Ok(recalibrate(&self.net, arch, &self.images.calibration)?)
    }

    /// Map of `arch`, `px` x `px` in 0..=1, of validation image number `index`.
    pub fn map(&self, arch: &Architecture, statistics: &Statistics, index: usize) -> Result<Vec<f32>> {
        let (mut batch, mut row) = (0, index);
        while let Some((_, labels)) = self.images.validation.get(batch).filter(|(_, labels)| row >= labels.len()) {
            (batch, row) = (batch + 1, row - labels.len());
        }
        let Some((images, _)) = self.images.validation.get(batch) else {
            return Err(DataError::Empty { path: None }.into());
        };
        let map = self.net.eval_with(arch, &images.narrow(0, row, 1)?, statistics)?;
        Ok(map.flatten_all()?.to_vec1()?)
    }

    /// Maximum F (of averaged precision and recall) and MAE of `arch` on the validation images.
    pub fn score(&self, arch: &Architecture) -> Result<FastSummary> {
        self.images.score(&self.net, arch)
    }

    /// Every metric of `arch` on the validation images.
    pub fn metrics(&self, arch: &Architecture) -> Result<DatasetSummary> {
        let mut metrics = DatasetMetrics::default();
        self.images.each_map(&self.net, arch, |map, label| {
            metrics.push(&ImageMetrics::of(map, label)?);
            Ok(())
        })?;
        Ok(metrics.finish()?)
    }
}

/// Images `[N, px, px, 3]` as one `[3, px, px]` each.
fn planes(images: &Tensor) -> Result<Vec<Vec<f32>>> {
    let n = images.dim(0)?;
    let values = images.permute((0, 3, 1, 2))?.contiguous()?.reshape((n, ()))?;
    Ok(values.to_vec2::<f32>()?)
}

/// The bytes `[h, w, 3]` that normalise to `planes` `[3, h, w]`.
pub(crate) fn pixels(planes: &[f32]) -> Vec<f32> {
    let area = planes.len() / 3;
    let byte = |i: usize| {
        let (pixel, c) = (i / 3, i % 3);
        ((planes[c * area + pixel] * inas_runtime::STD[c] + inas_runtime::MEAN[c]) * 255.0).round()
    };
    (0..planes.len()).map(byte).collect()
}
