//! Facts of the machine: what a latency profile belongs to, and what may have disturbed it.

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// What can be read of a machine without privileges; what cannot is left out.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceFacts {
    /// Instruction set, e.g. `x86_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Operating system and version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Name of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_brand: Option<String>,
    /// Logical cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logical_cores: Option<usize>,
    /// Memory, MB (10^6 bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Cores with a readable fact, by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cores: Vec<CoreFacts>,
    /// Thermal zones, at the time of reading.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thermal_zones: Vec<ThermalZone>,
    /// Emulator that runs this program (qemu-user); its latencies say nothing of any real device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    /// Load average over 1, 5 and 15 minutes, at the time of reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<[f64; 3]>,
}

/// Facts of one core.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub struct CoreFacts {
    /// Number of the core.
    pub core: usize,
    /// Highest frequency, kHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_khz: Option<u64>,
    /// Frequency at the time of reading, kHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_khz: Option<u64>,
    /// Frequency governor, e.g. `performance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Relative strength, 1024 for the biggest core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

/// A thermal sensor.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub struct ThermalZone {
    /// Type, as the system names it.
    pub name: String,
    /// Temperature, degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celsius: Option<f64>,
}

impl DeviceFacts {
    /// Reads this machine.
    pub fn read() -> Self {
        let wanted = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(wanted).ok();
        let brand = system.as_ref().and_then(|s| Some(s.cpus().first()?.brand().trim().to_owned()));
        let memory = system.as_ref().map(|s| s.total_memory() / 1_000_000);
        let sys = Path::new("/sys");
        Self {
            arch: Some(std::env::consts::ARCH.to_owned()),
            os: System::long_os_version().ok().or_else(|| Some(std::env::consts::OS.to_owned())),
            cpu_brand: brand.filter(|b| !b.is_empty()),
            logical_cores: system.as_ref().map(|s| s.cpus().len()).filter(|n| *n > 0),
            memory_mb: memory.filter(|mb| *mb > 0),
            cores: read_cores(sys),
            thermal_zones: read_thermal_zones(sys),
            emulator: emulator(),
            load_average: Self::load(),
        }
    }

    /// Load average over 1, 5 and 15 minutes.
    pub(crate) fn load() -> Option<[f64; 3]> {
        System::load_average().ok().map(|l| [l.one, l.five, l.fifteen])
    }

    /// Hash of what must match for latencies to mix: processor, cores, instruction set and governors.
    pub fn fingerprint(&self) -> String {
        let mut governors: Vec<&str> = self.cores.iter().filter_map(|c| c.governor.as_deref()).collect();
        governors.sort_unstable();
        governors.dedup();
        let mut text = format!("{:?}", (&self.cpu_brand, self.logical_cores, &self.arch, governors));
        if let Some(emulator) = &self.emulator {
            text += emulator;
        }
        let digest = Sha256::digest(text.as_bytes());
        hex16(&digest)
    }
}

/// The first 16 hex digits of a hash.
pub(crate) fn hex16(digest: &[u8]) -> String {
    let number = digest.iter().take(8).fold(0u64, |n, b| n << 8 | u64::from(*b));
    format!("{number:016x}")
}

/// qemu-user shows a program itself as its executable, but not as that of its threads.
fn emulator() -> Option<String> {
    let executable = fs::read_link("/proc/thread-self/exe").ok()?;
    let name = executable.file_name()?.to_string_lossy().into_owned();
    name.starts_with("qemu-").then_some(name)
}

pub(crate) fn read_text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Entries of `folder` named `prefix` and a number, in order of the number.
fn numbered(folder: &Path, prefix: &str) -> Vec<(usize, std::path::PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix(prefix)?.parse().ok();
    let mut found: Vec<_> = entries.filter_map(|e| Some((number(e.file_name().to_str()?)?, e.path()))).collect();
    found.sort();
    found
}

