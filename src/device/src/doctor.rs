//! What stands between a device and a trustworthy profile, each with its remedy.

use std::path::PathBuf;

use inas_graph::{OnnxOptions, SeededWeights, block};
use inas_space::Space;
use serde::Serialize;

use crate::command::{Limits, Stream, quote};
use crate::facts::Facts;
use crate::session::{PROFILER, check_fit, file_name, find_profiler, libraries};
use crate::target::{Target, attached};
use crate::transport::Device;
use crate::{Error, Result};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Cannot be told on this device.
    Unknown,
    /// Measuring works, but its figures may mislead.
    Warning,
    /// Measuring does not work.
    Failure,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing.
    pub remedy: String,
}

impl Check {
    fn new(what: &'static str, verdict: Verdict, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, verdict, found: found.into(), remedy: remedy.into() }
    }

    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(what, Verdict::Ok, found, "")
    }

    fn unknown(what: &'static str, remedy: &str) -> Self {
        Self::new(what, Verdict::Unknown, "not told by the device", remedy)
    }
}

/// Programs to try on the device; without one it is looked for.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// `inas-profiler` for the device.
    pub profiler: Option<PathBuf>,
    /// ONNX Runtime's library for the device.
    pub ort_lib: Option<PathBuf>,
}

/// Free space that a run needs, MB.
const LEAST_FREE_MB: u64 = 200;
/// Charge below which phones save power, percent.
const LEAST_CHARGE: u32 = 30;
/// Battery above which phones slow down, degrees Celsius.
const WARM_BATTERY: f64 = 38.0;
/// Sensor above which processors slow down, degrees Celsius.
const HOT: f64 = 75.0;
/// Load on an idle device, at most.
const BUSY: f64 = 1.0;

/// Examines a target: the connection, the device, and the measuring program on it. The list ends at the first failure
/// that makes the rest pointless.
pub fn examine(target: &Target, folder: Option<String>, programs: &Programs) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Target::Adb(serial) = target {
        let (listed, go_on) = adb_list(serial.as_deref());
        checks.push(listed);
        if !go_on {
            return checks;
        }
    }
    match target.open(folder) {
        Ok(mut device) => examine_device(device.as_mut(), programs, &mut checks),
        Err(error) => checks.push(connection_failed(&error)),
    }
    checks
}

/// The part of [`examine`] that any device can go through.
pub fn examine_device(device: &mut dyn Device, programs: &Programs, checks: &mut Vec<Check>) {
    if let Err(error) = device.connect() {
        checks.push(connection_failed(&error));
        return;
    }
    checks.push(Check::ok("connection", device.name()));
    let facts = match device.facts() {
        Ok(facts) => facts,
        Err(error) => {
            let remedy = "is the work folder writable? choose another with --remote-folder";
            checks.push(Check::new("shell", Verdict::Failure, error.to_string(), remedy));
            return;
        }
    };
    checks.extend(state(&facts, device.folder()));
    if let Err(error) = program(device, &facts, programs, checks) {
        checks.push(connection_failed(&error));
    }
}

fn adb_list(serial: Option<&str>) -> (Check, bool) {
    const WHAT: &str = "adb";
    let fail = |found: String, remedy: &str| (Check::new(WHAT, Verdict::Failure, found, remedy), false);
    let listed = match attached() {
        Ok(listed) => listed,
        Err(Error::Program { program, remedy, source }) => {
            return fail(format!("cannot start `{program}`: {source}"), remedy);
        }
        Err(error) => return fail(error.to_string(), "run `adb kill-server`, then `adb devices`"),
    };
    let state = match (serial, listed.as_slice()) {
        // A device on the network is listed only once it is connected.
        (Some(serial), _) if serial.contains(':') && !listed.iter().any(|d| d.0 == serial) => {
            return (Check::ok(WHAT, format!("{serial} is not connected yet")), true);
        }
        (Some(serial), _) => listed.iter().find(|d| d.0 == serial).map(|d| d.1.as_str()),
        (None, [one]) => Some(one.1.as_str()),
        (None, []) => None,
        (None, more) => {
            let serials: Vec<&str> = more.iter().map(|d| d.0.as_str()).collect();
            return fail(
                format!("{} devices: {}", more.len(), serials.join(", ")),
                "choose one with --target adb:SERIAL",
            );
        }
    };
    match state {
        Some("device") => (Check::ok(WHAT, "one device, authorised"), true),
        Some(state) => fail(format!("state `{state}`"), adb_remedy(state)),
        None => fail(
            "no such device".into(),
            "plug it in with a data cable, switch on USB debugging (Settings, Developer options), and accept this computer's key on its screen",
        ),
    }
}

