//! Salient-object data: list files and a prefetching loader of training batches.

mod cache;
mod decode;
mod error;
mod list;
mod loader;
mod plan;

pub use decode::{decode_label, decode_photo, decode_photo_bytes};
pub use error::DataError;
pub use list::{Sample, read_list, read_list_leniently};
pub use loader::{Batch, Epoch, Loader, LoaderOptions};

/// What data functions return.
pub type Result<T> = std::result::Result<T, DataError>;

#[cfg(test)]
mod tests;
