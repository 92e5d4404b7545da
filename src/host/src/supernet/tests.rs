//! The deployed form of any sub-network computes what its training form does; checkpoints keep every value.

use candle_core::{DType, Device, Tensor, Var};
use inas_graph::OnnxOptions;
use inas_profiler::{RuntimeKind, open};
use inas_space::{ActivationKind, Space};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Deployed, Error, Outputs, Sandwich, Supernet, recalibrate};

const PX: usize = 64;

/// Seeded noise of unit variance.
fn noise(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let width = 3f32.sqrt();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-width..width)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A supernet whose every BN scale and kernel transform does something: fresh ones start at zero or identity.
///
/// Shortcuts get gain 1, so that activations do not grow with depth as they do in a fresh, untrained network: whole
/// channels would lie below -14.5, where tract's SiLU is off by 6.5e-6, and the BN behind such a dead channel multiplies
/// that by up to 1 / sqrt(eps) = 316.
fn scrambled(space: Space) -> Supernet {
    let mut net = Supernet::new(space, 3, &Device::Cpu).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (name, var) in &mut net.params.weights {
        let changed = if var.rank() < 4 {
            let start = if name.ends_with(".bn.weight") { 1.0 } else { 0.0 };
            var.as_tensor() + noise(&mut rng, var.dims()).affine(0.1, start).unwrap()
        } else if name.contains(".identity_conv.") {
            var.affine(0.5f64.sqrt(), 0.0)
        } else {
            continue;
        };
        *var = Var::from_tensor(&changed.unwrap()).unwrap();
    }
    net
}

fn images(rng: &mut ChaCha8Rng, n: usize) -> Tensor {
    noise(rng, &[n, PX, PX, 3])
}

