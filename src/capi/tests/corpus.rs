//! The fuzzer's kept inputs, replayed without it; `UPDATE_CORPUS=1` writes the seeds again.
#![allow(clippy::unwrap_used, clippy::wildcard_imports, reason = "helpers of tests")]
#![allow(unsafe_code, reason = "calls of a C interface")]

#[path = "../../../fuzz/calls.rs"]
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

/// Mutates the kept models at random for `INAS_FUZZ_SECONDS` (10 without): a fuzzer without feedback, for machines that
/// cannot build the real one. The input in work is kept in `INAS_FUZZ_FILE`, if set, so that a crash leaves it there.
#[test]
#[ignore = "as long as wanted"]
fn mutated_models_are_refused_or_run() {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let seconds = std::env::var("INAS_FUZZ_SECONDS").map_or(10, |s| s.parse().unwrap());
    let file = std::env::var_os("INAS_FUZZ_FILE").map(PathBuf::from);
    let kept: Vec<Vec<u8>> = kept("model").iter().map(|f| std::fs::read(f).unwrap()).collect();
    // An input that hangs ends the program, and so is found.
    std::thread::spawn(|| {
        loop {
            let before = ROUND.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(30));
            if before == ROUND.load(Ordering::Relaxed) {
                std::process::abort();
            }
        }
    });
    let start = Instant::now();
    let mut state = std::env::var("INAS_FUZZ_SEED").map_or(1, |s| s.parse::<u64>().unwrap());
    let mut draw = move |below: usize| {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below.max(1)
    };
    while start.elapsed() < Duration::from_secs(seconds) {
        let mut onnx = kept[draw(kept.len())].clone();
        for _ in 0..=draw(6) {
            let at = draw(onnx.len());
            match draw(6) {
                0 => onnx[at] ^= 1 << draw(8),
                1 => onnx[at] = [0, 1, 127, 128, 255][draw(5)],
                2 => drop(onnx.drain(at..(at + draw(20)).min(onnx.len()))),
                3 => {
                    let bytes: Vec<u8> = (0..draw(10)).map(|_| 0x80 | draw(128) as u8).collect();
                    drop(onnx.splice(at..at, bytes));
                }
                4 => {
                    let from = draw(onnx.len());
                    let piece = onnx[from..(from + draw(60)).min(onnx.len())].to_vec();
                    drop(onnx.splice(at..at, piece));
                }
                _ => onnx[at] = onnx[at].wrapping_add(draw(3) as u8),
            }
            if onnx.is_empty() {
                onnx.push(0);
            }
        }
        if let Some(file) = &file {
            std::fs::write(file, &onnx).unwrap();
        }
        targets::model(&onnx);
        ROUND.fetch_add(1, Ordering::Relaxed);
    }
    assert!(ROUND.load(Ordering::Relaxed) > 0);
    #[allow(clippy::print_stderr, reason = "tells what was done")]
    {
        eprintln!("{} models", ROUND.load(Ordering::Relaxed));
    }
}
