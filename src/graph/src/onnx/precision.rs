//! Number formats of a model file, and which tensors of a graph they touch.

use std::collections::BTreeMap;

use crate::graph::{Function, Graph, Op, Value};

/// Number format of a model file's weights and activations.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// Weights stored as 16-bit floats and widened when the model is loaded: half the file, the same arithmetic.
    ///
    /// Half-precision arithmetic is left to the runtimes that have it (TensorRT, NNAPI convert a float32 model themselves);
    /// on x86 both runtimes here are slower with it.
    Fp16,
    /// Static quantisation in QDQ form (`QuantizeLinear` / `DequantizeLinear` pairs): weights int8 per output channel,
    /// activations uint8 per tensor, biases int32.
    Int8(Ranges),
}

/// Smallest and largest value of each quantised tensor, by name, as seen on calibration images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranges(pub BTreeMap<String, (f32, f32)>);

/// Affine mapping of a tensor to 0..=255: `real = scale * (quantised - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Affine {
    pub(crate) scale: f32,
    pub(crate) zero_point: u8,
}

impl Affine {
    /// The finest mapping that reaches both ends and represents 0 exactly, as padding needs.
    pub(crate) fn of((low, high): (f32, f32)) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        // A tensor that is 0 everywhere: any scale does.
        let scale = if high > low { ((high - low) / 255.0).max(f32::MIN_POSITIVE) } else { 1.0 };
        Self { scale, zero_point: (-low / scale).round().clamp(0.0, 255.0) as u8 }
    }
}

impl Graph {
    /// Whether [`Precision::Int8`] quantises a tensor.
    ///
    /// Not the gates and what only feeds them (sigmoids, and the vectors of squeeze-excite), where 8 bits lose much and gain
    /// nothing; not the single-channel map, which is the result.
    fn is_quantised(&self, value: Value) -> bool {
        let [_, channels, height, width] = self.info(value).shape;
        let gate = |op: &Op| matches!(op, Op::Function(Function::Sigmoid | Function::HardSigmoid));
        let gated = self.nodes.iter().any(|n| n.output == value && gate(&n.op));
        channels > 1 && height * width > 1 && !gated && !self.outputs.contains(&value)
    }

    /// Names of the tensors that [`Precision::Int8`] quantises, and so needs a range of.
    pub fn quantised(&self) -> Vec<String> {
        let values = (0..self.values.len()).map(Value).filter(|v| self.is_quantised(*v));
        values.map(|v| self.info(v).name.clone()).collect()
    }

    /// The same graph with every tensor that [`Precision::Int8`] quantises as an output, in the order of
    /// [`Graph::quantised`] without the inputs: what calibration runs.
    #[must_use]
    pub fn observed(&self) -> Self {
        let values = (0..self.values.len()).map(Value);
        let outputs = values.filter(|v| self.is_quantised(*v) && !self.inputs.contains(v)).collect();
        Self { outputs, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::Affine;

    #[test]
    fn affine_reaches_both_ends_and_keeps_zero() {
        for range in [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0), (-0.25, 6.0), (-1e-30, 1e-30)] {
            let Affine { scale, zero_point } = Affine::of(range);
            let real = |q: u8| scale * (f32::from(q) - f32::from(zero_point));
            let (low, high): (f32, f32) = (f32::min(range.0, 0.0), f32::max(range.1, 0.0));
            assert!(
                scale > 0.0 && real(0) - low <= scale && high - real(255) <= scale,
                "{range:?} {scale} {zero_point}"
            );
            assert!(real(zero_point).abs() == 0.0);
        }
    }
}
