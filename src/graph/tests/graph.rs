//! Shapes, cost and form of deployed graphs.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use inas_graph::{
    ConvSpec, ConvWeights, Error, Graph, OnnxOptions, Op, SeededWeights, Weights, block, cost, metadata, network,
    network_with_branches,
};
use inas_space::{Architecture, BlockKey, BlockKind, PRESETS, Space};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

fn draws(space: &Space, n: usize) -> Vec<Architecture> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    (0..n).map(|_| space.uniform(&mut rng)).collect()
}

fn graph_of(space: &Space, arch: &Architecture) -> Graph {
    network(space, arch, space.input_px, &mut SeededWeights::new(0)).unwrap()
}

#[test]
fn a_block_has_the_shapes_of_its_key() {
    // Every key of the small space, a sample of the large one.
    for (name, step) in [("nano", 1), ("iccv21", 37)] {
        let space = Space::preset(name).unwrap();
        for key in space.block_keys(space.input_px).unwrap().into_iter().step_by(step) {
            let graph = block(&space, &key, &mut SeededWeights::new(0)).unwrap();
            let inputs: Vec<_> = graph.inputs().map(|v| v.shape).collect();
            assert_eq!(inputs, vec![[1, key.in_ch, key.in_px, key.in_px]; key.sources.max(1) as usize], "{key}");
            let outputs: Vec<_> = graph.outputs().map(|v| v.shape).collect();
            assert_eq!(outputs, [[1, key.out_ch, key.out_px, key.out_px]], "{key}");
            let cost = cost::of_block(&space, &key).unwrap();
            assert_eq!((cost.macs, cost.params), (graph.macs(), graph.params()), "{key}");
        }
    }
}

#[test]
fn cost_equals_hand_computation() {
    let space = Space::preset("iccv21").unwrap();
    let cost = |text: &str| {
        let cost = cost::of_block(&space, &text.parse().unwrap()).unwrap();
        (cost.macs, cost.params)
    };
    // 3x3x3 -> 32 at 112 px, biases.
    assert_eq!(cost("stem 224-112 3-32 k3 s2"), (32 * 27 * 112 * 112, 32 * 27 + 32));
    // Expand 24 -> 144 at 56 px; 7x7 depthwise, squeeze-excite through 36, project and shortcut to 40 at 28 px.
    let (mid, se, wide, narrow) = (144u64, 36u64, 56u64 * 56, 28u64 * 28);
    let macs = mid * 24 * wide + mid * 49 * narrow + 2 * mid * se + 40 * mid * narrow + 40 * 24 * narrow;
    let params = (mid * 24 + mid) + (mid * 49 + mid) + (mid * se + se + mid * se + mid) + (40 * mid + 40) + 40 * 24;
    assert_eq!(cost("mbconv 56-28 24-40 k7 s2 e6"), (macs, params));
    let transport = (2 * (24 * 25 + 24 * 24) * 56 * 56, 2 * (24 * 25 + 24 + 24 * 24 + 24));
    assert_eq!(cost("transport_fusion 56-56 24-24 n3 k5"), transport);
    assert_eq!(cost("head 112-224 16-1"), (16 * 112 * 112, 16));
    assert_eq!(cost("transport_branch 56-56 24-24"), (0, 0));
}

#[test]
fn a_network_costs_the_sum_of_its_blocks() {
    for (name, _) in PRESETS {
        let space = Space::preset(name).unwrap();
        for arch in draws(&space, 3) {
            let total = cost::of_network(&space, &arch, space.input_px).unwrap().total;
            let graph = graph_of(&space, &arch);
            assert_eq!((total.macs, total.params), (graph.macs(), graph.params()), "{name}");
        }
    }
}

