//! The tape's operators of searched cells against finite differences in double precision.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use candle_core::{Device, Result, Tensor};
use inas_nn::gradcheck::uniform;
use inas_nn::ops::Activation;
use inas_nn::tape::{After, Factor, Gradients, Norm, Part, Tape, Term, Value, Wanted, Weight, Window};

type F<'a> = &'a dyn Fn(&mut Tape<f64>, &[Weight]) -> Result<Value<f64>>;

fn weight(name: &str, shape: &[usize], seed: u64) -> Weight {
    Weight { name: name.into(), tensor: uniform(shape, -1.0, 1.0, seed).unwrap().as_tensor().copy().unwrap().detach() }
}

fn plain(name: &str) -> Norm {
    Norm { name: name.into(), affine: None, fixed: None, eps: 1e-3 }
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn gradients(weights: &[Weight], wanted: Wanted, f: F<'_>) -> (std::collections::BTreeMap<String, Tensor>, Tensor) {
    let mut tape = Tape::recording(wanted);
    let y = f(&mut tape, weights).unwrap();
    let projection = uniform(&y.dims(), -1.0, 1.0, 99).unwrap().as_tensor().clone();
    let mut grads = Gradients::new();
    tape.backward(vec![(y, projection.clone())], &mut grads).unwrap();
    (grads.into_tensors().unwrap(), projection)
}

/// Moves every element of every weight.
#[track_caller]
fn check(weights: &[Weight], f: F<'_>) {
    let (grads, projection) = gradients(weights, Wanted::All, f);
    let value = |weights: &[Weight]| -> f64 {
        let y = f(&mut Tape::new(false), weights).unwrap().to_tensor().unwrap();
        (y * &projection).unwrap().sum_all().unwrap().to_scalar().unwrap()
    };
    for (k, w) in weights.iter().enumerate() {
        let (analytic, start) = (flat(&grads[&w.name]), flat(&w.tensor));
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

fn factor(w: &Weight, index: usize) -> Factor {
    Factor { weight: w.clone(), index, value: flat(&w.tensor)[index] }
}

#[test]
fn depthwise() {
    for (k, stride, dilation) in [(3, 1, 1), (5, 2, 1), (3, 1, 2), (5, 1, 2), (3, 2, 2), (5, 2, 2)] {
        // Odd and even sides, more pixels than a tile.
        check(&[weight("x", &[2, 5, 19, 3], 1), weight("w", &[3, 1, k, k], 2)], &|tape, w| {
            let x = tape.variable(&w[0])?;
            tape.depthwise(&x, &w[1], stride, dilation)
        });
    }
}

#[test]
fn windows() {
    for (side, stride, padding) in [(3, 1, 1), (3, 2, 1), (5, 3, 0), (2, 2, 0)] {
        let window = Window { side, stride, padding };
        for max in [false, true] {
            check(&[weight("x", &[2, 8, 6, 3], 1)], &|tape, w| {
                let x = tape.variable(&w[0])?;
                if max { tape.max_window(&x, window) } else { tape.mean_window(&x, window) }
            });
        }
    }
}

#[test]
fn a_mean_leaves_padding_out() {
    let mut tape = Tape::<f32>::new(false);
    let x = tape.constant(&Tensor::ones((1, 4, 4, 2), candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
    let y = tape.mean_window(&x, Window { side: 3, stride: 1, padding: 1 }).unwrap();
    assert!(
        y.to_tensor().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|v| (v - 1.0).abs() < 1e-6)
    );
}

#[test]
fn layouts() {
    check(&[weight("a", &[2, 4, 6, 3], 1), weight("b", &[2, 4, 6, 2], 2)], &|tape, w| {
        let (a, b) = (tape.variable(&w[0])?, tape.variable(&w[1])?);
        let half = tape.channels(&a, 1, 2)?;
        // `a` is read twice.
        let all = tape.concat(&[a, b, half])?;
        let all = tape.channels(&all, 1, 6)?;
        let all = tape.shuffle(&all, 2)?;
        tape.halves(&all)
    });
}

#[test]
fn shuffle_is_that_of_a_transposed_view() {
    let mut tape = Tape::<f32>::new(false);
    let x = Tensor::arange(0f32, 8f32, &Device::Cpu).unwrap().reshape((1, 1, 1, 8)).unwrap();
    let x = tape.constant(&x).unwrap();
    let y = tape.shuffle(&x, 4).unwrap().to_tensor().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(y, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
}

#[test]
fn relu_norm_mean_linear() {
    for act in [Activation::Identity, Activation::Relu] {
        let weights = [
            weight("x", &[3, 4, 5, 3], 1),
            weight("gamma", &[3], 2),
            weight("beta", &[3], 3),
            weight("w", &[4, 3], 4),
            weight("b", &[4], 5),
        ];
        check(&weights, &|tape, w| {
            let x = tape.variable(&w[0])?;
            let r = tape.relu(&x);
            // Two readers of `x` and of `r`.
            let sum = tape.concat(&[x, r.clone()])?;
            let sum = tape.channels(&sum, 2, 3)?;
            let norm = Norm { affine: Some((w[1].clone(), w[2].clone())), ..plain("bn") };
            let y = tape.norm(&sum, &norm, act)?;
            let y = tape.mix(vec![
                Part { term: Term::Value(y.clone()), factor: None, images: None },
                Part { term: Term::Value(r.clone()), factor: None, images: Some(vec![0.0, 1.25, 1.25]) },
                Part { term: Term::Value(y.clone()), factor: None, images: None },
            ])?;
            let y = tape.global_mean(&y);
            tape.linear(&y, &w[3], &w[4])
        });
    }
}

fn cell(tape: &mut Tape<f64>, w: &[Weight], affine: bool) -> Result<Value<f64>> {
    let x = tape.variable(&w[0])?;
    let r = tape.relu(&x);
    let halved = tape.halves(&r)?;
    let d = tape.depthwise(&r, &w[1], 2, 2)?;
    let norm = |name: &str| Norm { affine: affine.then(|| (w[5].clone(), w[6].clone())), ..plain(name) };
    let conv = tape.raw_pointwise(&d, &w[2], 4, norm("one"))?;
    let skip = tape.raw_halves(&halved, (&w[3], &w[4]), norm("two"))?;
    let pool = tape.max_window(&x, Window { side: 3, stride: 2, padding: 1 })?;
    let pool = tape.norm(&pool, &plain("three"), Activation::Identity)?;
    let first = tape.channels(&pool, 0, 1)?;
    let pool = tape.concat(&[pool, first])?;
    tape.mix(vec![
        Part { term: Term::Raw(conv), factor: Some(factor(&w[7], 0)), images: None },
        Part { term: Term::Raw(skip), factor: Some(factor(&w[7], 2)), images: None },
        Part { term: Term::Value(pool.clone()), factor: Some(factor(&w[7], 1)), images: None },
    ])
}

fn cell_weights(affine: bool) -> Vec<Weight> {
    let mut weights = vec![
        weight("x", &[2, 6, 8, 3], 1),
        weight("depthwise", &[3, 1, 3, 3], 2),
        weight("pointwise", &[4, 3, 1, 1], 3),
        weight("half", &[2, 3, 1, 1], 4),
        weight("other", &[2, 3, 1, 1], 5),
    ];
    let (gamma, beta) = (weight("gamma", &[4], 7), weight("beta", &[4], 8));
    let factors = weight("factors", &[3], 6);
    if affine {
        weights.extend([gamma, beta, factors]);
    } else {
        // Not read, and not checked.
        weights.extend([factors.clone(), factors.clone(), factors]);
    }
    weights
}

#[test]
fn mixed_edges() {
    for affine in [false, true] {
        check(&cell_weights(affine), &|tape, w| {
            let mut w = w.to_vec();
            if !affine {
                // The three entries are one weight: the one that was moved counts.
                let start = flat(&cell_weights(false)[7].tensor);
                let moved = w[5..].iter().find(|w| flat(&w.tensor) != start).cloned();
                w[7] = moved.unwrap_or_else(|| w[7].clone());
            }
            cell(tape, &w, affine)
        });
    }
}

#[test]
fn what_is_not_wanted_does_not_change_what_is() {
    let weights = cell_weights(true);
    let f: F<'_> = &|tape, w| cell(tape, w, true);
    let (all, _) = gradients(&weights, Wanted::All, f);
    let (factors, _) = gradients(&weights, Wanted::Factors, f);
    let (parameters, _) = gradients(&weights, Wanted::Parameters, f);
    assert_eq!(flat(&factors["factors"]), flat(&all["factors"]));
    assert!(!parameters.contains_key("factors"));
    for name in ["depthwise", "pointwise", "half", "other", "gamma", "beta"] {
        assert_eq!(flat(&parameters[name]), flat(&all[name]), "{name}");
        assert!(!factors.contains_key(name), "{name}");
    }
}

#[test]
fn convolutions_of_inputs_with_gradients() {
    let weights = [weight("x", &[2, 6, 6, 3], 1), weight("w", &[4, 3, 3, 3], 2)];
    for stride in [1, 2] {
        check(&weights, &|tape, w| {
            let x = tape.variable(&w[0])?;
            let norm = plain("bn");
            tape.conv(&x, &w[1], 4, stride, After { norm: Some(&norm), residual: None, act: Activation::Relu })
        });
    }
    check(&[weight("x", &[3, 2, 2, 3], 1), weight("w", &[4, 3, 2, 2], 2)], &|tape, w| {
        let x = tape.variable(&w[0])?;
        let y = tape.conv_whole(&x, &w[1], 4, After { norm: None, residual: None, act: Activation::Identity })?;
        Ok(tape.relu(&y))
    });
}

#[test]
fn known_statistics_are_applied() {
    let mean = Tensor::new(&[0.1, -0.2, 0.3, 0.4], &Device::Cpu).unwrap();
    let var = Tensor::new(&[1.1, 0.7, 1.3, 0.9], &Device::Cpu).unwrap();
    let weights = cell_weights(true);
    let norm = Norm {
        affine: Some((weights[5].clone(), weights[6].clone())),
        fixed: Some((mean.clone(), var.clone())),
        ..plain("bn")
    };
    let mut tape = Tape::<f64>::new(false);
    let x = tape.variable(&weights[0]).unwrap();
    let raw = tape.raw_pointwise(&x, &weights[2], 4, norm.clone()).unwrap();
    let mixed = tape.mix(vec![Part { term: Term::Raw(raw), factor: None, images: None }]).unwrap();
    let after = After { norm: Some(&norm), residual: None, act: Activation::Identity };
    let fused = tape.pointwise(&x, None, &weights[2], 4, after).unwrap();
    let (a, b) = (flat(&mixed.to_tensor().unwrap()), flat(&fused.to_tensor().unwrap()));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12));
    assert!(tape.seen.is_empty());
}

#[test]
fn misfits_are_errors() {
    let mut tape = Tape::<f64>::new(true);
    let w = weight("w", &[3, 1, 3, 3], 1);
    let x = tape.variable(&weight("x", &[1, 5, 5, 4], 2)).unwrap();
    assert!(tape.depthwise(&x, &w, 1, 1).is_err());
    assert!(tape.halves(&x).is_err());
    assert!(tape.mix(vec![]).is_err());
    assert!(tape.channels(&x, 3, 2).is_err());
    assert!(tape.shuffle(&x, 3).is_err());
    assert!(tape.linear(&x, &w, &w).is_err());
    assert!(tape.max_window(&x, Window { side: 9, stride: 1, padding: 1 }).is_err());
}

#[test]
fn gates() {
    // `z` comes from `x` too, as in an attention refinement.
    check(&[weight("x", &[2, 3, 5, 4], 1), weight("w", &[4, 4, 1, 1], 2)], &|tape, w| {
        let x = tape.variable(&w[0])?;
        let mean = tape.global_mean(&x);
        let after = After { norm: None, residual: None, act: Activation::Identity };
        let z = tape.pointwise(&mean, None, &w[1], 4, after)?;
        tape.gate(&x, &z)
    });
    let mut tape = Tape::<f64>::new(false);
    let [x, z] = [[1, 2, 2, 3], [1, 1, 1, 2]].map(|dims| tape.constant(&weight("x", &dims, 1).tensor).unwrap());
    assert!(tape.gate(&x, &z).is_err());
}
