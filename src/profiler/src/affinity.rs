//! Cores: clusters of big.LITTLE processors by name, and keeping the process on some of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::device::CoreFacts;
use crate::{Error, Result};

/// Cores to stay on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreChoice {
    /// The strongest cores: those above the middle between the weakest and the strongest.
    Big,
    /// The others.
    Little,
    /// The single strongest core.
    Prime,
    /// These.
    List(BTreeSet<usize>),
}

impl std::str::FromStr for CoreChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let bad = || format!("`{text}` is not big, little, prime or a list of cores such as 0,2-3");
        let part = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (low <= high && high < 4096).then_some(low..=high)
        };
        Ok(match text {
            "big" => Self::Big,
            "little" => Self::Little,
            "prime" => Self::Prime,
            list => {
                let ranges: Option<Vec<_>> = list.split(',').map(part).collect();
                Self::List(ranges.ok_or_else(bad)?.into_iter().flatten().collect())
            }
        })
    }
}

impl std::fmt::Display for CoreChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Big => f.write_str("big"),
            Self::Little => f.write_str("little"),
            Self::Prime => f.write_str("prime"),
            Self::List(cores) => f.write_str(&cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

/// What became of the wish to stay on some cores.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pinning {
    /// Cores asked for.
    pub asked: Vec<usize>,
    /// Cores that the system says the process may use; other than `asked` when it did not obey.
    pub got: Vec<usize>,
}

impl Pinning {
    /// Whether the system did what was asked.
    pub fn worked(&self) -> bool {
        self.asked == self.got
    }
}

impl CoreChoice {
    /// Core numbers of the choice on a machine with these cores, by capacity, else by highest frequency.
    ///
    /// On a machine whose cores do not differ, `big` is all of them and `little` none.
    pub fn cores(&self, facts: &[CoreFacts], logical: usize) -> BTreeSet<usize> {
        let strength = |c: &CoreFacts| c.capacity.map(u64::from).or(c.max_khz);
        let known: Vec<(usize, u64)> = facts.iter().filter_map(|c| Some((c.core, strength(c)?))).collect();
        let weakest = known.iter().map(|k| k.1).min().unwrap_or(0);
        let strongest = known.iter().map(|k| k.1).max().unwrap_or(0);
        let is_big = |s: u64| 2 * s >= weakest + strongest;
        let of = |wanted: &dyn Fn(u64) -> bool| known.iter().filter(|k| wanted(k.1)).map(|k| k.0).collect();
        match self {
            Self::List(cores) => cores.clone(),
            Self::Big if known.is_empty() => (0..logical).collect(),
            Self::Big => of(&is_big),
            Self::Little => of(&|s| !is_big(s)),
            Self::Prime => {
                let core = known.iter().rev().find(|k| k.1 == strongest).map_or(logical.saturating_sub(1), |k| k.0);
                BTreeSet::from([core])
            }
        }
    }

    /// Keeps this process, and threads that it starts from now on, on the chosen cores, and reads back what the system
    /// made of it. To be called before a runtime is opened.
    pub fn apply(&self, facts: &[CoreFacts], logical: usize) -> Result<Pinning> {
        let cores = self.cores(facts, logical);
        let failed =
            |reason: String| Error::Pinning { cores: format!("{:?}", cores.iter().collect::<Vec<_>>()), reason };
        if cores.is_empty() {
            return Err(failed("no such cores on this machine".into()));
        }
        let got = set(&cores).map_err(failed)?;
        Ok(Pinning { asked: cores.into_iter().collect(), got })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set(cores: &BTreeSet<usize>) -> std::result::Result<Vec<usize>, String> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    let this_thread = Pid::from_raw(0);
    let mut wanted = CpuSet::new();
    for core in cores {
        wanted.set(*core).map_err(|e| format!("core {core}: {e}"))?;
    }
    sched_setaffinity(this_thread, &wanted).map_err(|e| e.to_string())?;
    let got = sched_getaffinity(this_thread).map_err(|e| e.to_string())?;
    Ok((0..CpuSet::count()).filter(|c| got.is_set(*c).unwrap_or(false)).collect())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set(_cores: &BTreeSet<usize>) -> std::result::Result<Vec<usize>, String> {
    Err("this system cannot keep a process on some cores".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone() -> Vec<CoreFacts> {
        let core = |core, capacity| CoreFacts { core, capacity: Some(capacity), ..CoreFacts::default() };
        vec![core(0, 160), core(1, 160), core(2, 500), core(3, 900), core(4, 1024)]
    }

    fn cores(text: &str, facts: &[CoreFacts]) -> Vec<usize> {
        text.parse::<CoreChoice>().unwrap().cores(facts, 5).into_iter().collect()
    }

    #[test]
    fn clusters_by_name() {
        assert_eq!(cores("big", &phone()), [3, 4]);
        assert_eq!(cores("little", &phone()), [0, 1, 2]);
        assert_eq!(cores("prime", &phone()), [4]);
        assert_eq!(cores("1-2,4", &phone()), [1, 2, 4]);
        assert_eq!(cores("big", &[]), [0, 1, 2, 3, 4], "cores that do not differ are all big");
        assert!(cores("little", &[]).is_empty());
        for text in ["big", "little", "prime", "1,2,4"] {
            assert_eq!(text.parse::<CoreChoice>().unwrap().to_string(), text);
        }
        for bad in ["", "medium", "3-1", "1,,2", "x-2"] {
            assert!(bad.parse::<CoreChoice>().is_err(), "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_system_does_is_read_back() {
        // In a thread of its own: the setting is a thread's.
        std::thread::spawn(|| {
            let pinning = "0".parse::<CoreChoice>().unwrap().apply(&[], 1).unwrap();
            assert!(pinning.worked() && pinning.got == [0], "{pinning:?}");
            let error = "4000".parse::<CoreChoice>().unwrap().apply(&[], 1).unwrap_err();
            assert!(error.to_string().contains("4000"), "{error}");
            assert!("little".parse::<CoreChoice>().unwrap().apply(&[], 2).is_err());
        })
        .join()
        .unwrap();
    }
}