fn adb_remedy(state: &str) -> &'static str {
    if state.contains("unauthorized") {
        "unlock the phone and accept this computer's key; if nothing is asked, revoke USB debugging authorisations in Developer options and plug it in again"
    } else if state.contains("permissions") {
        "Linux does not let you use the USB device: install udev rules (Debian and Ubuntu: `apt install android-sdk-platform-tools-common`), add yourself to group plugdev, plug it in again"
    } else if state.contains("offline") {
        "plug it in again; if that does not help, `adb kill-server`, another cable or port, restart the phone"
    } else {
        "`adb kill-server`, plug the phone in again, and look at `adb devices`"
    }
}

fn connection_failed(error: &Error) -> Check {
    let text = error.to_string();
    let remedies = [
        ("unauthorized", adb_remedy("unauthorized")),
        ("offline", adb_remedy("offline")),
        ("permissions", adb_remedy("permissions")),
        (
            "Permission denied (",
            "the board refuses the login: `ssh-copy-id USER@HOST` once, or set the key in ~/.ssh/config",
        ),
        (
            "Host key verification failed",
            "log in by hand once to accept the board's key: `ssh USER@HOST`; after a new installation, `ssh-keygen -R HOST`",
        ),
        ("resolve hostname", "no such name: use the board's address (on the board: `ip addr`)"),
        ("Connection refused", "nothing listens there: is sshd (or `adb tcpip 5555`) running, and is the port right?"),
        ("timed out", "the device does not answer: is it on, and on the same network?"),
        ("No route to host", "the device is not on this network: check its address and cable"),
        ("no longer answers", "the shell hangs: `adb kill-server` or restart the device"),
    ];
    let remedy =
        remedies.iter().find(|r| text.contains(r.0)).map_or("check the cable or network, then `inas devices`", |r| r.1);
    Check::new("connection", Verdict::Failure, text, remedy)
}

