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
    entropy(logits, labels, smoothing, None)
}

/// Mean over pixels of the cross entropy, for logits `[N, H, W, K]`; pixels of class `ignored` count for nothing.
///
/// # Errors
/// When labels do not fit the logits, or all are ignored.
pub fn pixel_cross_entropy(logits: &Tensor, labels: &[u32], ignored: u32) -> Result<Loss> {
    entropy(logits, labels, 0.0, Some(ignored))
}

fn entropy(logits: &Tensor, labels: &[u32], smoothing: f64, ignored: Option<u32>) -> Result<Loss> {
    let counts = |label: &u32| Some(*label) != ignored;
    let classes = logits.dims().last().copied().unwrap_or(0);
    if logits.elem_count() != classes * labels.len() || labels.is_empty() {
        return Err(Error::Batch(format!("{} labels for logits of shape {:?}", labels.len(), logits.dims())));
    }
    if let Some(label) = labels.iter().find(|l| counts(l) && **l as usize >= classes) {
        return Err(Error::Batch(format!("label {label}, but there are {classes} classes")));
    }
    let x = logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let n = labels.iter().filter(|l| counts(l)).count() as f64;
    if n < 1.0 {
        return Err(Error::Batch("no pixel has a class".into()));
    }
    let (mut value, mut correct) = (0.0, 0);
    let mut gradient = Vec::with_capacity(x.len());
    for (x, label) in x.chunks_exact(classes).zip(labels) {
        if !counts(label) {
            gradient.extend(std::iter::repeat_n(0.0, classes));
            continue;
        }
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
    fn ignored_pixels_count_for_nothing() {
        let x = [0.3, -1.0, 2.0, 0.1, 0.2, -0.4];
        let of = |x: &[f64], labels: &[u32]| {
            let shape = (1, 1, labels.len(), 2);
            pixel_cross_entropy(&Tensor::from_slice(x, shape, &Device::Cpu).unwrap(), labels, 9)
        };
        let (all, some) = (of(&x, &[1, 9, 0]).unwrap(), of(&[0.3, -1.0, 0.2, -0.4], &[1, 0]).unwrap());
        assert!((all.value - some.value).abs() < 1e-12);
        let values = |loss: &Loss| loss.gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let (all, some) = (values(&all), values(&some));
        assert_eq!(all, [some[0], some[1], 0.0, 0.0, some[2], some[3]]);
        assert!(of(&x, &[9; 3]).is_err() && of(&x, &[2; 3]).is_err());
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
