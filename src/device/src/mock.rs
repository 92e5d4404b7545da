//! A device that follows a script: latencies, heating, noise, cut cables, reboots, garbage.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use inas_profiler::device::ThermalZone;
use inas_profiler::profile::{ProfileFacts, SCHEMA};
use inas_profiler::records::{Record, StreamLine};
use inas_profiler::{DeviceFacts, Measurement, Profile, Protocol, RuntimeInfo};
use inas_space::{BlockKey, Space};

use crate::bench::Benched;
use crate::command::{Limits, Stream};
use crate::facts::{Battery, Facts};
use crate::session::PROFILER;
use crate::transport::{Device, sha256};
use crate::{Error, Result};

const FOLDER: &str = "/mock";

/// Something that befalls the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The cable is out for this many attempts to connect; the measuring goes on for some blocks.
    Cut {
        /// Attempts.
        attempts: usize,
        /// Blocks that are measured meanwhile.
        meanwhile: usize,
    },
    /// The device starts anew and is away for this many attempts.
    Reboot {
        /// Attempts.
        attempts: usize,
    },
    /// Lines that are no record.
    Garbage(Vec<String>),
    /// The measuring program ends with this exit code, saying this.
    Exit(i32, String),
}

/// How the device behaves.
#[derive(Debug, Clone)]
pub struct Script {
    /// What it tells of itself.
    pub facts: Facts,
    /// Latency of a cool block, microseconds.
    pub latency_us: f64,
    /// Relative noise, at most.
    pub noise: f64,
    /// Heating by a block, degrees Celsius, up to 95; each degree above 60 slows by one percent.
    pub heating_celsius: f64,
    /// What befalls it, by number of blocks measured in all.
    pub faults: VecDeque<(usize, Fault)>,
}

impl Default for Script {
    fn default() -> Self {
        let battery = Battery { percent: Some(80), celsius: Some(30.0), charging: Some(true) };
        let facts = Facts {
            machine: Some("aarch64".into()),
            model: Some("Mock".into()),
            boot: Some("boot-0".into()),
            executable: Some(true),
            free_mb: Some(10_000),
            battery,
            ..Facts::default()
        };
        Self { facts, latency_us: 1000.0, noise: 0.0, heating_celsius: 0.0, faults: VecDeque::new() }
    }
}

/// A device that exists in this process only.
#[derive(Debug, Clone)]
pub struct MockDevice {
    script: Script,
    celsius: f64,
    away: usize,
    boots: usize,
    /// Contents by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Blocks measured, by folder of records, in order.
    pub records: BTreeMap<String, Vec<(BlockKey, f64)>>,
    /// Commands that started a measuring, in order.
    pub runs: Vec<String>,
    /// How many files travelled.
    pub sent: usize,
}

impl MockDevice {
    /// A cool device.
    pub fn new(script: Script) -> Self {
        let (files, records) = (BTreeMap::new(), BTreeMap::new());
        Self { script, celsius: 40.0, away: 0, boots: 0, files, records, runs: Vec::new(), sent: 0 }
    }

    fn lost(&self, reason: &str) -> Error {
        Error::Lost { device: self.name().to_owned(), reason: reason.to_owned() }
    }

    fn here(&self) -> Result<()> {
        if self.away > 0 { Err(self.lost("device offline")) } else { Ok(()) }
    }

    fn latency(&mut self, n: usize) -> f64 {
        self.celsius = (self.celsius + self.script.heating_celsius).min(95.0);
        let slow = 1.0 + (self.celsius - 60.0).max(0.0) / 100.0;
        // A fixed wobble is noise enough and repeats.
        let wobble = (n as f64 * 12.9898).sin() * self.script.noise;
        self.script.latency_us * slow * (1.0 + wobble)
    }

    fn space(&self, command: &str) -> Result<(String, Space, BTreeSet<BlockKey>)> {
        let after = |word: &str| command.split(word).nth(1).and_then(|t| t.split([' ', '\'']).find(|w| !w.is_empty()));
        let record = after("--record").unwrap_or("none").to_owned();
        let file = format!("{}/{}", self.folder(), after("--space").unwrap_or("none"));
        let toml = String::from_utf8_lossy(self.files.get(&file).map_or(&[][..], Vec::as_slice)).into_owned();
        let space = Space::from_toml(&toml)?;
        let mut keys = space.block_keys(space.input_px)?;
        keys.retain(|k| !k.is_identity());
        Ok((format!("{}/{record}", self.folder()), space, keys))
    }

