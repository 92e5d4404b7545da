//! tract: shapes made concrete, graph optimised, threads through its executor.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use crate::enlarge::by_products;
use crate::{Backend, Error, Result, RuntimeInfo, Session, Values, ValuesMut};
use crate::{OperatorTime, WARMUP_RUNS, check_size, filled, no_input, no_output, panic_text};

const RUNTIME: &str = "tract";

/// The version in the workspace's manifest; tract does not tell its own.
const VERSION: &str = "0.23.9";

pub(crate) struct TractBackend {
    threads: usize,
    executor: Executor,
}

impl TractBackend {
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let pool = || if threads == 1 { Executor::SingleThread } else { Executor::multithread(threads) };
        let executor = catch_unwind(pool).map_err(|p| Error::Threads { threads, reason: panic_text(p.as_ref()) })?;
        Ok(Self { threads, executor })
    }
}

impl Backend for TractBackend {
    fn info(&self) -> RuntimeInfo {
        // Latencies of the forms do not mix.
        let options = BTreeMap::from([("enlarge".to_owned(), "products".to_owned())]);
        RuntimeInfo { name: RUNTIME.into(), version: VERSION.into(), options }
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn load_sized(&self, onnx: &[u8], open: &[usize]) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.session(onnx, open)?))
    }

    fn operator_times(&self, onnx: &[u8], inputs: &[&[f32]], runs: usize) -> Result<Vec<OperatorTime>> {
        let mut session = self.session(onnx, &[])?;
        session.set_inputs(inputs)?;
        for _ in 0..WARMUP_RUNS {
            session.run()?;
        }
        let trace = || session.traced(runs);
        catch_unwind(AssertUnwindSafe(trace)).map_err(|p| run_error(panic_text(p.as_ref())))?
    }
}

impl TractBackend {
    fn session(&self, onnx: &[u8], open: &[usize]) -> Result<TractSession> {
        // Broken files make some of tract's parsers panic.
        let load =
            || multithread_tract_scope(self.executor.clone(), || TractSession::new(onnx, open, self.executor.clone()));
        catch_unwind(AssertUnwindSafe(load))
            .unwrap_or_else(|p| Err(Error::Load { runtime: RUNTIME, reason: panic_text(p.as_ref()) }))
    }
}

struct TractSession {
    executor: Executor,
    state: TypedSimpleState,
    /// Shared with the state only while it runs.
    inputs: Vec<Arc<Tensor>>,
    input_shapes: Vec<Vec<usize>>,
    output_shapes: Vec<Vec<usize>>,
    outputs: TVec<TValue>,
}

fn load_error(error: impl std::fmt::Display) -> Error {
    Error::Load { runtime: RUNTIME, reason: format!("{error:#}") }
}

fn run_error(error: impl std::fmt::Display) -> Error {
    Error::Run { runtime: RUNTIME, reason: format!("{error:#}") }
}

impl TractSession {
    fn new(mut onnx: &[u8], open: &[usize], executor: Executor) -> Result<Self> {
        let mut model = tract_onnx::onnx().model_for_read(&mut onnx).map_err(load_error)?;
        if model.inputs.is_empty() || model.outputs.is_empty() {
            return Err(load_error("it has no input or no output"));
        }
        let mut open = open.iter().copied();
        let (mut inputs, mut input_shapes) = (Vec::new(), Vec::new());
        for i in 0..model.inputs.len() {
            let fact = model.input_fact(i).map_err(load_error)?;
            let unsupported = || Error::Unsupported { what: format!("input {i}"), found: short(format!("{fact:?}")) };
            let dtype = fact.datum_type.concretize().unwrap_or(DatumType::F32);
            let shape = shape(fact, &mut open).filter(|_| is_supported(dtype)).ok_or_else(unsupported)?;
            check_size(&shape, || format!("input {i}"))?;
            model.set_input_fact(i, dtype.fact(&shape).into()).map_err(load_error)?;
            inputs.push(Arc::new(Tensor::zero_dt(dtype, &shape).map_err(load_error)?));
            input_shapes.push(shape);
        }
        for outlet in model.outputs.clone() {
            // Shapes written for an open batch would contradict the fixed one.
            model.set_outlet_fact(outlet, InferenceFact::default()).map_err(load_error)?;
        }
        check_shapes(&mut model)?;
        let model = model.into_typed().map_err(load_error)?;
        for node in &model.nodes {
            // Optimising folds constants and running fills these, so before either.
            for shape in node.outputs.iter().filter_map(|outlet| outlet.fact.shape.as_concrete()) {
                check_size(shape, || format!("operator `{}`", node.name))?;
            }
        }
        let model = model.into_decluttered().and_then(by_products).and_then(TypedModel::into_optimized);
        let model = model.map_err(load_error)?;
        let mut output_shapes = Vec::new();
        for i in 0..model.outputs.len() {
            let fact = model.output_fact(i).map_err(load_error)?;
            let shape = fact.shape.as_concrete().filter(|_| is_supported(fact.datum_type));
            let unsupported = || Error::Unsupported { what: format!("output {i}"), found: short(format!("{fact:?}")) };
            output_shapes.push(shape.ok_or_else(unsupported)?.to_vec());
        }
        let state = model.into_runnable().and_then(|plan| plan.spawn()).map_err(load_error)?;
        Ok(Self { executor, state, inputs, input_shapes, output_shapes, outputs: TVec::new() })
    }

