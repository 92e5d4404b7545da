use inas_profiler::device::{CoreFacts, ThermalZone};
use serde::{Deserialize, Serialize};

use crate::command::quote;

/// A phone's battery.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Battery {
    /// Charge, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Temperature, degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celsius: Option<f64>,
    /// A charger is attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charging: Option<bool>,
}

/// What a device tells of itself over its shell; what it does not tell is left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Instruction set as `uname -m` has it, e.g. `aarch64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Kernel and its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Model, e.g. `Pixel 4`, `NVIDIA Jetson Nano Developer Kit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// System on chip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soc: Option<String>,
    /// Android: version and API level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub android: Option<String>,
    /// Android: its first ABI, e.g. `arm64-v8a`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<String>,
    /// Jetson: release of its Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4t: Option<String>,
    /// Jetson: power mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_mode: Option<String>,
    /// Changes with every boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Load average over the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Memory, MB (10^6 bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Free space in the work folder, MB (10^6 bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_mb: Option<u64>,
    /// Programs in the work folder may be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    /// The lowest and the highest frequency allowed are one on every core, whatever the governor (`jetson_clocks`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed_clocks: Option<bool>,
    /// Android: severity of throttling, 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thermal_status: Option<u32>,
    /// Battery; all empty when there is none.
    pub battery: Battery,
    /// Cores with a readable fact.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cores: Vec<CoreFacts>,
    /// Thermal zones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thermal_zones: Vec<ThermalZone>,
}

/// The command that tells; only what the smallest shells have (in Android's, single letters are taken: `r` is an alias).
pub(crate) fn script(folder: &str) -> String {
    const TELL: &str = r#"
tell() { [ -n "$2" ] && printf 'inas-fact %s %s\n' "$1" "$2"; }
line() { l=; [ -r "$1" ] && IFS= read -r l <"$1" 2>/dev/null; printf %s "$l"; }
tell machine "$(uname -m)"
tell kernel "$(uname -sr)"
tell boot "$(line /proc/sys/kernel/random/boot_id)"
tell load "$(line /proc/loadavg)"
tell memory "$(grep MemTotal /proc/meminfo 2>/dev/null)"
tell free "$(df -k . 2>/dev/null | tail -n 1)"
[ -r /proc/device-tree/model ] && tell model "$(tr -d '\000' </proc/device-tree/model)"
tell l4t "$(line /etc/nv_tegra_release)"
if command -v nvpmodel >/dev/null 2>&1; then tell power "$(nvpmodel -q 2>/dev/null | tr '\n' ' ')"; fi
if command -v getprop >/dev/null 2>&1; then
  tell model "$(getprop ro.product.model)"
  tell soc "$(getprop ro.soc.model)"
  tell soc "$(getprop ro.board.platform)"
  tell abi "$(getprop ro.product.cpu.abi)"
  tell android "$(getprop ro.build.version.release) (API $(getprop ro.build.version.sdk))"
fi
if command -v dumpsys >/dev/null 2>&1; then
  dumpsys battery 2>/dev/null | grep -E 'powered|level|temperature' | while read -r l; do tell battery "$l"; done
  dumpsys thermalservice 2>/dev/null | grep -E '^Thermal Status' | while read -r l; do tell thermal "$l"; done
fi
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  q=$c/cpufreq
  tell core "${c##*cpu} $(line $q/cpuinfo_max_freq),$(line $q/scaling_cur_freq),$(line $q/scaling_governor),$(line $c/cpu_capacity)"
  tell clock "$(line $q/scaling_min_freq) $(line $q/scaling_max_freq)"
done
for z in /sys/class/thermal/thermal_zone*; do tell zone "$(line $z/temp) $(line $z/type)"; done
printf '#!%s\nexit 7\n' "$(command -v sh)" > ./inas-try && chmod 755 ./inas-try
./inas-try 2>/dev/null
tell executable $?
rm -f ./inas-try
"#;
    let folder = quote(folder);
    format!("h=$(pwd); mkdir -p {folder} && cd {folder} || exit 1\n{TELL}cd \"$h\"; rmdir {folder} 2>/dev/null; true")
}

