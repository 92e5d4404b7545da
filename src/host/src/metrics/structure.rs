//! S-measure: structural similarity of object and region (Fan et al., ICCV 2017), alpha = 0.5.

use super::{EPS, MapU8, counts::Counts, counts::is_foreground};

/// Share of the object term.
const ALPHA: f64 = 0.5;

/// S-measure of a pair whose counts are known.
pub(crate) fn measure(counts: &Counts, pred: &MapU8, gt: &MapU8) -> f64 {
    let (foreground, pixels) = (counts.foreground(), counts.pixels());
    if foreground == 0 {
        return 1.0 - counts.mean();
    }
    if foreground == pixels {
        return counts.mean();
    }
    let score = ALPHA * object(counts) + (1.0 - ALPHA) * region(counts, pred, gt);
    score.max(0.0)
}

fn object(counts: &Counts) -> f64 {
    let share = counts.foreground() as f64 / counts.pixels() as f64;
    let fg = similarity(&counts.fg, |v| counts.stretched[v]);
    let bg = similarity(&counts.bg, |v| 1.0 - counts.stretched[v]);
    share * fg + (1.0 - share) * bg
}

/// 2 m / (m^2 + 1 + std) over the pixels of one region, std with n - 1.
fn similarity(histogram: &[u64; 256], value: impl Fn(usize) -> f64) -> f64 {
    let present = || (0..256).filter(|&v| histogram[v] > 0);
    let n = histogram.iter().sum::<u64>() as f64;
    let mean = present().map(|v| histogram[v] as f64 * value(v)).sum::<f64>() / n;
    let squares: f64 = present().map(|v| histogram[v] as f64 * (value(v) - mean).powi(2)).sum();
    let std = if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
    2.0 * mean / (mean * mean + 1.0 + std + EPS)
}

fn region(counts: &Counts, pred: &MapU8, gt: &MapU8) -> f64 {
    let (width, height) = (pred.width() as usize, pred.height() as usize);
    let (cut_x, cut_y) = centroid(gt);
    let area = (width * height) as f64;
    let mut score = 0.0;
    for (y0, y1) in [(0, cut_y), (cut_y, height)] {
        for (x0, x1) in [(0, cut_x), (cut_x, width)] {
            let size = (x1 - x0) * (y1 - y0);
            // The reference is not a number if a quadrant is empty; here it weighs nothing.
            if size == 0 {
                continue;
            }
            let pixels = (y0..y1).flat_map(|y| (x0..x1).map(move |x| y * width + x)).map(|i| {
                (counts.stretched[usize::from(pred.data()[i])], f64::from(u8::from(is_foreground(gt.data()[i]))))
            });
            score += ssim(&pixels) * size as f64 / area;
        }
    }
    score
}

/// Rounded centroid of the foreground, one added as in the authors' MATLAB indexing: where the quadrants split.
fn centroid(gt: &MapU8) -> (usize, usize) {
    let (mut sum_x, mut sum_y, mut count) = (0u64, 0u64, 0u64);
    for (y, row) in gt.data().chunks_exact(gt.width() as usize).enumerate() {
        for (x, _) in row.iter().enumerate().filter(|(_, value)| is_foreground(**value)) {
            sum_x += x as u64;
            sum_y += y as u64;
            count += 1;
        }
    }
    let split = |sum: u64| (sum as f64 / count as f64).round_ties_even() as usize + 1;
    (split(sum_x), split(sum_y))
}

/// Global structural similarity of (prediction, truth) pairs.
fn ssim(pixels: &(impl Iterator<Item = (f64, f64)> + Clone)) -> f64 {
    let (mut n, mut x, mut y) = (0.0, 0.0, 0.0);
    for (p, g) in pixels.clone() {
        n += 1.0;
        x += p;
        y += g;
    }
    (x, y) = (x / n, y / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (p, g) in pixels.clone() {
        xx += (p - x) * (p - x);
        yy += (g - y) * (g - y);
        xy += (p - x) * (g - y);
    }
    let norm = n - 1.0 + EPS;
    let alpha = 4.0 * x * y * (xy / norm);
    let beta = (x * x + y * y) * ((xx + yy) / norm);
    if alpha != 0.0 {
        alpha / (beta + EPS)
    } else if beta == 0.0 {
        1.0
    } else {
        0.0
    }
}
