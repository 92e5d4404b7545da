//! How good sub-networks are while the supernet trains.

use std::path::Path;

use inas_space::Architecture;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::lesson::{Lesson, Score};
use super::{Result, TrainConfig, Trainer};

/// Stream of the generator that draws the validated sub-networks; steps use the streams from 1 on.
const STREAM: u64 = 0;

/// Scores of one sub-network after a step, as kept in `validation.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Steps done.
    pub step: usize,
    /// `max`, `min`, or `random1` and so on: the same networks every time.
    pub network: String,
    /// How good it is.
    #[serde(flatten)]
    pub score: Score,
}

/// What validation needs: the same images and networks every time.
pub(super) struct Validation<S: Lesson> {
    exam: S::Exam,
    networks: Vec<(String, Architecture)>,
}

impl<S: Lesson> Validation<S> {
    pub(super) fn new(trainer: &Trainer, config: &TrainConfig, training: &[S], validation: &[S]) -> Result<Self> {
        let (space, device) = (&trainer.net.space, trainer.net.params.device());
        let px = config.px.iter().copied().max().unwrap_or(space.input_px);
        let exam = S::exam(training, validation, px, config, device)?;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(STREAM);
        let mut networks = vec![("max".to_owned(), space.max())];
        networks.extend(config.smallest.then(|| ("min".to_owned(), space.min())));
        networks.extend((1..=config.validate_random).map(|i| (format!("random{i}"), space.uniform(&mut rng))));
        Ok(Self { exam, networks })
    }

    /// Scores after `trainer`'s present step, with BN recalibrated for each network.
    pub(super) fn run(&self, trainer: &Trainer) -> Result<Vec<ValidationRecord>> {
        let record = |(network, arch): &(String, Architecture)| {
            let score = S::score(&self.exam, &trainer.net, arch)?;
            Ok(ValidationRecord { step: trainer.step, network: network.clone(), score })
        };
        self.networks.iter().map(record).collect()
    }
}

/// Mean score of one validation's networks: what "best" means.
pub(super) fn mean_score(records: &[ValidationRecord]) -> f64 {
    records.iter().map(|r| r.score.main()).sum::<f64>() / records.len().max(1) as f64
}

/// The best mean score of the validations in a file.
pub(super) fn best_of(records: &[ValidationRecord]) -> Option<f64> {
    let means = records.chunk_by(|a, b| a.step == b.step).map(mean_score);
    means.reduce(f64::max)
}

/// Records of a file, a line cut off by a crash left out.
pub(super) fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
