//! Every operator against finite differences in double precision.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use candle_core::{Device, Result, Tensor, Var};
use inas_nn::gradcheck::{max_error, uniform};
use inas_nn::ops::{self, Activation};

const ACTS: [Activation; 7] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Relu6,
    Activation::HardSwish,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::HardSigmoid,
];

fn var(shape: &[usize], seed: u64) -> Var {
    uniform(shape, -1.0, 1.0, seed).unwrap()
}

#[track_caller]
fn check(vars: &[Var], f: impl Fn(&[Var]) -> Result<Tensor>) {
    let error = max_error(vars, 1e-5, f).unwrap();
    assert!(error < 1e-7, "gradient error {error:e}");
}

/// The values `0, 1, ...` in a fixed order that mixes them, scaled: no two are close.
fn spaced(shape: &[usize]) -> Var {
    let len: usize = shape.iter().product();
    let data: Vec<f64> = (0..len).map(|i| (i * 7919 % len) as f64 / len as f64).collect();
    assert!(!len.is_multiple_of(7919));
    Var::from_tensor(&Tensor::from_vec(data, shape, &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn a_wrong_gradient_is_found() {
    // candle's own bilinear upsampling has none; its max pooling divides it by four.
    let error = max_error(&[spaced(&[1, 1, 4, 4])], 1e-5, |v| v[0].max_pool2d(2)).unwrap();
    assert!(error > 0.1, "{error}");
    let error = max_error(&[var(&[3], 1)], 1e-5, |v| v[0].detach().sqr()).unwrap();
    assert!(error > 0.1, "{error}");
    check(&[var(&[3], 1)], |v| v[0].sqr());
}

#[test]
fn pointwise() {
    check(&[var(&[2, 3, 2, 5], 1), var(&[4, 5, 1, 1], 2)], |v| ops::pointwise_conv(&v[0], &v[1]));
}

#[test]
fn pointwise_slices() {
    check(&[var(&[2, 3, 5, 3], 1), var(&[7, 6, 1, 1], 2)], |v| {
        let w = v[1].narrow(0, 1, 4)?.narrow(1, 0, 3)?;
        ops::pointwise_conv(&v[0].transpose(1, 2)?, &w)
    });
}

#[test]
fn conv() {
    for (h, w, k, stride, padding) in [
        (5, 4, 3, 1, 1),
        (7, 6, 3, 2, 1),
        (8, 9, 3, 2, 1),
        (5, 6, 5, 2, 2),
        (4, 5, 2, 2, 0),
        (3, 3, 1, 2, 0),
        (6, 5, 3, 3, 0),
    ] {
        check(&[var(&[2, h, w, 3], 1), var(&[4, 3, k, k], 2)], |v| ops::conv2d(&v[0], &v[1], stride, padding));
    }
    check(&[var(&[1, 5, 4, 4], 1), var(&[6, 6, 3, 3], 2)], |v| {
        ops::conv2d(&v[0], &v[1].narrow(0, 0, 3)?.narrow(1, 0, 4)?, 1, 1)
    });
}

#[test]
fn depthwise() {
    for k in [1, 3, 5, 7, 9, 11] {
        for (h, w) in [(6, 5), (3, 11)] {
            for (stride, dilation) in [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1)] {
                check(&[var(&[2, h, w, 3], 1), var(&[3, 1, k, k], 2)], |v| {
                    ops::depthwise_conv2d(&v[0], &v[1], stride, dilation)
                });
            }
        }
    }
}

#[test]
fn depthwise_full_vectors_and_tiles() {
    for k in [3, 5, 9] {
        for stride in [1, 2] {
            check(&[var(&[1, 3, 20, 9], 1), var(&[9, 1, k, k], 2)], |v| ops::depthwise_conv2d(&v[0], &v[1], stride, 1));
        }
    }
}

#[test]
fn depthwise_slices() {
    // Channel prefix and centre crop of a larger kernel, as weight sharing takes them.
    check(&[var(&[1, 4, 5, 3], 1), var(&[5, 1, 7, 7], 2)], |v| {
        let w = v[1].narrow(0, 0, 3)?.narrow(2, 1, 5)?.narrow(3, 1, 5)?;
        ops::depthwise_conv2d(&v[0].transpose(1, 2)?, &w, 2, 1)
    });
}

#[test]
fn batch_norm_through_statistics() {
    for act in ACTS {
        let vars = [var(&[2, 3, 5, 4], 1), var(&[4], 2), var(&[4], 3)];
        check(&vars, |v| Ok(ops::batch_norm_train(&v[0], &v[1], &v[2], 1e-3, act)?.0));
    }
    check(&[var(&[3, 2, 6, 4], 1), var(&[9], 2), var(&[6], 3)], |v| {
        let x = v[0].transpose(2, 3)?;
        Ok(ops::batch_norm_train(&x, &v[1].narrow(0, 2, 6)?, &v[2], 1e-3, Activation::Silu)?.0)
    });
}

#[test]
fn batch_norm_given_statistics() {
    let (mean, spread) = (var(&[4], 4), uniform(&[4], 0.5, 2.0, 5).unwrap());
    for act in ACTS {
        check(&[var(&[2, 3, 5, 4], 1), var(&[6], 2), var(&[4], 3)], |v| {
            ops::batch_norm_eval(&v[0], &v[1].narrow(0, 1, 4)?, &v[2], &mean, &spread, 1e-3, act)
        });
    }
}

#[test]
fn activations() {
    for act in ACTS {
        let x = uniform(&[3, 40], -8.0, 8.0, 1).unwrap();
        check(&[x], |v| ops::activation(&v[0].t()?, act));
    }
}

#[test]
fn squeeze() {
    check(&[var(&[2, 3, 5, 4], 1)], |v| ops::global_avg_pool(&v[0]));
    check(&[var(&[2, 5, 7, 4], 1)], |v| ops::global_avg_pool(&v[0].transpose(1, 3)?));
    check(&[var(&[2, 3, 5, 4], 1), var(&[2, 6], 2)], |v| ops::scale_channels(&v[0], &v[1].narrow(1, 1, 4)?));
}

#[test]
fn pools() {
    for (h, w, k) in [(4, 6, 2), (5, 7, 2), (7, 6, 3), (4, 3, 1)] {
        check(&[spaced(&[2, h, w, 3])], |v| ops::max_pool2d(&v[0], k));
        check(&[spaced(&[2, h, w, 3])], |v| ops::avg_pool2d(&v[0], k));
    }
    check(&[spaced(&[1, 3, 5, 4])], |v| ops::max_pool2d(&v[0].transpose(1, 3)?, 2));
}

#[test]
fn bilinear() {
    for align in [false, true] {
        for (h, w, oh, ow) in [(3, 4, 6, 8), (3, 4, 7, 5), (5, 6, 3, 2), (1, 3, 4, 1), (2, 2, 2, 2)] {
            check(&[var(&[2, h, w, 3], 1)], |v| ops::upsample_bilinear2d(&v[0], oh, ow, align));
        }
    }
}

#[test]
fn mean() {
    for n in 1..6 {
        let vars: Vec<Var> = (0..n).map(|i| var(&[2, 3, 4], i)).collect();
        check(&vars, |v| {
            let xs: Vec<Tensor> = v.iter().map(|v| v.as_tensor().clone()).collect();
            ops::mean_of(&xs)
        });
    }
    // One tensor twice, and a view.
    check(&[var(&[3, 3], 1), var(&[3, 3], 2)], |v| {
        ops::mean_of(&[v[0].as_tensor().clone(), v[0].t()?, v[1].as_tensor().clone()])
    });
}

#[test]
fn losses() {
    let p = || uniform(&[2, 4, 3], 0.1, 0.9, 1).unwrap();
    let y = uniform(&[2, 3, 4], 0.0, 1.0, 2).unwrap();
    check(&[p()], |v| ops::bce_loss(&v[0].transpose(1, 2)?, &y));
    check(&[p()], |v| ops::mse_loss(&v[0].transpose(1, 2)?, &y));
    check(&[p()], |v| ops::bce_loss(&v[0].transpose(1, 2)?, &y)? * 3.0);
}
