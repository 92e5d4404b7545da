//! A latency profile: a folder with `profile.json` (what was measured, where and how) and `blocks.csv` (a row a block).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use inas_graph::cost::{self, Cost};
use inas_space::{Architecture, BlockKey, LatencyBreakdown, LatencyTable, Micros, Space};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::calibrate::{CALIBRATION_FILE, Calibration};
use crate::device::DeviceFacts;
use crate::measure::{Measurement, Protocol};
use crate::records::Record;
use crate::{Error, Result};
use inas_backend::RuntimeInfo;

/// Newest schema of the folder that is read, and the one written.
pub const SCHEMA: u64 = 2;

/// Name of the file of facts.
pub const PROFILE_FILE: &str = "profile.json";

/// Name of the file of rows.
pub const BLOCKS_FILE: &str = "blocks.csv";

/// What was measured, where and how: `profile.json`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct ProfileFacts {
    /// Schema version of the folder.
    pub schema: u64,
    /// Version of the program that measured.
    pub tool_version: String,
    /// Its command line.
    pub command: String,
    /// When measuring ended, UTC, RFC 3339.
    pub created: String,
    /// Name of the space.
    pub space_name: String,
    /// Hash of the space.
    pub space_hash: String,
    /// The whole space file.
    pub space_toml: String,
    /// Side of the input image, px.
    pub input_px: u32,
    /// Runtime.
    pub runtime: RuntimeInfo,
    /// Threads of one inference.
    pub threads: usize,
    /// Cores that the process was kept on; empty when it was not.
    #[serde(default)]
    pub cores: Vec<usize>,
    /// Machine.
    pub device: DeviceFacts,
    /// How each block was measured.
    pub protocol: Protocol,
    /// Seed of weights, inputs and order.
    pub seed: u64,
    /// Latency of the sentinel block in quiet times, microseconds.
    #[serde(default)]
    pub sentinel_us: Option<f64>,
    /// Number of rows.
    pub blocks: usize,
    /// Hash of what must match on the machine ([`DeviceFacts::fingerprint`]).
    pub fingerprint: String,
}

impl ProfileFacts {
    /// What must be equal for latencies to mix and is not, as `name: this, other`; empty when they mix.
    pub fn differences(&self, other: &Self) -> String {
        let pairs = [
            ("machine", self.fingerprint.clone(), other.fingerprint.clone()),
            ("runtime", self.runtime.to_string(), other.runtime.to_string()),
            ("threads", self.threads.to_string(), other.threads.to_string()),
            ("cores", format!("{:?}", self.cores), format!("{:?}", other.cores)),
            ("space", self.space_hash.clone(), other.space_hash.clone()),
            ("input px", self.input_px.to_string(), other.input_px.to_string()),
            ("protocol", format!("{:?}", self.protocol), format!("{:?}", other.protocol)),
        ];
        let differing = pairs.iter().filter(|p| p.1 != p.2).map(|(name, a, b)| format!("{name}: {a}, {b}"));
        differing.collect::<Vec<_>>().join("; ")
    }
}

/// One measured block. A branch that passes its input through has only zeros.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BlockRow {
    /// Latency.
    pub measurement: Measurement,
    /// How often it was measured; the fastest counts.
    pub passes: usize,
    /// Slowness of the sentinels beside it against quiet times, relative.
    pub drift: Option<f64>,
    /// Multiply-accumulates and parameters.
    pub cost: Cost,
}

/// A row of `blocks.csv`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CsvRow {
    key: BlockKey,
    median_us: f64,
    ci_low_us: f64,
    ci_high_us: f64,
    p10_us: f64,
    p90_us: f64,
    mean_us: f64,
    mad_us: f64,
    runs: usize,
    batch: usize,
    first_us: f64,
    noisy: bool,
    macs: u64,
    params: u64,
    #[serde(default)]
    cold_us: Option<f64>,
    #[serde(default)]
    load_us: Option<f64>,
    #[serde(default)]
    memory_kb: Option<u64>,
    #[serde(default)]
    passes: usize,
    #[serde(default)]
    drift: Option<f64>,
}

impl CsvRow {
    fn new(key: BlockKey, row: &BlockRow) -> Self {
        let BlockRow { measurement: m, passes, drift, cost } = row;
        Self {
            key,
            median_us: m.median_us,
            ci_low_us: m.ci_low_us,
            ci_high_us: m.ci_high_us,
            p10_us: m.p10_us,
            p90_us: m.p90_us,
            mean_us: m.mean_us,
            mad_us: m.mad_us,
            runs: m.runs,
            batch: m.batch,
            first_us: m.first_us,
            noisy: m.noisy,
            macs: cost.macs,
            params: cost.params,
            cold_us: m.cold_us,
            load_us: m.load_us,
            memory_kb: m.memory_kb,
            passes: *passes,
            drift: drift.map(|d| (d * 1e4).round() / 1e4),
        }
    }