#[test]
fn a_network_holds_one_depthwise_convolution_per_unit_and_nothing_superfluous() {
    for (name, _) in PRESETS {
        let space = Space::preset(name).unwrap();
        for arch in draws(&space, 3) {
            let graph = graph_of(&space, &arch);
            // The merged kernel is the largest chosen one; a transport fusion has two units.
            let largest = |kernels: &[u32]| kernels.iter().copied().max().unwrap();
            let layers = arch.stages.iter().flatten().map(|l| largest(&l.kernels));
            let transport = arch.transport.iter().flat_map(|l| [largest(&l.kernels); 2]);
            let decoder = arch.decoder.iter().rev().map(|l| largest(&l.kernels));
            let units: Vec<u32> = layers.chain(transport).chain(decoder).collect();
            let convs =
                graph.nodes().iter().filter_map(|n| if let Op::Conv { spec, .. } = &n.op { Some(spec) } else { None });
            let found: Vec<u32> = convs.clone().filter(|c| c.groups > 1).map(|c| c.kernel).collect();
            assert_eq!(found, units, "{name}");
            assert!(!graph.nodes().iter().any(|n| n.op == Op::Identity));
            let results = || graph.nodes().iter().map(|n| graph.info(n.output).name.as_str());
            let inputs: Vec<_> = graph.inputs().map(|v| (v.name.as_str(), v.shape)).collect();
            assert_unique(graph.nodes().iter().map(|n| n.name.as_str()));
            assert_unique(results().chain(inputs.iter().map(|(name, _)| *name)));
            assert_unique(convs.map(|c| c.name.as_str()));
            // Every result but the network's is read.
            let read = graph.nodes().iter().flat_map(|n| &n.inputs).map(|v| graph.info(*v).name.as_str());
            let read: BTreeSet<&str> = read.collect();
            assert_eq!(results().filter(|v| !read.contains(v)).collect::<Vec<_>>(), ["saliency"], "{name}");
            let px = space.input_px;
            assert_eq!(inputs, [("image", [1, 3, px, px])]);
            let outputs: Vec<_> = graph.outputs().map(|v| (v.name.as_str(), v.shape)).collect();
            assert_eq!(outputs, [("saliency", [1, 1, px, px])]);
        }
    }
}

fn assert_unique<'a>(names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        assert!(seen.insert(name), "{name} is there twice");
    }
}

