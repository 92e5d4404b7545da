//! Exported networks of genotypes in both runtimes against the networks they were written from.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;

use assert_cmd::Command;
use candle_core::Tensor;
use inas_dots::Genotype;
use inas_dots::net::{Cut, Form, Network, Size};
use inas_graph::{Graph, OnnxOptions};
use inas_nn::gradcheck::uniform;
use inas_profiler::{Backend, RuntimeKind, open};

const PUBLISHED: [&str; 6] = ["dots-c10", "dots-c100", "dots-imagenet", "darts-v1", "darts-v2", "pc-darts-c10"];

fn runtimes() -> [Box<dyn Backend>; 2] {
    [RuntimeKind::Tract, RuntimeKind::Ort].map(|kind| open(kind, 1, None).unwrap())
}

fn images(n: usize, (height, width): (usize, usize), seed: u64) -> Tensor {
    let var = uniform(&[n, height, width, 3], -1.7, 1.7, seed).unwrap();
    var.as_tensor().to_dtype(candle_core::DType::F32).unwrap()
}

/// A network with every value drawn, so that no norm is an identity.
fn network(form: Form, genotype: &str) -> Network {
    let size = Size { form, channels: 4, cells: 5, classes: 7 };
    let mut net = Network::new(size, Genotype::published(genotype).unwrap(), false, 3).unwrap();
    net.settle(&images(16, (64, 64), 1)).unwrap();
    for (i, (name, var)) in net.params.trainable().enumerate() {
        if var.rank() == 1 {
            let range = if name.ends_with("weight") { (0.6, 1.4) } else { (-0.4, 0.4) };
            let drawn = uniform(var.dims(), range.0, range.1, i as u64).unwrap();
            var.set(&drawn.as_tensor().to_dtype(candle_core::DType::F32).unwrap()).unwrap();
        }
    }
    net
}

