//! Everything that depends only on how often each 8-bit value occurs in foreground and background.

use super::{MapU8, MetricError, Result, scores::Curve};

/// Thresholds of a curve.
pub const THRESHOLDS: usize = 256;

/// Weight of precision in the F-measure (beta squared), as usual for salient objects.
pub const BETA_SQUARED: f64 = 0.3;

/// Is a ground-truth value foreground?
pub(crate) fn is_foreground(value: u8) -> bool {
    value > 128
}

/// Histograms of the raw prediction over the ground truth's two regions, and the per-image stretch.
pub(crate) struct Counts {
    /// Foreground pixels per raw prediction value.
    pub(crate) fg: [u64; 256],
    /// Background pixels per raw prediction value.
    pub(crate) bg: [u64; 256],
    /// Stretched prediction in 0..1 of every raw value that occurs.
    pub(crate) stretched: [f64; 256],
}

impl Counts {
    /// Counts one pair; the sizes must have been checked.
    pub(crate) fn of(pred: &MapU8, gt: &MapU8) -> Result<Self> {
        if pred.data().is_empty() {
            return Err(MetricError::Empty { dir: None });
        }
        let (mut fg, mut bg) = ([0u64; 256], [0u64; 256]);
        for (&p, &g) in pred.data().iter().zip(gt.data()) {
            let side = if is_foreground(g) { &mut fg } else { &mut bg };
            side[usize::from(p)] += 1;
        }
        let stretched = stretch(&fg, &bg);
        Ok(Self { fg, bg, stretched })
    }

    /// Foreground pixels of the ground truth.
    pub(crate) fn foreground(&self) -> u64 {
        self.fg.iter().sum()
    }

    /// All pixels.
    pub(crate) fn pixels(&self) -> u64 {
        self.foreground() + self.bg.iter().sum::<u64>()
    }

    /// Mean of the stretched prediction.
    pub(crate) fn mean(&self) -> f64 {
        let sum: f64 = (0..256)
            .filter(|&v| self.fg[v] + self.bg[v] > 0)
            .map(|v| (self.fg[v] + self.bg[v]) as f64 * self.stretched[v])
            .sum();
        sum / self.pixels() as f64
    }

    /// Mean absolute error between the stretched prediction and the binary ground truth.
    pub(crate) fn mae(&self) -> f64 {
        let sum: f64 = (0..256)
            .filter(|&v| self.fg[v] + self.bg[v] > 0)
            .map(|v| {
                let s = self.stretched[v];
                self.fg[v] as f64 * (1.0 - s).abs() + self.bg[v] as f64 * s
            })
            .sum();
        sum / self.pixels() as f64
    }

    /// True and false positives where the stretched prediction is at or above twice its mean (at most 1).
    pub(crate) fn adaptive_positives(&self) -> (u64, u64) {
        let threshold = (2.0 * self.mean()).min(1.0);
        (0..256)
            .filter(|&v| self.fg[v] + self.bg[v] > 0 && self.stretched[v] >= threshold)
            .fold((0, 0), |(tp, fp), v| (tp + self.fg[v], fp + self.bg[v]))
    }

    /// True and false positives at the thresholds 255 down to 0.
    pub(crate) fn positives(&self) -> [(u64, u64); THRESHOLDS] {
        let mut levels = [(0u64, 0u64); THRESHOLDS];
        for v in 0..256 {
            if self.fg[v] + self.bg[v] > 0 {
                let level = (self.stretched[v] * 255.0) as usize;
                levels[255 - level].0 += self.fg[v];
                levels[255 - level].1 += self.bg[v];
            }
        }
        for i in 1..THRESHOLDS {
            levels[i].0 += levels[i - 1].0;
            levels[i].1 += levels[i - 1].1;
        }
        levels
    }

    /// Precision and recall at the thresholds 255 down to 0; 0 where nothing is predicted or true.
    pub(crate) fn precision_recall(&self) -> (Curve, Curve) {
        let positives = self.positives();
        let all = self.foreground().max(1) as f64;
        let (mut precision, mut recall) = ([0.0; THRESHOLDS], [0.0; THRESHOLDS]);
        for (i, (tp, fp)) in positives.into_iter().enumerate() {
            precision[i] = tp as f64 / (tp + fp).max(1) as f64;
            recall[i] = tp as f64 / all;
        }
        (precision, recall)
    }

    /// F at the adaptive threshold.
    pub(crate) fn adaptive_f(&self) -> f64 {
        let (tp, fp) = self.adaptive_positives();
        if tp == 0 {
            return 0.0;
        }
        f_measure(tp as f64 / (tp + fp) as f64, tp as f64 / self.foreground() as f64)
    }
}

/// F-measure of a precision and a recall, 0 if both are.
pub(crate) fn f_measure(precision: f64, recall: f64) -> f64 {
    let numerator = (1.0 + BETA_SQUARED) * precision * recall;
    if numerator == 0.0 {
        return 0.0;
    }
    numerator / (BETA_SQUARED * precision + recall)
}

/// Largest value of a curve.
pub(crate) fn curve_max(curve: &Curve) -> f64 {
    curve.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Mean value of a curve.
pub(crate) fn curve_mean(curve: &Curve) -> f64 {
    curve.iter().sum::<f64>() / THRESHOLDS as f64
}

/// Raw value -> (value - min) / (max - min) with min and max over the image, in the reference's order of operations.
fn stretch(fg: &[u64; 256], bg: &[u64; 256]) -> [f64; 256] {
    let occurs = |v: &usize| fg[*v] + bg[*v] > 0;
    let unit = |v: usize| v as f64 / 255.0;
    let low = (0..256).find(occurs).map_or(0.0, unit);
    let high = (0..256).rev().find(occurs).map_or(0.0, unit);
    std::array::from_fn(|v| if high > low { (unit(v) - low) / (high - low) } else { unit(v) })
}
