//! `records.jsonl`: what has been measured so far, appended and flushed to the disk block by block.
//!
//! The first line is a [`Header`], each further one a [`Record`] (it has a `key`) or a [`Sentinel`] (it has a
//! `sentinel_us`). While measuring goes on a block may have several records; the finished file has one.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use inas_space::BlockKey;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::conditions::Conditions;
use crate::measure::{Measurement, Protocol};
use crate::profile::{SCHEMA, write_whole};
use crate::run::RunOptions;
use crate::schedule::History;
use crate::{Error, Result};
use inas_backend::{Backend, RuntimeInfo};

/// Name of the file.
pub const RECORDS_FILE: &str = "records.jsonl";

/// First line: what all records of the file share. Records under different headers do not mix.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Header {
    /// Schema version of the file.
    pub schema: u64,
    /// Hash of what must match on the machine ([`crate::DeviceFacts::fingerprint`]).
    pub fingerprint: String,
    /// Hash of the space.
    pub space_hash: String,
    /// Side of the input image, px.
    pub input_px: u32,
    /// Runtime.
    pub runtime: RuntimeInfo,
    /// Threads of one inference.
    pub threads: usize,
    /// Cores that the process was kept on; empty when it was not.
    #[serde(default)]
    pub cores: Vec<usize>,
    /// How each block was measured.
    pub protocol: Protocol,
    /// Seed of weights, inputs and order.
    pub seed: u64,
}

impl Header {
    /// Of measuring with `options` on a machine of that fingerprint.
    pub(crate) fn new(
        fingerprint: String,
        space_hash: String,
        input_px: u32,
        backend: &dyn Backend,
        options: &RunOptions,
    ) -> Self {
        Self {
            schema: SCHEMA,
            fingerprint,
            space_hash,
            input_px,
            runtime: backend.info(),
            threads: backend.threads(),
            cores: options.cores.clone(),
            protocol: options.protocol.clone(),
            seed: options.seed,
        }
    }
}

/// What tells one block from another: the key of a space's block, or the name of a model.
pub trait Key: Ord + Clone + fmt::Display + Serialize + DeserializeOwned {}

impl<K: Ord + Clone + fmt::Display + Serialize + DeserializeOwned> Key for K {}

/// A measured block.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Record<K = BlockKey> {
    /// The block.
    pub key: K,
    /// Its latency.
    pub measurement: Measurement,
    /// How often it was measured; the fastest counts.
    #[serde(default = "once")]
    pub passes: usize,
    /// Slowness of the sentinels beside it against quiet times, relative; known once measuring has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
}

impl<K> Record<K> {
    pub(crate) fn new(key: K, measurement: Measurement) -> Self {
        Self { key, measurement, passes: 1, drift: None }
    }
}

fn once() -> usize {
    1
}

/// The sentinel block, timed between segments, and the state of the machine then.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
pub struct Sentinel {
    /// Its latency, microseconds.
    pub sentinel_us: f64,
    /// Seconds since the run began.
    #[serde(default)]
    pub at_s: f64,
    /// Frequencies, temperatures and load.
    #[serde(default)]
    pub conditions: Conditions,
}

/// A line after the first.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry<K = BlockKey> {
    /// A measured block.
    Block(Record<K>),
    /// A sentinel.
    Sentinel(Sentinel),
}

/// A line that a measuring program writes for another one after each block.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct StreamLine {
    /// Schema version ([`crate::profile::SCHEMA`]).
    pub schema: u64,
    /// Blocks measured, earlier runs included.
    pub done: usize,
    /// Blocks to measure in all.
    pub total: usize,
    /// Blocks of this pass that are left.
    pub left: usize,
    /// The block.
    pub key: BlockKey,
    /// Its median latency, microseconds.
    pub median_us: f64,
    /// Time since the run started, seconds.
    pub elapsed_s: f64,
    /// Time left at the pace of this run, seconds.
    pub eta_s: f64,
    /// The record as it is in the file.
    pub record: Record,
}

/// The file, open for appending, and what it holds.
#[derive(Debug)]
pub(crate) struct Records<K = BlockKey> {
    path: PathBuf,
    file: File,
    pub(crate) history: History<K>,
}

impl<K: Key> Records<K> {
    /// Starts the file in `folder`, or goes on with it when `resume`.
    pub(crate) fn open(folder: &Path, resume: bool, header: &Header, keys: &BTreeSet<K>) -> Result<Self> {
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
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io("open", &path))?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let (history, good_len) = parse(folder, &path, &bytes, header, keys)?;
        file.set_len(good_len as u64).map_err(Error::io("truncate", &path))?;
        let mut records = Self { path, file, history };
        if good_len == 0 {
            records.append(header)?;
        }
        Ok(records)
    }

    /// Adds a line; it is on the disk when this returns.
    pub(crate) fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let write = |file: &mut File| -> std::io::Result<()> {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_data()
        };
        write(&mut self.file).map_err(Error::io("write", &self.path))
    }

    /// Leaves only the best record of each block, in the order of first measuring.
    pub(crate) fn finish(self, header: &Header) -> Result<()> {
        let bad = |e: serde_json::Error| Error::Io { action: "write", path: self.path.clone(), source: e.into() };
        let mut text = serde_json::to_string(header).map_err(bad)? + "\n";
        for record in self.history.best_in_order() {
            text += &(serde_json::to_string(&record).map_err(bad)? + "\n");
        }
        write_whole(&self.path, text.as_bytes())
    }
}

/// What the file tells and the length of its good part: a last line that was cut is left out.
fn parse<K: Key>(
    folder: &Path,
    path: &Path,
    bytes: &[u8],
    header: &Header,
    keys: &BTreeSet<K>,
) -> Result<(History<K>, usize)> {
    let mut history = History::default();
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
            let entry: Entry<K> = match serde_json::from_slice(line) {
                Ok(entry) => entry,
                // A crash may leave the last line's place on the disk, but not its text.
                Err(_) if good_len + line.len() == bytes.len() => break,
                Err(e) => return Err(bad(e.to_string())),
            };
            if let Entry::Block(record) = &entry {
                if !keys.contains(&record.key) {
                    return Err(bad(format!("`{}` is none of the blocks", record.key)));
                }
                if history.passes(&record.key) >= header.protocol.max_passes.max(record.passes) {
                    return Err(bad(format!("block `{}` is there too often", record.key)));
                }
            }
            history.push(entry);
        }
        good_len += line.len();
    }
    Ok((history, good_len))
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
