//! Latency of network blocks on the machine this runs on.
//!
//! [`backend`] runs an ONNX model with tract or ONNX Runtime, [`measure`] times it until the median is known well
//! enough, [`run`] does so for every block of a space and [`profile`] keeps the result: a folder that predicts the
//! latency of any network of the space as the sum over its blocks.

pub mod backend;
mod error;
pub mod measure;
mod rng;
pub mod stats;

pub use error::{Error, Result};
