//! Learning rates and temperatures by epoch (spec section 8).

use std::f64::consts::PI;

/// `min + (start - min) (1 + cos(pi epoch / total)) / 2`
pub fn cosine(start: f64, min: f64, epoch: usize, total: usize) -> f64 {
    min + (start - min) * (1.0 + (PI * epoch as f64 / total.max(1) as f64).cos()) / 2.0
}

/// Linear rise over `warmup` epochs, ending at `start`, then cosine to zero over `total` epochs.
pub fn warm_cosine(start: f64, epoch: usize, warmup: usize, total: usize) -> f64 {
    if epoch < warmup { start * (epoch + 1) as f64 / warmup as f64 } else { cosine(start, 0.0, epoch, total) }
}

/// Exponential fall from `start` to `end` over `epochs` (thesis equation 2.9): epoch 0 has `start`, the last one `end`.
pub fn exponential(start: f64, end: f64, epoch: usize, epochs: usize) -> f64 {
    if epochs < 2 { end } else { start * (end / start).powf(epoch as f64 / (epochs - 1) as f64) }
}

/// Linear fall from `start` to `end` over `epochs`.
pub fn linear(start: f64, end: f64, epoch: usize, epochs: usize) -> f64 {
    if epochs < 2 { end } else { start + (end - start) * epoch as f64 / (epochs - 1) as f64 }
}

/// `start (1 - step / total)^power`
pub fn poly(start: f64, power: f64, step: usize, total: usize) -> f64 {
    start * (1.0 - step.min(total) as f64 / total.max(1) as f64).powf(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec section 18.
    #[test]
    fn published_values() {
        let close = |a: f64, b: f64, digits: f64| assert!((a - b).abs() < digits, "{a} {b}");
        for (epoch, lr) in [
            (0, 0.025),
            (1, 0.024_988),
            (14, 0.022_708),
            (15, 0.022_382),
            (29, 0.016_192),
            (30, 0.015_670),
            (49, 0.005_947),
            (50, 0.005_518),
            (60, 0.002_188),
            (69, 0.001_012),
        ] {
            close(cosine(0.025, 0.001, epoch, 70), lr, 6e-7);
        }
        for (epoch, lr) in [(0, 0.25), (30, 0.156_703), (50, 0.055_181), (69, 0.010_121)] {
            close(cosine(0.25, 0.01, epoch, 70), lr, 6e-7);
        }
        for (epoch, lr) in [(0, 0.25), (15, 0.1255), (20, 0.06325), (29, 0.001_682)] {
            close(cosine(0.25, 1e-3, epoch, 30), lr, 6e-7);
        }
        for (epoch, lr) in [(30, 0.153_204), (50, 0.047_876), (69, 0.001_125)] {
            close(cosine(0.25, 1e-3, epoch, 70), lr, 6e-7);
        }
        let temperatures = [
            10.0, 7.2102, 5.1987, 3.7484, 2.7027, 1.9487, 1.4051, 1.0131, 0.7305, 0.5267, 0.3797, 0.2738, 0.1974,
            0.1423, 0.1026, 0.0740, 0.0534, 0.0385, 0.0277, 0.0200,
        ];
        for (epoch, t) in temperatures.into_iter().enumerate() {
            close(exponential(10.0, 0.02, epoch, 20), t, 6e-5);
        }
    }

    #[test]
    fn ends() {
        assert!((warm_cosine(0.5, 0, 5, 250) - 0.1).abs() < 1e-12 && (warm_cosine(0.5, 4, 5, 250) - 0.5).abs() < 1e-12);
        assert!(warm_cosine(0.5, 249, 5, 250) < 1e-3);
        assert!((linear(10.0, 0.1, 249, 250) - 0.1).abs() < 1e-12);
        assert!((poly(0.025, 0.9, 50, 100) - 0.013_397_17).abs() < 1e-8 && poly(0.025, 0.9, 100, 100) == 0.0);
        assert!((exponential(10.0, 0.02, 0, 1) - 0.02).abs() < 1e-12);
    }
}
