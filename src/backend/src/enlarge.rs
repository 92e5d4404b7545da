//! Enlarging by linear interpolation in a form that tract computes faster.
//!
//! tract resamples a tensor axis by axis. Along the last one it handles single values, which took a third of the time of
//! whole networks (docs/benchmarks/graph-forms.md); as a product with a constant matrix it is quick. Rows, whose values it
//! handles as vectors, stay as they are; they come second, so that the product has fewer of them to work on.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::resize::{AxisPlan, Interpolator, Resize};
#[allow(clippy::wildcard_imports, reason = "macros of operators name many of these; tests are not linted for it")]
use tract_onnx::tract_hir::internal::*;

/// Values of a matrix at most; beyond it the product would be the slower form.
const MAX_MATRIX: usize = 1 << 16;

/// Replaces every enlargement along the last axis that is known in full.
pub(crate) fn by_products(mut model: TypedModel) -> TractResult<TypedModel> {
    let resizes = model.nodes().iter().filter(|node| node.op_is::<Resize>()).map(|node| node.id);
    for id in resizes.collect::<Vec<_>>() {
        if let Some(patch) = by_product(&model, model.node(id))? {
            patch.apply(&mut model)?;
        }
    }
    Ok(model)
}

fn by_product(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    let Some(op) = node.op_as::<Resize>().filter(|op| op.interpolator == Interpolator::Linear) else { return Ok(None) };
    let input = model.outlet_fact(node.inputs[0])?;
    let (small, large) = (input.shape.as_concrete(), node.outputs[0].fact.shape.as_concrete());
    let (Some(small), Some(large), 4, true) = (small, large, input.rank(), input.datum_type.is::<f32>()) else {
        return Ok(None);
    };
    let scales = op.optional_scales_input.map(|i| model.outlet_fact(node.inputs[i])).transpose()?;
    let Some(scales) = scales.and_then(|fact| fact.konst.as_ref()).filter(|scales| scales.len() == 4) else {
        return Ok(None);
    };
    let scales = scales.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    let (columns, wide) = (small[3], large[3]);
    if columns == wide || columns * wide > MAX_MATRIX || scales[..2] != [1.0, 1.0] {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::default();
    let mut value = patch.tap_model(model, node.inputs[0])?;
    let matrix =
        patch.add_const(format!("{}.columns", node.name), matrix(&op.plan_axis(scales[3], columns, wide), columns)?)?;
    let axes: AxesMapping = "nchw,wx->nchx".parse()?;
    value = patch.wire_node(format!("{}.wide", node.name), EinSum::new(axes, f32::datum_type()), &[value, matrix])?[0];
    if small[2] != large[2] {
        let rest = patch.add_const(format!("{}.rows", node.name), tensor1(&[1.0, 1.0, scales[2], 1.0]))?;
        let rows = Resize { optional_scales_input: Some(1), optional_sizes_input: None, ..op.clone() };
        value = patch.wire_node(&node.name, rows, &[value, rest])?[0];
    }
    patch.shunt_outside(model, node.id.into(), value)?;
    Ok(Some(patch))
}

/// The plan as a matrix `[from, to]`.
fn matrix(plan: &AxisPlan, from: usize) -> TractResult<Tensor> {
    let to = plan.extrapolated.len();
    let mut matrix = vec![0f32; from * to];
    let taps = plan.indices.chunks_exact(plan.window).zip(plan.weights.chunks_exact(plan.window));
    for (x, (indices, weights)) in taps.enumerate() {
        for (i, weight) in indices.iter().zip(weights) {
            matrix[i * to + x] += weight;
        }
    }
    Tensor::from_shape(&[from, to], &matrix)
}
