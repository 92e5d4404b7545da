//! Both runtimes on real blocks and on broken files.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use inas_backend::{Backend, Error, RuntimeKind, open};
use inas_graph::{OnnxOptions, SeededWeights, block, network};
use inas_profiler::{Protocol, bench_model};
use inas_space::{BlockKind, Space};

#[cfg(feature = "ort")]
const KINDS: [RuntimeKind; 2] = [RuntimeKind::Tract, RuntimeKind::Ort];
#[cfg(not(feature = "ort"))]
const KINDS: [RuntimeKind; 1] = [RuntimeKind::Tract];

/// Every runtime of this build; a missing ONNX Runtime fails the test and says what to install.
fn backends(threads: usize) -> Vec<Box<dyn Backend>> {
    let open = |kind| open(kind, threads, None).unwrap_or_else(|e| panic!("{e}"));
    KINDS.into_iter().map(open).collect()
}

/// Deterministic values around 0.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

fn run(backend: &dyn Backend, onnx: &[u8]) -> Vec<f32> {
    let mut session = backend.load(onnx).unwrap();
    let inputs: Vec<Vec<f32>> = session.input_shapes().iter().map(|s| values(s.iter().product())).collect();
    session.set_inputs(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    session.run().unwrap();
    let first = session.output(0).unwrap();
    session.run().unwrap();
    assert_eq!(session.output(0).unwrap(), first, "inputs must stay for the next run");
    assert_eq!(first.len(), session.output_shapes()[0].iter().product::<usize>());
    first
}

#[test]
fn runtimes_and_thread_counts_agree_on_every_kind_of_block() {
    let space = Space::preset("nano").unwrap();
    let keys = space.block_keys(64).unwrap();
    let (one, two) = (backends(1), backends(2));
    for kind in [
        BlockKind::Stem,
        BlockKind::MbConv,
        BlockKind::TransportBranch,
        BlockKind::TransportFusion,
        BlockKind::DecoderBranch,
        BlockKind::DecoderFusion,
        BlockKind::Head,
    ] {
        let key = keys.iter().rfind(|k| k.kind == kind).unwrap();
        let onnx = block(&space, key, &mut SeededWeights::new(2)).unwrap().to_onnx(&OnnxOptions::default()).unwrap();
        let outputs: Vec<Vec<f32>> = one.iter().chain(&two).map(|b| run(b.as_ref(), &onnx)).collect();
        for other in &outputs[1..] {
            let worst = outputs[0].iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{key}: {worst}");
        }
        assert!(outputs[0].iter().any(|v| *v != 0.0), "{key}");
    }
}

#[test]
fn open_batch_becomes_one() {
    let space = common::tiny();
    let graph = network(&space, &space.min(), 32, &mut SeededWeights::new(1)).unwrap();
    let fixed = graph.to_onnx(&OnnxOptions::default()).unwrap();
    let open = graph.to_onnx(&OnnxOptions { dynamic_batch: true, ..OnnxOptions::default() }).unwrap();
    for backend in backends(1) {
        let session = backend.load(&open).unwrap();
        assert_eq!(session.input_shapes(), [[1, 3, 32, 32]]);
        assert_eq!(session.output_shapes(), [[1, 1, 32, 32]]);
        assert_eq!(run(backend.as_ref(), &open), run(backend.as_ref(), &fixed));
    }
}

#[test]
fn wrong_inputs_are_refused_and_unset_ones_are_zeros() {
    let space = common::tiny();
    let graph = network(&space, &space.min(), 32, &mut SeededWeights::new(1)).unwrap();
    let onnx = graph.to_onnx(&OnnxOptions::default()).unwrap();
    for backend in backends(1) {
        let mut session = backend.load(&onnx).unwrap();
        assert!(matches!(session.output(0), Err(Error::Run { .. })), "nothing has run");
        for wrong in [&[][..], &[&[0.0; 5][..]], &[&[0.0; 3072][..], &[0.0][..]]] {
            assert!(matches!(session.set_inputs(wrong), Err(Error::Input { .. })));
        }
        session.run().unwrap();
        let unset = session.output(0).unwrap();
        session.set_inputs(&[&[0.0; 3072]]).unwrap();
        session.run().unwrap();
        assert_eq!(session.output(0).unwrap(), unset);
        assert!(session.output(1).is_err());
    }
}

#[test]
fn broken_files_are_errors_and_not_crashes() {
    let space = common::tiny();
    let graph = network(&space, &space.min(), 32, &mut SeededWeights::new(1)).unwrap();
    let good = graph.to_onnx(&OnnxOptions::default()).unwrap();
    for backend in backends(1) {
        for bad in [&b""[..], b"not a model", &[0xff; 200], &good[..good.len() / 2], &good[..20]] {
            assert!(matches!(backend.load(bad), Err(Error::Load { .. })), "{} bytes", bad.len());
        }
        // A flipped byte may still be a model, but must not end the process.
        for at in (0..good.len()).step_by(good.len() / 60) {
            let mut flipped = good.clone();
            flipped[at] ^= 0x55;
            let _ = backend.load(&flipped).and_then(|mut session| session.run());
        }
    }
}

#[test]
fn whole_model_is_benched() {
    let space = common::tiny();
    let graph = network(&space, &space.max(), 32, &mut SeededWeights::new(1)).unwrap();
    let onnx = graph.to_onnx(&OnnxOptions::default()).unwrap();
    for backend in backends(1) {
        let m = bench_model(&onnx, backend.as_ref(), &Protocol { max_runs: 10, ..Protocol::default() }).unwrap();
        assert!(m.median_us > 0.0 && m.p10_us <= m.median_us && m.median_us <= m.p90_us, "{m:?}");
    }
}

#[test]
fn no_threads_is_refused() {
    assert!(matches!(open(RuntimeKind::Tract, 0, None), Err(Error::Threads { threads: 0, .. })));
}
