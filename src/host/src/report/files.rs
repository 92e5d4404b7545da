//! Files replaced as a whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::{ReportError, Result};

/// Writes `bytes` beside `path` and renames, so that a reader sees the old file or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let attempt = || {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut file = File::create(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    };
    attempt().map_err(|source| {
        // The first failure is the one to tell; the temporary file may not even exist.
        let _ = fs::remove_file(&temp);
        ReportError::Write { path: path.to_path_buf(), source }
    })
}
