//! Learning-rate schedules.

/// Polynomial decay factor `(1 - step / total)^power`; zero from `total` on.
pub fn poly(step: usize, total: usize, power: f64) -> f64 {
    if step >= total { 0.0 } else { (1.0 - step as f64 / total as f64).powf(power) }
}

/// Polynomial decay times a linear warm-up.
///
/// `lr(step) = base_lr * poly(step, total_steps, power) * min(1, (step + 1) / warmup_steps)`
/// for `step` counted from zero. Without warm-up steps the last factor is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolyWarmup {
    /// Learning rate before decay.
    pub base_lr: f64,
    /// Steps of the whole training; the rate is zero afterwards.
    pub total_steps: usize,
    /// Steps over which the rate rises.
    pub warmup_steps: usize,
    /// Exponent of the decay; one is linear.
    pub power: f64,
}

impl PolyWarmup {
    /// Learning rate of the step with this index, from zero.
    pub fn lr(&self, step: usize) -> f64 {
        let warm = if step < self.warmup_steps { (step + 1) as f64 / self.warmup_steps as f64 } else { 1.0 };
        self.base_lr * poly(step, self.total_steps, self.power) * warm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn decays_to_zero() {
        close(poly(0, 10, 0.9), 1.0);
        close(poly(5, 10, 1.0), 0.5);
        close(poly(5, 10, 2.0), 0.25);
        close(poly(10, 10, 0.9), 0.0);
        close(poly(0, 0, 0.9), 0.0);
    }

    #[test]
    fn warms_up() {
        let s = PolyWarmup { base_lr: 0.1, total_steps: 100, warmup_steps: 4, power: 1.0 };
        close(s.lr(0), 0.1 * 0.25);
        close(s.lr(1), 0.1 * 0.5 * 0.99);
        close(s.lr(3), 0.1 * 0.97);
        close(s.lr(4), 0.1 * 0.96);
        close(s.lr(99), 0.1 * 0.01);
        close(s.lr(100), 0.0);
        close(PolyWarmup { warmup_steps: 0, ..s }.lr(0), 0.1);
    }
}
