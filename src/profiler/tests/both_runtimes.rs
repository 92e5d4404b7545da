//! The same ONNX file gives the same output in tract and in ONNX Runtime: every kind of block, and whole networks.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(feature = "ort")]

use std::collections::BTreeMap;

use inas_graph::{OnnxOptions, SeededWeights};
use inas_profiler::{Backend, RuntimeKind, open};
use inas_space::{ActivationKind, BlockKey, BlockKind, PRESETS, Space, SqueezeExcite};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const TOLERANCE: f32 = 1e-5;

/// Both runtimes; without ONNX Runtime's library the error that names the remedy is the failure.
fn runtimes() -> &'static [Box<dyn Backend>; 2] {
    // A process can hold one ONNX Runtime only.
    Box::leak(Box::new([RuntimeKind::Tract, RuntimeKind::Ort].map(|kind| open(kind, 1, None).unwrap())))
}

/// Largest difference between the runtimes' outputs on random inputs.
fn difference(runtimes: &[Box<dyn Backend>; 2], onnx: &[u8], seed: u64) -> f32 {
    let outputs = runtimes.each_ref().map(|runtime| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut session = runtime.load(onnx).unwrap();
        let mut random = |len: usize| (0..len).map(|_| rng.random_range(-2.0..2.0)).collect();
        let inputs: Vec<Vec<f32>> = session.input_shapes().iter().map(|shape| random(shape.iter().product())).collect();
        session.set_inputs(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        session.run().unwrap();
        session.output(0).unwrap()
    });
    assert_eq!(outputs[0].len(), outputs[1].len());
    assert!(outputs[0].iter().all(|v| v.is_finite()));
    // A constant output would make any comparison pass.
    assert!(outputs[0].iter().any(|v| (v - outputs[0][0]).abs() > 1e-6));
    outputs[0].iter().zip(&outputs[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Keys of every block kind, kernel, stride, number of sources and direction of a branch.
fn keys() -> Vec<BlockKey> {
    let mut keys = Vec::new();
    for kernel in [3, 5, 7, 9] {
        for stride in [1, 2] {
            let px = (32, 32 / stride);
            keys.push(BlockKey { kernel, stride, ..BlockKey::new(BlockKind::Stem, px, (3, 12)) });
            for expand in [1, 6] {
                for out in [12, 20] {
                    let key = BlockKey::new(BlockKind::MbConv, px, (12, out));
                    keys.push(BlockKey { kernel, stride, expand, ..key });
                }
            }
        }
        for sources in 1..=5 {
            for kind in [BlockKind::TransportFusion, BlockKind::DecoderFusion] {
                keys.push(BlockKey { kernel, sources, ..BlockKey::new(kind, (16, 16), (12, 12)) });
            }
        }
    }
    for factor in [2, 4, 8, 16] {
        keys.push(BlockKey::new(BlockKind::TransportBranch, (32, 32 / factor), (12, 20)));
        for kind in [BlockKind::TransportBranch, BlockKind::DecoderBranch] {
            keys.push(BlockKey::new(kind, (32 / factor, 32), (20, 12)));
        }
        keys.push(BlockKey::new(BlockKind::Head, (32, 32 * factor), (12, 1)));
    }
    keys.push(BlockKey::new(BlockKind::TransportBranch, (16, 16), (12, 12)));
    keys
}

#[test]
fn blocks_and_networks_agree() {
    let runtimes = runtimes();
    let mut worst: BTreeMap<String, f32> = BTreeMap::new();
    for activation in [ActivationKind::Silu, ActivationKind::Relu, ActivationKind::Relu6, ActivationKind::HardSwish] {
        for squeeze_excite in [None, Some(SqueezeExcite { reduction: 4 })] {
            let space = Space { activation, squeeze_excite, ..Space::preset("iccv21").unwrap() };
            for (i, key) in keys().into_iter().enumerate() {
                let graph = inas_graph::block(&space, &key, &mut SeededWeights::new(7)).unwrap();
                let onnx = graph.to_onnx(&OnnxOptions::default()).unwrap();
                let found = difference(runtimes, &onnx, i as u64);
                assert!(found <= TOLERANCE, "{activation:?} {squeeze_excite:?} {key}: {found}");
                let entry = worst.entry(key.kind.to_string()).or_default();
                *entry = entry.max(found);
            }
        }
    }
    for (name, _) in PRESETS {
        let space = Space::preset(name).unwrap();
        let px = space.input_px.min(224);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for i in 0..20 {
            let arch = space.uniform(&mut rng);
            let graph = inas_graph::network(&space, &arch, px, &mut SeededWeights::new(i)).unwrap();
            let onnx = graph.to_onnx(&OnnxOptions::default()).unwrap();
            let found = difference(runtimes, &onnx, i);
            assert!(found <= TOLERANCE, "{name} {}: {found}", arch.to_json());
            let entry = worst.entry(format!("network of {name}")).or_default();
            *entry = entry.max(found);
        }
    }
    println!("largest differences: {worst:?}");

    // An open batch loads as one image.
    let space = Space::preset("nano").unwrap();
    let network = inas_graph::network(&space, &space.min(), 64, &mut SeededWeights::new(1)).unwrap();
    let open = network.to_onnx(&OnnxOptions { dynamic_batch: true, ..OnnxOptions::default() }).unwrap();
    assert_ne!(open, network.to_onnx(&OnnxOptions::default()).unwrap());
    assert!(difference(runtimes, &open, 5) <= TOLERANCE);
    for runtime in runtimes {
        assert_eq!(runtime.load(&open).unwrap().input_shapes(), [[1, 3, 64, 64]]);
    }
}