#[test]
fn weights_of_the_wrong_length_are_refused() {
    type Change = fn(&mut ConvWeights);
    /// Seeded weights; those of the convolution with this name are changed.
    struct Wrong(&'static str, Change);
    impl Weights for Wrong {
        fn conv(&mut self, spec: &ConvSpec) -> inas_graph::Result<ConvWeights> {
            let mut weights = SeededWeights::new(0).conv(spec)?;
            if spec.name == self.0 {
                (self.1)(&mut weights);
            }
            Ok(weights)
        }
    }
    let space = Space::preset("nano").unwrap();
    let changes: [(&str, Change); 5] = [
        ("backbone.stem", |w| w.weight.truncate(1)),
        ("backbone.stem", |w| w.weight.push(0.0)),
        ("backbone.stem", |w| w.bias = None),
        ("backbone.stem", |w| w.bias = Some(vec![0.0])),
        ("decoder.decoder_dict.level_0", |w| w.bias = Some(vec![0.0])),
    ];
    for (name, change) in changes {
        let error = network(&space, &space.min(), 128, &mut Wrong(name, change)).unwrap_err();
        assert!(matches!(error, Error::Weights { ref conv, .. } if conv == name), "{error}");
    }
}

#[test]
fn a_weight_source_may_refuse() {
    struct Empty;
    impl Weights for Empty {
        fn conv(&mut self, spec: &ConvSpec) -> inas_graph::Result<ConvWeights> {
            Err(Error::Weights { conv: spec.name.clone(), reason: "not in the file".into() })
        }
    }
    let space = Space::preset("nano").unwrap();
    let error = network(&space, &space.min(), 128, &mut Empty).unwrap_err().to_string();
    assert!(error.contains("backbone.stem") && error.contains("not in the file"), "{error}");
}

#[test]
fn seeded_weights_depend_on_seed_and_name_only() {
    let spec = |name: &str| ConvSpec { name: name.into(), out_ch: 64, in_ch: 32, kernel: 1, groups: 1, bias: true };
    let draw = |seed, name| SeededWeights::new(seed).conv(&spec(name)).unwrap();
    assert_eq!(draw(1, "a"), draw(1, "a"));
    assert_ne!(draw(1, "a"), draw(2, "a"));
    assert_ne!(draw(1, "a"), draw(1, "b"));
    let weights = draw(1, "a").weight;
    let variance = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
    assert!((variance * 32.0 - 1.0).abs() < 0.1, "{variance}");
}

#[test]
fn bad_sizes_and_bad_files_are_errors() {
    let space = Space::preset("nano").unwrap();
    assert!(network(&space, &space.min(), 100, &mut SeededWeights::new(0)).is_err());
    let odd = BlockKey { stride: 2, kernel: 3, expand: 4, ..BlockKey::new(BlockKind::MbConv, (7, 4), (8, 8)) };
    assert!(matches!(block(&space, &odd, &mut SeededWeights::new(0)), Err(Error::Shape { .. })));
    assert!(matches!(metadata(&[0xff; 20]), Err(Error::Onnx { .. })));
}

#[test]
fn metadata_survives() {
    let space = Space::preset("nano").unwrap();
    let pairs = vec![("inas.name".to_owned(), "a".to_owned()), ("x".to_owned(), String::new())];
    let options = OnnxOptions { metadata: pairs.clone(), ..OnnxOptions::default() };
    assert_eq!(metadata(&graph_of(&space, &space.min()).to_onnx(&options).unwrap()).unwrap(), pairs);
}

#[test]
fn cut_files_are_refused() {
    let space = Space::preset("nano").unwrap();
    let key = "stem 64-32 3-8 k3 s2".parse().unwrap();
    let onnx = block(&space, &key, &mut SeededWeights::new(0)).unwrap().to_onnx(&OnnxOptions::default()).unwrap();
    assert_eq!(metadata(&onnx).unwrap(), []);
    for length in 0..onnx.len() {
        assert!(matches!(metadata(&onnx[..length]), Err(Error::Onnx { .. })), "first {length} of {}", onnx.len());
    }
}

#[test]
fn without_merging_every_chosen_kernel_has_its_convolution() {
    let space = Space::preset("nano").unwrap();
    let depthwise = |graph: &Graph| -> Vec<u32> {
        let mut kernels: Vec<u32> = graph
            .nodes()
            .iter()
            .filter_map(|n| match &n.op {
                Op::Conv { spec, .. } if spec.groups > 1 => Some(spec.kernel),
                _ => None,
            })
            .collect();
        kernels.sort_unstable();
        kernels
    };
    for arch in draws(&space, 20) {
        let layers = arch.stages.iter().flatten().map(|l| &l.kernels);
        // A transport fusion holds two units.
        let transport = arch.transport.iter().flat_map(|l| [&l.kernels; 2]);
        let units: Vec<&Vec<u32>> = layers.chain(transport).chain(arch.decoder.iter().map(|l| &l.kernels)).collect();
        let mut all: Vec<u32> = units.iter().copied().flatten().copied().collect();
        let mut largest: Vec<u32> = units.iter().map(|k| *k.last().unwrap()).collect();
        all.sort_unstable();
        largest.sort_unstable();
        let merged = graph_of(&space, &arch);
        let branches = network_with_branches(&space, &arch, space.input_px, &mut SeededWeights::new(0)).unwrap();
        assert_eq!((depthwise(&merged), depthwise(&branches)), (largest, all));
        assert!(branches.macs() >= merged.macs());
        let shapes = |graph: &Graph| graph.outputs().map(|v| v.shape).collect::<Vec<_>>();
        assert_eq!(shapes(&merged), shapes(&branches));
    }
}