fn planes(t: &Tensor) -> Vec<f32> {
    t.permute((0, 3, 1, 2)).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference of a file's outputs to maps `[1, H, W, C]`, over the largest value of a map where that is above one:
/// nothing norms the sums in a cell.
fn difference(runtime: &dyn Backend, (graph, open): (&Graph, bool), image: &Tensor, expected: &[Tensor]) -> f32 {
    let onnx = graph.to_onnx(&OnnxOptions { dynamic_size: open, ..OnnxOptions::default() }).unwrap();
    let mut session = runtime.load_sized(&onnx, &image.dims()[1..3]).unwrap();
    session.set_inputs(&[&planes(image)]).unwrap();
    session.run().unwrap();
    let mut worst = 0f32;
    for (i, map) in expected.iter().enumerate() {
        let (n, h, w, c) = map.dims4().unwrap();
        assert_eq!(session.output_shapes()[i], [n, c, h, w]);
        let (got, want) = (session.output(i).unwrap(), planes(map));
        // A constant output would make any comparison pass.
        assert!(want.iter().any(|v| (v - want[0]).abs() > 1e-2));
        let scale = want.iter().fold(1f32, |m, v| m.max(v.abs()));
        worst = got.iter().zip(&want).fold(worst, |worst, (a, b)| worst.max((a - b).abs() / scale));
    }
    worst
}

#[test]
fn both_runtimes_follow_every_published_genotype() {
    let runtimes = runtimes();
    for name in PUBLISHED {
        for form in [Form::ImageNet, Form::Cifar] {
            let (net, image) = (network(form, name), images(1, (64, 64), 9));
            let logits = net.logits(&image).unwrap().reshape((1, 1, 1, 7)).unwrap();
            let maps = net.tapped(&image).unwrap();
            let (classifier, backbone) = (net.classifier_graph(64).unwrap(), net.backbone_graph(64).unwrap());
            let cost = net.cost(64).unwrap();
            assert_eq!(classifier.macs(), cost.macs, "{name}: the graph does what the network does");
            for runtime in &runtimes {
                let of = |graph: &Graph, maps: &[Tensor]| difference(runtime.as_ref(), (graph, false), &image, maps);
                let found = [of(&classifier, std::slice::from_ref(&logits)), of(&backbone, &maps)];
                println!("{name} {form:?} {}: {found:?}", runtime.info().name);
                assert!(found.iter().all(|d| *d <= 1e-4), "{name} {form:?} {}: {found:?}", runtime.info().name);
            }
        }
    }
}

/// The maps that RetinaNet (C3 to C5) and BiSeNet (strides 16 and 32) read: thesis section 2.4.
#[test]
fn taps_are_those_of_detection_and_segmentation() {
    let size = Size { form: Form::ImageNet, channels: 48, cells: 14, classes: 1000 };
    let net = Network::new(size, Genotype::published("dots-imagenet").unwrap(), false, 0).unwrap();
    let taps: Vec<_> = net.taps().iter().map(|t| (t.cell, t.stride, t.channels)).collect();
    assert_eq!(taps, [(3, 8, 192), (8, 16, 384), (13, 32, 768)]);
    let graph = net.backbone_graph(224).unwrap();
    let outputs: Vec<_> = graph.outputs().map(|v| (v.name.clone(), v.shape)).collect();
    let map = |stride: u32, channels| (format!("stride{stride}"), [1, channels, 224 / stride, 224 / stride]);
    assert_eq!(outputs, [map(8, 192), map(16, 384), map(32, 768)]);
    assert_eq!(net.cost(224).unwrap().params, 5_348_032);
    assert!(net.backbone_graph(240).unwrap_err().to_string().contains("stride 32"));
    // Pictures of detection are no squares: padded to multiples of 32.
    let (net, image) = (network(Form::ImageNet, "dots-imagenet"), images(1, (96, 160), 4));
    let (graph, maps) = (net.backbone_graph(64).unwrap(), net.tapped(&image).unwrap());
    assert_eq!(maps.iter().map(|m| m.dims()[1]).collect::<Vec<_>>(), [12, 6, 3]);
    for runtime in &runtimes() {
        let found = difference(runtime.as_ref(), (&graph, true), &image, &maps);
        assert!(found <= 1e-4, "{}: {found}", runtime.info().name);
    }
}

#[test]
fn the_command_writes_and_the_profiler_measures() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("models");
    let inas = |args: &[&str]| {
        let run = Command::cargo_bin("inas").unwrap().args(args).assert().success();
        String::from_utf8(run.get_output().stdout.clone()).unwrap()
    };
    let out = out.to_str().unwrap();
    let size = ["--channels", "4", "--cells", "5", "--classes", "7", "--px", "64"];
    for more in [&["--open-size"][..], &["--runtime", "ort", "--form", "cifar"]] {
        let told = inas(&[&["dots", "export", "dots-imagenet", "-o", out], &size[..], more].concat());
        assert_eq!(told.lines().count(), 2, "{told}");
    }
    let report = inas(&["bench", &format!("{out}/backbone.onnx"), "--rounds", "1", "--runs", "2", "--json"]);
    assert!(report.contains("median_ci_us"), "{report}");
    for by in ["cells", "operations"] {
        let out = dir.path().join(by);
        let profile = ["dots", "profile", "dots-c10", "--by", by, "--max-runs", "10", "-o", out.to_str().unwrap()];
        let told = inas(&[&profile[..], &size[..]].concat());
        assert!(told.contains("head 64-7 px2") && told.contains("of the sum"), "{told}");
        // What is measured stays measured.
        let records = std::fs::read_to_string(out.join("records.jsonl")).unwrap();
        assert_eq!(inas(&[&profile[..], &size[..], &["--resume"]].concat()), told);
        assert_eq!(std::fs::read_to_string(out.join("records.jsonl")).unwrap(), records);
        // The same blocks by the measuring program in a process of its own.
        let (there, folder) = (dir.path().join("there"), dir.path().join("device"));
        let away = ["--target", "local", "--rounds", "2", "--remote-folder", folder.to_str().unwrap()];
        let profile = [&profile[..profile.len() - 1], &[there.to_str().unwrap()], &size[..], &away].concat();
        let told = inas(&profile);
        assert!(told.contains("head 64-7 px2") && told.contains("of the sum"), "{told}");
        // Blocks and network; what is told has a heading, too.
        let records = std::fs::read_to_string(there.join("records.jsonl")).unwrap();
        assert_eq!(records.lines().count() + 1, told.lines().count());
        assert!(!folder.exists(), "the device is left as it was");
    }
}

