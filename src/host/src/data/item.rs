//! What a loader can load.

use std::fmt::Debug;
use std::hash::Hash;
use std::path::Path;

use image::{GrayImage, RgbImage};
use inas_runtime::preprocess::label_into;

use super::decode::decode_pair;
use super::{Result, Sample};

/// A photo with what a network should say of it.
pub trait Item: Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// The photo's file.
    fn image(&self) -> &Path;

    /// The photo, and the label if it is a map, as they are in their files.
    fn decode(&self) -> Result<(RgbImage, Option<GrayImage>)>;

    /// Values of a label in a batch of inputs of `px` by `px`.
    fn label_len(px: u32) -> usize;

    /// Writes the label; `map` is the decoded one at the batch's size, cropped and mirrored as the photo is.
    fn label_into(&self, map: Option<&GrayImage>, out: &mut [f32]);
}

impl Item for Sample {
    fn image(&self) -> &Path {
        &self.image
    }

    fn decode(&self) -> Result<(RgbImage, Option<GrayImage>)> {
        let (photo, label) = decode_pair(self)?;
        Ok((photo, Some(label)))
    }

    fn label_len(px: u32) -> usize {
        (px * px) as usize
    }

    fn label_into(&self, map: Option<&GrayImage>, out: &mut [f32]) {
        if let Some(map) = map {
            label_into(map, out);
        }
    }
}
