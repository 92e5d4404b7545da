//! Profiles from and to the release's text tables.

use std::fmt::Write as _;
use std::path::Path;

use inas_graph::cost;
use inas_space::{BlockKey, LatencyTable, Space};
use sha2::{Digest as _, Sha256};

use crate::Result;
use crate::device::DeviceFacts;
use crate::measure::{Measurement, Protocol};
use crate::profile::{BlockRow, Profile, ProfileFacts, SCHEMA};
use inas_backend::RuntimeInfo;

/// Name of the runtime of a profile that was not measured by this program.
pub const IMPORTED: &str = "imported";

/// From a normal distribution's median absolute deviation to its standard deviation.
const SIGMA_OF_MAD: f64 = 1.4826;

/// A profile from a table in the release's text form (milliseconds), which must hold the blocks of the space.
///
/// `name` is where it came from. The table's mean stands for the median; warm-up, threads and machine are unknown.
pub fn import(text: &str, name: &str, space: &Space, px: u32, command: String) -> Result<Profile> {
    let table = LatencyTable::from_release(text)?;
    let variance = variances(text);
    let row = |key: &BlockKey, us: f64| -> Result<BlockRow> {
        let sigma_us = variance.get(key).copied().unwrap_or(0.0).max(0.0).sqrt() * 1e3;
        let measurement = Measurement {
            median_us: us,
            mean_us: us,
            ci_low_us: us,
            ci_high_us: us,
            p10_us: us,
            p90_us: us,
            mad_us: sigma_us / SIGMA_OF_MAD,
            ..Measurement::default()
        };
        let cost = if key.is_identity() { cost::Cost::default() } else { cost::of_block(space, key)? };
        Ok(BlockRow { measurement, passes: 1, drift: None, cost })
    };
    let known = space.block_keys(px)?;
    // Blocks of another space or size have no graph here; the check below names them.
    let rows = table.iter().map(|(key, us)| {
        let row = if known.contains(key) { row(key, us.0)? } else { BlockRow::default() };
        Ok((*key, row))
    });
    let rows = rows.collect::<Result<_>>()?;
    let fingerprint = crate::device::hex16(&Sha256::digest(text.as_bytes()));
    let facts = ProfileFacts {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        command,
        created: crate::run::now(),
        space_name: space.name.clone(),
        space_hash: space.hash(),
        space_toml: space.to_toml()?,
        input_px: px,
        runtime: RuntimeInfo { name: IMPORTED.into(), version: name.to_owned(), options: [].into() },
        threads: 0,
        cores: Vec::new(),
        device: DeviceFacts::default(),
        protocol: Protocol::default(),
        seed: 0,
        sentinel_us: None,
        blocks: 0,
        fingerprint,
    };
    Profile::from_rows(facts, rows, Path::new(name))
}

/// The variances of the lines, ms²; lines are known to be readable.
fn variances(text: &str) -> std::collections::BTreeMap<BlockKey, f64> {
    let line = |line: &str| {
        let (key, rest) = line.split_once("latency_mean:")?;
        let variance = rest.split_once("latency_var:")?.1.trim().parse().ok()?;
        Some((BlockKey::from_release(key).ok()?, variance))
    };
    text.lines().filter_map(line).collect()
}

/// The profile as a table in the release's text form: medians in milliseconds, variances from the deviation.
pub fn export(profile: &Profile) -> String {
    let mut text = String::new();
    for (key, row) in profile.rows() {
        let (ms, sigma_ms) = (row.measurement.median_us / 1e3, row.measurement.mad_us * SIGMA_OF_MAD / 1e3);
        let variance = (sigma_ms * sigma_ms * 1e12).round() / 1e12;
        let _ = writeln!(text, "{} latency_mean:{ms:.6} latency_var:{variance:?}", key.to_release());
    }
    text
}
