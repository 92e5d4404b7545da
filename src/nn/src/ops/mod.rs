//! Operators on `[N, H, W, C]` activations.
//!
//! Every function accepts `f32` and `f64` tensors that need not be contiguous, and
//! fails with a message that names the operator and the shapes when its inputs do not fit.

mod activation;
mod batch_norm;
mod bilinear;
pub(crate) mod composite;
mod conv;
mod depthwise;
mod depthwise_kernel;
mod loss;
mod mean_of;
mod pointwise;
mod pool;
mod squeeze;

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