    fn row(&self) -> BlockRow {
        let measurement = Measurement {
            first_us: self.first_us,
            runs: self.runs,
            batch: self.batch,
            median_us: self.median_us,
            ci_low_us: self.ci_low_us,
            ci_high_us: self.ci_high_us,
            p10_us: self.p10_us,
            p90_us: self.p90_us,
            mean_us: self.mean_us,
            mad_us: self.mad_us,
            noisy: self.noisy,
            cold_us: self.cold_us,
            load_us: self.load_us,
            memory_kb: self.memory_kb,
        };
        let cost = Cost { macs: self.macs, params: self.params };
        BlockRow { measurement, passes: self.passes, drift: self.drift, cost }
    }
}

/// Latencies of all blocks of a space at one input size, on one machine with one runtime and thread count.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    facts: ProfileFacts,
    space: Space,
    rows: BTreeMap<BlockKey, BlockRow>,
    calibration: Option<Calibration>,
}

impl Profile {
    /// A profile of measured blocks; rows of pass-through branches and costs are filled in.
    pub fn new(facts: ProfileFacts, measured: &BTreeMap<BlockKey, Record>) -> Result<Self> {
        let space = Space::from_toml(&facts.space_toml)?;
        let mut rows = BTreeMap::new();
        for (key, record) in measured {
            let Record { measurement, passes, drift, .. } = *record;
            rows.insert(*key, BlockRow { measurement, passes, drift, cost: cost::of_block(&space, key)? });
        }
        for key in space.block_keys(facts.input_px)?.into_iter().filter(BlockKey::is_identity) {
            rows.insert(key, BlockRow::default());
        }
        let profile = Self { facts: ProfileFacts { blocks: rows.len(), ..facts }, space, rows, calibration: None };
        profile.check(Path::new(BLOCKS_FILE))?;
        Ok(profile)
    }

    /// A profile of rows that are there already; `origin` is named when they are not the blocks of the space.
    pub(crate) fn from_rows(facts: ProfileFacts, rows: BTreeMap<BlockKey, BlockRow>, origin: &Path) -> Result<Self> {
        let space = Space::from_toml(&facts.space_toml)?;
        let profile = Self { facts: ProfileFacts { blocks: rows.len(), ..facts }, space, rows, calibration: None };
        profile.check(origin)?;
        Ok(profile)
    }

    /// Puts together profiles that were measured alike; each block keeps its fastest measurement.
    ///
    /// Profiles that differ in machine, runtime, threads, cores, space, input size or protocol do not mix.
    pub fn merge(profiles: &[Self], command: String) -> Result<Self> {
        let Some((first, others)) = profiles.split_first() else {
            return Err(Error::Merge { differences: "there is no profile".into() });
        };
        let mut rows = first.rows.clone();
        for other in others {
            let differences = first.facts.differences(&other.facts);
            if !differences.is_empty() {
                return Err(Error::Merge { differences });
            }
            for (key, row) in &other.rows {
                let Some(kept) = rows.get_mut(key) else { continue };
                let passes = kept.passes + row.passes;
                if row.measurement.median_us < kept.measurement.median_us {
                    *kept = *row;
                }
                kept.passes = passes;
            }
        }
        let facts = ProfileFacts { command, created: crate::run::now(), ..first.facts.clone() };
        Self::from_rows(facts, rows, Path::new(BLOCKS_FILE))
    }

    /// Latency of every block by the best model there is: calibrated, or measured when there is no calibration or
    /// `plain` is asked for. Sums over it are predictions.
    pub fn model(&self, plain: bool) -> LatencyTable {
        self.calibrated_table().filter(|_| !plain).unwrap_or_else(|| self.table())
    }

    /// Reads a profile folder and checks that it is whole.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(PROFILE_FILE);
        let text = read_file(folder, PROFILE_FILE)?;
        let damaged = |reason: String| Error::ProfileDamaged { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let found = value.get("schema").and_then(serde_json::Value::as_u64);
        let found = found.ok_or_else(|| damaged("no `schema` number".into()))?;
        if found > SCHEMA {
            return Err(Error::Schema { path, found, known: SCHEMA });
        }
        let facts: ProfileFacts = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        let space = Space::from_toml(&facts.space_toml).map_err(|e| damaged(format!("its space: {e}")))?;
        if space.hash() != facts.space_hash {
            let (kept, now) = (&facts.space_hash, space.hash());
            return Err(damaged(format!("the space has hash {now}, but {kept} was recorded: one was changed")));
        }
        let rows = read_rows(folder, facts.blocks)?;
        let calibration = Calibration::read(folder)?;
        let profile = Self { facts, space, rows, calibration };
        profile.check(&folder.join(BLOCKS_FILE))?;
        match &profile.calibration {
            Some(c) if c.profile != profile.measured_hash() => Err(Error::ProfileDamaged {
                path: folder.join(CALIBRATION_FILE),
                reason: "it belongs to other measurements; remove it and calibrate again".into(),
            }),
            _ => Ok(profile),
        }
    }