#[test]
fn deployed_networks_equal_the_supernet() {
    let runtime = open(RuntimeKind::Tract, 1, None).unwrap();
    let nano = Space::preset("nano").unwrap();
    let hard = Space { activation: ActivationKind::HardSwish, squeeze_excite: None, ..nano.clone() };
    let full = |name| Space::preset(name).unwrap();
    for (space, draws) in [(nano, 20), (hard, 10), (full("iccv21"), 2), (full("thesis"), 2)] {
        let net = scrambled(space);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..draws {
            let arch = net.space.uniform(&mut rng);
            let statistics = recalibrate(&net, &arch, &[images(&mut rng, 8), images(&mut rng, 8)]).unwrap();
            let image = images(&mut rng, 1);
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

/// Two descriptions of every block and of its gradient: the tape's, and candle's own operators with candle's graph.
#[test]
fn the_tape_computes_what_candles_graph_does() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut net = scrambled(Space::preset("nano").unwrap());
    // Enough images that a BN over the coarsest level, 2 x 2 pixels, is well conditioned.
    let image = images(&mut rng, 8);
    let label = images(&mut rng, 8).narrow(3, 0, 1).unwrap().ge(0.0).unwrap().to_dtype(DType::F32).unwrap();
    for arch in [net.space.max(), net.space.min(), net.space.uniform(&mut rng)] {
        let learn = |maps: &[Tensor]| {
            let mut loss = inas_nn::ops::bce_loss(&maps[0], &label)?;
            for map in &maps[1..] {
                loss = (loss + inas_nn::ops::bce_loss(map, &label)?)?;
            }
            Ok((loss.to_scalar::<f32>()?, loss.backward()?))
        };
        let buffers = net.params.buffers.clone();
        let mut on_tape = inas_nn::tape::Gradients::new();
        let (maps, loss) = net
            .on_tape(&arch, &image, Outputs::All, learn, (&mut on_tape, &mut std::collections::BTreeMap::new()))
            .unwrap();
        let running = std::mem::replace(&mut net.params.buffers, buffers);
        let mut composed = std::collections::BTreeMap::new();
        let (want_maps, want_loss) = net.composed(&arch, &image, Outputs::All, learn, &mut composed).unwrap();
        assert!((loss - want_loss).abs() < 1e-5 * want_loss, "{loss} {want_loss}");
        for (a, b) in maps.iter().zip(&want_maps) {
            let difference = largest(&(a - b).unwrap());
            assert!(difference < 1e-5, "{difference}");
        }
        for (name, want) in &net.params.buffers {
            if want.dtype() == DType::F32 {
                assert!(largest(&(&running[name] - want).unwrap()) < 1e-5, "{name}");
            }
        }
        let on_tape = on_tape.into_tensors().unwrap();
        assert_eq!(on_tape.keys().collect::<Vec<_>>(), composed.keys().collect::<Vec<_>>());
        for (name, want) in &composed {
            let difference = largest(&(&on_tape[name] - want).unwrap());
            assert!(difference <= 2e-3 * largest(want).max(1e-3), "{name}: {difference} of {}", largest(want));
        }
    }
}

fn largest(t: &Tensor) -> f32 {
    t.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn a_classifier_learns_through_the_whole_backbone() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let space = Space::preset("nano").unwrap();
    let mut net = Supernet::classifier(space, 3, 0, &Device::Cpu).unwrap();
    for (name, var) in &net.params.weights {
        // The last scale of every layer starts at zero, which hides what is before it.
        if name.ends_with("point_linear.bn.bn.weight") {
            var.set(&var.as_tensor().ones_like().unwrap()).unwrap();
        }
    }
    let image = images(&mut rng, 6);
    let classes = Tensor::new(&[0f32, 1.0, 2.0, 2.0, 1.0, 0.0], &Device::Cpu).unwrap();
    let sandwich = Sandwich::draw(&net.space, true, 1, &mut rng);
    let step = net.classification(&image, &classes, 0.1, &sandwich).unwrap();
    let backbone = |name: &&String| name.starts_with("backbone.") || name.starts_with("classifier.");
    assert!(step.grads.keys().all(|name| backbone(&name)));
    let without: Vec<_> =
        net.params.weights.keys().filter(backbone).filter(|name| !step.grads.contains_key(*name)).collect();
    // Only shortcuts that change nothing have no use for their convolution.
    assert!(without.iter().all(|name| name.contains("identity_conv")), "{without:?}");

    // Along a random direction, the largest network's loss changes as its gradient says.
    let largest = Sandwich::of(vec![net.space.max()]);
    let grads = net.classification(&image, &classes, 0.1, &largest).unwrap().grads;
    let direction: Vec<_> = grads.keys().map(|name| (name, noise(&mut rng, grads[name].dims()))).collect();
    let slope: f64 = direction.iter().map(|(name, d)| inner(&grads[*name], d)).sum();
    let mut loss_at = |t: f64| {
        for (name, d) in &direction {
            let var = &net.params.weights[*name];
            var.set(&(var.as_tensor().detach() + (d * t).unwrap()).unwrap()).unwrap();
        }
        let loss = f64::from(net.classification(&image, &classes, 0.1, &largest).unwrap().losses[0]);
        for (name, d) in &direction {
            let var = &net.params.weights[*name];
            var.set(&(var.as_tensor().detach() - (d * t).unwrap()).unwrap()).unwrap();
        }
        loss
    };
    let t = 1e-4;
    let measured = (loss_at(t) - loss_at(-t)) / (2.0 * t);
    assert!((measured - slope).abs() < 0.02 * slope.abs().max(1.0), "{measured} {slope}");
}

fn inner(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().into()
}

/// A network of both spaces computes the same in the part that was taken.
#[test]
fn a_smaller_space_starts_from_its_part_of_a_larger_one() {
    let large = scrambled(Space::preset("nano").unwrap());
    let mut space = large.space.clone();
    for stage in &mut space.stages {
        stage.channels.truncate(1);
        stage.depths.truncate(1);
        stage.kernels.truncate(2);
    }
    for level in &mut space.levels {
        level.transport.sources.clone_from(&level.transport.required);
        level.decoder.kernels.remove(0);
    }
    space.check().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    large.params.save(file.path()).unwrap();
    let small = Supernet::start_from(space, file.path(), 0, &Device::Cpu).unwrap();
    assert!(small.params.count() < large.params.count() / 2);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let (arch, image) = (small.space.uniform(&mut rng), images(&mut rng, 1));
    let difference = (small.eval(&arch, &image).unwrap() - large.eval(&arch, &image).unwrap()).unwrap();
    let largest = difference.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(largest < 1e-6, "{largest}");
}
