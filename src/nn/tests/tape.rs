//! Every block of the tape against finite differences in double precision.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use candle_core::{Device, Result, Tensor};
use inas_nn::gradcheck::uniform;
use inas_nn::ops::Activation;
use inas_nn::tape::{After, Branch, Gate, Gradients, Norm, Tape, Value, Weight};

type F<'a> = &'a dyn Fn(&mut Tape<f64>, &[Weight]) -> Result<Value<f64>>;

fn weight(name: &str, shape: &[usize], seed: u64) -> Weight {
    Weight { name: name.into(), tensor: uniform(shape, -1.0, 1.0, seed).unwrap().as_tensor().copy().unwrap().detach() }
}

fn norm(gamma: &Weight, beta: &Weight) -> Norm {
    Norm { name: "bn".into(), affine: Some((gamma.clone(), beta.clone())), fixed: None, eps: 1e-3 }
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Moves every element of every weight; the first is also run as an input that takes a gradient where `f` asks for it.
#[track_caller]
fn check(weights: &[Weight], f: F<'_>) {
    let mut tape = Tape::new(true);
    let y = f(&mut tape, weights).unwrap();
    let projection = uniform(&y.dims(), -1.0, 1.0, 99).unwrap().as_tensor().clone();
    let mut grads = Gradients::new();
    tape.backward(vec![(y, projection.clone())], &mut grads).unwrap();
    let grads = grads.into_tensors().unwrap();
    let value = |weights: &[Weight]| -> f64 {
        let y = f(&mut Tape::new(false), weights).unwrap().to_tensor().unwrap();
        (y * &projection).unwrap().sum_all().unwrap().to_scalar().unwrap()
    };
    for (k, w) in weights.iter().enumerate() {
        let analytic = flat(&grads[&w.name]);
        let start = flat(&w.tensor);
        for i in 0..start.len() {
            let at = |d: f64| {
                let mut moved = start.clone();
                moved[i] += d;
                let mut all = weights.to_vec();
                all[k].tensor = Tensor::from_vec(moved, w.tensor.shape(), &Device::Cpu).unwrap();
                value(&all)
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            let error = (analytic[i] - numeric).abs() / numeric.abs().max(1.0);
            assert!(error < 1e-6, "{} [{i}]: {} against {numeric}", w.name, analytic[i]);
        }
    }
}

#[test]
fn pointwise_norm_act() {
    for act in [
        Activation::Identity,
        Activation::Relu,
        Activation::Relu6,
        Activation::HardSwish,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
    ] {
        // The weight and the norm are larger than what is read of them.
        let weights = [
            weight("x", &[2, 3, 4, 5], 1),
            weight("w", &[7, 6, 1, 1], 2),
            weight("gamma", &[5], 3),
            weight("beta", &[4], 4),
        ];
        check(&weights, &|tape, w| {
            let x = tape.variable(&w[0])?;
            let norm = norm(&w[2], &w[3]);
            tape.pointwise(&x, None, &w[1], 4, After { norm: Some(&norm), residual: None, act })
        });
    }
}

#[test]
fn pointwise_residual() {
    for act in [Activation::Identity, Activation::Silu] {
        let weights = [
            weight("x", &[1, 5, 4, 3], 1),
            weight("w", &[3, 3, 1, 1], 2),
            weight("gamma", &[3], 3),
            weight("beta", &[3], 4),
        ];
        // The input is its own residual: two gradients meet.
        check(&weights, &|tape, w| {
            let x = tape.variable(&w[0])?;
            let norm = norm(&w[2], &w[3]);
            tape.pointwise(&x, None, &w[1], 3, After { norm: Some(&norm), residual: Some(&x), act })
        });
    }
}

#[test]
fn pointwise_without_norm() {
    for act in [Activation::Identity, Activation::Sigmoid] {
        check(&[weight("x", &[2, 3, 3, 4], 1), weight("w", &[3, 5, 1, 1], 2)], &|tape, w| {
            let x = tape.variable(&w[0])?;
            tape.pointwise(&x, None, &w[1], 2, After { norm: None, residual: None, act })
        });
    }
}

#[test]
fn more_rows_than_a_part() {
    let weights = [
        weight("x", &[1, 15, 14, 2], 1),
        weight("w", &[2, 2, 1, 1], 2),
        weight("gamma", &[2], 3),
        weight("beta", &[2], 4),
    ];
    check(&weights, &|tape, w| {
        let x = tape.variable(&w[0])?;
        let norm = norm(&w[2], &w[3]);
        tape.pointwise(&x, None, &w[1], 2, After { norm: Some(&norm), residual: None, act: Activation::Silu })
    });
}

#[test]
fn gate() {
    let weights = [
        weight("x", &[2, 3, 4, 5], 1),
        weight("w", &[4, 6, 1, 1], 2),
        weight("gamma", &[4], 3),
        weight("beta", &[4], 4),
        weight("reduce", &[3, 6, 1, 1], 5),
        weight("reduce bias", &[3], 6),
        weight("expand", &[6, 3, 1, 1], 7),
        weight("expand bias", &[6], 8),
    ];
    check(&weights, &|tape, w| {
        let x = tape.variable(&w[0])?;
        let gate = Gate { reduce: (w[4].clone(), w[5].clone()), expand: (w[6].clone(), w[7].clone()), squeezed: 2 };
        let norm = norm(&w[2], &w[3]);
        let after = After { norm: Some(&norm), residual: None, act: Activation::Identity };
        tape.pointwise(&x, Some(&gate), &w[1], 4, after)
    });
}

#[test]
fn stem() {
    for (k, stride) in [(3, 2), (5, 1), (3, 1)] {
        let x = weight("x", &[2, 6, 7, 3], 1).tensor;
        let weights = [weight("w", &[5, 4, k, k], 2), weight("gamma", &[4], 3), weight("beta", &[4], 4)];
        check(&weights, &|tape, w| {
            let x = tape.constant(&x)?;
            let norm = norm(&w[1], &w[2]);
            tape.conv(&x, &w[0], 4, stride, After { norm: Some(&norm), residual: None, act: Activation::Silu })
        });
    }
}

#[test]
fn multi_scale() {
    // Fewer channels than a vector, and more: the last vector overlaps.
    for (c, kernels, stride, act) in [
        (3, &[3, 5, 7, 9][..], 1, Activation::Silu),
        (11, &[3, 5], 1, Activation::Identity),
        (11, &[3, 9], 2, Activation::HardSwish),
        (2, &[7], 2, Activation::Silu),
    ] {
        let largest = kernels[kernels.len() - 1].max(5);
        let mut weights = vec![
            weight("x", &[1, 5, 11, c], 1),
            weight("w", &[c + 1, 1, largest, largest], 2),
            weight("gamma", &[c], 3),
            weight("beta", &[c], 4),
        ];
        weights.extend(kernels.iter().map(|k| weight(&format!("t{k}"), &[k * k, k * k], *k as u64)));
        // Gradients of the large transforms are many; three rows of them suffice with the others' full ones.
        check(&weights[..if c > 3 { weights.len() } else { 4 }], &|tape, w| {
            let x = tape.variable(&w[0])?;
            let branches: Vec<Branch> = kernels
                .iter()
                .enumerate()
                .map(|(i, &kernel)| Branch {
                    kernel,
                    transform: w.get(4 + i).unwrap_or(&weights[4 + i]).clone(),
                    norm: norm(&w[2], &w[3]),
                })
                .collect();
            tape.multi_scale(&x, &w[1], &branches, stride, act)
        });
    }
}

#[test]
fn pools_and_fuse() {
    let weights = [weight("a", &[2, 4, 6, 3], 1), weight("b", &[2, 2, 3, 3], 2), weight("c", &[2, 5, 7, 3], 3)];
    check(&weights, &|tape, w| {
        let (a, b, c) = (tape.variable(&w[0])?, tape.variable(&w[1])?, tape.variable(&w[2])?);
        let up = tape.fuse(&[], std::slice::from_ref(&b), (8, 12))?;
        let (mean, max) = (tape.avg_pool(&up, 2)?, tape.max_pool(&up, 2)?);
        // The last rows and columns of `c` lie outside the windows.
        let small = tape.max_pool(&c, 2)?;
        let average = tape.avg_pool(&c, 2)?;
        tape.fuse(&[a.clone(), mean, max, a], &[b, small, average], (4, 6))
    });
}

#[test]
fn fixed_statistics_equal_those_of_the_batch() {
    let (x, w) = (weight("x", &[2, 5, 6, 19], 1), weight("w", &[19, 1, 5, 5], 2));
    let (gamma, beta) = (weight("gamma", &[19], 3), weight("beta", &[19], 4));
    let transforms = [weight("t3", &[9, 9], 5), weight("t5", &[25, 25], 6)];
    let run = |fixed: Option<&[(Tensor, Tensor)]>| {
        let mut tape = Tape::<f64>::new(false);
        let branches: Vec<Branch> = [3, 5]
            .into_iter()
            .zip(&transforms)
            .enumerate()
            .map(|(i, (kernel, t))| {
                let norm = Norm { fixed: fixed.map(|f| f[i].clone()), ..norm(&gamma, &beta) };
                Branch { kernel, transform: t.clone(), norm }
            })
            .collect();
        let x = tape.constant(&x.tensor).unwrap();
        let y = tape.multi_scale(&x, &w, &branches, 2, Activation::Silu).unwrap().to_tensor().unwrap();
        (y, std::mem::take(&mut tape.seen))
    };
    let (want, seen) = run(None);
    // The batch is normalised by the biased variance; what is reported is the unbiased one.
    let n = 2.0 * 3.0 * 3.0;
    let fixed: Vec<_> = seen.iter().map(|(_, s)| (s.mean.clone(), (&s.var * ((n - 1.0) / n)).unwrap())).collect();
    let (got, none) = run(Some(&fixed));
    assert!(none.is_empty());
    for (a, b) in flat(&want).iter().zip(flat(&got)) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }
}

#[test]
fn wrong_inputs_are_refused() {
    let mut tape = Tape::<f64>::new(true);
    let x = tape.variable(&weight("x", &[1, 4, 4, 3], 1)).unwrap();
    let after = || After { norm: None, residual: None, act: Activation::Identity };
    let none: [Value<f64>; 0] = [];
    let errors = [
        tape.pointwise(&x, None, &weight("w", &[2, 2, 1, 1], 2), 2, after()).err(),
        tape.pointwise(&x, None, &weight("w", &[2, 3, 1, 1], 2), 3, after()).err(),
        tape.pointwise(&x, None, &weight("w", &[2, 3, 1, 1], 2), 2, After { residual: Some(&x), ..after() }).err(),
        tape.pointwise(&x, None, &weight("w", &[2, 3, 1, 1], 2), 2, After { act: Activation::Silu, ..after() }).err(),
        tape.conv(&x, &weight("w", &[2, 3, 3, 3], 2), 2, 0, after()).err(),
        tape.multi_scale(&x, &weight("w", &[3, 1, 3, 3], 2), &[], 1, Activation::Identity).err(),
        tape.max_pool(&x, 5).err(),
        tape.fuse(&none, &none, (2, 2)).err(),
    ];
    for (i, error) in errors.into_iter().enumerate() {
        assert!(error.is_some(), "case {i} was accepted");
    }
    let seed = Tensor::zeros((1, 1, 1, 1), candle_core::DType::F64, &Device::Cpu).unwrap();
    assert!(tape.backward(vec![(x, seed)], &mut Gradients::new()).is_err());
}