/// What the facts say about measuring.
fn state(facts: &Facts, folder: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut push = |check| checks.push(check);
    push(match facts.machine.as_deref() {
        Some(machine @ ("aarch64" | "x86_64")) => {
            let abi = facts.abi.as_deref().filter(|abi| abi.starts_with("armeabi"));
            match abi {
                Some(abi) => Check::new(
                    "processor",
                    Verdict::Warning,
                    format!("{machine}, but Android is 32-bit ({abi})"),
                    "use the static program; Android's own ONNX Runtime will not load in it",
                ),
                None => Check::ok("processor", machine),
            }
        }
        Some(machine) => Check::new(
            "processor",
            Verdict::Failure,
            machine,
            "the program is made for 64-bit Arm and x86; 32-bit systems need a 64-bit one installed",
        ),
        None => Check::unknown("processor", "`uname -m` must work there"),
    });
    push(match facts.executable {
        Some(true) => Check::ok("starting programs", folder),
        _ => Check::new(
            "starting programs",
            Verdict::Failure,
            format!("{folder} does not let programs start"),
            "it is mounted noexec or blocked: use /data/local/tmp on phones (never /sdcard), or choose another with --remote-folder",
        ),
    });
    push(match facts.free_mb {
        Some(mb) if mb < LEAST_FREE_MB => Check::new(
            "free space",
            Verdict::Failure,
            format!("{mb} MB in {folder}"),
            format!("make at least {LEAST_FREE_MB} MB free"),
        ),
        Some(mb) => Check::ok("free space", format!("{mb} MB")),
        None => Check::unknown("free space", "`df -k` must work there"),
    });
    push(match facts.load {
        Some(load) if load > BUSY => Check::new(
            "load",
            Verdict::Warning,
            format!("{load:.1}"),
            "something else is running: end it, or wait until the device is idle",
        ),
        Some(load) => Check::ok("load", format!("{load:.1}")),
        None => Check::unknown("load", ""),
    });
    push(match facts.hottest().and_then(|z| Some((z.celsius?, &z.name))) {
        Some((c, name)) if c >= HOT => Check::new(
            "temperature",
            Verdict::Warning,
            format!("{c:.0} C ({name})"),
            "let it cool, out of the sun and of its case, with a fan if there is one",
        ),
        Some((c, name)) => Check::ok("temperature", format!("{c:.0} C ({name})")),
        None => Check::unknown(
            "temperature",
            "without sensors the wait for a cool device is off; sentinel blocks still show drift",
        ),
    });
    if let Some(status) = facts.thermal_status {
        push(match status {
            0 => Check::ok("throttling", "none"),
            s => Check::new(
                "throttling",
                Verdict::Warning,
                format!("severity {s} of 6"),
                "let the phone cool, screen off, out of its case",
            ),
        });
    }
    let governors = facts.governors();
    push(match governors.as_slice() {
        [] => Check::unknown("governor", "frequencies cannot be watched; sentinel blocks still show drift"),
        other if facts.fixed_clocks == Some(true) => {
            Check::ok("governor", format!("{}, clocks fixed", other.join(", ")))
        }
        ["performance"] => Check::ok("governor", "performance"),
        other => {
            let remedy = if facts.l4t.is_some() {
                "`sudo nvpmodel -m 0 && sudo jetson_clocks` on the board"
            } else {
                "the frequency moves with the load; with root, `echo performance` into each scaling_governor; without, expect wider intervals"
            };
            Check::new("governor", Verdict::Warning, other.join(", "), remedy)
        }
    });
    if facts.l4t.is_some() {
        push(match facts.power_mode.as_deref() {
            Some(mode) if mode.contains("MAXN") => Check::ok("power mode", mode),
            Some(mode) => Check::new(
                "power mode",
                Verdict::Warning,
                mode,
                "`sudo nvpmodel -m 0` for full power; keep it the same for all profiles to be compared",
            ),
            None => Check::unknown("power mode", "`nvpmodel -q` must work there"),
        });
    }
    checks.extend(battery(facts));
    checks
}

fn battery(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(percent) = facts.battery.percent {
        checks.push(if percent < LEAST_CHARGE {
            Check::new(
                "battery",
                Verdict::Warning,
                format!("{percent} %"),
                format!("charge above {LEAST_CHARGE} %: phones slow down to save power"),
            )
        } else {
            Check::ok("battery", format!("{percent} %"))
        });
    }
    if let Some(celsius) = facts.battery.celsius {
        checks.push(if celsius >= WARM_BATTERY {
            Check::new(
                "battery temperature",
                Verdict::Warning,
                format!("{celsius:.1} C"),
                "let it cool; fast charging heats, use a slow charger or a full battery",
            )
        } else {
            Check::ok("battery temperature", format!("{celsius:.1} C"))
        });
    }
    match facts.battery.charging {
        Some(true) => checks.push(Check::ok("charger", "attached")),
        Some(false) => checks.push(Check::new(
            "charger",
            Verdict::Warning,
            "not attached",
            "plug it in: a long run empties the battery, and some phones slow down without",
        )),
        None => {}
    }
    checks
}

