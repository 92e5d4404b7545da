//! Our own bytes, read again: header, order of nodes, initializers.

use std::collections::{BTreeMap, BTreeSet};

use inas_space::{ActivationKind, PRESETS, Space};
use prost::Message as _;

use super::proto::DataType;
use super::{Edge, OnnxOptions, Precision, Ranges, proto};
use crate::{Error, Graph, Op, SeededWeights, block, network};

fn decoded(graph: &Graph, options: &OnnxOptions) -> proto::Model {
    proto::Model::decode(graph.to_onnx(options).unwrap().as_slice()).unwrap()
}

/// What ONNX asks of a graph: names defined once and before use, data as long as the dimensions say.
fn assert_valid(model: &proto::Model) {
    let graph = model.graph.as_ref().unwrap();
    let mut defined = BTreeSet::from([""]);
    for name in graph.input.iter().map(|v| &v.name).chain(graph.initializer.iter().map(|t| &t.name)) {
        assert!(defined.insert(name), "{name} is defined twice");
    }
    for tensor in &graph.initializer {
        let len: i64 = tensor.dims.iter().product();
        assert_eq!((tensor.data_type, tensor.raw_data.len()), (1, len as usize * size_of::<f32>()), "{}", tensor.name);
        assert!(graph.node.iter().any(|n| n.input.contains(&tensor.name)), "{} is not used", tensor.name);
    }
    for node in &graph.node {
        for input in &node.input {
            assert!(defined.contains(input.as_str()), "{} reads {input}", node.name);
        }
        for output in &node.output {
            assert!(defined.insert(output), "{output} is defined twice");
        }
    }
    assert!(graph.output.iter().all(|v| defined.contains(v.name.as_str())));
}

#[test]
fn networks_decode_to_valid_models() {
    for (name, _) in PRESETS {
        let space = Space::preset(name).unwrap();
        for arch in [space.min(), space.max()] {
            let graph = network(&space, &arch, 64, &mut SeededWeights::new(0)).unwrap();
            let model = decoded(&graph, &OnnxOptions { producer: "test".into(), ..OnnxOptions::default() });
            assert_eq!((model.ir_version, model.opset_import[0].version), (8, 17));
            assert_eq!(model.producer_name, "test");
            assert_valid(&model);
            let mut counts = BTreeMap::new();
            let nodes = model.graph.unwrap().node;
            for node in &nodes {
                *counts.entry(node.op_type.as_str()).or_default() += 1;
            }
            assert_eq!(counts, graph.op_counts(), "{name}");
        }
    }
}

#[test]
fn every_key_of_the_small_space_decodes_to_a_valid_model() {
    for activation in [ActivationKind::Silu, ActivationKind::Relu, ActivationKind::Relu6, ActivationKind::HardSwish] {
        let space = Space { activation, ..Space::preset("nano").unwrap() };
        for key in space.block_keys(64).unwrap() {
            let graph = block(&space, &key, &mut SeededWeights::new(0)).unwrap();
            assert_valid(&decoded(&graph, &OnnxOptions::default()));
        }
    }
}

#[test]
fn attributes_and_weights_are_those_of_the_graph() {
    let space = Space::preset("nano").unwrap();
    let graph = block(&space, &"mbconv 32-16 8-12 k5 s2 e4".parse().unwrap(), &mut SeededWeights::new(3)).unwrap();
    let options = OnnxOptions { dynamic_batch: true, ..OnnxOptions::default() };
    let model = decoded(&graph, &options).graph.unwrap();
    let depthwise = model.node.iter().find(|n| n.name == "block/depth_conv").unwrap();
    let attributes: BTreeMap<&str, (i64, &[i64])> =
        depthwise.attribute.iter().map(|a| (a.name.as_str(), (a.i, a.ints.as_slice()))).collect();
    assert_eq!(attributes["group"].0, 32);
    assert_eq!(attributes["kernel_shape"].1, [5, 5]);
    assert_eq!(attributes["pads"].1, [2, 2, 2, 2]);
    assert_eq!(attributes["strides"].1, [2, 2]);
    let weight = model.initializer.iter().find(|t| t.name == "block/depth_conv.weight").unwrap();
    let values: Vec<f32> = weight.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let op = &graph.nodes().iter().find(|n| n.name == depthwise.name).unwrap().op;
    let Op::Conv { weights: Some(expected), .. } = op else { panic!("{op:?} is no convolution with weights") };
    assert_eq!(weight.dims, [32, 1, 5, 5]);
    assert_eq!(values, expected.weight);
    let batch = |v: &proto::ValueInfo| {
        let shape = v.r#type.clone().unwrap().tensor_type.unwrap().shape.unwrap();
        shape.dim[0].value.clone().unwrap()
    };
    let open = proto::DimensionValue::Parameter("N".into());
    assert_eq!((batch(&model.input[0]), batch(&model.output[0])), (open.clone(), open));
}

#[test]
fn half_precision_stores_16_bits_and_computes_in_32() {
    let space = Space::preset("nano").unwrap();
    let graph = network(&space, &space.max(), 64, &mut SeededWeights::new(0)).unwrap();
    let full = graph.to_onnx(&OnnxOptions::default()).unwrap();
    let options = OnnxOptions { precision: Precision::Fp16, ..OnnxOptions::default() };
    let half = graph.to_onnx(&options).unwrap();
    let saved = full.len() - half.len();
    assert!(saved as u64 > graph.params(), "{} against {} bytes", half.len(), full.len());
    let model = proto::Model::decode(half.as_slice()).unwrap().graph.unwrap();
    let halves = model.initializer.iter().filter(|t| t.data_type == DataType::Float16 as i32);
    assert_eq!(halves.map(|t| t.raw_data.len() as u64).sum::<u64>(), 2 * graph.params());
    let mut casts = graph.op_counts();
    casts.insert("Cast", model.node.iter().filter(|n| n.op_type == "Cast").count());
    assert_eq!(model.node.len(), casts.values().sum::<usize>());
}

