//! What a phone or laptop says of its charger and of throttling.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::device::read_text;

/// Android's program that tells the state of a system service.
const DUMPSYS: &str = "/system/bin/dumpsys";

/// Whether a charger is attached; `None` on machines without a battery, or that do not tell.
pub(crate) fn is_charging() -> Option<bool> {
    supplies(Path::new("/sys/class/power_supply")).or_else(|| powered(&dumpsys("battery")?))
}

/// Severity of throttling as Android has it: 0 none, 1 light, 2 moderate, … 6 shutdown.
pub(crate) fn throttling() -> Option<u32> {
    status(&dumpsys("thermalservice")?)
}

fn dumpsys(service: &str) -> Option<String> {
    if !Path::new(DUMPSYS).exists() {
        return None;
    }
    let output = Command::new(DUMPSYS).arg(service).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// From the folder of the kernel's power supplies.
fn supplies(folder: &Path) -> Option<bool> {
    let folders = folder.read_dir().ok()?.flatten().map(|e| e.path());
    let chargers = folders.filter(|f| matches!(read_text(&f.join("type")).as_deref(), Some("Mains" | "USB")));
    let online: Vec<bool> = chargers.filter_map(|f| Some(read_text(&f.join("online"))? != "0")).collect();
    (!online.is_empty()).then(|| online.contains(&true))
}

/// From lines such as `  USB powered: true`.
fn powered(battery: &str) -> Option<bool> {
    let answers: Vec<bool> =
        battery.lines().filter_map(|l| Some(l.trim().split_once(" powered: ")?.1 == "true")).collect();
    (!answers.is_empty()).then(|| answers.contains(&true))
}

/// From the line `Thermal Status: 2`.
fn status(thermal: &str) -> Option<u32> {
    thermal.lines().find_map(|l| l.trim().strip_prefix("Thermal Status: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn android_tells_of_charger_and_throttling() {
        let battery = "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n  level: 83\n";
        assert_eq!(powered(battery), Some(true));
        assert_eq!(powered("  AC powered: false\n"), Some(false));
        assert_eq!(powered("Can't find service: battery\n"), None);
        assert_eq!(status("IsStatusOverride: false\nThermal Status: 2\nCached temperatures:\n"), Some(2));
        assert_eq!(status("Thermal Status: hot\n"), None);
    }

    #[test]
    fn the_kernel_tells_of_chargers_and_not_of_batteries() {
        let folder = tempfile::tempdir().expect("a folder");
        let supply = |name: &str, kind: &str, online: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).expect("a folder");
            std::fs::write(path.join("type"), kind).expect("a file");
            std::fs::write(path.join("online"), online).expect("a file");
        };
        assert_eq!(supplies(folder.path()), None);
        supply("battery", "Battery\n", "1\n");
        assert_eq!(supplies(folder.path()), None);
        supply("ac", "Mains\n", "0\n");
        assert_eq!(supplies(folder.path()), Some(false));
        supply("usb", "USB\n", "1\n");
        assert_eq!(supplies(folder.path()), Some(true));
    }
}
