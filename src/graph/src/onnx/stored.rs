//! Weights read back from a model file.

use std::collections::BTreeMap;

use half::f16;

use super::decode;
use super::proto::{DataType, Tensor};
use super::writer::{dims, half_name};
use crate::graph::{Graph, Op};
use crate::{ConvWeights, Error, Result};

impl Graph {
    /// The graph with the weights of a model file that [`Graph::to_onnx`] wrote of the same network in 32-bit or 16-bit
    /// floats.
    pub fn with_weights_of(mut self, onnx: &[u8]) -> Result<Self> {
        let tensors = decode(onnx)?.graph.unwrap_or_default().initializer;
        let tensors: BTreeMap<&str, &Tensor> = tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        for node in &mut self.nodes {
            let Op::Conv { spec, weights, .. } = &mut node.op else { continue };
            let read = |what: &str, dims: &[usize]| {
                let name = format!("{}.{what}", node.name);
                let tensor = tensors.get(name.as_str()).or_else(|| tensors.get(half_name(&name).as_str()));
                let reason = || format!("the model file has no floats {name} {dims:?}");
                tensor
                    .and_then(|t| floats(t, dims))
                    .ok_or_else(|| Error::Weights { conv: spec.name.clone(), reason: reason() })
            };
            let bias = spec.bias.then(|| read("bias", &[spec.out_ch as usize])).transpose()?;
            *weights = Some(ConvWeights { weight: read("weight", &dims(spec))?, bias });
        }
        Ok(self)
    }
}

/// Values of a float tensor of these dimensions.
fn floats(tensor: &Tensor, dims: &[usize]) -> Option<Vec<f32>> {
    let data = &tensor.raw_data;
    let values: Vec<f32> = match tensor.data_type {
        t if t == DataType::Float as i32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        t if t == DataType::Float16 as i32 => {
            data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
        }
        _ => return None,
    };
    let same = tensor.dims.iter().copied().eq(dims.iter().map(|d| *d as i64));
    (same && values.len() == dims.iter().product::<usize>()).then_some(values)
}
