//! E-measure: enhanced alignment (Fan et al., IJCAI 2018).

use super::{EPS, THRESHOLDS, counts::Counts, scores::Curve};

/// E at the adaptive threshold.
pub(crate) fn adaptive(counts: &Counts) -> f64 {
    let (tp, fp) = counts.adaptive_positives();
    alignment(tp, fp, counts.foreground(), counts.pixels())
}

/// E at the thresholds 255 down to 0.
pub(crate) fn curve(counts: &Counts) -> Curve {
    let (foreground, pixels) = (counts.foreground(), counts.pixels());
    let mut curve = [0.0; THRESHOLDS];
    for (value, (tp, fp)) in curve.iter_mut().zip(counts.positives()) {
        *value = alignment(tp, fp, foreground, pixels);
    }
    curve
}

/// Sum of the enhanced alignment matrix over (pixels - 1), from the four counts of a binary prediction.
fn alignment(tp: u64, fp: u64, foreground: u64, pixels: u64) -> f64 {
    let (positive, negative) = (tp + fp, pixels - tp - fp);
    let sum = if foreground == 0 {
        negative as f64
    } else if foreground == pixels {
        positive as f64
    } else {
        let (false_neg, n) = (foreground - tp, pixels as f64);
        let (mean_pred, mean_gt) = (positive as f64 / n, foreground as f64 / n);
        let cell = |count: u64, pred: f64, gt: f64| {
            let align = 2.0 * (pred * gt) / (pred * pred + gt * gt + EPS);
            (align + 1.0).powi(2) / 4.0 * count as f64
        };
        cell(tp, 1.0 - mean_pred, 1.0 - mean_gt)
            + cell(fp, 1.0 - mean_pred, -mean_gt)
            + cell(false_neg, -mean_pred, 1.0 - mean_gt)
            + cell(negative - false_neg, -mean_pred, -mean_gt)
    };
    sum / (pixels as f64 - 1.0 + EPS)
}