#[test]
fn int8_needs_a_range_of_every_quantised_tensor() {
    let space = Space::preset("nano").unwrap();
    let graph = network(&space, &space.min(), 64, &mut SeededWeights::new(0)).unwrap();
    let names = graph.quantised();
    assert!(names.contains(&"image".to_owned()) && !names.contains(&"saliency".to_owned()));
    assert_eq!(graph.observed().outputs().count(), names.len() - 1);
    let mut ranges: BTreeMap<String, (f32, f32)> = names.iter().map(|n| (n.clone(), (-3.0, 3.0))).collect();
    let write = |ranges: &BTreeMap<String, (f32, f32)>| {
        let precision = Precision::Int8(Ranges(ranges.clone()));
        graph.to_onnx(&OnnxOptions { precision, ..OnnxOptions::default() })
    };
    let model = proto::Model::decode(write(&ranges).unwrap().as_slice()).unwrap().graph.unwrap();
    let count = |op: &str| model.node.iter().filter(|n| n.op_type == op).count();
    assert_eq!(count("QuantizeLinear"), names.len());
    for (name, bad) in [("image", f32::NAN), ("image", f32::INFINITY)] {
        ranges.insert(name.into(), (0.0, bad));
        assert!(matches!(write(&ranges), Err(Error::Range { tensor }) if tensor == name));
    }
    ranges.remove("image");
    assert!(write(&ranges).is_err());
}

#[test]
fn nothing_superfluous_is_written_and_pixels_cost_six_nodes() {
    for (name, _) in PRESETS {
        let space = Space::preset(name).unwrap();
        for arch in [space.min(), space.max()] {
            let graph = network(&space, &arch, 64, &mut SeededWeights::new(0)).unwrap();
            let nodes = |edge| {
                let model = decoded(&graph, &OnnxOptions { edge, ..OnnxOptions::default() });
                assert_valid(&model);
                model.graph.unwrap().node
            };
            let plain = nodes(Edge::Floats);
            assert_eq!(plain.len(), graph.nodes().len());
            for unwanted in ["BatchNormalization", "Identity", "Constant", "Cast", "Transpose", "Shape"] {
                assert!(plain.iter().all(|n| n.op_type != unwanted), "{name}: {unwanted}");
            }
            // One depthwise convolution a unit, whatever its branches were: a layer has one, a level of the transport two
            // and one of the decoder one.
            let units = arch.stages.iter().map(Vec::len).sum::<usize>() + 3 * space.levels.len();
            let depthwise = graph.nodes().iter().filter(|n| matches!(&n.op, Op::Conv { spec, .. } if spec.groups > 1));
            assert_eq!(depthwise.count(), units, "{name}");
            assert_eq!(nodes(Edge::Pixels).len(), plain.len() + 6, "{name}");
        }
    }
}

#[test]
fn open_sizes_and_bytes_are_declared() {
    let space = Space::preset("nano").unwrap();
    let graph = network(&space, &space.min(), 64, &mut SeededWeights::new(0)).unwrap();
    let options = OnnxOptions { edge: Edge::Pixels, dynamic_size: true, ..OnnxOptions::default() };
    let model = decoded(&graph, &options).graph.unwrap();
    let shape = |info: &proto::ValueInfo| {
        let tensor = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        let dims = tensor.shape.as_ref().unwrap().dim.iter().map(|d| match d.value.as_ref().unwrap() {
            proto::DimensionValue::Value(size) => size.to_string(),
            proto::DimensionValue::Parameter(name) => name.clone(),
        });
        (info.name.clone(), tensor.elem_type, dims.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(shape(&model.input[0]), ("pixels".into(), DataType::Uint8 as i32, "1 H W 3".into()));
    assert_eq!(shape(&model.output[0]), ("mask".into(), DataType::Uint8 as i32, "1 1 H W".into()));
    let key = *space.block_keys(64).unwrap().last().unwrap();
    let part = block(&space, &key, &mut SeededWeights::new(0)).unwrap();
    assert!(matches!(part.to_onnx(&options), Err(Error::Onnx { .. })), "a block has no picture");
}

#[test]
fn weights_come_back_from_floats_of_either_width() {
    let space = Space::preset("nano").unwrap();
    let graph = |space: &Space, seed| network(space, &space.max(), 64, &mut SeededWeights::new(seed)).unwrap();
    let (one, other) = (graph(&space, 1), graph(&space, 2));
    let written =
        |graph: &Graph, precision| graph.to_onnx(&OnnxOptions { precision, ..OnnxOptions::default() }).unwrap();
    for precision in [Precision::Fp32, Precision::Fp16] {
        let file = written(&one, precision.clone());
        let read = other.clone().with_weights_of(&file).unwrap();
        assert!(written(&read, precision) == file);
    }
    let ranges = Ranges(one.quantised().into_iter().map(|name| (name, (-1.0, 1.0))).collect());
    let integers = written(&one, Precision::Int8(ranges));
    assert!(matches!(other.with_weights_of(&integers), Err(Error::Weights { .. })));
    let narrow = Space { activation: ActivationKind::Relu, ..space };
    let smaller = network(&narrow, &narrow.min(), 64, &mut SeededWeights::new(1)).unwrap();
    assert!(matches!(smaller.with_weights_of(&written(&one, Precision::Fp32)), Err(Error::Weights { .. })));
    assert!(matches!(one.with_weights_of(b""), Err(Error::Onnx { .. })));
}