impl Facts {
    /// Reads what the command told; lines that it cannot have written are left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut facts = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.strip_prefix("inas-fact ").and_then(|l| l.split_once(' ')) else { continue };
            facts.take(name, value.trim());
        }
        facts
    }

    fn take(&mut self, name: &str, value: &str) {
        let owned = Some(value.to_owned());
        let word = |n: usize| value.split_whitespace().nth(n);
        match name {
            "machine" => self.machine = owned,
            "kernel" => self.kernel = owned,
            "boot" => self.boot = owned,
            "model" => self.model = owned,
            "soc" => self.soc = self.soc.take().or(owned),
            "abi" => self.abi = owned,
            "android" => self.android = owned.filter(|v| !v.starts_with('(')),
            "l4t" => self.l4t = owned,
            "power" => self.power_mode = owned,
            "load" => self.load = word(0).and_then(|w| w.parse().ok()),
            "memory" => self.memory_mb = word(1).and_then(|w| w.parse::<u64>().ok()).map(|kb| kb * 1024 / 1_000_000),
            "free" => self.free_mb = word(3).and_then(|w| w.parse::<u64>().ok()).map(|kb| kb * 1024 / 1_000_000),
            "executable" => self.executable = Some(value == "7"),
            "thermal" => self.thermal_status = value.rsplit(' ').next().and_then(|w| w.parse().ok()),
            "battery" => self.battery.take(value),
            "core" => self.cores.extend(core(value)),
            "clock" => {
                if let (Some(low), Some(high)) = (word(0), word(1)) {
                    self.fixed_clocks = Some(self.fixed_clocks != Some(false) && low == high);
                }
            }
            "zone" => self.thermal_zones.extend(zone(value)),
            _ => {}
        }
    }

    /// Hottest believable sensor, degrees Celsius.
    pub fn hottest(&self) -> Option<&ThermalZone> {
        let believable = |z: &&ThermalZone| z.celsius.is_some_and(|c| (-40.0..150.0).contains(&c));
        let hotter =
            |a: &&ThermalZone, b: &&ThermalZone| a.celsius.partial_cmp(&b.celsius).unwrap_or(std::cmp::Ordering::Equal);
        self.thermal_zones.iter().filter(believable).max_by(hotter)
    }

    /// Governors in use, each once.
    pub fn governors(&self) -> Vec<&str> {
        let mut governors: Vec<&str> = self.cores.iter().filter_map(|c| c.governor.as_deref()).collect();
        governors.sort_unstable();
        governors.dedup();
        governors
    }

    /// Cores by highest frequency, e.g. `4 x 1.8 GHz + 4 x 2.8 GHz`; empty when unknown.
    pub fn clusters(&self) -> String {
        let mut count = std::collections::BTreeMap::new();
        for khz in self.cores.iter().filter_map(|c| c.max_khz) {
            *count.entry(khz).or_insert(0) += 1;
        }
        count.iter().map(|(khz, n)| format!("{n} x {:.1} GHz", *khz as f64 / 1e6)).collect::<Vec<_>>().join(" + ")
    }
}

impl Battery {
    fn take(&mut self, line: &str) {
        let Some((name, value)) = line.split_once(':') else { return };
        let value = value.trim();
        match name.trim() {
            "level" => self.percent = value.parse().ok(),
            // Tenths of a degree.
            "temperature" => self.celsius = value.parse::<f64>().ok().map(|t| t / 10.0),
            name if name.ends_with("powered") => {
                self.charging = Some(self.charging == Some(true) || value == "true");
            }
            _ => {}
        }
    }
}

