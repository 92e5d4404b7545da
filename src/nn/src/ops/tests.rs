//! The kernels against the compositions of stock operators, values and gradients, and
//! the behaviour finite differences cannot show.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{Activation, bilinear, composite};
use crate::gradcheck::uniform;
use crate::ops;

const ACTS: [Activation; 7] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Relu6,
    Activation::HardSwish,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::HardSigmoid,
];

type Case<'a> = &'a (dyn Fn(&[Tensor]) -> Result<Tensor> + Sync);

fn var(shape: &[usize], seed: u64) -> Var {
    uniform(shape, -2.0, 2.0, seed).unwrap()
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Result and gradients under a fixed weighting of the result.
fn run(vars: &[Var], dtype: DType, f: Case<'_>) -> Vec<Vec<f64>> {
    let xs: Vec<Tensor> = vars.iter().map(|v| v.to_dtype(dtype).unwrap()).collect();
    let y = f(&xs).unwrap();
    let weights = uniform(y.dims(), -1.0, 1.0, 77).unwrap().to_dtype(dtype).unwrap();
    let grads = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let mut out = vec![flat(&y)];
    out.extend(vars.iter().map(|v| flat(grads.get(v).unwrap())));
    out
}

#[track_caller]
fn same(vars: &[Var], kernel: Case<'_>, stock: Case<'_>) {
    let want = run(vars, DType::F64, stock);
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 3e-5)] {
        let got = run(vars, dtype, kernel);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.len(), want.len());
            let size = want.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
            for (a, b) in got.iter().zip(want) {
                assert!((a - b).abs() <= tolerance * size, "{dtype:?}, output {i}: {a} {b}");
            }
        }
    }
    // The same input gives the same bits, also with another number of threads.
    let again = || run(vars, DType::F32, kernel);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(again(), pool.install(again));
}

#[test]
fn convolutions() {
    // The second has more rows than one part of the weight gradient.
    for (h, w) in [(9, 7), (25, 21)] {
        same(&[var(&[2, h, w, 20], 1), var(&[12, 20, 1, 1], 2)], &|v| ops::pointwise_conv(&v[0], &v[1]), &|v| {
            composite::pointwise_conv(&v[0], &v[1])
        });
    }
    for (stride, padding, k) in [(1, 1, 3), (2, 1, 3), (2, 2, 5), (2, 0, 2)] {
        same(&[var(&[2, 9, 8, 5], 1), var(&[6, 5, k, k], 2)], &|v| ops::conv2d(&v[0], &v[1], stride, padding), &|v| {
            composite::conv2d(&v[0], &v[1], stride, padding)
        });
    }
}

#[test]
fn composite_convolution_is_candles() {
    let (x, w) = (var(&[2, 9, 8, 5], 1), var(&[6, 5, 3, 3], 2));
    let a = composite::conv2d(&x, &w, 2, 1).unwrap();
    let b = x.permute((0, 3, 1, 2)).unwrap().conv2d(&w, 1, 2, 1, 1).unwrap();
    for (a, b) in flat(&a).iter().zip(flat(&b.permute((0, 2, 3, 1)).unwrap())) {
        assert!((a - b).abs() < 1e-12);
    }
}

#[test]
fn depthwise() {
    for c in [5, 16, 24, 40] {
        for k in [1, 3, 5, 7, 9] {
            for (h, w) in [(6, 19), (13, 4), (3, 37)] {
                for (stride, dilation) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
                    same(
                        &[var(&[2, h, w, c], 1), var(&[c, 1, k, k], 2)],
                        &|v| ops::depthwise_conv2d(&v[0], &v[1], stride, dilation),
                        &|v| composite::depthwise_conv2d(&v[0], &v[1], stride, dilation),
                    );
                }
            }
        }
    }
}

