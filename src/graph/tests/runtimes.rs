//! An open batch in ONNX Runtime: images of one batch do not see each other.
//!
//! That tract and ONNX Runtime agree on single images is the profiler's `both_runtimes` test.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use inas_graph::{Graph, OnnxOptions, SeededWeights, block, network};
use inas_space::{PRESETS, Space};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// `ORT_DYLIB_PATH`, else the library of the Python package.
fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        return Some(path.into());
    }
    let find = "import importlib.util as u; print(u.find_spec('onnxruntime').submodule_search_locations[0])";
    let output = Command::new("python3").args(["-c", find]).output().ok()?;
    let folder = Path::new(String::from_utf8(output.stdout).ok()?.trim()).join("capi");
    let files = folder.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so"))).max()
}

fn environment() -> Environment {
    let path = library().expect("no ONNX Runtime: `pip install onnxruntime`, or set ORT_DYLIB_PATH to its library");
    ort::init_from(path).unwrap().with_telemetry(false).build().unwrap()
}

/// Shape and values of the output for `batch` images.
fn run(session: &mut Session, graph: &Graph, batch: usize, inputs: &[Vec<f32>]) -> (Vec<i64>, Vec<f32>) {
    let mut values: Vec<SessionInputValue<'_>> = Vec::new();
    for (info, data) in graph.inputs().zip(inputs) {
        let [_, c, h, w] = info.shape.map(|d| d as usize);
        values.push(TensorRef::from_array_view(([batch, c, h, w], data.as_slice())).unwrap().into());
    }
    let outputs = session.run::<0>(values.as_slice()).unwrap();
    let (shape, data) = outputs[0].try_extract_tensor::<f32>().unwrap();
    (shape.to_vec(), data.to_vec())
}

/// Largest difference between two images in one batch and the same images alone.
fn difference(environment: &Environment, graph: &Graph) -> f32 {
    let onnx = graph.to_onnx(&OnnxOptions { dynamic_batch: true, ..OnnxOptions::default() }).unwrap();
    let mut session = Session::builder(environment).unwrap().with_intra_threads(1).unwrap();
    let mut session = session.commit_from_memory(&onnx).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut random = |len| (0..len).map(|_| rng.random_range(-2.0..2.0)).collect();
    let lengths = graph.inputs().map(|v| v.shape.iter().product::<u32>());
    let pair: Vec<Vec<f32>> = lengths.map(|len| random(2 * len)).collect();
    let image = |i: usize| -> Vec<Vec<f32>> {
        pair.iter().map(|both| both.chunks(both.len() / 2).nth(i).unwrap().to_vec()).collect()
    };
    let (shape, together) = run(&mut session, graph, 2, &pair);
    let [_, c, h, w] = graph.outputs().next().unwrap().shape.map(i64::from);
    assert_eq!(shape, [2, c, h, w]);
    let [first, second] = [0, 1].map(|i| run(&mut session, graph, 1, &image(i)).1);
    assert!(first.iter().zip(&second).any(|(a, b)| (a - b).abs() > 1e-3), "the images must differ");
    let alone = [first, second].concat();
    assert_eq!(alone.len(), together.len());
    together.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn images_of_an_open_batch_are_independent() {
    let environment = environment();
    let check = |what: &str, graph: &Graph| {
        let found = difference(&environment, graph);
        println!("{what}: {found:e}");
        assert!(found <= 1e-5, "{what}: {found}");
    };
    let space = Space::preset("nano").unwrap();
    for key in [
        "stem 64-32 3-8 k3 s2",
        "mbconv 32-16 8-12 k5 s2 e4",
        "mbconv 16-16 12-12 k7 s1 e4",
        "transport_branch 32-16 8-12",
        "transport_branch 16-32 12-8",
        "transport_branch 16-16 8-8",
        "transport_fusion 16-16 12-12 n3 k7",
        "decoder_branch 8-16 20-12",
        "decoder_fusion 16-16 12-12 n2 k3",
        "head 32-64 8-1",
    ] {
        check(key, &block(&space, &key.parse().unwrap(), &mut SeededWeights::new(7)).unwrap());
    }
    for (name, _) in PRESETS {
        let space = Space::preset(name).unwrap();
        let arch = space.uniform(&mut ChaCha8Rng::seed_from_u64(3));
        check(name, &network(&space, &arch, 64, &mut SeededWeights::new(1)).unwrap());
    }
}
