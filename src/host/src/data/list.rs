use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::decode::decode_pair;
use super::{DataError, Result};

/// A photo and its label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sample {
    /// The photo's file.
    pub image: PathBuf,
    /// The label's file: a map, foreground bright.
    pub label: PathBuf,
    /// Line in its list, from 1; 0 without a list.
    pub line: usize,
}

/// Reads a list file such as `DUTS-TR.lst`: one `image label` pair of paths a line, separated by blanks.
///
/// Paths are relative to `root`, or to the list's own folder without one. Blank lines and lines that begin with `#` are
/// skipped. Every file must exist; the order is the list's.
pub fn read_list(path: &Path, root: Option<&Path>) -> Result<Vec<Sample>> {
    match read_lines(path, root)? {
        (_, bad) if !bad.is_empty() => Err(bad.into_iter().next().unwrap_or(DataError::Empty { path: None })),
        (samples, _) => Ok(samples),
    }
}

/// As [`read_list`], but leaves out bad lines and pairs that cannot be decoded, and tells which.
///
/// Decodes every file once, on all threads.
pub fn read_list_leniently(path: &Path, root: Option<&Path>) -> Result<(Vec<Sample>, Vec<DataError>)> {
    let (samples, mut left_out) = read_lines(path, root)?;
    let checked: Vec<_> = samples.into_par_iter().map(|s| decode_pair(&s).map(|_| s)).collect();
    let mut sound = Vec::with_capacity(checked.len());
    for result in checked {
        match result {
            Ok(sample) => sound.push(sample),
            Err(error) => left_out.push(error),
        }
    }
    if sound.is_empty() {
        return Err(DataError::Empty { path: Some(path.to_owned()) });
    }
    Ok((sound, left_out))
}

/// The good lines and what is wrong with the others.
fn read_lines(path: &Path, root: Option<&Path>) -> Result<(Vec<Sample>, Vec<DataError>)> {
    let text = std::fs::read_to_string(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let root = root.or(path.parent()).unwrap_or(Path::new(""));
    let (mut samples, mut bad) = (Vec::new(), Vec::new());
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [image, label] = fields[..] else {
            bad.push(DataError::ListLine { path: path.to_owned(), line: index + 1, fields: fields.len() });
            continue;
        };
        let sample = Sample { image: root.join(image), label: root.join(label), line: index + 1 };
        if let Some(missing) = [&sample.image, &sample.label].into_iter().find(|file| !file.is_file()) {
            bad.push(DataError::MissingFile { path: path.to_owned(), line: index + 1, missing: missing.clone() });
            continue;
        }
        samples.push(sample);
    }
    if samples.is_empty() && bad.is_empty() {
        return Err(DataError::Empty { path: Some(path.to_owned()) });
    }
    Ok((samples, bad))
}
