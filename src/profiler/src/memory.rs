//! Memory of this process, from `/proc`; nothing where there is none.

use std::fs;

/// Peak resident memory, KB (1024 bytes).
fn peak_kb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Watches how far the peak of resident memory rises.
#[derive(Debug)]
pub(crate) struct Watch(Option<u64>);

impl Watch {
    /// Starts from the present size.
    pub(crate) fn start() -> Self {
        // 5 resets the peak to the present size; kernels without it leave a growth of the overall peak.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self(peak_kb())
    }

    /// Growth since the start, KB.
    pub(crate) fn growth_kb(&self) -> Option<u64> {
        Some(peak_kb()?.saturating_sub(self.0?))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_large_block_is_seen() {
        let watch = Watch::start();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(block[1 << 20] == 1 && watch.growth_kb() > Some(40_000), "{:?}", watch.growth_kb());
    }
}