#[test]
fn batch_norm() {
    let vars = [var(&[3, 15, 14, 20], 1), var(&[20], 2), var(&[20], 3)];
    let (mean, spread) = (var(&[20], 4), uniform(&[20], 0.5, 2.0, 5).unwrap());
    for act in ACTS {
        same(&vars, &|v| Ok(ops::batch_norm_train(&v[0], &v[1], &v[2], 1e-5, act)?.0), &|v| {
            Ok(composite::batch_norm_train(&v[0], &v[1], &v[2], 1e-5, act)?.0)
        });
        same(
            &vars,
            &|v| {
                let (mean, spread) = (mean.to_dtype(v[0].dtype())?, spread.to_dtype(v[0].dtype())?);
                ops::batch_norm_eval(&v[0], &v[1], &v[2], &mean, &spread, 1e-5, act)
            },
            &|v| composite::batch_norm_eval(&v[0], &v[1], &v[2], &mean, &spread, 1e-5, act),
        );
    }
}

#[test]
fn batch_statistics() {
    let x = (var(&[3, 15, 14, 6], 1).as_tensor() + 1000.0).unwrap();
    let one = Tensor::ones(6, DType::F64, &Device::Cpu).unwrap();
    let (_, want) = composite::batch_norm_train(&x, &one, &one, 1e-5, Activation::Relu).unwrap();
    for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-3)] {
        let (x, one) = (x.to_dtype(dtype).unwrap(), one.to_dtype(dtype).unwrap());
        let (_, got) = ops::batch_norm_train(&x, &one, &one, 1e-5, Activation::Relu).unwrap();
        for (a, b) in [(&got.mean, &want.mean), (&got.var, &want.var)] {
            for (a, b) in flat(a).iter().zip(flat(b)) {
                assert!((a - b).abs() < tolerance, "{dtype:?} {a} {b}");
            }
        }
    }
}

#[test]
fn elementwise_and_pools() {
    for act in ACTS {
        let x = uniform(&[3, 7, 50], -9.0, 9.0, 1).unwrap();
        same(&[x], &|v| ops::activation(&v[0], act), &|v| composite::activation(&v[0], act));
    }
    let x = [var(&[2, 8, 7, 5], 1)];
    same(&x, &|v| ops::global_avg_pool(&v[0]), &|v| composite::global_avg_pool(&v[0]));
    for k in [1, 2, 3] {
        same(&x, &|v| ops::max_pool2d(&v[0], k), &|v| composite::max_pool2d(&v[0], k));
        same(&x, &|v| ops::avg_pool2d(&v[0], k), &|v| composite::avg_pool2d(&v[0], k));
    }
    same(&[var(&[2, 8, 7, 5], 1), var(&[2, 5], 2)], &|v| ops::scale_channels(&v[0], &v[1]), &|v| {
        composite::scale_channels(&v[0], &v[1])
    });
    for n in 1..6 {
        let vars: Vec<Var> = (0..n).map(|i| var(&[3, 4], i)).collect();
        same(&vars, &ops::mean_of, &composite::mean_of);
    }
}

#[test]
fn resampling() {
    for align in [false, true] {
        for (oh, ow) in [(10, 12), (3, 17), (1, 1)] {
            same(&[var(&[2, 5, 6, 4], 1)], &|v| ops::upsample_bilinear2d(&v[0], oh, ow, align), &|v| {
                let (ys, xs) = (bilinear::axis(5, oh, align), bilinear::axis(6, ow, align));
                composite::upsample_bilinear2d(&v[0], &ys, &xs)
            });
        }
    }
}

#[test]
fn losses() {
    let p = || [uniform(&[2, 30, 3], 0.02, 0.98, 1).unwrap()];
    let y = uniform(&[2, 30, 3], 0.0, 1.0, 2).unwrap();
    let like = |v: &Tensor| y.to_dtype(v.dtype());
    same(&p(), &|v| ops::bce_loss(&v[0], &like(&v[0])?), &|v| composite::bce_loss(&v[0], &y));
    same(&p(), &|v| ops::mse_loss(&v[0], &like(&v[0])?), &|v| composite::mse_loss(&v[0], &y));
}

