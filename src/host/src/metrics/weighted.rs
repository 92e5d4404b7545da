//! Weighted F-measure (Margolin et al., CVPR 2014), beta^2 = 1.

use super::{EPS, MapU8, counts::Counts, counts::is_foreground, distance};

/// Radius of the Gaussian window, pixels.
const RADIUS: usize = 3;
/// Standard deviation of the Gaussian window, pixels.
const SIGMA: f64 = 5.0;
/// Distance at which a background error's extra weight is halfway to its limit, pixels.
const HALF_DISTANCE: f64 = 5.0;

/// Weighted F of a pair whose counts are known; 0 if the ground truth is empty.
pub(crate) fn measure(counts: &Counts, pred: &MapU8, gt: &MapU8) -> f64 {
    let (width, height) = (pred.width() as usize, pred.height() as usize);
    let inside: Vec<bool> = gt.data().iter().map(|&v| is_foreground(v)).collect();
    let Some(nearest) = distance::nearest(width, height, |i| inside[i]) else {
        return 0.0;
    };
    let error: Vec<f64> = pred
        .data()
        .iter()
        .zip(&inside)
        .map(|(&p, &fg)| (counts.stretched[usize::from(p)] - f64::from(u8::from(fg))).abs())
        .collect();
    // Background takes the error of its nearest foreground pixel, then errors are smoothed:
    // a foreground error that its neighbours do not share counts less.
    let spread: Vec<f64> = nearest.iter().map(|&i| error[i]).collect();
    let smooth = blur(&spread, width, height);
    let (mut fg_error, mut bg_error, mut fg_count) = (0.0, 0.0, 0.0);
    for i in 0..inside.len() {
        if inside[i] {
            fg_error += error[i].min(smooth[i]);
            fg_count += 1.0;
        } else {
            let dx = (i % width).abs_diff(nearest[i] % width) as f64;
            let dy = (i / width).abs_diff(nearest[i] / width) as f64;
            let away = (dx * dx + dy * dy).sqrt();
            bg_error += error[i] * (2.0 - (0.5f64.ln() / HALF_DISTANCE * away).exp());
        }
    }
    let true_positive = fg_count - fg_error;
    let recall = 1.0 - fg_error / fg_count;
    let precision = true_positive / (true_positive + bg_error + EPS);
    2.0 * recall * precision / (recall + precision + EPS)
}

/// Normalised Gaussian blur, zero outside the map; separable.
fn blur(values: &[f64], width: usize, height: usize) -> Vec<f64> {
    let raw: [f64; 2 * RADIUS + 1] = std::array::from_fn(|i| {
        let d = i as f64 - RADIUS as f64;
        (-d * d / (2.0 * SIGMA * SIGMA)).exp()
    });
    let kernel = raw.map(|k| k / raw.iter().sum::<f64>());
    let tap = |centre: usize, len: usize, read: &dyn Fn(usize) -> f64| -> f64 {
        let from = RADIUS.saturating_sub(centre);
        let to = (len + RADIUS - centre).min(2 * RADIUS + 1);
        (from..to).map(|k| kernel[k] * read(centre + k - RADIUS)).sum()
    };
    let mut across = vec![0.0; values.len()];
    for (i, out) in across.iter_mut().enumerate() {
        let row = i / width * width;
        *out = tap(i % width, width, &|x| values[row + x]);
    }
    (0..values.len()).map(|i| tap(i / width, height, &|y| across[y * width + i % width])).collect()
}
