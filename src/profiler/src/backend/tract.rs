//! tract: shapes made concrete, graph optimised, threads through its executor.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;
use tract_onnx::tract_hir::internal::DimLike as _;

use super::{Backend, RuntimeInfo, Session, check_inputs, no_output, panic_text};
use crate::{Error, Result};

const RUNTIME: &str = "tract";

/// The version in the workspace's manifest; tract does not tell its own.
const VERSION: &str = "0.23.9";

pub(super) struct TractBackend {
    threads: usize,
    executor: Executor,
}

impl TractBackend {
    pub(super) fn new(threads: usize) -> Result<Self> {
        let pool = || if threads == 1 { Executor::SingleThread } else { Executor::multithread(threads) };
        let executor = catch_unwind(pool).map_err(|p| Error::Threads { threads, reason: panic_text(p.as_ref()) })?;
        Ok(Self { threads, executor })
    }
}

impl Backend for TractBackend {
    fn info(&self) -> RuntimeInfo {
        RuntimeInfo { name: RUNTIME.into(), version: VERSION.into(), options: BTreeMap::new() }
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn load(&self, onnx: &[u8]) -> Result<Box<dyn Session>> {
        // Broken files make some of tract's parsers panic.
        let load = || multithread_tract_scope(self.executor.clone(), || TractSession::new(onnx, self.executor.clone()));
        let session = catch_unwind(AssertUnwindSafe(load))
            .unwrap_or_else(|p| Err(Error::Load { runtime: RUNTIME, reason: panic_text(p.as_ref()) }))?;
        Ok(Box::new(session))
    }
}

struct TractSession {
    executor: Executor,
    state: TypedSimpleState,
    inputs: TVec<TValue>,
    input_shapes: Vec<Vec<usize>>,
    output_shapes: Vec<Vec<usize>>,
    outputs: TVec<TValue>,
}

impl TractSession {
    fn new(mut onnx: &[u8], executor: Executor) -> Result<Self> {
        let bad = |e: TractError| Error::Load { runtime: RUNTIME, reason: format!("{e:#}") };
        let mut model = tract_onnx::onnx().model_for_read(&mut onnx).map_err(bad)?;
        if model.inputs.is_empty() || model.outputs.is_empty() {
            return Err(Error::Load { runtime: RUNTIME, reason: "it has no input or no output".into() });
        }
        let mut input_shapes = Vec::new();
        for i in 0..model.inputs.len() {
            let fact = model.input_fact(i).map_err(bad)?;
            let unsupported = || Error::Unsupported { what: format!("input {i}"), found: format!("{fact:?}") };
            let float = fact.datum_type.concretize().is_none_or(|t| t == f32::datum_type());
            let shape = fixed_shape(fact).filter(|_| float).ok_or_else(unsupported)?;
            model.set_input_fact(i, f32::fact(&shape).into()).map_err(bad)?;
            input_shapes.push(shape);
        }
        for outlet in model.outputs.clone() {
            // Shapes written for an open batch would contradict the fixed one.
            model.set_outlet_fact(outlet, InferenceFact::default()).map_err(bad)?;
        }
        let model = model.into_optimized().map_err(bad)?;
        let mut output_shapes = Vec::new();
        for i in 0..model.outputs.len() {
            let fact = model.output_fact(i).map_err(bad)?;
            let shape = fact.shape.as_concrete().filter(|_| fact.datum_type == f32::datum_type());
            let unsupported = || Error::Unsupported { what: format!("output {i}"), found: format!("{fact:?}") };
            output_shapes.push(shape.ok_or_else(unsupported)?.to_vec());
        }
        let state = model.into_runnable().and_then(|plan| plan.spawn()).map_err(bad)?;
        let zeros = |shape: &Vec<usize>| Tensor::zero::<f32>(shape).map(|t| t.into_arc_tensor().into_tvalue());
        let inputs = input_shapes.iter().map(zeros).collect::<TractResult<_>>().map_err(bad)?;
        Ok(Self { executor, state, inputs, input_shapes, output_shapes, outputs: TVec::new() })
    }
}

/// Shape of an input, an open first dimension made 1; `None` when another is open.
fn fixed_shape(fact: &InferenceFact) -> Option<Vec<usize>> {
    let rank = fact.shape.rank().concretize()?;
    let dims = fact.shape.dims().take(rank as usize).enumerate();
    let shape: Option<Vec<usize>> = dims
        .map(|(i, dim)| {
            let known = dim.concretize().and_then(|d| d.to_usize().ok());
            known.or((i == 0).then_some(1))
        })
        .collect();
    shape.filter(|s| s.len() == rank as usize)
}

impl Session for TractSession {
    fn input_shapes(&self) -> &[Vec<usize>] {
        &self.input_shapes
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    fn set_inputs(&mut self, values: &[&[f32]]) -> Result<()> {
        check_inputs(&self.input_shapes, values)?;
        let tensor = |(shape, data): (&Vec<usize>, &&[f32])| -> TractResult<TValue> {
            Ok(Tensor::from_shape(shape, data)?.into_arc_tensor().into_tvalue())
        };
        let inputs = self.input_shapes.iter().zip(values).map(tensor).collect::<TractResult<_>>();
        self.inputs = inputs.map_err(|e| Error::Run { runtime: RUNTIME, reason: format!("{e:#}") })?;
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let inputs = self.inputs.clone();
        let state = &mut self.state;
        let run = || multithread_tract_scope(self.executor.clone(), || state.run(inputs));
        let failed = |reason: String| Error::Run { runtime: RUNTIME, reason };
        self.outputs.clear();
        let outputs = catch_unwind(AssertUnwindSafe(run)).map_err(|p| failed(panic_text(p.as_ref())))?;
        self.outputs = outputs.map_err(|e| failed(format!("{e:#}")))?;
        Ok(())
    }

    fn output(&self, index: usize) -> Result<Vec<f32>> {
        let value = self.outputs.get(index).ok_or_else(|| no_output(RUNTIME, index))?;
        let view = value.to_plain_array_view::<f32>();
        let view = view.map_err(|e| Error::Run { runtime: RUNTIME, reason: format!("{e:#}") })?;
        Ok(view.iter().copied().collect())
    }
}