    fn run(&mut self, command: &str, on_line: &mut dyn FnMut(Stream, &str)) -> Result<i32> {
        self.runs.push(command.to_owned());
        let (record, space, keys) = self.space(command)?;
        if self.records.contains_key(&record) && !command.contains("--resume") {
            on_line(Stream::Err, "error: the folder is not empty");
            return Ok(1);
        }
        self.records.entry(record.clone()).or_default();
        let mut unseen = None;
        loop {
            let done = &self.records[&record];
            let n = done.len();
            let Some(key) = keys.iter().find(|k| !done.iter().any(|d| d.0 == **k)).copied() else { break };
            if let Some(fault) = self.due(n) {
                match fault {
                    Fault::Garbage(lines) => lines.iter().for_each(|l| on_line(Stream::Out, l)),
                    Fault::Exit(code, words) => {
                        on_line(Stream::Err, &words);
                        return Ok(code);
                    }
                    Fault::Reboot { attempts } => {
                        (self.away, self.boots) = (attempts, self.boots + 1);
                        self.script.facts.boot = Some(format!("boot-{}", self.boots));
                        return Err(self.lost("connection closed"));
                    }
                    Fault::Cut { attempts, meanwhile } => {
                        self.away = attempts;
                        unseen = Some(meanwhile);
                    }
                }
            }
            match &mut unseen {
                Some(0) => return Err(self.lost("error: device offline")),
                Some(left) => *left -= 1,
                None => {}
            }
            let median_us = self.latency(n);
            self.records.entry(record.clone()).or_default().push((key, median_us));
            if unseen.is_none() {
                on_line(Stream::Out, &line(key, median_us, n + 1, keys.len()));
            }
        }
        self.finish(&record, &space, command)?;
        if unseen.is_some() { Err(self.lost("error: device offline")) } else { Ok(0) }
    }

    /// Measures a model; a larger file is slower.
    fn bench(&mut self, command: &str, on_line: &mut dyn FnMut(Stream, &str)) -> Result<i32> {
        let done = self.runs.len();
        match self.due(done) {
            Some(Fault::Exit(code, words)) => {
                on_line(Stream::Err, &words);
                return Ok(code);
            }
            Some(Fault::Garbage(lines)) => lines.iter().for_each(|l| on_line(Stream::Out, l)),
            Some(Fault::Cut { attempts, .. } | Fault::Reboot { attempts }) => {
                self.away = attempts;
                return Err(self.lost("device offline"));
            }
            None => {}
        }
        self.runs.push(command.to_owned());
        let model = self
            .files
            .iter()
            .find(|(path, _)| path.rsplit('/').next().is_some_and(|n| n.starts_with("model-") && command.contains(n)));
        let size = model.map_or(0, |(_, bytes)| bytes.len());
        let median_us = self.latency(done) * size as f64 / 1000.0;
        let latency = Measurement { median_us, ci_low_us: median_us, ci_high_us: median_us, ..Measurement::default() };
        let benched = Benched { runtime: runtime(), threads: 1, latency };
        on_line(Stream::Out, &serde_json::to_string(&benched).unwrap_or_default());
        Ok(0)
    }

    fn due(&mut self, measured: usize) -> Option<Fault> {
        let due = self.script.faults.front().is_some_and(|f| f.0 <= measured);
        if due { self.script.faults.pop_front().map(|f| f.1) } else { None }
    }

    /// Writes the profile as the measuring program does.
    fn finish(&mut self, record: &str, space: &Space, command: &str) -> Result<()> {
        let facts = ProfileFacts {
            schema: SCHEMA,
            tool_version: "mock".into(),
            command: command.to_owned(),
            created: "2026-01-01T00:00:00Z".into(),
            space_name: space.name.clone(),
            space_hash: space.hash(),
            space_toml: space.to_toml()?,
            input_px: space.input_px,
            runtime: runtime(),
            threads: 1,
            cores: Vec::new(),
            device: DeviceFacts::default(),
            protocol: Protocol::default(),
            seed: 0,
            sentinel_us: None,
            blocks: 0,
            fingerprint: "mock".into(),
        };
        let measured = self.records[record].iter().map(|(key, us)| (*key, self::record(*key, *us))).collect();
        let folder = tempfile::tempdir().map_err(Error::io("create", "temporary folder"))?;
        Profile::new(facts, &measured)?.write(folder.path())?;
        let listed = std::fs::read_dir(folder.path()).map_err(Error::io("list", folder.path()))?;
        for entry in listed.flatten() {
            let bytes = std::fs::read(entry.path()).map_err(Error::io("read", entry.path()))?;
            self.files.insert(format!("{record}/{}", entry.file_name().to_string_lossy()), bytes);
        }
        self.files.insert(format!("{record}/records.jsonl"), b"{}\n".to_vec());
        Ok(())
    }