    /// Time of each operator in `runs` runs.
    fn traced(&mut self, runs: usize) -> Result<Vec<OperatorTime>> {
        let plan = self.state.plan().clone();
        let order = plan.order_without_consts();
        let nodes = &plan.model().nodes;
        let mut us = vec![Vec::with_capacity(runs); nodes.len()];
        for _ in 0..runs {
            let inputs = self.inputs.iter().map(|tensor| TValue::from_const(tensor.clone())).collect();
            let run = || {
                self.state.run_plan_with_eval(inputs, |context, state, node, inputs| {
                    let start = Instant::now();
                    let outputs = plan::eval(context, state, node, inputs);
                    us[node.id].push(start.elapsed().as_secs_f64() * 1e6);
                    outputs
                })
            };
            multithread_tract_scope(self.executor.clone(), run).map_err(run_error)?;
        }
        let operators = order.iter().filter(|id| !nodes[**id].inputs.is_empty());
        let time = |id: &usize| OperatorTime::new(&nodes[*id].name, nodes[*id].op.name(), std::mem::take(&mut us[*id]));
        Ok(operators.filter_map(time).collect())
    }
}

/// Infers shapes operator by operator, and stops at the first that is no number.
///
/// With inputs of a known size every shape of a network is known. In a damaged file they can contradict each other; tract
/// makes an expression of that, and those grow by leaps from operator to operator.
fn check_shapes(model: &mut InferenceModel) -> Result<()> {
    for id in model.eval_order().map_err(load_error)? {
        infer_forward(model, id).map_err(load_error)?;
        let node = model.node(id);
        for shape in node.outputs.iter().map(|outlet| &outlet.fact.shape) {
            let known: Vec<TDim> = shape.dims().filter_map(Factoid::concretize).collect();
            let Ok(known) = known.iter().map(DimLike::to_usize).collect::<std::result::Result<Vec<usize>, _>>() else {
                let shape = short(format!("{shape:?}"));
                let reason = "contradicts itself or depends on data";
                return Err(load_error(format!("the shape of operator `{}` {reason}: {shape}", node.name)));
            };
            check_size(&known, || format!("operator `{}`", node.name))?;
        }
    }
    Ok(())
}

/// What an operator's inputs say of its outputs.
fn infer_forward(model: &mut InferenceModel, id: usize) -> TractResult<()> {
    let facts = |facts: TVec<&InferenceFact>| facts.into_iter().cloned().collect::<TVec<_>>();
    let (inputs, outputs) = (facts(model.node_input_facts(id)?), facts(model.node_output_facts(id)?));
    let observed = model.node(id).op.observe_outlets(model, model.node(id))?;
    let observed = observed.into_iter().map(|o| model.outlet_fact(o).cloned()).collect::<TractResult<TVec<_>>>()?;
    let op = &mut model.node_mut(id).op;
    // tract checks the same.
    if op.nboutputs()? != outputs.len() {
        return Err(TractError::msg(format!("it has {} outputs instead of {}", outputs.len(), op.nboutputs()?)));
    }
    let (_, inferred, _) = op.infer(inputs.iter().collect(), outputs.iter().collect(), observed.iter().collect())?;
    for (slot, fact) in inferred.iter().enumerate() {
        let fact = fact.unify(&outputs[slot])?;
        model.set_outlet_fact(OutletId::new(id, slot), fact)?;
    }
    Ok(())
}

/// Contradicting shapes of a damaged file make descriptions of many pages.
fn short(mut text: String) -> String {
    const MOST: usize = 200;
    if let Some((end, _)) = text.char_indices().nth(MOST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn is_supported(dtype: DatumType) -> bool {
    dtype == DatumType::F32 || dtype == DatumType::U8
}

/// Shape of an input, its open dimensions filled in; `None` when one stays open.
fn shape(fact: &InferenceFact, open: &mut impl Iterator<Item = usize>) -> Option<Vec<usize>> {
    let rank = fact.shape.rank().concretize()? as usize;
    let dims = fact.shape.dims().take(rank).map(|dim| dim.concretize().and_then(|d| d.to_usize().ok()));
    filled(dims, open).filter(|shape| shape.len() == rank)
}

fn slice_mut<T: Datum>(tensor: &mut Tensor) -> Result<&mut [T]> {
    let view = tensor.to_plain_array_view_mut().map_err(run_error)?;
    view.into_slice().ok_or_else(|| run_error("its input is not contiguous"))
}

impl Session for TractSession {
    fn input_shapes(&self) -> &[Vec<usize>] {
        &self.input_shapes
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    fn input_mut(&mut self, index: usize) -> Result<ValuesMut<'_>> {
        let tensor = self.inputs.get_mut(index).ok_or_else(|| no_input(RUNTIME, index))?;
        // An output that is an input passed through keeps the old values.
        let tensor = Arc::make_mut(tensor);
        Ok(match tensor.datum_type() {
            DatumType::U8 => ValuesMut::U8(slice_mut(tensor)?),
            _ => ValuesMut::F32(slice_mut(tensor)?),
        })
    }

    fn run(&mut self) -> Result<()> {
        self.outputs.clear();
        let inputs = self.inputs.iter().map(|tensor| TValue::from_const(tensor.clone())).collect();
        let state = &mut self.state;
        let run = || multithread_tract_scope(self.executor.clone(), || state.run(inputs));
        let outputs = catch_unwind(AssertUnwindSafe(run)).map_err(|p| run_error(panic_text(p.as_ref())))?;
        self.outputs = outputs.map_err(run_error)?;
        Ok(())
    }

    fn output_values(&self, index: usize) -> Result<Values<'_>> {
        let value = self.outputs.get(index).ok_or_else(|| no_output(RUNTIME, index))?;
        let plain = value.try_as_plain_ram().map_err(run_error)?;
        Ok(match value.datum_type() {
            DatumType::U8 => Values::U8(plain.as_slice().map_err(run_error)?),
            _ => Values::F32(plain.as_slice().map_err(run_error)?),
        })
    }
}
