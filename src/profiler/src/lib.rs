//! Latency of network blocks on the machine this runs on.
//!
//! [`backend`] runs an ONNX model with tract or ONNX Runtime, [`measure`](mod@measure) times it until the median is
//! known well enough, [`run`] does so for every block of a space and [`profile`] keeps the result: a folder that
//! predicts the latency of any network of the space as the sum over its blocks.

pub mod backend;
pub mod device;
mod error;
pub mod measure;
pub mod profile;
mod records;
mod rng;
pub mod run;
pub mod stats;

pub use backend::{Backend, RuntimeInfo, RuntimeKind, Session, open};
pub use device::DeviceFacts;
pub use error::{Error, Result};
pub use measure::{Measurement, Protocol, measure};
pub use profile::Profile;
pub use run::{Progress, RunOptions, bench_model, command_line, profile_space};
