//! Execution providers: who computes for ONNX Runtime.

use serde::{Deserialize, Serialize};

/// Name of the option in [`super::RuntimeInfo`].
pub(crate) const OPTION: &str = "execution_providers";

/// An execution provider of ONNX Runtime beside its own CPU code. What one cannot do falls to the next, and to the CPU
/// in the end; the library must have been built with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ExecutionProvider {
    /// XNNPACK: floating-point kernels for Arm and x86 processors.
    Xnnpack,
    /// Android's neural-network interface: GPU, DSP or NPU, as the phone's maker has it.
    Nnapi,
    /// NVIDIA GPUs through cuDNN.
    Cuda,
    /// NVIDIA GPUs through TensorRT; builds an engine for each model first.
    Tensorrt,
}

impl ExecutionProvider {
    /// Those of a profile, in order of preference.
    pub fn of(info: &super::RuntimeInfo) -> Vec<Self> {
        let names = info.options.get(OPTION).map_or("", String::as_str);
        let all = [Self::Xnnpack, Self::Nnapi, Self::Cuda, Self::Tensorrt];
        names.split(',').filter_map(|n| all.into_iter().find(|p| p.name() == n)).collect()
    }

    /// Name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xnnpack => "xnnpack",
            Self::Nnapi => "nnapi",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
        }
    }
}
