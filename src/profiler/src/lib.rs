//! Latency of network blocks on the machine this runs on.
//!
//! [`backend`] (the crate `inas-backend`) runs an ONNX model with tract or ONNX Runtime, [`measure`](mod@measure) times it until the median is
//! known well enough, [`run`] does so for every block of a space and [`profile`] keeps the result: a folder that
//! predicts the latency of any network of the space as the sum over its blocks.

pub mod affinity;
pub mod bench;
pub mod cache;
pub mod calibrate;
pub mod conditions;
pub mod device;
mod error;
pub mod measure;
mod memory;
pub mod models;
pub mod networks;
mod nnls;
pub mod plan;
mod power;
pub mod profile;
pub mod records;
pub mod release;
mod rng;
pub mod run;
mod schedule;
pub mod stats;

pub use device::DeviceFacts;
pub use error::{Error, Result};
pub use inas_backend as backend;
pub use inas_backend::{Backend, RuntimeInfo, RuntimeKind, Session, open};
pub use measure::{Measurement, Protocol, measure};
pub use models::profile_models;
pub use profile::Profile;
pub use run::{Progress, RunOptions, bench_model, command_line, profile_space};
