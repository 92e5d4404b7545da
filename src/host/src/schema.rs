//! JSON Schemas of what the programs write for other programs.

use inas_profiler::bench::Report;
use inas_profiler::calibrate::{Calibration, Verification};
use inas_profiler::plan::Estimate;
use inas_profiler::profile::{self, ProfileFacts};
use inas_profiler::records::{Entry, Header, StreamLine};
use inas_profiler::{DeviceFacts, bench, calibrate};
use inas_space::Architecture;
use schemars::{JsonSchema, Schema, schema_for};

use crate::search::{CacheLine, Evaluated, SearchResult};

/// A form of JSON.
pub struct Form {
    /// Name; the file `schemas/NAME.v{version}.json` holds its schema.
    pub name: &'static str,
    /// Version: a change that readers must know of raises it.
    pub version: u64,
    /// Where it is found.
    pub found: &'static str,
    /// The schema.
    pub schema: Schema,
}

impl Form {
    /// The schema as it is in the file.
    pub fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&self.schema)
    }
}

fn form<T: JsonSchema>(name: &'static str, version: u64, found: &'static str) -> Form {
    Form { name, version, found, schema: schema_for!(T) }
}

/// Every form.
pub fn forms() -> Vec<Form> {
    let profile = profile::SCHEMA;
    vec![
        form::<Architecture>("architecture", 1, "a network: `inas space --draw`, `inas latency`, metadata of a model"),
        form::<ProfileFacts>("profile", profile, "`profile.json` of a profile's folder"),
        form::<Header>("records-header", profile, "first line of `records.jsonl`"),
        form::<Entry>("records-entry", profile, "every other line of `records.jsonl`"),
        form::<StreamLine>("stream-line", profile, "lines of `inas-profiler run`"),
        form::<Calibration>("calibration", calibrate::SCHEMA, "`calibration.json` of a profile's folder"),
        form::<Verification>("verification", 1, "`inas profile verify --json`"),
        form::<Estimate>("plan", 1, "`inas profile plan --json`"),
        form::<DeviceFacts>("device", 1, "`inas-profiler device`"),
        form::<Report>("bench", bench::SCHEMA, "`inas bench --json`"),
        form::<Evaluated>("evaluated", 1, "lines of `evaluated.jsonl` after the first, entries of `front.json`"),
        form::<SearchResult>("search-result", 1, "`search.json` of a search's folder"),
        form::<CacheLine>("cache-line", 1, "lines of a search's cache"),
    ]
}
