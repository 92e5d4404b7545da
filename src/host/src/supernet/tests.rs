//! The deployed form of any sub-network computes what its training form does; checkpoints keep every value.

use candle_core::{DType, Device, Tensor, Var};
use inas_graph::OnnxOptions;
use inas_profiler::{RuntimeKind, open};
use inas_space::{ActivationKind, PRESETS, Space};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::{Deployed, Error, Supernet, recalibrate};

const PX: usize = 64;

/// A supernet whose every BN scale and kernel transform does something: fresh ones start at zero or identity.
fn scrambled(space: Space) -> Supernet {
    let mut net = Supernet::new(space, 3, &Device::Cpu).unwrap();
    for (name, var) in &mut net.params.weights {
        let noise = Tensor::randn(0f32, 0.1, var.dims(), &Device::Cpu).unwrap();
        let start = if name.ends_with(".bn.weight") { 1.0 } else { 0.0 };
        let value = (var.as_tensor() + noise).unwrap().affine(1.0, start).unwrap();
        *var = Var::from_tensor(&value).unwrap();
    }
    net
}

fn images(n: usize) -> Tensor {
    Tensor::randn(0f32, 1.0, (n, PX, PX, 3), &Device::Cpu).unwrap()
}

#[test]
fn deployed_networks_equal_the_supernet() {
    // ONNX Runtime rounds less than tract does on the large spaces: tract is off by up to 5e-4 with these weights.
    let runtime = open(RuntimeKind::Ort, 1, None).unwrap();
    let mut spaces: Vec<Space> = PRESETS.iter().map(|(name, _)| Space::preset(name).unwrap()).collect();
    let plain = Space { activation: ActivationKind::HardSwish, squeeze_excite: None, ..spaces[2].clone() };
    spaces.push(plain);
    for space in spaces {
        let net = scrambled(space);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..4 {
            let arch = net.space.uniform(&mut rng);
            let statistics = recalibrate(&net, &arch, &[images(8), images(8)]).unwrap();
            let image = images(1);
            let expected = net.eval_with(&arch, &image, &statistics).unwrap();
            let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut weights = Deployed::new(&net, &arch, &statistics).unwrap();
            let graph = inas_graph::network(&net.space, &arch, PX as u32, &mut weights).unwrap();
            let mut session = runtime.load(&graph.to_onnx(&OnnxOptions::default()).unwrap()).unwrap();
            let planes = image.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap().flatten_all().unwrap();
            session.set_inputs(&[&planes.to_vec1::<f32>().unwrap()]).unwrap();
            session.run().unwrap();
            let got = session.output(0).unwrap();
            let difference = got.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(difference <= 1e-4, "{} {}: {difference}", net.space.name, arch.to_json());
            let range = expected.iter().fold(0f32, |m, v| m.max((v - expected[0]).abs()));
            assert!(range > 1e-2, "a flat map proves nothing");
        }
    }
}

#[test]
fn a_checkpoint_keeps_every_value_and_refuses_another_space() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.safetensors");
    let net = scrambled(Space::preset("nano").unwrap());
    net.params.save(&path).unwrap();
    let loaded = Supernet::load(net.space.clone(), &path, &Device::Cpu).unwrap();
    for ((name, ours), (other, theirs)) in net.params.tensors().zip(loaded.params.tensors()) {
        assert_eq!(name, other);
        let flat = |t: Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(flat(ours) == flat(theirs), "{name}");
    }
    let error = Supernet::load(Space::preset("iccv21").unwrap(), &path, &Device::Cpu).unwrap_err();
    assert!(matches!(&error, Error::Checkpoint { reason, .. } if reason.contains("needs")), "{error}");
    std::fs::write(&path, b"short").unwrap();
    assert!(matches!(Supernet::load(net.space, &path, &Device::Cpu), Err(Error::Checkpoint { .. })));
}
