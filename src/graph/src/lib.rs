//! Layer graphs of iNAS blocks and networks in deployed (re-parameterised, single-branch) form, and their ONNX.
//!
//! This crate alone knows what a block looks like once deployed: the profiler measures these graphs, the exporter fills
//! them with trained weights, and the cost model counts them. Shapes are `[N, C, H, W]`.

mod build;
pub mod cost;
mod error;
mod graph;
mod onnx;
mod weights;

pub use build::{block, network, network_with_branches};
pub use error::{Error, Result};
pub use graph::{Builder, Function, Graph, Node, Op, Shape, Value, ValueInfo, Window};
pub use onnx::{Edge, OnnxOptions, Precision, Ranges, metadata, with_metadata};
pub use weights::{ConvSpec, ConvWeights, SeededWeights, Weights};