/// Brings the program there and lets it and the runtimes show that they work.
fn program(device: &mut dyn Device, facts: &Facts, programs: &Programs, checks: &mut Vec<Check>) -> Result<()> {
    const WHAT: &str = "measuring program";
    let found = programs.profiler.clone().map_or_else(|| find_profiler(facts, programs.ort_lib.is_some()), Ok);
    let found = found.and_then(|program| check_fit(device, &program, facts).map(|()| program));
    let file = match found {
        Ok(file) => file,
        Err(Error::Unfit { what, remedy, .. }) => {
            checks.push(Check::new(WHAT, Verdict::Failure, what, remedy));
            return Ok(());
        }
        Err(Error::NoProfiler { arch, looked }) => {
            let remedy =
                "build one with `scripts/build-device musl` (or jetson, android), or name it with --profiler-bin";
            checks.push(Check::new(WHAT, Verdict::Failure, format!("none for {arch}; looked for {looked}"), remedy));
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    device.push(&file, PROFILER)?;
    let (code, out, said) = words(device, "device")?;
    let told: Option<serde_json::Value> = serde_json::from_str(&out).ok();
    let Some(told) = told.filter(|_| code == 0) else {
        let remedy = match code {
            126 | 127 => {
                "not executable there: wrong instruction set, or its loader is missing; use the static one (`scripts/build-device musl`)"
            }
            132 => "it was built for a newer processor: build it with scripts/build-device",
            _ => "start it by hand on the device to see more",
        };
        checks.push(Check::new(WHAT, Verdict::Failure, format!("exit code {code}: {said}"), remedy));
        return Ok(());
    };
    let emulator = told.pointer("/facts/emulator").and_then(serde_json::Value::as_str);
    checks.push(match emulator {
        Some(emulator) => Check::new(
            WHAT,
            Verdict::Warning,
            format!("works, under the emulator {emulator}"),
            "its latencies say nothing of any device",
        ),
        None => Check::ok(WHAT, format!("{} works", file.display())),
    });
    runtimes(device, programs, checks)?;
    let mut left: Vec<String> = [PROFILER, "inas-doctor.onnx"].map(str::to_owned).to_vec();
    let libraries = programs.ort_lib.as_deref().map(libraries).unwrap_or_default();
    left.extend(libraries.iter().map(|lib| file_name(lib)));
    device.remove(&left.iter().map(String::as_str).collect::<Vec<_>>())
}

/// One block in tract, and in ONNX Runtime if there is a library.
fn runtimes(device: &mut dyn Device, programs: &Programs, checks: &mut Vec<Check>) -> Result<()> {
    let space = Space::preset("nano")?;
    let keys = space.block_keys(space.input_px)?;
    let Some(key) = keys.iter().find(|k| !k.is_identity()) else { return Ok(()) };
    let onnx = block(&space, key, &mut SeededWeights::new(0))?.to_onnx(&OnnxOptions::default())?;
    let file = tempfile::NamedTempFile::new().map_err(Error::io("create", "temporary file"))?;
    std::fs::write(file.path(), onnx).map_err(Error::io("write", file.path()))?;
    device.push(file.path(), "inas-doctor.onnx")?;
    let mut trials = vec![("tract", "--runtime tract".to_owned())];
    if let Some(lib) = &programs.ort_lib {
        for lib in libraries(lib) {
            device.push(&lib, &file_name(&lib))?;
        }
        let name = file_name(lib);
        trials.push(("onnxruntime", format!("--runtime ort --ort-lib ./{}", quote(&name))));
    }
    for (what, options) in trials {
        let (code, out, said) = words(device, &format!("bench inas-doctor.onnx --min-runs 2 --max-runs 3 {options}"))?;
        let remedy = if what == "tract" {
            "start it by hand on the device to see more"
        } else {
            "take a library for this instruction set and C library: android/README.md and jetson/README.md name them; the static program cannot load one"
        };
        checks.push(if code == 0 {
            Check::ok(what, out.trim())
        } else {
            Check::new(what, Verdict::Failure, format!("exit code {code}: {said}"), remedy)
        });
    }
    Ok(())
}

/// Exit code, standard output and last error line of the measuring program.
fn words(device: &mut dyn Device, arguments: &str) -> Result<(i32, String, String)> {
    let (mut out, mut said) = (String::new(), String::new());
    let command = format!("cd {} && ./{PROFILER} {arguments}", quote(device.folder()));
    let code = device.exec(&command, &Limits::short(), &mut |stream, line| match stream {
        Stream::Out => out.extend([line, "\n"]),
        Stream::Err => line.clone_into(&mut said),
    })?;
    Ok((code, out, said))
}

#[cfg(test)]
mod tests {
    use inas_profiler::device::{CoreFacts, ThermalZone};

    use super::*;
    use crate::facts::Battery;
    use crate::mock::{MockDevice, Script};

    fn facts() -> Facts {
        Facts {
            machine: Some("aarch64".into()),
            executable: Some(true),
            free_mb: Some(9000),
            load: Some(0.1),
            ..Facts::default()
        }
    }

    fn verdict(facts: &Facts, what: &str) -> (Verdict, String) {
        let checks = state(facts, "/data/local/tmp/inas");
        let check = checks.iter().find(|c| c.what == what).unwrap();
        (check.verdict, check.remedy.clone())
    }

    #[test]
    fn every_trouble_of_a_device_has_a_verdict_and_a_remedy() {
        let core = |governor: &str| CoreFacts { governor: Some(governor.into()), ..CoreFacts::default() };
        let zone = ThermalZone { name: "cpu".into(), celsius: Some(91.0) };
        let cold = Battery { percent: Some(12), celsius: Some(41.0), charging: Some(false) };
        let troubles = [
            ("processor", Facts { machine: Some("armv7l".into()), ..facts() }, Verdict::Failure),
            ("processor", Facts { abi: Some("armeabi-v7a".into()), ..facts() }, Verdict::Warning),
            ("starting programs", Facts { executable: Some(false), ..facts() }, Verdict::Failure),
            ("free space", Facts { free_mb: Some(3), ..facts() }, Verdict::Failure),
            ("load", Facts { load: Some(4.0), ..facts() }, Verdict::Warning),
            ("temperature", Facts { thermal_zones: vec![zone], ..facts() }, Verdict::Warning),
            ("throttling", Facts { thermal_status: Some(3), ..facts() }, Verdict::Warning),
            ("governor", Facts { cores: vec![core("schedutil")], ..facts() }, Verdict::Warning),
            (
                "power mode",
                Facts { l4t: Some("R32".into()), power_mode: Some("NV Power Mode: 5W".into()), ..facts() },
                Verdict::Warning,
            ),
            ("battery", Facts { battery: cold, ..facts() }, Verdict::Warning),
            ("battery temperature", Facts { battery: cold, ..facts() }, Verdict::Warning),
            ("charger", Facts { battery: cold, ..facts() }, Verdict::Warning),
        ];
        for (what, facts, wanted) in troubles {
            let (found, remedy) = verdict(&facts, what);
            assert_eq!(found, wanted, "{what}");
            assert!(remedy.len() > 10, "{what}");
        }
        let fixed = Facts { fixed_clocks: Some(true), cores: vec![core("schedutil")], ..facts() };
        assert_eq!(verdict(&fixed, "governor").0, Verdict::Ok);
        let jetson = Facts { l4t: Some("R32".into()), cores: vec![core("schedutil")], ..facts() };
        assert!(verdict(&jetson, "governor").1.contains("jetson_clocks"));
        assert!(state(&facts(), "x").iter().all(|c| c.verdict < Verdict::Warning));
    }

    #[test]
    fn every_failed_connection_has_its_own_remedy() {
        let reasons = [
            ("error: device unauthorized.", "accept"),
            ("error: device offline", "plug"),
            ("error: insufficient permissions for device", "udev"),
            ("nano@jetson: Permission denied (publickey).", "ssh-copy-id"),
            ("Host key verification failed.", "accept"),
            ("ssh: Could not resolve hostname jetson", "address"),
            ("ssh: connect to host x port 22: Connection refused", "listens"),
            ("ssh: connect to host x port 22: Connection timed out", "network"),
            ("it no longer answers", "hangs"),
        ];
        for (reason, word) in reasons {
            let check = connection_failed(&Error::Lost { device: "x".into(), reason: reason.into() });
            assert!(check.verdict == Verdict::Failure && check.remedy.contains(word), "{reason}: {}", check.remedy);
        }
        for state in ["unauthorized", "offline", "no permissions (missing udev rules?)", "recovery"] {
            assert!(adb_remedy(state).len() > 20);
        }
    }

    #[test]
    fn a_wrong_program_is_found_before_it_travels() {
        let mut script = Script::default();
        script.facts.machine = Some("riscv64".into());
        let mut device = MockDevice::new(script);
        let programs = Programs { profiler: std::env::current_exe().ok(), ort_lib: None };
        let mut checks = Vec::new();
        examine_device(&mut device, &programs, &mut checks);
        let last = checks.last().unwrap();
        assert!(last.verdict == Verdict::Failure && last.found.contains("riscv64"), "{checks:?}");
        assert_eq!(device.sent, 0);
    }
}
