//! JSON lines that a run leaves behind.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result, files};

/// A file of one record a line.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
}

/// The records of a file; a line cut off by a crash is left out, and a file that is absent has none.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

impl Lines {
    /// Keeps these records of an earlier run.
    pub(crate) fn open<T: Serialize>(path: PathBuf, keep: &[T]) -> Result<Self> {
        let mut text = String::new();
        for record in keep {
            text.push_str(&serde_json::to_string(record).unwrap_or_default());
            text.push('\n');
        }
        files::replace(&path, text.as_bytes())
            .map_err(|e| Error::File { path: path.clone(), reason: e.to_string() })?;
        Ok(Self { path })
    }

    pub(crate) fn add(&self, record: &impl Serialize) -> Result<()> {
        let bad = |reason: String| Error::File { path: self.path.clone(), reason };
        let mut line = serde_json::to_string(record).map_err(|e| bad(e.to_string()))?;
        line.push('\n');
        let mut file = OpenOptions::new().append(true).open(&self.path).map_err(|e| bad(e.to_string()))?;
        file.write_all(line.as_bytes()).map_err(|e| bad(e.to_string()))
    }
}