    /// Writes the profile into `folder`, which is made if needed; each file appears whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let path = folder.join(BLOCKS_FILE);
        let bad = |e: String| Error::ProfileDamaged { path: path.clone(), reason: e };
        let mut table = csv::Writer::from_writer(Vec::new());
        for (key, row) in &self.rows {
            table.serialize(CsvRow::new(*key, row)).map_err(|e| bad(e.to_string()))?;
        }
        write_whole(&path, &table.into_inner().map_err(|e| bad(e.to_string()))?)?;
        let path = folder.join(PROFILE_FILE);
        let mut json = serde_json::to_vec_pretty(&self.facts)
            .map_err(|e| Error::ProfileDamaged { path: path.clone(), reason: e.to_string() })?;
        json.push(b'\n');
        // Last, since it says that the profile is complete.
        write_whole(&path, &json)
    }

    /// What was measured, where and how.
    pub fn facts(&self) -> &ProfileFacts {
        &self.facts
    }

    /// Rows in key order.
    pub fn rows(&self) -> &BTreeMap<BlockKey, BlockRow> {
        &self.rows
    }

    /// The space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Side of the input image, px.
    pub fn input_px(&self) -> u32 {
        self.facts.input_px
    }

    /// Median latency of every block.
    pub fn table(&self) -> LatencyTable {
        self.rows.iter().map(|(key, row)| (*key, Micros(row.measurement.median_us))).collect()
    }

    /// Names the measured latencies and what they were measured on: SHA-256 over the rows, first 16 hex digits.
    pub fn measured_hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("{:?}", (&self.facts.fingerprint, &self.facts.runtime, self.facts.threads)));
        for (key, row) in &self.rows {
            let m = &row.measurement;
            hasher.update(format!("{key} {} {:?}\n", m.median_us, m.cold_us));
        }
        crate::device::hex16(&hasher.finalize())
    }

    /// The calibration by whole networks, if there is one.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// Puts a calibration into the profile and, if given, into its folder.
    pub fn calibrate(&mut self, calibration: Calibration, folder: Option<&Path>) -> Result<()> {
        if let Some(folder) = folder {
            calibration.write(&folder.join(CALIBRATION_FILE))?;
        }
        self.calibration = Some(calibration);
        Ok(())
    }

    /// Share of each block in the latency of a network by the calibrated model; `None` without a calibration.
    ///
    /// The model's constant is in the stem's rows, since every network has one stem, so that sums over this table are
    /// its predictions.
    pub fn calibrated_table(&self) -> Option<LatencyTable> {
        let calibration = self.calibration.as_ref()?;
        Some(self.rows.iter().map(|(key, row)| (*key, calibration.block(key, row))).collect())
    }

    /// Predicted latency of a network: the sum over its blocks. For many networks, take [`Profile::table`] once.
    pub fn predict(&self, arch: &Architecture) -> Result<LatencyBreakdown> {
        Ok(self.table().latency(&self.space, arch, self.facts.input_px)?)
    }

    /// Checks that the rows are exactly the blocks of the space.
    fn check(&self, path: &Path) -> Result<()> {
        let keys = self.space.block_keys(self.facts.input_px)?;
        let missing: Vec<_> = keys.iter().filter(|k| !self.rows.contains_key(k)).collect();
        let unknown: Vec<_> = self.rows.keys().filter(|k| !keys.contains(k)).collect();
        match missing.first().or(unknown.first()) {
            None => Ok(()),
            Some(example) => Err(Error::Rows {
                path: path.to_owned(),
                space: self.space.name.clone(),
                px: self.facts.input_px,
                missing: missing.len(),
                unknown: unknown.len(),
                example: example.to_string(),
            }),
        }
    }
}

fn read_file(folder: &Path, file: &'static str) -> Result<String> {
    let path = folder.join(file);
    fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::ProfileFile { folder: folder.to_owned(), file },
        _ => Error::Io { action: "read", path, source: e },
    })
}

fn read_rows(folder: &Path, expected: usize) -> Result<BTreeMap<BlockKey, BlockRow>> {
    let text = read_file(folder, BLOCKS_FILE)?;
    let damaged = |reason: String| Error::ProfileDamaged { path: folder.join(BLOCKS_FILE), reason };
    // A last line that was cut may still parse, with a shorter number.
    if !text.ends_with('\n') {
        return Err(damaged(format!("truncated: line {} does not end", text.lines().count())));
    }
    let mut rows = BTreeMap::new();
    for (i, row) in csv::Reader::from_reader(text.as_bytes()).deserialize().enumerate() {
        let line = i + 2;
        let row: CsvRow = row.map_err(|e| damaged(e.to_string()))?;
        if !(row.median_us.is_finite() && row.median_us >= 0.0) {
            return Err(damaged(format!("line {line}: median_us must be a number of at least 0")));
        }
        if rows.insert(row.key, row.row()).is_some() {
            return Err(damaged(format!("line {line}: block `{}` is listed twice", row.key)));
        }
    }
    if rows.len() < expected {
        return Err(damaged(format!("truncated: {} rows, but {PROFILE_FILE} says {expected}", rows.len())));
    }
    Ok(rows)
}

/// Writes beside the target, then renames.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(Error::io("write", path))
}
