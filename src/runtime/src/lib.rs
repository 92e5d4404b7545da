//! Runs a shipped model on photos: no training code, so that it fits a device.
//!
//! [`Model`] holds a loaded network; [`preprocess`] is what happens to pixels before and after it.

mod error;
mod model;
pub mod preprocess;

pub use error::{Error, Result};
pub use model::{Model, Saliency};