/// At p = 0 and 1 PyTorch clamps the logarithm at -100 and the denominator at 1e-12.
#[test]
fn cross_entropy_at_the_ends() {
    for f in [ops::bce_loss, composite::bce_loss] {
        let p = Var::new(&[0.0, 1.0, 0.0, 1.0], &Device::Cpu).unwrap();
        let y = Tensor::new(&[1.0, 0.0, 0.0, 1.0], &Device::Cpu).unwrap();
        let loss = f(&p, &y).unwrap();
        assert!((flat(&loss)[0] - 50.0).abs() < 1e-12);
        let g = flat(loss.backward().unwrap().get(&p).unwrap());
        for (g, want) in g.iter().zip([-0.25e12, 0.25e12, 0.0, 0.0]) {
            assert!((g - want).abs() <= 1e-6 * want.abs(), "{g} {want}");
        }
    }
}

#[test]
fn first_of_equal_maxima_gets_the_gradient() {
    for f in [ops::max_pool2d, composite::max_pool2d] {
        let x = Var::from_tensor(&Tensor::zeros((1, 2, 2, 1), DType::F32, &Device::Cpu).unwrap()).unwrap();
        let grads = f(&x, 2).unwrap().backward().unwrap();
        assert_eq!(flat(grads.get(&x).unwrap()), [1.0, 0.0, 0.0, 0.0]);
    }
}

#[test]
fn kinks_have_slope_zero() {
    for (act, at) in [
        (Activation::Relu, 0.0),
        (Activation::Relu6, 6.0),
        (Activation::Relu6, 0.0),
        (Activation::HardSigmoid, 3.0),
        (Activation::HardSwish, -3.0),
    ] {
        for f in [ops::activation, composite::activation] {
            let x = Var::new(&[at], &Device::Cpu).unwrap();
            let grads = f(&x, act).unwrap().backward().unwrap();
            assert_eq!(flat(grads.get(&x).unwrap()), [0.0], "{act:?} at {at}");
        }
    }
}

#[test]
fn wrong_inputs_are_refused_by_name() {
    let x = Tensor::zeros((1, 2, 2, 3), DType::F32, &Device::Cpu).unwrap();
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let act = Activation::Relu;
    let one = t(&[1, 1, 1, 3]);
    let errors = [
        ("pointwise_conv", ops::pointwise_conv(&x, &t(&[4, 2, 1, 1])).err()),
        ("conv2d", ops::conv2d(&x, &t(&[4, 3, 5, 5]), 1, 1).err()),
        ("conv2d", ops::conv2d(&x, &t(&[4, 3, 3, 3]), 0, 1).err()),
        ("depthwise_conv2d", ops::depthwise_conv2d(&x, &t(&[3, 1, 2, 2]), 1, 1).err()),
        ("depthwise_conv2d", ops::depthwise_conv2d(&x, &t(&[3, 1, 3, 3]), 0, 1).err()),
        ("batch_norm_train", ops::batch_norm_train(&x, &t(&[2]), &t(&[3]), 0.0, act).err()),
        ("batch_norm_train", ops::batch_norm_train(&one, &t(&[3]), &t(&[3]), 0.0, act).err()),
        ("max_pool2d", ops::max_pool2d(&x, 3).err()),
        ("avg_pool2d", ops::avg_pool2d(&x, 0).err()),
        ("scale_channels", ops::scale_channels(&x, &t(&[3, 1])).err()),
        ("upsample_bilinear2d", ops::upsample_bilinear2d(&x, 0, 2, true).err()),
        ("global_avg_pool", ops::global_avg_pool(&t(&[2, 3])).err()),
        ("mean_of", ops::mean_of(&[]).err()),
        ("mean_of", ops::mean_of(&[x.clone(), one.clone()]).err()),
        ("bce_loss", ops::bce_loss(&x, &one).err()),
        ("mse_loss", ops::mse_loss(&x, &x.to_dtype(DType::F64).unwrap()).err()),
        ("activation", ops::activation(&x.to_dtype(DType::U8).unwrap(), act).err()),
    ];
    for (op, error) in errors {
        let text = error.map(|e| e.to_string()).unwrap_or_default();
        assert!(text.starts_with(op), "{op}: {text}");
    }
}