fn core(value: &str) -> Option<CoreFacts> {
    let (number, rest) = value.split_once(' ')?;
    let mut parts = rest.split(',').map(str::trim);
    let mut next = || parts.next().filter(|p| !p.is_empty());
    let (max, current, governor, capacity) = (next(), next(), next(), next());
    let core = CoreFacts {
        core: number.parse().ok()?,
        max_khz: max.and_then(|t| t.parse().ok()),
        current_khz: current.and_then(|t| t.parse().ok()),
        governor: governor.map(str::to_owned),
        capacity: capacity.and_then(|t| t.parse().ok()),
    };
    (core != CoreFacts { core: core.core, ..CoreFacts::default() }).then_some(core)
}

fn zone(value: &str) -> Option<ThermalZone> {
    let (milli, name) = value.split_once(' ')?;
    Some(ThermalZone { name: name.trim().to_owned(), celsius: milli.parse::<f64>().ok().map(|m| m / 1e3) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_phone() {
        let facts = Facts::parse(
            "garbage\ninas-fact machine aarch64\ninas-fact model Pixel 4\ninas-fact soc SM8150\ninas-fact soc msmnile\n\
             inas-fact free /dev/block/dm-6 112646092 61400612 51098096 55% /data\ninas-fact load 1.50 1.2 1.1 2/3 4\n\
             inas-fact battery level: 83\ninas-fact battery temperature: 312\ninas-fact battery AC powered: false\n\
             inas-fact battery USB powered: true\ninas-fact battery Wireless powered: false\n\
             inas-fact thermal Thermal Status: 2\ninas-fact core 0 1785600,576000,schedutil,261\n\
             inas-fact core 7 2841600,,schedutil,1024\ninas-fact core 3 ,,,\ninas-fact zone 41200 cpu-0-0\n\
             inas-fact clock 300000 1785600\ninas-fact clock 1 1\n\
             inas-fact clock\ninas-fact zone -274000 off\ninas-fact zone  none\ninas-fact executable 7\ninas-fact",
        );
        assert_eq!((facts.machine.as_deref(), facts.soc.as_deref()), (Some("aarch64"), Some("SM8150")));
        assert_eq!(facts.battery, Battery { percent: Some(83), celsius: Some(31.2), charging: Some(true) });
        assert_eq!((facts.thermal_status, facts.free_mb, facts.load), (Some(2), Some(52_324), Some(1.5)));
        assert_eq!((facts.cores.len(), facts.clusters().as_str()), (2, "1 x 1.8 GHz + 1 x 2.8 GHz"));
        assert_eq!(facts.governors(), ["schedutil"]);
        assert_eq!(facts.hottest().map(|z| z.name.as_str()), Some("cpu-0-0"));
        assert_eq!((facts.executable, facts.fixed_clocks), (Some(true), Some(false)));
        assert_eq!(Facts::parse("inas-fact clock 5 5\ninas-fact clock 7 7\n").fixed_clocks, Some(true));
    }

    #[test]
    fn this_machine_tells() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = String::new();
        let mut child = std::process::Command::new("sh");
        let script = crate::command::telling(&script(folder.path().to_str().unwrap()));
        let limits = crate::Limits::short();
        let end = crate::command::run(child.args(["-c", &script]), None, &limits, &mut |_, l| lines.extend([l, "\n"]));
        assert_eq!(end.unwrap(), crate::command::End::Exit(0), "{lines}");
        let facts = Facts::parse(&lines);
        assert_eq!(facts.machine.as_deref(), Some(std::env::consts::ARCH), "{lines}");
        // Every machine with cores has these lines, empty where the system does not tell.
        assert!(lines.contains("inas-fact core 0 "), "{lines}");
        assert_eq!(facts.executable, Some(true), "{lines}");
        assert!(facts.free_mb.is_some() && facts.memory_mb > Some(0) && facts.boot.is_some(), "{lines}");
        assert!(!folder.path().exists(), "it was empty, and is left as it was found");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(text in "(inas-fact (core|zone|battery|free|load|thermal|memory) .{0,20}\n){0,4}") {
            let _ = Facts::parse(&text);
        }
    }
}
