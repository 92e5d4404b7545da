//! Operators with own kernels on NVIDIA GPUs, for `f32`.
//!
//! `kernels.cu` is compiled for the GPU at hand by NVRTC when it is first used. Its arithmetic is tested on the CPU
//! (`tests/cuda_kernels.rs`); no GPU has run it yet.

use std::sync::OnceLock;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, LaunchConfig, PushKernelArg as _};
use candle_core::cuda_backend::cudarc::nvrtc;
use candle_core::cuda_backend::{CudaDevice, CudaStorage, WrapErr as _};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::ops::Activation;
use crate::ops::depthwise_kernel::Geometry;

/// Partial sums of a weight gradient: enough threads for a GPU, little to add up.
const PARTS: usize = 64;

/// The kernels for a GPU (PTX).
fn ptx() -> Result<&'static str> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let compiled = PTX.get_or_init(|| {
        let source = include_str!("kernels.cu");
        nvrtc::compile_ptx(source).map(|ptx| ptx.to_src()).map_err(|e| format!("{e:?}"))
    });
    compiled.as_deref().map_err(|reason| candle_core::Error::Msg(format!("NVRTC cannot compile kernels.cu: {reason}")))
}

/// The values of a contiguous tensor.
fn values<'a>(op: &str, storage: &'a CudaStorage, layout: &Layout) -> Result<&'a CudaSlice<f32>> {
    let slice = storage.as_cuda_slice::<f32>()?;
    if layout.contiguous_offsets() != Some((0, slice.len())) {
        bail!("{op}: a CUDA kernel got a view; make it contiguous first")
    }
    Ok(slice)
}

/// Runs a kernel with two inputs, one output and integers, a thread a value of the output.
fn launch(
    device: &CudaDevice,
    kernel: &str,
    inputs: &[&CudaSlice<f32>],
    len: usize,
    numbers: &[i32],
    count: Option<i64>,
) -> Result<CudaSlice<f32>> {
    let mut out = device.alloc_zeros::<f32>(len)?;
    let function = device.get_or_load_custom_func(kernel, "inas", ptx()?)?;
    let mut call = function.builder();
    for input in inputs {
        call.arg(*input);
    }
    call.arg(&mut out);
    for number in numbers {
        call.arg(number);
    }
    if let Some(count) = &count {
        call.arg(count);
    }
    let config = LaunchConfig::for_num_elems(u32::try_from(len).unwrap_or(u32::MAX));
    #[expect(unsafe_code, reason = "a kernel is not checked against its arguments")]
    // SAFETY: the arguments are those of the kernel's declaration in kernels.cu, and the buffers have the lengths that
    // the geometry gives; `Geometry` was checked against the tensors by the caller.
    unsafe { call.launch(config) }.w()?;
    Ok(out)
}

fn numbers(g: &Geometry) -> [i32; 7] {
    [g.n, g.h, g.w, g.c, g.k, g.s, g.d].map(|v| v as i32)
}

/// Depthwise convolution of `x` `[N, H, W, C]` with `w` `[C, 1, k, k]`.
pub(crate) fn depthwise_conv2d(x: &Tensor, w: &Tensor, geometry: Geometry) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&w.contiguous()?, Depthwise(geometry))
}

#[derive(Clone, Copy)]
struct Depthwise(Geometry);

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("depthwise_conv2d: the CUDA operator got a CPU tensor")
    }

    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout, w: &CudaStorage, lw: &Layout) -> Result<(CudaStorage, Shape)> {
        let g = &self.0;
        let inputs = [values(self.name(), x, lx)?, values(self.name(), w, lw)?];
        let shape = Shape::from((g.n, g.ho(), g.wo(), g.c));
        let y = launch(&x.device, "depthwise_forward", &inputs, shape.elem_count(), &numbers(g), None)?;
        Ok((CudaStorage::wrap_cuda_slice(y, x.device.clone()), shape))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.detach().contiguous()?;
        let dx = x.track_op().then(|| grad.apply_op2_no_bwd(&w.detach(), &InputGradient(self.0))).transpose()?;
        let dw = w.track_op().then(|| x.detach().apply_op2_no_bwd(&grad, &WeightGradient(self.0))).transpose()?;
        Ok((dx, dw))
    }
}

