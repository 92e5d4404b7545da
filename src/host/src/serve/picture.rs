//! From a photo's bytes to a picture's.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use image::ImageFormat;
use inas_runtime::Model;

use super::places::Models;
use crate::data::decode_upright;
use crate::picture::Picture;

/// Why there is no picture.
pub(super) enum Refusal {
    /// The photo is at fault.
    Photo(String),
    /// The server is.
    Failed(String),
}

/// A PNG, and the time of the inference alone.
pub(super) fn make(
    models: &Models,
    photo: &[u8],
    picture: Picture,
    max_pixels: u64,
) -> Result<(Vec<u8>, Duration), Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::Failed(error.to_string());
    let work = |model: &mut Model| {
        let photo = decode_upright(photo, Path::new("the photo"), max_pixels);
        let photo = photo.map_err(|e| Refusal::Photo(e.to_string()))?;
        let saliency = model.run(&photo).map_err(|e| failed(&e))?;
        let picture = picture.of(&photo, &saliency.mask, None).map_err(|e| failed(&e))?;
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png).map_err(|e| failed(&e))?;
        Ok((png.into_inner(), saliency.latency))
    };
    // All of it while a model is held: decoded photos are large, and no more of them are in memory than models.
    let all = || models.with(work);
    catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|_| Err(Refusal::Failed("internal failure".into())))
}