pub(crate) fn read_cores(sys: &Path) -> Vec<CoreFacts> {
    let cores = numbered(&sys.join("devices/system/cpu"), "cpu").into_iter().map(|(core, path)| CoreFacts {
        core,
        max_khz: read_text(&path.join("cpufreq/cpuinfo_max_freq")).and_then(|t| t.parse().ok()),
        current_khz: read_text(&path.join("cpufreq/scaling_cur_freq")).and_then(|t| t.parse().ok()),
        governor: read_text(&path.join("cpufreq/scaling_governor")),
        capacity: read_text(&path.join("cpu_capacity")).and_then(|t| t.parse().ok()),
    });
    cores.filter(|c| *c != CoreFacts { core: c.core, ..CoreFacts::default() }).collect()
}

pub(crate) fn read_thermal_zones(sys: &Path) -> Vec<ThermalZone> {
    let zone = |(_, path): (usize, std::path::PathBuf)| {
        let milli: Option<f64> = read_text(&path.join("temp")).and_then(|t| t.parse().ok());
        Some(ThermalZone { name: read_text(&path.join("type"))?, celsius: milli.map(|m| m / 1e3) })
    };
    numbered(&sys.join("class/thermal"), "thermal_zone").into_iter().filter_map(zone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn this_machine_has_facts_and_they_survive_json() {
        let facts = DeviceFacts::read();
        assert!(facts.arch.is_some() && facts.logical_cores > Some(0) && facts.memory_mb > Some(0), "{facts:?}");
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<DeviceFacts>(&json).unwrap(), facts);
        assert_eq!(serde_json::from_str::<DeviceFacts>("{}").unwrap(), DeviceFacts::default());
    }

    #[test]
    fn reads_what_a_board_shows_and_leaves_out_the_rest() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n");
        write(root.path(), "devices/system/cpu/cpu0/cpu_capacity", "446\n");
        write(root.path(), "devices/system/cpu/cpu10/cpufreq/cpuinfo_max_freq", "2841600\n");
        write(root.path(), "devices/system/cpu/cpu10/cpufreq/scaling_cur_freq", "1190400\n");
        write(root.path(), "devices/system/cpu/cpu2/online", "1\n");
        write(root.path(), "devices/system/cpu/cpufreq/x", "");
        write(root.path(), "class/thermal/thermal_zone0/type", "cpu-thermal\n");
        write(root.path(), "class/thermal/thermal_zone0/temp", "48500\n");
        write(root.path(), "class/thermal/thermal_zone1/type", "tj\n");
        let cores = read_cores(root.path());
        assert_eq!(cores.iter().map(|c| c.core).collect::<Vec<_>>(), [0, 10]);
        assert_eq!((cores[0].governor.as_deref(), cores[0].capacity), (Some("schedutil"), Some(446)));
        assert_eq!((cores[1].max_khz, cores[1].current_khz), (Some(2_841_600), Some(1_190_400)));
        let zones = read_thermal_zones(root.path());
        assert_eq!(zones[0], ThermalZone { name: "cpu-thermal".into(), celsius: Some(48.5) });
        assert_eq!(zones[1].celsius, None);
    }

    #[test]
    fn fingerprint_follows_the_machine_and_not_its_load() {
        let facts = DeviceFacts::read();
        let busy = DeviceFacts { load_average: Some([9.0; 3]), memory_mb: None, ..facts.clone() };
        assert_eq!(facts.fingerprint(), busy.fingerprint());
        let other = DeviceFacts { cpu_brand: Some("other".into()), ..facts.clone() };
        assert_ne!(facts.fingerprint(), other.fingerprint());
        let at = |khz| {
            let core = CoreFacts { current_khz: Some(khz), ..CoreFacts::default() };
            DeviceFacts { cores: vec![core], ..facts.clone() }.fingerprint()
        };
        assert_eq!(at(1_000_000), at(2_000_000));
        let emulated = DeviceFacts { emulator: Some("qemu-aarch64".into()), ..facts.clone() };
        assert_ne!(facts.fingerprint(), emulated.fingerprint());
        let core = CoreFacts { governor: Some("powersave".into()), ..CoreFacts::default() };
        assert_ne!(facts.fingerprint(), DeviceFacts { cores: vec![core], ..facts.clone() }.fingerprint());
    }
}
