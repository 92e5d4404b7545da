//! What both kinds of runs share.

use serde::{Deserialize, Serialize};

use crate::data::{Augment, Dataset, Normalise};
use crate::{Result, derive};

/// A number that depends on all of these.
pub(crate) fn seed_of(seed: u64, tags: &[usize]) -> u64 {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    for tag in tags {
        // SplitMix64's output function over a running state.
        state = state.wrapping_add(*tag as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    state
}

/// Sums over the steps of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) loss: f64,
    pub(crate) correct: usize,
    pub(crate) pictures: usize,
    pub(crate) seconds: f64,
}

impl Totals {
    pub(crate) fn add(&mut self, loss: f64, correct: usize, pictures: usize, seconds: f64) {
        self.loss += loss * pictures as f64;
        self.correct += correct;
        self.pictures += pictures;
        self.seconds += seconds;
    }

    pub(crate) fn mean_loss(&self) -> f64 {
        self.loss / self.pictures.max(1) as f64
    }

    pub(crate) fn accuracy(&self) -> f64 {
        self.correct as f64 / self.pictures.max(1) as f64
    }
}

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// From 0.
    pub epoch: usize,
    /// Of the epoch, from 0.
    pub step: usize,
    /// Steps of the epoch.
    pub steps: usize,
    /// Loss of the step.
    pub loss: f64,
    /// Seconds the step took.
    pub seconds: f64,
}

/// Share of the first `limit` pictures of a set that `logits` of a batch of images classifies right.
///
/// # Errors
/// When the network fails.
pub fn accuracy(
    set: &Dataset,
    limit: usize,
    batch: usize,
    normalise: Normalise,
    logits: impl Fn(&candle_core::Tensor) -> Result<candle_core::Tensor>,
) -> Result<f64> {
    let indices: Vec<usize> = (0..set.len().min(limit)).collect();
    let mut correct = 0;
    for chunk in indices.chunks(batch.max(1)) {
        let batch = set.batch(chunk, normalise, Augment::NONE, 0)?;
        let rows: Vec<Vec<f32>> = logits(&batch.images)?.to_vec2()?;
        for (row, label) in rows.iter().zip(&batch.labels) {
            let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
            correct += usize::from(derive::first_largest(&row) == *label as usize);
        }
    }
    Ok(correct as f64 / indices.len().max(1) as f64)
}
