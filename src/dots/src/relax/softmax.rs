/// `exp(x_i / t) / sum exp(x_j / t)`.
pub fn softmax(x: &[f64], t: f64) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|v| ((v - max) / t).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|v| v / sum).collect()
}

/// Derivatives by `x`, given those by the softmax `p` of `x / t`.
pub(super) fn softmax_backward(p: &[f64], by_p: &[f64], t: f64) -> Vec<f64> {
    let mean: f64 = p.iter().zip(by_p).map(|(p, d)| p * d).sum();
    p.iter().zip(by_p).map(|(p, d)| p * (d - mean) / t).collect()
}
