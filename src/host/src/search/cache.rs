//! Scores on the disk: whatever was evaluated once with the same weights, images and recalibration is not again.
//!
//! A folder of append-only files, one JSON object a line. Each writing process has a file of its own, all read all
//! files; so searches, shards of a search and machines with a common folder share their scores.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use inas_space::Architecture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Result, Score, SearchError};

/// One evaluation, as it is on the disk.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct CacheLine {
    /// [`super::Objective::identity`]: weights, images, recalibration.
    pub objective: String,
    /// Hash of the architecture.
    pub hash: String,
    /// Share of the validation images.
    pub share: f64,
    /// What came out.
    pub score: Score,
    /// The architecture.
    pub arch: Architecture,
}

type Key = (String, String, u64);

/// Scores by architecture, weights, data and recalibration.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    own: Option<File>,
    known: HashMap<Key, Score>,
    /// How much of each file was read.
    read: HashMap<PathBuf, u64>,
}

impl Cache {
    /// Opens a folder, made if need be, to read and to write. `name` is that of this process's file; while another
    /// process writes it, a number is added.
    pub fn open(folder: &Path, name: &str) -> Result<Self> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SearchError::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let mut own = None;
        for n in 0.. {
            let file = if n == 0 { format!("{name}.jsonl") } else { format!("{name}.{n}.jsonl") };
            let path = folder.join(file);
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io(&path))?;
            match file.try_lock() {
                Ok(()) => {
                    cut_half_line(&mut file).map_err(io(&path))?;
                    own = Some(file);
                    break;
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(SearchError::Io { path, source }),
            }
        }
        let state = State { own, known: HashMap::new(), read: HashMap::new() };
        let cache = Self { folder: folder.to_owned(), state: Mutex::new(state) };
        cache.refresh()?;
        Ok(cache)
    }

    /// Opens folders to read only, e.g. to merge what several machines evaluated.
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        let first = folders.first().cloned().unwrap_or_default();
        let state = State { own: None, known: HashMap::new(), read: HashMap::new() };
        let cache = Self { folder: first, state: Mutex::new(state) };
        for folder in folders {
            cache.take_in(folder)?;
        }
        Ok(cache)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what other processes have added.
    pub fn refresh(&self) -> Result<()> {
        self.take_in(&self.folder)
    }

    /// Adds every line of a folder's files that was not read yet. A last line that is still being written waits.
    fn take_in(&self, folder: &Path) -> Result<()> {
        let io = |source| SearchError::Io { path: folder.to_owned(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            files.push(entry.map_err(io)?.path());
        }
        files.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
        files.sort();
        let mut state = self.lock();
        for path in files {
            let from = state.read.get(&path).copied().unwrap_or(0);
            let bytes = read_from(&path, from).map_err(|source| SearchError::Io { path: path.clone(), source })?;
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
            for line in bytes[..whole].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                // A line cut by a crash and gone over by another is worth less than the rest: it is evaluated again.
                if let Ok(line) = serde_json::from_slice::<CacheLine>(line) {
                    state.known.insert((line.objective, line.hash, line.share.to_bits()), line.score);
                }
            }
            state.read.insert(path, from + whole as u64);
        }
        Ok(())
    }

    /// A score, if it is known.
    pub fn get(&self, objective: &str, hash: &str, share: f64) -> Option<Score> {
        self.lock().known.get(&(objective.to_owned(), hash.to_owned(), share.to_bits())).copied()
    }

    /// Scores in the cache.
    pub fn len(&self) -> usize {
        self.lock().known.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an evaluation; it is in the file when this returns.
    pub fn insert(&self, line: CacheLine) -> Result<()> {
        let mut text = serde_json::to_vec(&line)
            .map_err(|e| SearchError::Format { path: self.folder.clone(), reason: e.to_string() })?;
        text.push(b'\n');
        let mut state = self.lock();
        if let Some(file) = &mut state.own {
            file.write_all(&text).map_err(|source| SearchError::Io { path: self.folder.clone(), source })?;
        }
        state.known.insert((line.objective, line.hash, line.share.to_bits()), line.score);
        Ok(())
    }
}

/// Removes a line cut off by a kill and goes to the end.
fn cut_half_line(file: &mut File) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1) as u64;
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(whole)).map(drop)
}

fn read_from(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use inas_space::Space;

    use super::*;

    fn line(hash: &str, f_max: f64) -> CacheLine {
        let arch = Space::preset("nano").unwrap().min();
        CacheLine { objective: "o".into(), hash: hash.into(), share: 1.0, score: Score { f_max, mae: 0.1 }, arch }
    }

    #[test]
    fn what_one_process_writes_another_reads_and_a_cut_line_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Cache::open(dir.path(), "own").unwrap(), Cache::open(dir.path(), "own").unwrap());
        a.insert(line("x", 0.123_456_789_012_345_6)).unwrap();
        assert_eq!(b.get("o", "x", 1.0), None);
        b.refresh().unwrap();
        assert_eq!(b.get("o", "x", 1.0).unwrap().f_max.to_bits(), 0.123_456_789_012_345_6_f64.to_bits());
        assert_eq!((b.get("o", "x", 0.5), b.get("other", "x", 1.0)), (None, None));
        b.insert(line("y", 0.5)).unwrap();
        drop((a, b));
        let path = dir.path().join("own.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(br#"{"objective":"o","ha"#);
        std::fs::write(&path, bytes).unwrap();
        let again = Cache::open(dir.path(), "own").unwrap();
        again.insert(line("z", 0.7)).unwrap();
        let all = Cache::read(&[dir.path().to_owned()]).unwrap();
        assert_eq!(["x", "y", "z"].map(|h| all.get("o", h, 1.0).is_some()), [true; 3]);
        assert_eq!(all.len(), 3);
    }
}
