//! Operators on `[N, H, W, C]` activations.
//!
//! Every function accepts `f32` and `f64` tensors that need not be contiguous, and
//! fails with a message that names the operator and the shapes when its inputs do not fit.

mod activation;
pub(crate) mod batch_norm;
pub(crate) mod bilinear;
pub(crate) mod composite;
pub(crate) mod conv;
mod depthwise;
pub(crate) mod depthwise_kernel;
pub(crate) mod loss;
mod mean_of;
mod pointwise;
pub(crate) mod pool;
pub(crate) mod squeeze;

pub use activation::{Activation, activation};
pub use batch_norm::{BatchStats, batch_norm_eval, batch_norm_train};
pub use bilinear::upsample_bilinear2d;
pub use conv::conv2d;
pub use depthwise::depthwise_conv2d;
pub use loss::{bce_loss, mse_loss};
pub use mean_of::mean_of;
pub use pointwise::pointwise_conv;
pub use pool::{avg_pool2d, max_pool2d};
pub use squeeze::{global_avg_pool, scale_channels};

#[cfg(test)]
mod tests;
