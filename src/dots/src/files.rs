//! Files replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::{Error, Result};

/// Writes `bytes` beside `path` and renames, so that a reader sees the old file or the new one, also after a crash.
///
/// The folder is made if need be; a failure leaves no temporary file.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let attempt = || {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        File::create(&temporary)?.write_all(bytes)?;
        commit(&temporary, path)
    };
    attempt().inspect_err(|_| {
        // The first failure is the one to tell; the temporary file may not even exist.
        let _ = fs::remove_file(&temporary);
    })
}

/// [`replace`] with a value as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bad = |reason: String| Error::File { path: path.to_owned(), reason };
    let json = serde_json::to_vec_pretty(value).map_err(|e| bad(e.to_string()))?;
    replace(path, &json).map_err(|e| bad(e.to_string()))
}

/// Puts a finished file in another's place once the disk has it.
pub fn commit(temporary: &Path, path: &Path) -> io::Result<()> {
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, path)
}
