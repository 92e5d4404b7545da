//! The arithmetic of the CUDA kernels, run by the host's compiler over the grid, against the CPU operators.
#![allow(clippy::unwrap_used, clippy::borrow_as_ptr, reason = "tests")]
#![expect(unsafe_code, reason = "calls into a library that the test has compiled")]

use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor, Var};
use inas_nn::ops::{Activation, activation, depthwise_conv2d};
use libloading::{Library, Symbol};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// What CUDA brings, for a host compiler; a kernel call runs its grid thread by thread, last block first, so that a
/// kernel that needed an order would fail.
const SHIM: &str = r#"
#include <math.h>
#define __global__
#define __device__
struct Index { unsigned x; };
static struct Index blockIdx, threadIdx, gridDim, blockDim;
#define GRID(CALL)                                                                                       \
    for (gridDim.x = 3, blockDim.x = 5, blockIdx.x = 3; blockIdx.x-- > 0;)                               \
        for (threadIdx.x = 5; threadIdx.x-- > 0;) { CALL; }
#include "kernels.cu"
extern "C" {
void forward(const float *x, const float *w, float *y, const int *g) {
    GRID(depthwise_forward(x, w, y, g[0], g[1], g[2], g[3], g[4], g[5], g[6]))
}
void input_gradient(const float *g, const float *w, float *dx, const int *s) {
    GRID(depthwise_input_gradient(g, w, dx, s[0], s[1], s[2], s[3], s[4], s[5], s[6]))
}
void weight_gradient(const float *x, const float *g, float *parts, float *dw, const int *s, int n) {
    GRID(depthwise_weight_parts(x, g, parts, s[0], s[1], s[2], s[3], s[4], s[5], s[6], n))
    GRID(depthwise_weight_sum(parts, dw, s[3], s[4] * s[4], n))
}
void act(const float *x, float *y, int kind, long long n) { GRID(activation_forward(x, y, kind, n)) }
void act_gradient(const float *x, const float *g, float *dx, int kind, long long n) {
    GRID(activation_backward(x, g, dx, kind, n))
}
}
"#;

fn kernels(folder: &Path) -> Library {
    let (source, library) = (folder.join("shim.cpp"), folder.join("libkernels.so"));
    std::fs::write(&source, SHIM).unwrap();
    let mut compiler = Command::new("c++");
    compiler.args(["-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-I"]);
    compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda")).arg(&source).arg("-o").arg(&library);
    assert!(compiler.status().expect("c++ is needed").success());
    // SAFETY: it has no initialisers.
    unsafe { Library::new(library) }.unwrap()
}

fn noise(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-5.0f32..5.0)).collect()
}

fn close(got: &[f32], want: &Tensor) {
    let want = want.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(got.len(), want.len());
    for (a, b) in got.iter().zip(&want) {
        assert!((a - b).abs() <= 2e-5 * b.abs().max(5.0), "{a} {b}");
    }
}

type Two = unsafe extern "C" fn(*const f32, *const f32, *mut f32, *const i32);
type Weight = unsafe extern "C" fn(*const f32, *const f32, *mut f32, *mut f32, *const i32, i32);
type Act = unsafe extern "C" fn(*const f32, *mut f32, i32, i64);
type ActGradient = unsafe extern "C" fn(*const f32, *const f32, *mut f32, i32, i64);

/// # Safety
/// `T` must be the function's type in the shim.
unsafe fn function<'l, T>(library: &'l Library, name: &str) -> Symbol<'l, T> {
    // SAFETY: promised by the caller.
    unsafe { library.get(name.as_bytes()) }.unwrap()
}

#[test]
fn depthwise_kernels_compute_what_the_cpu_operator_does() {
    let folder = tempfile::tempdir().unwrap();
    let library = kernels(folder.path());
    // SAFETY: as declared in the shim.
    let forward: Symbol<'_, Two> = unsafe { function(&library, "forward") };
    // SAFETY: as declared in the shim.
    let input: Symbol<'_, Two> = unsafe { function(&library, "input_gradient") };
    // SAFETY: as declared in the shim.
    let weight: Symbol<'_, Weight> = unsafe { function(&library, "weight_gradient") };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (n, h, w, c, k, s, d) in [
        (2, 7, 9, 3, 3, 1, 1),
        (1, 8, 8, 5, 9, 2, 1),
        (2, 6, 5, 4, 5, 2, 2),
        (1, 1, 1, 2, 7, 1, 1),
        (3, 11, 4, 1, 3, 2, 1),
    ] {
        let x = noise(&mut rng, n * h * w * c);
        let weights = noise(&mut rng, c * k * k);
        let xt = Var::from_slice(&x, (n, h, w, c), &Device::Cpu).unwrap();
        let wt = Var::from_slice(&weights, (c, 1, k, k), &Device::Cpu).unwrap();
        let y = depthwise_conv2d(xt.as_tensor(), wt.as_tensor(), s, d).unwrap();
        let g = noise(&mut rng, y.elem_count());
        let gt = Tensor::from_slice(&g, y.shape(), &Device::Cpu).unwrap();
        let grads = (&y * &gt).unwrap().sum_all().unwrap().backward().unwrap();

        let shape = [n, h, w, c, k, s, d].map(|v| v as i32);
        let parts = 4;
        let (mut out, mut dx, mut dw) = (vec![0.0; g.len()], vec![0.0; x.len()], vec![0.0; weights.len()]);
        let mut sums = vec![0.0; parts * weights.len()];
        // SAFETY: the buffers have the lengths that the shape gives.
        unsafe {
            forward(x.as_ptr(), weights.as_ptr(), out.as_mut_ptr(), shape.as_ptr());
            input(g.as_ptr(), weights.as_ptr(), dx.as_mut_ptr(), shape.as_ptr());
            weight(x.as_ptr(), g.as_ptr(), sums.as_mut_ptr(), dw.as_mut_ptr(), shape.as_ptr(), parts as i32);
        }
        close(&out, &y);
        close(&dx, grads.get(&xt).unwrap());
        close(&dw, grads.get(&wt).unwrap());
    }
}

#[test]
fn activation_kernels_compute_what_the_cpu_operator_does() {
    let folder = tempfile::tempdir().unwrap();
    let library = kernels(folder.path());
    // SAFETY: as declared in the shim.
    let act: Symbol<'_, Act> = unsafe { function(&library, "act") };
    // SAFETY: as declared in the shim.
    let act_gradient: Symbol<'_, ActGradient> = unsafe { function(&library, "act_gradient") };
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut x = noise(&mut rng, 400);
    x.extend([0.0, 6.0, 20.0, -20.0, 100.0, -100.0]);
    let g = noise(&mut rng, x.len());
    let kinds = [
        Activation::Relu,
        Activation::Relu6,
        Activation::HardSwish,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
    ];
    for (kind, which) in kinds.into_iter().zip(0..) {
        let xt = Var::from_slice(&x, x.len(), &Device::Cpu).unwrap();
        let y = activation(xt.as_tensor(), kind).unwrap();
        let gt = Tensor::from_slice(&g, g.len(), &Device::Cpu).unwrap();
        let grads = (&y * &gt).unwrap().sum_all().unwrap().backward().unwrap();
        let (mut out, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        // SAFETY: all buffers have the length that is passed.
        unsafe {
            act(x.as_ptr(), out.as_mut_ptr(), which, x.len() as i64);
            act_gradient(x.as_ptr(), g.as_ptr(), dx.as_mut_ptr(), which, x.len() as i64);
        }
        close(&out, &y);
        close(&dx, grads.get(&xt).unwrap());
    }
}
