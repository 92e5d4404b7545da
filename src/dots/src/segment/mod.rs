//! Segmentation on the backbone of a genotype, in the way of BiSeNet (thesis section 2.4.5, spec section 14).

mod head;
mod score;
mod train;

pub use head::{SegmentStep, Segmenter};
pub use score::{Confusion, IGNORED};
pub use train::{PixelBatch, PixelBatches, PixelSource, SegmentConfig, SegmentRecord, SegmentTrainer};
