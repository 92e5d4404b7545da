//! Settings of a training run: presets, run files, single overrides.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, TrainError};

/// Learning-rate factor of transport and decoder in the published system.
pub const HEAD_LR_FACTOR: f64 = 10.0;

/// Run files that are part of the program, by name.
pub const RUN_PRESETS: [(&str, &str); 4] = [
    ("thesis", include_str!("presets/thesis.toml")),
    ("iccv21", include_str!("presets/iccv21.toml")),
    ("nano", include_str!("presets/nano.toml")),
    ("lite", include_str!("presets/lite.toml")),
];

/// How to train. The defaults are the published system's, at a batch that fits one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a run file")]
pub struct TrainConfig {
    /// Optimiser steps in all.
    pub steps: usize,
    /// Images at once.
    pub batch: usize,
    /// Batches whose gradients are averaged into one optimiser step.
    pub accumulate: usize,
    /// Base learning rate.
    pub lr: f64,
    /// Learning-rate factor of transport and decoder.
    pub head_lr_factor: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Exponent of the polynomial decay to zero.
    pub poly_power: f64,
    /// Adam's decay rates.
    pub betas: (f64, f64),
    /// Image sides to draw from, one a step, px; empty: the space's own.
    pub px: Vec<u32>,
    /// Train and validate the smallest sub-network beside the largest.
    pub smallest: bool,
    /// Random sub-networks a step, beside those.
    pub random_subnets: usize,
    /// Weight of the loss of each coarser level (deep supervision); 0 leaves them out.
    pub aux_weight: f64,
    /// The others learn from the largest network's map instead of from the label.
    pub distill: bool,
    /// Decay of an averaged copy of the weights whose largest network is the teacher instead; 0: none.
    pub ema_teacher: f64,
    /// Mirror images at random.
    pub flip: bool,
    /// Take random parts of the images, at least this share of their area; 1: all of them.
    pub least_area: f64,
    /// Probability of laying the objects of another image over an image.
    pub paste: f64,
    /// Most that brightness, contrast and saturation change by at random, as a share.
    pub colour: f64,
    /// Share of the truth that goes to all classes alike, in pre-training.
    pub label_smoothing: f64,
    /// New order of the images each epoch.
    pub shuffle: bool,
    /// Seed of every draw.
    pub seed: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Steps between validations; 0: none.
    pub validate_every: usize,
    /// Random sub-networks that are validated, beside the largest and the smallest.
    pub validate_random: usize,
    /// Training images for the BN recalibration of each validated sub-network.
    pub calibration: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 26_400,
            batch: 8,
            accumulate: 1,
            lr: 2e-4,
            head_lr_factor: HEAD_LR_FACTOR,
            warmup_steps: 1000,
            poly_power: 0.9,
            betas: (0.9, 0.99),
            px: Vec::new(),
            smallest: true,
            random_subnets: 2,
            aux_weight: crate::supernet::AUX_WEIGHT,
            distill: true,
            ema_teacher: 0.0,
            flip: true,
            least_area: 1.0,
            paste: 0.0,
            colour: 0.0,
            label_smoothing: 0.1,
            shuffle: true,
            seed: 0,
            checkpoint_every: 500,
            validate_every: 0,
            validate_random: 1,
            calibration: 100,
        }
    }
}

impl TrainConfig {
    /// Refuses values that no run can use.
    pub(super) fn check(&self, pretraining: bool) -> Result<()> {
        for (field, set) in [("ema_teacher", self.ema_teacher > 0.0), ("paste", self.paste > 0.0)] {
            if pretraining && set {
                return Err(TrainError::Field { field, reason: "is not there in pre-training".into() });
            }
        }
        let counts = [
            ("steps", self.steps),
            ("batch", self.batch),
            ("accumulate", self.accumulate),
            ("checkpoint_every", self.checkpoint_every),
        ];
        for (field, value) in counts {
            if value == 0 {
                return Err(TrainError::Field { field, reason: "must be at least 1".into() });
            }
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(TrainError::Field { field: "lr", reason: format!("must be positive, not {}", self.lr) });
        }
        if !(0.0..1.0).contains(&self.ema_teacher) {
            let reason = format!("must be in 0..1, not {}", self.ema_teacher);
            return Err(TrainError::Field { field: "ema_teacher", reason });
        }
        for (field, value, good) in [
            ("least_area", self.least_area, self.least_area > 0.0 && self.least_area <= 1.0),
            ("label_smoothing", self.label_smoothing, (0.0..1.0).contains(&self.label_smoothing)),
            ("paste", self.paste, (0.0..=1.0).contains(&self.paste)),
            ("colour", self.colour, (0.0..=1.0).contains(&self.colour)),
        ] {
            if !good {
                return Err(TrainError::Field { field, reason: format!("must be a share, not {value}") });
            }
        }
        if self.px.is_empty() || self.px.contains(&0) {
            return Err(TrainError::Field { field: "px", reason: "needs positive image sides".into() });
        }
        Ok(())
    }
}

