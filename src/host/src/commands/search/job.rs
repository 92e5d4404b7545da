//! What a search is about, as a file: so that shards agree, and merging needs neither images nor options.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use inas_host::search::{Devices, SearchConfig};
use inas_profiler::profile::Profile;
use inas_space::Space;
use serde::{Deserialize, Serialize};

use crate::commands::{hint, read_text, write_file};
use crate::printer::Hint;

/// Name of the file in the search's folder.
const NAME: &str = "job.json";

/// Devices, space and settings of a search, and what its scores depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    pub(crate) profiles: Vec<PathBuf>,
    pub(crate) within: Option<PathBuf>,
    pub(crate) plain_sum: bool,
    pub(crate) config: SearchConfig,
    /// Name of the weights, images and recalibration; empty until they were read.
    pub(crate) objective: String,
}

/// Profiles with the latency predictors made of them.
pub(crate) struct Target {
    pub(crate) profiles: Vec<Profile>,
    pub(crate) devices: Devices,
}

impl Job {
    /// Reads profiles and partial space.
    pub(crate) fn open(&self) -> anyhow::Result<Target> {
        let profiles = self.profiles.iter().map(|dir| Ok(Profile::read(dir)?)).collect::<anyhow::Result<Vec<_>>>()?;
        let first = profiles.first().context("no --profile is named")?;
        for (dir, profile) in self.profiles.iter().zip(&profiles) {
            let same = profile.space().hash() == first.space().hash() && profile.input_px() == first.input_px();
            anyhow::ensure!(
                same,
                "{} is of space `{}` at {} px, {} of `{}` at {} px: one search needs one of each",
                dir.display(),
                profile.space().name,
                profile.input_px(),
                self.profiles[0].display(),
                first.space().name,
                first.input_px()
            );
        }
        let part = match &self.within {
            None => first.space().clone(),
            Some(path) => {
                let part = Space::load(&path.to_string_lossy())?;
                first.space().check_part(&part)?;
                part
            }
        };
        let table = |(dir, profile): (&PathBuf, &Profile)| (name(dir), profile.model(self.plain_sum));
        let tables: Vec<_> = self.profiles.iter().zip(&profiles).map(table).collect();
        let devices = Devices::new(&part, &tables, first.input_px())?;
        Ok(Target { profiles, devices })
    }

    /// Writes the file, or checks that the one which is there says the same.
    pub(crate) fn agree(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(NAME);
        if !path.exists() {
            return write_file(&path, &serde_json::to_vec_pretty(self)?);
        }
        let there = Self::read(folder)?;
        if there == *self {
            return Ok(());
        }
        hint(
            Err(anyhow::anyhow!("{} is of a search with other options, weights or images", path.display())),
            "give every shard the same options, or choose another folder",
        )
    }

    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(NAME);
        let text = read_text(&path).context(Hint("the shards of a search write it: inas search --shard I/N".into()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no search job", path.display()))
    }
}

/// Name of a device: that of its profile's folder.
fn name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| "device".into(), |n| n.to_string_lossy().into_owned())
}
