//! `records.jsonl`: what has been measured so far, appended and flushed to the disk block by block.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use inas_space::BlockKey;
use serde::{Deserialize, Serialize};

use crate::backend::RuntimeInfo;
use crate::measure::{Measurement, Protocol};
use crate::{Error, Result};

/// Name of the file.
pub(crate) const RECORDS_FILE: &str = "records.jsonl";

/// First line: what all records of the file share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) schema: u64,
    pub(crate) fingerprint: String,
    pub(crate) space_hash: String,
    pub(crate) input_px: u32,
    pub(crate) runtime: RuntimeInfo,
    pub(crate) threads: usize,
    pub(crate) protocol: Protocol,
    pub(crate) seed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: BlockKey,
    measurement: Measurement,
}

/// The file, open for appending, and what it holds.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    file: File,
    pub(crate) measured: BTreeMap<BlockKey, Measurement>,
}

impl Records {
    /// Starts the file in `folder`, or goes on with it when `resume`.
    pub(crate) fn open(folder: &Path, resume: bool, header: &Header, keys: &BTreeSet<BlockKey>) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let path = folder.join(RECORDS_FILE);
        let there = path.exists();
        let empty = fs::read_dir(folder).map_err(Error::io("list", folder))?.next().is_none();
        if !empty && (!resume || !there) {
            let hint = match (there, resume) {
                (true, _) => "resume (`--resume`) to go on with the profile in it, or choose another folder",
                (false, true) => "it holds no records to resume from; choose another folder",
                (false, false) => "choose another folder",
            };
            return Err(Error::NotEmpty { path: folder.to_owned(), hint });
        }
        let bytes = if there { fs::read(&path).map_err(Error::io("read", &path))? } else { Vec::new() };
        let (measured, good_len) = parse(folder, &path, &bytes, header, keys)?;
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io("open", &path))?;
        file.set_len(good_len as u64).map_err(Error::io("truncate", &path))?;
        let mut records = Self { path, file, measured };
        if good_len == 0 {
            records.append(header)?;
        }
        Ok(records)
    }

    /// Adds a block; it is on the disk when this returns.
    pub(crate) fn push(&mut self, key: BlockKey, measurement: Measurement) -> Result<()> {
        self.append(&Record { key, measurement })?;
        self.measured.insert(key, measurement);
        Ok(())
    }

    fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let write = |file: &mut File| -> std::io::Result<()> {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_data()
        };
        write(&mut self.file).map_err(Error::io("write", &self.path))
    }
}

/// Records of the file and the length of its good part: a last line that was cut is left out.
fn parse(
    folder: &Path,
    path: &Path,
    bytes: &[u8],
    header: &Header,
    keys: &BTreeSet<BlockKey>,
) -> Result<(BTreeMap<BlockKey, Measurement>, usize)> {
    let mut measured = BTreeMap::new();
    let mut good_len = 0;
    for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let bad = |reason: String| Error::Record { path: path.to_owned(), line: i + 1, reason };
        if !line.ends_with(b"\n") {
            break;
        }
        if i == 0 {
            let kept: serde_json::Value = serde_json::from_slice(line).map_err(|e| bad(e.to_string()))?;
            let now = serde_json::to_value(header).map_err(|e| bad(e.to_string()))?;
            let differences = differences(&kept, &now);
            if !differences.is_empty() {
                return Err(Error::Mixed { path: folder.to_owned(), differences });
            }
        } else {
            let record: Record = match serde_json::from_slice(line) {
                Ok(record) => record,
                // A crash may leave the last line's place on the disk, but not its text.
                Err(_) if good_len + line.len() == bytes.len() => break,
                Err(e) => return Err(bad(e.to_string())),
            };
            if !keys.contains(&record.key) {
                return Err(bad(format!("`{}` is no block of the space", record.key)));
            }
            if measured.insert(record.key, record.measurement).is_some() {
                return Err(bad(format!("block `{}` is there twice", record.key)));
            }
        }
        good_len += line.len();
    }
    Ok((measured, good_len))
}

/// Fields in which two headers differ, as `name: kept, now value`.
fn differences(kept: &serde_json::Value, now: &serde_json::Value) -> String {
    let empty = serde_json::Map::new();
    let (kept, now) = (kept.as_object().unwrap_or(&empty), now.as_object().unwrap_or(&empty));
    let names: BTreeSet<&String> = kept.keys().chain(now.keys()).collect();
    let show = |v: Option<&serde_json::Value>| v.map_or_else(|| "absent".to_owned(), ToString::to_string);
    let differing = names.into_iter().filter(|n| kept.get(*n) != now.get(*n));
    differing.map(|n| format!("{n}: {}, now {}", show(kept.get(n)), show(now.get(n)))).collect::<Vec<_>>().join("; ")
}
