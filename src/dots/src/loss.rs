//! Cross entropy of classes.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// A loss over a batch, with its derivatives.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Mean over the images.
    pub value: f64,
    /// Derivatives by the logits, in their shape and type.
    pub gradient: Tensor,
    /// Images whose label has the largest logit.
    pub correct: usize,
}

/// Mean over images of `-sum target * log softmax(logits)`, with targets `(1 - smoothing) * one-hot + smoothing / K`
/// (spec section 8.3), for logits `[N, 1, 1, K]` or `[N, K]`.
///
/// # Errors
/// When labels do not fit the logits.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Loss> {
    let classes = logits.dims().last().copied().unwrap_or(0);
    if logits.elem_count() != classes * labels.len() || labels.is_empty() {
        return Err(Error::Batch(format!("{} labels for logits of shape {:?}", labels.len(), logits.dims())));
    }
    if let Some(label) = labels.iter().find(|l| **l as usize >= classes) {
        return Err(Error::Batch(format!("label {label}, but there are {classes} classes")));
    }
    let x = logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let n = labels.len() as f64;
    let (mut value, mut correct) = (0.0, 0);
    let mut gradient = Vec::with_capacity(x.len());
    for (x, label) in x.chunks_exact(classes).zip(labels) {
        let label = *label as usize;
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
        correct += usize::from(crate::derive::first_largest(x) == label);
        for (k, v) in x.iter().enumerate() {
            let target = smoothing / classes as f64 + if k == label { 1.0 - smoothing } else { 0.0 };
            value -= target * (v - log_sum) / n;
            gradient.push(((v - log_sum).exp() - target) / n);
        }
    }
    let gradient = Tensor::from_vec(gradient, logits.dims(), &Device::Cpu)?.to_dtype(logits.dtype())?;
    Ok(Loss { value, gradient, correct })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradient_is_the_slope() {
        let x = [0.3, -1.0, 2.0, 0.1, 0.2, -0.4];
        for smoothing in [0.0, 0.1] {
            let at = |x: &[f64]| {
                cross_entropy(&Tensor::from_slice(x, (2, 3), &Device::Cpu).unwrap(), &[2, 0], smoothing).unwrap()
            };
            let loss = at(&x);
            assert_eq!(loss.correct, 1);
            for (i, d) in loss.gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap().iter().enumerate() {
                let moved = |by: f64| {
                    let mut x = x;
                    x[i] += by;
                    at(&x).value
                };
                assert!((d - (moved(1e-5) - moved(-1e-5)) / 2e-5).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn smoothing_by_hand() {
        // Equal logits: the loss is the logarithm of the number of classes, smoothed or not.
        let x = Tensor::zeros((1, 4), DType::F64, &Device::Cpu).unwrap();
        assert!((cross_entropy(&x, &[1], 0.1).unwrap().value - 4f64.ln()).abs() < 1e-12);
        assert!(cross_entropy(&x, &[4], 0.0).is_err());
        assert!(cross_entropy(&x, &[1, 2], 0.0).is_err());
    }
}
