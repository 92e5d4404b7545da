use std::path::{Path, PathBuf};

use image::{GrayImage, RgbImage};

use super::{DataError, Item, Result, decode_photo};

/// Endings of the files that count as photos.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// A photo and its class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClassPhoto {
    /// The photo's file.
    pub image: PathBuf,
    /// Its class, from 0.
    pub class: u32,
}

impl Item for ClassPhoto {
    fn image(&self) -> &Path {
        &self.image
    }

    fn decode(&self) -> Result<(RgbImage, Option<GrayImage>)> {
        Ok((decode_photo(&self.image)?, None))
    }

    fn label_len(_px: u32) -> usize {
        1
    }

    fn label_into(&self, _map: Option<&GrayImage>, out: &mut [f32]) {
        out[0] = self.class as f32;
    }
}

/// Photos in one folder a class, as `ImageNet` is laid out: every photo with its class, and the classes' names.
///
/// Classes are numbered in the order of their folders' names; photos are in the order of theirs.
pub fn read_classes(folder: &Path) -> Result<(Vec<ClassPhoto>, Vec<String>)> {
    let mut names = Vec::new();
    let mut photos = Vec::new();
    for class in sorted(folder)?.into_iter().filter(|p| p.is_dir()) {
        let before = photos.len();
        let files = sorted(&class)?.into_iter().filter(|file| {
            let ending = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            ENDINGS.contains(&ending.as_str())
        });
        photos.extend(files.map(|image| ClassPhoto { image, class: names.len() as u32 }));
        if photos.len() == before {
            return Err(DataError::Empty { path: Some(class) });
        }
        names.push(class.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    if names.len() < 2 {
        return Err(DataError::Classes { path: folder.to_owned(), found: names.len() });
    }
    Ok((photos, names))
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| DataError::Read { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}
