//! Runs a shipped model on photos and camera frames: small enough for an app, no training code.
//!
//! [`Model`] holds a loaded network and the buffers it needs; [`Frame`] describes pixels as cameras give them. Nothing
//! but the inference runtime itself allocates once a size of frames has been seen. With the feature `image`,
//! [`preprocess`] is the same on the types of that crate, shared with training and evaluation.

mod error;
mod frame;
mod model;
mod network;
#[cfg(feature = "image")]
mod photo;
#[cfg(feature = "image")]
pub mod preprocess;
mod resample;

pub use error::{Error, Result};
pub use frame::{Frame, MAX_SIDE, Pixels, Plane, Rotation};
pub use inas_backend::{Backend, Error as BackendError, RuntimeKind, Session, open};
pub use model::Model;
#[cfg(feature = "image")]
pub use photo::Saliency;

/// Sides of a network of open size are multiples of this, px: the coarsest stride of the networks of this family. Others
/// would need paddings that the network was not trained with, and send the runtime's shape analysis astray.
pub const SIZE_STEP: u32 = 32;

/// Mean of ImageNet's red, green and blue, on 0..1 values.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// Standard deviation of ImageNet's red, green and blue, on 0..1 values.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Normalised value of each byte, per channel.
fn normalised_values() -> [[f32; 256]; 3] {
    std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - MEAN[c]) / STD[c]))
}

/// A network's value (nominally 0..1) in 8 bits: clamped, times 255, rounded down; not a number is 0.
fn quantised(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0) as u8
}