struct InputGradient(Geometry);

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "depthwise_input_gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("depthwise_input_gradient: the CUDA operator got a CPU tensor")
    }

    fn cuda_fwd(&self, grad: &CudaStorage, lg: &Layout, w: &CudaStorage, lw: &Layout) -> Result<(CudaStorage, Shape)> {
        let g = &self.0;
        let inputs = [values(self.name(), grad, lg)?, values(self.name(), w, lw)?];
        let shape = Shape::from((g.n, g.h, g.w, g.c));
        let dx = launch(&grad.device, self.name(), &inputs, shape.elem_count(), &numbers(g), None)?;
        Ok((CudaStorage::wrap_cuda_slice(dx, grad.device.clone()), shape))
    }
}

struct WeightGradient(Geometry);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "depthwise_weight_gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("depthwise_weight_gradient: the CUDA operator got a CPU tensor")
    }

    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout, grad: &CudaStorage, lg: &Layout) -> Result<(CudaStorage, Shape)> {
        let g = &self.0;
        let inputs = [values(self.name(), x, lx)?, values(self.name(), grad, lg)?];
        let parts = PARTS.min(g.n * g.ho());
        let taps = g.k * g.k;
        let [n, h, w, c, k, s, d] = numbers(g);
        let sums = [n, h, w, c, k, s, d, parts as i32];
        let sums = launch(&x.device, "depthwise_weight_parts", &inputs, parts * taps * g.c, &sums, None)?;
        let numbers = [c, taps as i32, parts as i32];
        let dw = launch(&x.device, "depthwise_weight_sum", &[&sums], taps * g.c, &numbers, None)?;
        Ok((CudaStorage::wrap_cuda_slice(dw, x.device.clone()), Shape::from((g.c, 1, g.k, g.k))))
    }
}

/// Number of an activation in kernels.cu; the identity has none.
fn kind(act: Activation) -> Option<i32> {
    Some(match act {
        Activation::Identity => return None,
        Activation::Relu => 0,
        Activation::Relu6 => 1,
        Activation::HardSwish => 2,
        Activation::Silu => 3,
        Activation::Sigmoid => 4,
        Activation::HardSigmoid => 5,
    })
}

/// Applies `act` to each element.
pub(crate) fn activation(x: &Tensor, act: Activation) -> Result<Tensor> {
    match kind(act) {
        None => Ok(x.clone()),
        Some(kind) => x.contiguous()?.apply_op1(Act(kind)),
    }
}

struct Act(i32);

impl CustomOp1 for Act {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("activation: the CUDA operator got a CPU tensor")
    }

    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout) -> Result<(CudaStorage, Shape)> {
        let shape = lx.shape().clone();
        let n = shape.elem_count();
        let inputs = [values(self.name(), x, lx)?];
        let y = launch(&x.device, "activation_forward", &inputs, n, &[self.0], Some(n as i64))?;
        Ok((CudaStorage::wrap_cuda_slice(y, x.device.clone()), shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.detach().contiguous()?;
        x.detach().apply_op2_no_bwd(&grad, &ActGradient(self.0)).map(Some)
    }
}

struct ActGradient(i32);

impl CustomOp2 for ActGradient {
    fn name(&self) -> &'static str {
        "activation_backward"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("activation_backward: the CUDA operator got a CPU tensor")
    }

    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout, grad: &CudaStorage, lg: &Layout) -> Result<(CudaStorage, Shape)> {
        let shape = lx.shape().clone();
        let n = shape.elem_count();
        let inputs = [values(self.name(), x, lx)?, values(self.name(), grad, lg)?];
        let dx = launch(&x.device, self.name(), &inputs, n, &[self.0], Some(n as i64))?;
        Ok((CudaStorage::wrap_cuda_slice(dx, x.device.clone()), shape))
    }
}
