//! Differentiable operators, optimiser and learning-rate schedule for training
//! weight-sharing networks with candle.
//!
//! Activations are `[N, H, W, C]`, parameters keep PyTorch's shapes. On the CPU
//! every operator of [`ops`] is one fused, vectorised and deterministic kernel
//! (the same input gives the same bits whatever the number of threads); on other
//! devices it is a composition of stock candle operators whose gradients are right; with the feature `cuda`, depthwise
//! convolutions and activations have kernels of their own on NVIDIA GPUs.

// The vector width is chosen at run time by `pulp`: code is compiled for it only when it
// is inlined into the dispatched function.
#![allow(clippy::inline_always)]

mod act;
#[cfg(feature = "cuda")]
mod cuda;
mod gemm;
mod kernel;
mod pool;
mod real;
mod strips;

pub mod gradcheck;
pub mod ops;
pub mod optim;
pub mod schedule;
pub mod sgd;
pub mod tape;