    fn tell_facts(&self, on_line: &mut dyn FnMut(Stream, &str)) {
        let facts = &self.script.facts;
        let mut tell = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                on_line(Stream::Out, &format!("inas-fact {name} {value}"));
            }
        };
        tell("machine", facts.machine.clone());
        tell("model", facts.model.clone());
        tell("boot", facts.boot.clone());
        tell("executable", facts.executable.map(|yes| if yes { "7" } else { "126" }.into()));
        tell("free", facts.free_mb.map(|mb| format!("/dev/x 0 0 {} 1% /", mb * 1_000_000 / 1024)));
        tell("battery", facts.battery.percent.map(|p| format!("level: {p}")));
        tell("battery", facts.battery.celsius.map(|c| format!("temperature: {:.0}", c * 10.0)));
        tell("battery", facts.battery.charging.map(|c| format!("USB powered: {c}")));
        tell("thermal", facts.thermal_status.map(|s| format!("Thermal Status: {s}")));
        tell("zone", Some(format!("{:.0} cpu", self.celsius * 1e3)));
        for zone in facts.thermal_zones.iter().filter_map(|z: &ThermalZone| Some((z.celsius?, &z.name))) {
            tell("zone", Some(format!("{:.0} {}", zone.0 * 1e3, zone.1)));
        }
        for core in &facts.cores {
            let number = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
            let governor = core.governor.clone().unwrap_or_default();
            tell(
                "core",
                Some(format!("{} {},{},{governor},", core.core, number(core.max_khz), number(core.current_khz))),
            );
        }
    }
}

fn record(key: BlockKey, median_us: f64) -> Record {
    let ends = (median_us * 0.99, median_us * 1.01);
    let measurement = Measurement {
        first_us: median_us,
        runs: 10,
        batch: 1,
        median_us,
        ci_low_us: ends.0,
        ci_high_us: ends.1,
        p10_us: ends.0,
        p90_us: ends.1,
        mean_us: median_us,
        ..Measurement::default()
    };
    Record { key, measurement, passes: 1, drift: None }
}

fn line(key: BlockKey, median_us: f64, done: usize, total: usize) -> String {
    let (record, left) = (record(key, median_us), total - done);
    let line = StreamLine { schema: SCHEMA, done, total, left, key, median_us, elapsed_s: 0.0, eta_s: 0.0, record };
    serde_json::to_string(&line).unwrap_or_default()
}

impl Device for MockDevice {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn folder(&self) -> &'static str {
        FOLDER
    }

    fn connect(&mut self) -> Result<()> {
        self.away = self.away.saturating_sub(1);
        self.here()
    }

    fn exec(&mut self, command: &str, limits: &Limits<'_>, on_line: &mut dyn FnMut(Stream, &str)) -> Result<i32> {
        self.here()?;
        if limits.cancel.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::Interrupted { device: self.name().to_owned() });
        }
        let named = || self.files.keys().find(|path| command.contains(path.as_str())).cloned();
        if command.contains("inas-fact ") {
            self.tell_facts(on_line);
        } else if command.contains(&format!("{PROFILER} run")) {
            return self.run(command, on_line);
        } else if command.contains(&format!("{PROFILER} ")) && command.contains("bench") {
            return self.bench(command, on_line);
        } else if command.contains("sha256sum") {
            if let Some(path) = named() {
                let hash = sha256(&self.files[&path]);
                on_line(Stream::Out, &format!("{hash}  {path}"));
            }
        } else if command.contains("mv -f") {
            if let Some(part) = named() {
                let bytes = self.files.remove(&part).unwrap_or_default();
                self.files.insert(part.trim_end_matches(".part").to_owned(), bytes);
            }
        } else if command.starts_with("rm -rf") {
            let gone = |path: &String| {
                command
                    .split([' ', ';'])
                    .filter(|w| !w.is_empty() && *w != FOLDER)
                    .any(|w| path == w || path.starts_with(&format!("{w}/")))
            };
            self.files.retain(|path, _| !gone(path));
            self.records.retain(|path, _| !gone(path));
        } else if let Some(path) = command.strip_prefix("[ -e ").and_then(|c| c.strip_suffix("/records.jsonl ]")) {
            return Ok(i32::from(!self.records.contains_key(path)));
        }
        Ok(0)
    }

    fn send(&mut self, file: &Path, to: &str) -> Result<()> {
        self.here()?;
        self.sent += 1;
        let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
        self.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn fetch(&mut self, from: &str, file: &Path) -> Result<()> {
        self.here()?;
        let bytes = self.files.get(from).ok_or_else(|| self.lost(&format!("{from}: no such file")))?;
        std::fs::write(file, bytes).map_err(Error::io("write", file))
    }
}

fn runtime() -> RuntimeInfo {
    RuntimeInfo { name: "mock".into(), version: "1".into(), options: BTreeMap::new() }
}
