//! Files in `experiments/`: what is compared, and what the thesis found.

use std::path::PathBuf;

use inas_host::search::{SamplerKind, SearchConfig, Strategy};
use serde::Deserialize;

/// An experiment.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    /// Title of the page.
    pub(super) title: String,
    /// What the thesis shows, with its figure or table.
    pub(super) thesis: String,
    /// What to know of this repetition.
    #[serde(default)]
    pub(super) note: String,
    /// What is done.
    #[serde(flatten)]
    pub(super) what: What,
}

/// Kinds of experiments.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum What {
    /// Searches side by side.
    Searches(Searches),
    /// Latencies of draws.
    Coverage(Coverage),
    /// Accuracy over a grid of backbone and head latencies.
    Grid(Grid),
    /// Predicted against measured latencies.
    Prediction(Prediction),
    /// Latency with and without merged branches.
    Branches(Branches),
}

/// Searches of the same effort.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Searches {
    /// Common settings.
    pub(super) search: SearchConfig,
    /// Each run is repeated with these seeds.
    pub(super) seeds: Vec<u64>,
    /// Profiles that every front is judged on; default: the run's own.
    #[serde(default)]
    pub(super) judge: Vec<PathBuf>,
    /// The runs; the first is what the others are compared with.
    pub(super) run: Vec<Run>,
}

/// One of the searches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) profile: PathBuf,
    /// Partial space.
    pub(super) within: Option<PathBuf>,
    pub(super) sampler: Option<SamplerKind>,
    pub(super) strategy: Option<Strategy>,
}

/// How far draws of the samplers reach.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Coverage {
    pub(super) profiles: Vec<PathBuf>,
    pub(super) draws: usize,
    pub(super) groups: usize,
    pub(super) bins: usize,
    pub(super) seed: u64,
}

/// Networks by latency of backbone and of head.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Grid {
    pub(super) profile: PathBuf,
    /// Cells along each side.
    pub(super) cells: usize,
    /// Networks in a cell.
    pub(super) networks: usize,
    pub(super) seed: u64,
}

/// Networks to predict and to measure.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Prediction {
    pub(super) profiles: Vec<PathBuf>,
    pub(super) networks: usize,
    pub(super) seed: u64,
}

/// Networks to measure in both forms.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Branches {
    pub(super) profiles: Vec<PathBuf>,
    pub(super) networks: usize,
    pub(super) seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_an_experiment_whose_spaces_and_profiles_are_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut count = 0;
        for entry in std::fs::read_dir(root.join("experiments")).unwrap() {
            let path = entry.unwrap().path();
            let config: Config = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let used: Vec<PathBuf> = match config.what {
                What::Searches(what) => {
                    what.search.check().unwrap();
                    let of_runs = what.run.into_iter().flat_map(|r| [Some(r.profile), r.within]);
                    of_runs.flatten().chain(what.judge).collect()
                }
                What::Coverage(what) => what.profiles,
                What::Grid(what) => vec![what.profile],
                What::Prediction(what) => what.profiles,
                What::Branches(what) => what.profiles,
            };
            assert!(used.iter().all(|p| root.join(p).exists()), "{}: {used:?}", path.display());
            count += 1;
        }
        assert!(count >= 9);
    }
}
