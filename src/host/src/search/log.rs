//! The log of a search: one JSON header line, then one line an evaluated architecture. It is only ever appended to,
//! and a search whose log is there replays it instead of evaluating again.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Devices, Evaluated, Objective, Result, SearchConfig, SearchError};

/// Version of the log, and of the order in which a seed leads to architectures.
const VERSION: u32 = 3;

/// What a search depends on; the first line of its log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogHeader {
    /// Version of the log format.
    pub version: u32,
    /// Name of the space.
    pub space: String,
    /// Hash of the space.
    pub space_hash: String,
    /// Hash of the latency table.
    pub table_hash: String,
    /// Input side of the latency table, px.
    pub px: u32,
    /// [`Objective::identity`].
    pub objective: String,
    /// Settings.
    pub config: SearchConfig,
}

impl LogHeader {
    /// Header of a search.
    pub fn new(devices: &Devices, objective: &dyn Objective, config: &SearchConfig) -> Self {
        let predictor = devices.objective();
        Self {
            version: VERSION,
            space: predictor.space().name.clone(),
            space_hash: predictor.space().hash(),
            table_hash: predictor.table_hash().to_owned(),
            px: predictor.px(),
            objective: objective.identity(),
            config: config.clone(),
        }
    }
}

/// Reads a log: its header and the records written whole. A last line cut off by a kill is left out.
pub fn read_log(path: &Path) -> Result<(LogHeader, Vec<Evaluated>)> {
    let text = std::fs::read_to_string(path).map_err(|source| SearchError::Io { path: path.into(), source })?;
    let (header, records) = parse(path, whole_lines(&text))?;
    let header = serde_json::from_str(header).map_err(|e| syntax(path, 1, &e))?;
    Ok((header, records))
}

/// An open log: what it holds is replayed first, then records are appended.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    recorded: VecDeque<Evaluated>,
}

impl Log {
    /// Opens or starts the log at `path`; refuses one of another search.
    pub(super) fn open(path: &Path, header: &LogHeader) -> Result<Self> {
        let io = |source| SearchError::Io { path: path.into(), source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SearchError::LogInUse { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        // A kill can cut a line inside a character; whole lines are text.
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let line = serde_json::to_string(header).map_err(|e| syntax(path, 1, &e))? + "\n";
        let mut recorded = VecDeque::new();
        if whole == 0 {
            if !line.as_bytes().starts_with(&bytes) {
                return Err(SearchError::LogHeader { path: path.into(), differences: "not a search log".into() });
            }
        } else {
            let text = std::str::from_utf8(&bytes[..whole]).map_err(|e| SearchError::LogSyntax {
                path: path.into(),
                line: bytes[..e.valid_up_to()].split(|b| *b == b'\n').count(),
                reason: "not UTF-8 text".into(),
            })?;
            let found = text.lines().next().unwrap_or_default();
            let differences = differences(found, line.trim_end());
            if !differences.is_empty() {
                return Err(SearchError::LogHeader { path: path.into(), differences });
            }
            recorded = parse(path, text)?.1.into();
        }
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::Start(whole as u64)).map_err(io)?;
        if whole == 0 {
            file.write_all(line.as_bytes()).map_err(io)?;
        }
        Ok(Self { path: path.into(), file, recorded })
    }

    /// The next record of an earlier run, which must be of architecture `hash`.
    pub(super) fn replay(&mut self, index: usize, hash: &str) -> Result<Option<Evaluated>> {
        let Some(record) = self.recorded.pop_front() else { return Ok(None) };
        if record.hash == hash && record.index == index {
            return Ok(Some(record));
        }
        Err(SearchError::LogDiverged { path: self.path.clone(), index, found: record.hash, expected: hash.to_owned() })
    }

    /// Appends a record.
    pub(super) fn append(&mut self, record: &Evaluated) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| syntax(&self.path, record.index + 2, &e))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| SearchError::Io { path: self.path.clone(), source })
    }
}

fn whole_lines(text: &str) -> &str {
    &text[..text.rfind('\n').map_or(0, |i| i + 1)]
}

fn parse<'a>(path: &Path, text: &'a str) -> Result<(&'a str, Vec<Evaluated>)> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let records = lines.enumerate().map(|(i, l)| serde_json::from_str(l).map_err(|e| syntax(path, i + 2, &e)));
    Ok((header, records.collect::<Result<_>>()?))
}

fn syntax(path: &Path, line: usize, error: &serde_json::Error) -> SearchError {
    SearchError::LogSyntax { path: path.into(), line, reason: error.to_string() }
}

/// Stands for a field that is not there.
const NULL: serde_json::Value = serde_json::Value::Null;

/// What differs between two headers, `field: log -> now`; empty when nothing does.
fn differences(log: &str, now: &str) -> String {
    let (Ok(log), Ok(now)) = (serde_json::from_str(log), serde_json::from_str(now)) else {
        return "not a search log".to_owned();
    };
    let mut out = Vec::new();
    compare("", &log, &now, &mut out);
    out.join(", ")
}

fn compare(place: &str, log: &serde_json::Value, now: &serde_json::Value, out: &mut Vec<String>) {
    if let (Some(a), Some(b)) = (log.as_object(), now.as_object()) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let at = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
            compare(&at, a.get(key).unwrap_or(&NULL), b.get(key).unwrap_or(&NULL), out);
        }
    } else if log != now {
        out.push(format!("{place}: {log} -> {now}"));
    }
}