/// The blocks add up to the network: in multiply-accumulates and values.
#[test]
fn blocks_are_all_of_a_network() {
    for form in [Form::ImageNet, Form::Cifar] {
        for name in PUBLISHED {
            let net = network(form, name);
            let whole = net.classifier_graph(64).unwrap();
            for cut in [Cut::Cells, Cut::Operations] {
                let blocks = net.blocks(64, cut).unwrap();
                let sum =
                    |of: &dyn Fn(&Graph) -> u64| blocks.iter().map(|b| b.count as u64 * of(&b.graph)).sum::<u64>();
                assert_eq!(sum(&Graph::macs), whole.macs(), "{name} {form:?} {cut:?}");
                assert_eq!(sum(&Graph::params), whole.params(), "{name} {form:?} {cut:?}");
            }
        }
    }
}

/// Photos with a bright disc whose mask is the label.
fn discs(dir: &std::path::Path, n: u32) -> std::path::PathBuf {
    let mut list = String::new();
    for i in 0..n {
        let inside = |x: u32, y: u32| x.abs_diff(20 + i * 7 % 30).pow(2) + y.abs_diff(40).pow(2) < 225;
        let photo = image::RgbImage::from_fn(80, 80, |x, y| {
            if inside(x, y) { image::Rgb([220, 200, (x * 2) as u8]) } else { image::Rgb([(y * 2) as u8, 40, 30]) }
        });
        let mask = image::GrayImage::from_fn(80, 80, |x, y| image::Luma([if inside(x, y) { 255 } else { 0 }]));
        photo.save(dir.join(format!("{i}.png"))).unwrap();
        mask.save(dir.join(format!("{i}-mask.png"))).unwrap();
        let _ = writeln!(list, "{i}.png {i}-mask.png");
    }
    let path = dir.join("list.lst");
    std::fs::write(&path, list).unwrap();
    path
}

#[test]
fn segmentation_learns_resumes_and_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    let list = discs(dir.path(), 16);
    let list = list.to_str().unwrap();
    let run = |out: &str, more: &[&str]| {
        let out = dir.path().join(out);
        let settings = ["channels=4", "cells=3", "width=8", "classes=2", "batch=4", "lr=0.05"];
        let mut command = Command::cargo_bin("inas").unwrap();
        command.args(["dots", "segment", "dots-c10", "--data", list, "--val-data", list, "--px", "64"]);
        command.args(settings.iter().flat_map(|s| ["--set", s])).args(more).arg("-o").arg(&out);
        let told = command.assert().success().get_output().stdout.clone();
        let records = std::fs::read_to_string(out.join("segment.jsonl")).unwrap();
        (String::from_utf8(told).unwrap(), records)
    };
    let (told, records) = run("a", &["--set", "epochs=8", "--runtime", "ort"]);
    assert!(told.starts_with("mIoU "), "{told}");
    let iou = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["mean_iou"].as_f64().unwrap();
    let (first, last) = (iou(records.lines().next().unwrap()), iou(records.lines().last().unwrap()));
    assert!(last > 0.6 && last > first, "{first} {last}");
    // A finished training has nothing left to do, and repeats what it found.
    assert_eq!(run("a", &["--set", "epochs=8", "--resume"]), (told.clone(), records.clone()));
    assert_eq!(run("b", &["--set", "epochs=8"]), (told, records));
}
