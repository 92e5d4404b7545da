//! The fuzzer's kept inputs, replayed without it; `UPDATE_CORPUS=1` writes the seeds again.
#![allow(clippy::unwrap_used, clippy::wildcard_imports, reason = "helpers of tests")]
#![allow(unsafe_code, reason = "calls of a C interface")]

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public to the fuzzer")]
mod targets;

mod common;

use std::path::PathBuf;

use inas_c::*;
use inas_graph::{Graph, OnnxOptions, Precision, Ranges, SeededWeights, network};
use inas_space::Space;

const TINY: &str = r#"
name = "tiny"
input_px = 16
activation = "relu"

[stem]
channels = [2]
kernel = 3
stride = 2

[[stage]]
expand = 1
stride = 1
depths = [1]
kernels = [3]
channels = [2]

[[stage]]
expand = 1
stride = 2
depths = [1]
kernels = [3]
channels = [2]

[[level]]
stage = 1
transport = { sources = [0, 1], required = [0], kernels = [3] }
decoder = { sources = [0, 1], required = [0, 1], kernels = [3] }

[[level]]
stage = 2
transport = { sources = [0, 1], required = [1], kernels = [3] }
decoder = { sources = [1], required = [1], kernels = [3] }
"#;

fn seeds() -> Vec<(String, Vec<u8>)> {
    let graph = |activation: &str| -> Graph {
        let space = Space::from_toml(&TINY.replace("relu", activation)).unwrap();
        network(&space, &space.max(), 16, &mut SeededWeights::new(3)).unwrap()
    };
    let write = |graph: &Graph, precision, dynamic_batch| {
        graph.to_onnx(&OnnxOptions { precision, dynamic_batch, ..OnnxOptions::default() }).unwrap()
    };
    let mut seeds = Vec::new();
    for activation in ["relu", "relu6", "silu", "hard_swish"] {
        seeds.push((format!("tiny-{activation}.onnx"), write(&graph(activation), Precision::Fp32, false)));
    }
    let relu = graph("relu");
    let ranges = Ranges(relu.quantised().into_iter().map(|name| (name, (-4.0, 4.0))).collect());
    seeds.push(("tiny-fp16.onnx".into(), write(&relu, Precision::Fp16, false)));
    seeds.push(("tiny-int8.onnx".into(), write(&relu, Precision::Int8(ranges), false)));
    seeds.push(("tiny-batch.onnx".into(), write(&relu, Precision::Fp32, true)));
    seeds
}

fn kept(target: &str) -> Vec<PathBuf> {
    let folder = common::root().join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn models_are_refused_or_run() {
    let folder = common::root().join("fuzz/corpus/model");
    for (name, onnx) in seeds() {
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(folder.join(&name), &onnx).unwrap();
        }
        assert!(std::fs::read(folder.join(&name)).unwrap() == onnx, "{name}: run this test with UPDATE_CORPUS=1");
    }
    for file in kept("model") {
        targets::model(&std::fs::read(file).unwrap());
    }
}

#[test]
fn frames_are_refused_or_run() {
    let (_, onnx) = seeds().swap_remove(0);
    let mut model = std::ptr::null_mut();
    // SAFETY: all pointers are valid.
    let status = unsafe { inas_model_from_bytes(onnx.as_ptr(), onnx.len(), std::ptr::null(), &raw mut model) };
    assert_eq!(status, InasStatus::Ok);
    for file in kept("frame") {
        targets::frame_on(model, &std::fs::read(file).unwrap());
    }
    // SAFETY: it was just loaded.
    unsafe { inas_model_free(model) }
}
