//! The search's objective: accuracy of sub-networks with inherited weights and recalibrated BN (spec section 4).

use inas_space::Architecture;
use sha2::{Digest as _, Sha256};

use crate::evaluate::{EvaluateError, Evaluator};
use crate::metrics::FastScore;
use crate::search::{Objective, ObjectiveError, Score, Trial};
use crate::supernet::Statistics;

/// A supernet on fixed images, as an objective that can be asked from several threads.
#[derive(Debug)]
pub struct Accuracy<'a> {
    evaluator: &'a Evaluator,
    identity: String,
    /// Order of the validation batches: spread over the list, so that a part of them stands for the whole.
    order: Vec<usize>,
}

impl<'a> Accuracy<'a> {
    /// Reads the contents of all weights and images once, to name them.
    pub fn new(evaluator: &'a Evaluator) -> Result<Self, EvaluateError> {
        Ok(Self { evaluator, identity: identity(evaluator)?, order: spread(evaluator.images().validation.len()) })
    }
}

/// SHA-256, first 16 hex digits, over the weights, the calibration batches, the validation images and labels, as they
/// are after decoding.
fn identity(evaluator: &Evaluator) -> Result<String, EvaluateError> {
    let mut hasher = Sha256::new();
    let mut add = |tensor: &candle_core::Tensor| -> Result<(), EvaluateError> {
        for dim in tensor.dims() {
            hasher.update((*dim as u64).to_le_bytes());
        }
        for value in tensor.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()? {
            hasher.update(value.to_le_bytes());
        }
        Ok(())
    };
    for (_, tensor) in evaluator.net().params.tensors() {
        add(&tensor)?;
    }
    for batch in &evaluator.images().calibration {
        add(batch)?;
    }
    for (images, _) in &evaluator.images().validation {
        add(images)?;
    }
    for label in evaluator.images().validation.iter().flat_map(|(_, labels)| labels) {
        hasher.update(label.width().to_le_bytes());
        hasher.update(label.data());
    }
    hasher.update(evaluator.net().space.hash());
    Ok(hasher.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat())
}

/// `0..n` in an order whose every beginning is spread over the whole: by multiples of the golden ratio.
fn spread(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let place = |i: usize| (i as f64 * 0.618_033_988_749_894_9).fract();
    order.sort_by(|&a, &b| place(a).total_cmp(&place(b)));
    order
}

impl Objective for Accuracy<'_> {
    fn start<'b>(&'b self, arch: &Architecture) -> Result<Box<dyn Trial + 'b>, ObjectiveError> {
        let statistics = self.evaluator.statistics(arch)?;
        let score = FastScore::default();
        Ok(Box::new(Judgement { accuracy: self, arch: arch.clone(), statistics, score, batches: 0 }))
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }
}

/// A sub-network with its recalibrated statistics, and what was seen of it so far.
struct Judgement<'a> {
    accuracy: &'a Accuracy<'a>,
    arch: Architecture,
    statistics: Statistics,
    score: FastScore,
    batches: usize,
}

impl Trial for Judgement<'_> {
    fn advance(&mut self, share: f64) -> Result<Score, ObjectiveError> {
        let (evaluator, order) = (self.accuracy.evaluator, &self.accuracy.order);
        let until = ((share * order.len() as f64).ceil() as usize).clamp(1, order.len());
        for &batch in order.get(self.batches..until).unwrap_or_default() {
            let (net, score) = (evaluator.net(), &mut self.score);
            let see = |map: &_, label: &_| Ok(score.push(map, label)?);
            evaluator.images().each_map_of(net, &self.arch, &self.statistics, batch, see)?;
        }
        self.batches = self.batches.max(until);
        let found = self.score.finish()?;
        Ok(Score { f_max: found.max_f, mae: found.mae })
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn every_beginning_of_the_order_is_spread_over_the_list() {
        let order = spread(40);
        let mut all = order.clone();
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
        let mut quarter = order[..10].to_vec();
        quarter.sort_unstable();
        assert!(quarter.windows(2).all(|w| w[1] - w[0] <= 6), "{quarter:?}");
    }
}
