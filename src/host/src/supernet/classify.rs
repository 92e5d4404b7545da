//! Pre-training of the backbone by image classification (thesis section 3.2.2, spec section 3).
//!
//! A linear classifier reads the mean of the coarsest features; a sub-network uses its first columns. The largest
//! network learns from the labels, the others from its soft answer, as in the sandwich of saliency maps.

use candle_core::{D, DType, Tensor};
use inas_space::Architecture;

use super::forward::{BatchNorm, Outputs, Statistics};
use super::layout::CLASSIFIER;
use super::sandwich::{Sandwich, Step};
use super::{Result, Supernet};

impl Supernet {
    /// Losses and summed gradients of a sandwich of classifiers on one batch.
    ///
    /// `image`: `[N, H, W, 3]`; `classes`: `[N]`, from 0. The largest network's loss is the cross-entropy with the labels,
    /// smoothed by `smoothing`; the others' the cross-entropy with its answer, when the sandwich distils.
    pub fn classification(
        &mut self,
        image: &Tensor,
        classes: &Tensor,
        smoothing: f64,
        sandwich: &Sandwich,
    ) -> Result<Step> {
        let (w, b) = self.linear()?;
        let n = b.dim(0)?;
        let truth = one_hot(classes, n)?.affine(1.0 - smoothing, smoothing / n as f64)?;
        let mut teacher = None;
        self.each(&sandwich.archs, image, Outputs::Features, |which, features| {
            let scores = log_softmax(&logits(&features[0], &w, &b)?)?;
            let target = teacher.as_ref().filter(|_| which > 0 && sandwich.distill).unwrap_or(&truth);
            let loss = (target * &scores)?.sum(D::Minus1)?.mean_all()?.neg()?;
            if teacher.is_none() {
                teacher = Some(scores.detach().exp()?);
            }
            Ok(loss)
        })
    }

    /// Class scores `[N, classes]` (logits) of a sub-network in eval mode.
    pub fn classify(&self, arch: &Architecture, image: &Tensor, statistics: &Statistics) -> Result<Tensor> {
        let features = self.forward(arch, image, &mut BatchNorm::Eval(statistics), Outputs::Features)?;
        let (w, b) = self.linear()?;
        Ok(logits(&features[0], &w, &b)?)
    }

    fn linear(&self) -> Result<(Tensor, Tensor)> {
        let tensor = |part: &str| self.params.weight(&format!("{CLASSIFIER}.{part}")).cloned();
        Ok((tensor("weight")?, tensor("bias")?))
    }
}

/// Scores from features `[N, h, w, C]` by the first `C` columns of the classifier.
fn logits(features: &Tensor, w: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    let mean = features.mean((1, 2))?;
    let w = w.narrow(1, 0, mean.dim(1)?)?;
    mean.matmul(&w.t()?.contiguous()?)?.broadcast_add(b)
}

fn log_softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

fn one_hot(classes: &Tensor, n: usize) -> candle_core::Result<Tensor> {
    let all = Tensor::arange(0u32, n as u32, classes.device())?.unsqueeze(0)?;
    classes.to_dtype(DType::U32)?.unsqueeze(1)?.broadcast_eq(&all)?.to_dtype(DType::F32)
}
