use std::path::{Path, PathBuf};

use super::{DataError, Result};

/// A photo and its label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sample {
    /// The photo's file.
    pub image: PathBuf,
    /// The label's file: a map, foreground bright.
    pub label: PathBuf,
}

/// Reads a list file such as `DUTS-TR.lst`: one `image label` pair of paths a line, separated by blanks.
///
/// Paths are relative to `root`, or to the list's own folder without one. Blank lines and lines that begin with `#` are
/// skipped. Every file must exist; the order is the list's.
pub fn read_list(path: &Path, root: Option<&Path>) -> Result<Vec<Sample>> {
    let text = std::fs::read_to_string(path).map_err(|source| DataError::ReadList { path: path.to_owned(), source })?;
    let root = root.or(path.parent()).unwrap_or(Path::new(""));
    let mut samples = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [image, label] = fields[..] else {
            return Err(DataError::ListLine { path: path.to_owned(), line: index + 1, fields: fields.len() });
        };
        let sample = Sample { image: root.join(image), label: root.join(label) };
        if let Some(missing) = [&sample.image, &sample.label].into_iter().find(|file| !file.is_file()) {
            return Err(DataError::MissingFile { path: path.to_owned(), line: index + 1, missing: missing.clone() });
        }
        samples.push(sample);
    }
    if samples.is_empty() {
        return Err(DataError::Empty { path: Some(path.to_owned()) });
    }
    Ok(samples)
}
