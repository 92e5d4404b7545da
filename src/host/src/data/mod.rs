//! Salient-object lists, class folders, and a prefetching loader of training batches of either.

mod augment;
mod cache;
mod classes;
mod decode;
mod error;
mod item;
mod list;
mod loader;
mod plan;

pub use classes::{ClassPhoto, read_classes};
pub use decode::{decode_label, decode_pair, decode_photo, decode_upright};
pub use error::DataError;
pub use item::Item;
pub use list::{Sample, read_list, read_list_leniently};
pub use loader::{Batch, Epoch, Loader, LoaderOptions};

/// What data functions return.
pub type Result<T> = std::result::Result<T, DataError>;

#[cfg(test)]
mod tests;
