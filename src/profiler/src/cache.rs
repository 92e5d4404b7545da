//! Caches of the processor: their sizes, and how to empty them of what was used last.

use std::fs;
use std::path::Path;

/// A core's own cache when the system does not tell.
const USUAL_PRIVATE_KB: u64 = 1024;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Size of the biggest cache that a core does not share, KB (1024 bytes).
pub fn private_kb() -> u64 {
    private_kb_in(Path::new("/sys/devices/system/cpu/cpu0/cache")).unwrap_or(USUAL_PRIVATE_KB)
}

fn private_kb_in(folder: &Path) -> Option<u64> {
    let size_kb = |cache: &Path| {
        let text = |name: &str| fs::read_to_string(cache.join(name)).unwrap_or_default().trim().to_owned();
        let shared = text("shared_cpu_list").contains([',', '-']);
        let size = text("size");
        let kb = size.strip_suffix('K').and_then(|n| n.parse().ok());
        let kb = kb.or_else(|| size.strip_suffix('M').and_then(|n| n.parse::<u64>().ok()).map(|m| m * 1024));
        kb.filter(|_| !shared && text("type") != "Instruction")
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|cache| size_kb(&cache.path())).max()
}

/// Memory that is read and written to push everything else out of the caches.
#[derive(Debug)]
pub struct Evictor(Vec<u8>);

impl Evictor {
    /// Sweeps `kb` KB.
    pub fn new(kb: u64) -> Self {
        Self(vec![1; kb as usize * 1024])
    }

    /// Touches every line once.
    pub fn sweep(&mut self) {
        for line in self.0.chunks_mut(LINE) {
            line[0] = std::hint::black_box(line[0].wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_instruction_caches_left_out() {
        let root = tempfile::tempdir().unwrap();
        for (i, (kind, size, cores)) in
            [("Data", "32K", "0"), ("Instruction", "999K", "0"), ("Unified", "1024K", "0"), ("Unified", "32M", "0-7")]
                .into_iter()
                .enumerate()
        {
            let folder = root.path().join(format!("index{i}"));
            fs::create_dir(&folder).unwrap();
            for (name, text) in [("type", kind), ("size", size), ("shared_cpu_list", cores)] {
                fs::write(folder.join(name), format!("{text}\n")).unwrap();
            }
        }
        assert_eq!(private_kb_in(root.path()), Some(1024));
        assert_eq!(private_kb_in(Path::new("/nonexistent")), None);
    }

    #[test]
    fn a_sweep_touches_every_line() {
        let mut evictor = Evictor::new(2);
        evictor.sweep();
        assert!(evictor.0.chunks(LINE).all(|line| line[0] == 2));
        Evictor::new(0).sweep();
    }
}
