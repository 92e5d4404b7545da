//! Run files: what is searched and trained, on what, how.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{self, Dataset};
use crate::train::{EvaluationConfig, SearchConfig};
use crate::{Error, Result};

/// Run files that are part of the program, by name.
pub const RUN_PRESETS: [(&str, &str); 8] = [
    ("cifar10", include_str!("../data/cifar10.toml")),
    ("cifar100", include_str!("../data/cifar100.toml")),
    ("imagenet", include_str!("../data/imagenet.toml")),
    ("darts", include_str!("../data/darts.toml")),
    ("gdas", include_str!("../data/gdas.toml")),
    ("snas", include_str!("../data/snas.toml")),
    ("pc-darts", include_str!("../data/pc-darts.toml")),
    ("small", include_str!("../data/small.toml")),
];

/// Kind of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// CIFAR-10's binary files.
    #[default]
    Cifar10,
    /// CIFAR-100's binary files.
    Cifar100,
    /// An idx file of pictures and one of labels ((Fashion-)MNIST).
    Idx,
    /// A folder with a folder of images for each class.
    Folder,
}

/// Where pictures are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSpec {
    /// Kind of files.
    pub kind: DataKind,
    /// Training files; in a file, relative to it.
    pub train: Vec<PathBuf>,
    /// Test files; in a file, relative to it.
    pub test: Vec<PathBuf>,
    /// Training pictures to use, the first ones; 0: all.
    pub limit: usize,
    /// Test pictures to use, the first ones; 0: all.
    pub test_limit: usize,
    /// Side of images of folders in a batch, px.
    pub px: usize,
}

impl DataSpec {
    /// The training pictures.
    ///
    /// # Errors
    /// When files cannot be read, or none are named.
    pub fn train(&self) -> Result<Dataset> {
        self.load(&self.train, self.limit, "train")
    }

    /// The test pictures.
    ///
    /// # Errors
    /// When files cannot be read, or none are named.
    pub fn test(&self) -> Result<Dataset> {
        self.load(&self.test, self.test_limit, "test")
    }

    fn load(&self, paths: &[PathBuf], limit: usize, what: &str) -> Result<Dataset> {
        let set = match (self.kind, paths) {
            (_, []) => {
                return Err(Error::NoFiles { what: what.to_owned() });
            }
            (DataKind::Cifar10, paths) => data::cifar(paths, 10)?,
            (DataKind::Cifar100, paths) => data::cifar(paths, 100)?,
            (DataKind::Idx, [images, labels]) => data::idx(images, labels)?,
            (DataKind::Idx, _) => {
                return Err(Error::Config(format!("`data.{what}` needs a file of pictures and one of labels")));
            }
            (DataKind::Folder, [dir]) => data::folder(dir, if self.px == 0 { 224 } else { self.px })?,
            (DataKind::Folder, _) => return Err(Error::Config(format!("`data.{what}` needs one folder"))),
        };
        Ok(if limit == 0 { set } else { set.range(0, limit) })
    }
}

/// A run file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DotsRun {
    /// Pictures.
    pub data: DataSpec,
    /// Of the search.
    pub search: SearchConfig,
    /// Of the training of what was found.
    pub evaluation: EvaluationConfig,
}

impl DotsRun {
    /// Takes paths as relative to a folder.
    pub fn relative_to(&mut self, root: &Path) {
        for path in self.data.train.iter_mut().chain(&mut self.data.test) {
            *path = root.join(&*path);
        }
    }
}