/// A run file: what to train, on what, how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunFile {
    /// Preset or space file.
    pub space: Option<String>,
    /// Training list; in a file, relative to it.
    pub data: Option<PathBuf>,
    /// Validation list; in a file, relative to it.
    pub val_data: Option<PathBuf>,
    /// Photos to pre-train the backbone on, one folder a class, or `train` and `val` of such; in a file, relative to it.
    pub pretrain_data: Option<PathBuf>,
    /// Threads that compute; without it one a core. Results do not depend on it.
    pub threads: Option<usize>,
    /// Settings.
    pub train: TrainConfig,
    /// Settings of the pre-training.
    pub pretrain: TrainConfig,
}

impl Default for RunFile {
    fn default() -> Self {
        let pretrain = TrainConfig { least_area: 0.35, head_lr_factor: 1.0, ..TrainConfig::default() };
        Self {
            space: None,
            data: None,
            val_data: None,
            pretrain_data: None,
            threads: None,
            train: TrainConfig::default(),
            pretrain,
        }
    }
}

impl RunFile {
    /// A preset by name, or a file; then each `key=value` of `overrides`, e.g. `train.lr=1e-3` (values as in TOML).
    pub fn load(name: &str, overrides: &[String]) -> Result<Self> {
        let preset = RUN_PRESETS.iter().find(|(preset, _)| *preset == name);
        let path = Path::new(name);
        let text = match preset {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(path).map_err(|e| TrainError::io(path, e))?,
        };
        let mut run: Self = run_from_toml(&text, name, overrides)?;
        if preset.is_none() {
            let root = path.parent().unwrap_or(Path::new(""));
            for list in [&mut run.data, &mut run.val_data, &mut run.pretrain_data].into_iter().flatten() {
                *list = root.join(&*list);
            }
        }
        Ok(run)
    }
}

/// A run file of any kind from its text; then each `key=value` of `overrides`. What is not named has its default.
pub fn run_from_toml<T>(text: &str, name: &str, overrides: &[String]) -> Result<T>
where
    T: Default + Serialize + serde::de::DeserializeOwned,
{
    let bad = |reason: String| TrainError::RunFile { name: name.to_owned(), reason };
    let mut table: toml::Table = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |at| 1 + text[..at.start].matches('\n').count());
        bad(format!("line {line}: {}", e.message()))
    })?;
    for entry in overrides {
        let (key, value) =
            entry.split_once('=').ok_or_else(|| bad(format!("`{entry}` is not of the form key=value")))?;
        set(&mut table, key.trim(), value.trim()).map_err(|reason| bad(format!("`{entry}`: {reason}")))?;
    }
    let mut whole = toml::Table::try_from(T::default()).map_err(|e| bad(e.to_string()))?;
    merge(&mut whole, table);
    whole.try_into().map_err(|e: toml::de::Error| bad(e.message().to_owned()))
}

/// Lays a table over another, section by section.
fn merge(whole: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (whole.get_mut(&key), value) {
            (Some(toml::Value::Table(section)), toml::Value::Table(over)) => merge(section, over),
            (_, value) => drop(whole.insert(key, value)),
        }
    }
}

/// Sets a dotted key; what is no TOML value is taken as text.
fn set(table: &mut toml::Table, key: &str, value: &str) -> std::result::Result<(), String> {
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let parsed = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let (parents, last) = key.rsplit_once('.').map_or(("", key), |(parents, last)| (parents, last));
    let mut place = table;
    for part in parents.split('.').filter(|p| !p.is_empty()) {
        let next = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = next.as_table_mut().ok_or_else(|| format!("`{part}` is no section"))?;
    }
    place.insert(last.to_owned(), parsed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_hold_the_published_settings() {
        let of = |name| RunFile::load(name, &[]).unwrap();
        let (thesis, released) = (of("thesis").train, of("iccv21").train);
        assert_eq!((thesis.lr, released.lr), (1e-4, 2e-4));
        assert_eq!(TrainConfig { lr: 2e-4, ..thesis }, released);
        assert_eq!(released.px, [288, 320, 352, 384]);
        for (name, _) in RUN_PRESETS {
            let run = of(name);
            assert_eq!(run.space.as_deref(), Some(name));
            run.train.check(false).unwrap();
            run.pretrain.check(true).unwrap();
        }
    }

    #[test]
    fn every_field_can_be_overridden_and_a_wrong_one_is_named() {
        let load = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
            RunFile::load("nano", &overrides)
        };
        let run = load(&["train.lr=1e-3", "train.px=[64, 96]", "train.flip = false", "data=a/b.lst", "space=thesis"]);
        let run = run.unwrap();
        assert_eq!((run.train.lr, run.train.px.as_slice(), run.train.flip), (1e-3, [64, 96].as_slice(), false));
        assert_eq!((run.data, run.space.as_deref()), (Some("a/b.lst".into()), Some("thesis")));
        // Every field of the struct is a key that --set takes.
        let all = serde_json::to_value(TrainConfig { px: vec![32], ..TrainConfig::default() }).unwrap();
        for (field, value) in all.as_object().unwrap() {
            load(&[&format!("train.{field}={value}")]).unwrap();
        }
        for (wrong, told) in [
            ("train.learning_rate=1", "learning_rate"),
            ("train.lr=fast", "lr=fast"),
            ("lr", "key=value"),
            ("space.lr=1", "no section"),
        ] {
            let error = load(&[wrong]).unwrap_err().to_string();
            assert!(error.contains(told) || error.contains("invalid type"), "{wrong}: {error}");
        }
    }
}
