//! The space file: which networks exist.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::toml_reason;
use crate::{Error, Result};

/// Embedded space files by name.
pub const PRESETS: [(&str, &str); 4] = [
    ("iccv21", include_str!("../presets/iccv21.toml")),
    ("thesis", include_str!("../presets/thesis.toml")),
    ("nano", include_str!("../presets/nano.toml")),
    ("lite", include_str!("../presets/lite.toml")),
];

/// Channels of the input image.
pub(crate) const IMAGE_CHANNELS: u32 = 3;

/// Activation used by every block of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// x * sigmoid(x)
    Silu,
    /// max(0, x)
    Relu,
    /// min(6, max(0, x))
    Relu6,
    /// x * clamp(x / 6 + 1/2, 0, 1)
    HardSwish,
}

/// Squeeze-excite inside every MBConv: two 1x1 convolutions through `floor(mid / reduction)` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqueezeExcite {
    /// Divisor of the expanded channel count.
    pub reduction: u32,
}

/// The first convolution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stem {
    /// Output channel choices.
    pub channels: Vec<u32>,
    /// Side of the (dense) kernel.
    pub kernel: u32,
    /// Stride.
    pub stride: u32,
}

/// A stage of MBConv layers (thesis table 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Expansion ratio of every layer.
    pub expand: u32,
    /// Stride of the first layer; the others have 1.
    pub stride: u32,
    /// Choices for the number of layers.
    pub depths: Vec<u32>,
    /// Kernel sizes of the multi-scale unit; a layer takes a non-empty subset.
    pub kernels: Vec<u32>,
    /// Output channel choices of each layer.
    pub channels: Vec<u32>,
}

/// What one fusion of the transport or of the decoder may choose (thesis table 3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionChoices {
    /// Source levels to choose from.
    pub sources: Vec<u32>,
    /// Sources that are always taken.
    pub required: Vec<u32>,
    /// Kernel sizes of the multi-scale unit(s); a level takes a non-empty subset.
    pub kernels: Vec<u32>,
}

/// A pyramid level, finest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Backbone stage (from 1) whose output this level is.
    pub stage: u32,
    /// Transport: sources are backbone outputs.
    pub transport: FusionChoices,
    /// Decoder: sources are the level itself (transport) and coarser levels (decoder).
    pub decoder: FusionChoices,
}

/// A search space: backbone stages, and the transport and decoder over their pyramid levels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Name, for messages and file names.
    pub name: String,
    /// Default side of the square input image, px.
    pub input_px: u32,
    /// Activation of every block.
    pub activation: ActivationKind,
    /// Squeeze-excite in MBConv, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub squeeze_excite: Option<SqueezeExcite>,
    /// First convolution.
    pub stem: Stem,
    /// Backbone stages; stage numbers elsewhere count from 1.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
    /// Pyramid levels, finest first.
    #[serde(rename = "level")]
    pub levels: Vec<Level>,
}

impl Space {
    /// An embedded space by name.
    pub fn preset(name: &str) -> Result<Self> {
        let (_, toml) = PRESETS
            .iter()
            .find(|(n, _)| *n == name)
            .ok_or_else(|| Error::UnknownPreset { name: name.to_owned(), known: PRESETS.map(|(n, _)| n).join(", ") })?;
        Self::from_toml(toml)
    }

    /// A preset by name, or else the space file at that path.
    pub fn load(name_or_path: &str) -> Result<Self> {
        if !Path::new(name_or_path).extension().is_some_and(|e| e.eq_ignore_ascii_case("toml")) {
            return Self::preset(name_or_path);
        }
        let text = std::fs::read_to_string(name_or_path)
            .map_err(|source| Error::Read { path: name_or_path.into(), source })?;
        Self::from_toml(&text).map_err(|e| Error::SpaceFile { path: name_or_path.into(), source: Box::new(e) })
    }

    /// Parses and checks a space file.
    pub fn from_toml(text: &str) -> Result<Self> {
        let space: Self = toml::from_str(text).map_err(|e| Error::SpaceSyntax(toml_reason(&e)))?;
        space.check()?;
        Ok(space)
    }

    /// The space as a space file.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::SpaceSyntax(e.to_string()))
    }

    /// Stable hash of what the space describes: SHA-256 over its JSON, first 16 hex digits.
    pub fn hash(&self) -> String {
        sha16(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Checks that every choice list is usable; `from_toml` does so already.
    pub fn check(&self) -> Result<()> {
        let fail = |reason: String| Err(Error::SpaceInvalid { space: self.name.clone(), reason });
        let choices = |place: &str, what: &str, list: &[u32]| -> Result<()> {
            let sorted = list.windows(2).all(|w| w[0] < w[1]);
            if list.is_empty() || !sorted || list[0] == 0 {
                return fail(format!(
                    "{place}: `{what}` must be a non-empty, strictly increasing list of positive numbers"
                ));
            }
            Ok(())
        };
        let odd = |place: &str, list: &[u32]| -> Result<()> {
            match list.iter().find(|k| *k % 2 == 0) {
                Some(k) => fail(format!("{place}: kernel size {k} must be odd")),
                None => Ok(()),
            }
        };
        // Folders and files are named after it.
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
            return fail("`name` must be of letters, digits, `-`, `_` and `.`".into());
        }
        choices("stem", "channels", &self.stem.channels)?;
        odd("stem", &[self.stem.kernel])?;
        if self.stages.is_empty() || self.levels.is_empty() {
            return fail("at least one [[stage]] and one [[level]] are needed".into());
        }
        for (i, stage) in self.stages.iter().enumerate() {
            let place = format!("stage {}", i + 1);
            choices(&place, "depths", &stage.depths)?;
            choices(&place, "kernels", &stage.kernels)?;
            choices(&place, "channels", &stage.channels)?;
            odd(&place, &stage.kernels)?;
            if stage.expand == 0 || !(1..=2).contains(&stage.stride) {
                return fail(format!("{place}: `expand` must be positive and `stride` 1 or 2"));
            }
        }
        if !(1..=2).contains(&self.stem.stride) {
            return fail("stem: `stride` must be 1 or 2".into());
        }
        if self.squeeze_excite.is_some_and(|se| se.reduction == 0) {
            return fail("squeeze_excite: `reduction` must be positive".into());
        }
        let mut last = 0;
        for (i, level) in self.levels.iter().enumerate() {
            if level.stage <= last || level.stage as usize > self.stages.len() {
                return fail(format!("level {i}: `stage` must increase from level to level and exist"));
            }
            last = level.stage;
            for (part, choice) in [("transport", &level.transport), ("decoder", &level.decoder)] {
                let place = format!("level {i} {part}");
                choices(&place, "kernels", &choice.kernels)?;
                odd(&place, &choice.kernels)?;
                let sources: BTreeSet<u32> = choice.sources.iter().copied().collect();
                let increasing = choice.sources.windows(2).all(|w| w[0] < w[1]);
                let in_range = sources.iter().all(|s| (*s as usize) < self.levels.len());
                if sources.is_empty() || !increasing || !in_range {
                    return fail(format!("{place}: `sources` must be strictly increasing level numbers"));
                }
                if !choice.required.contains(&(i as u32)) || !choice.required.iter().all(|s| sources.contains(s)) {
                    return fail(format!("{place}: `required` must hold level {i} itself and be part of `sources`"));
                }
                if !choice.required.windows(2).all(|w| w[0] < w[1]) {
                    return fail(format!("{place}: `required` must be strictly increasing"));
                }
                if part == "decoder" && sources.iter().any(|s| (*s as usize) < i) {
                    return fail(format!("{place}: a decoder source cannot be finer than its level"));
                }
            }
        }
        self.resolutions(self.input_px).map(|_| ())
    }

    /// Output side of the stem and of each stage for a square input of `px`, px.
    ///
    /// Errors when `px` is not a multiple of the total stride.
    pub fn resolutions(&self, px: u32) -> Result<Resolutions> {
        let total = self.stages.iter().fold(self.stem.stride, |t, s| t * s.stride);
        if px == 0 || !px.is_multiple_of(total) {
            return Err(Error::InputSize { space: self.name.clone(), px, stride: total });
        }
        let stem_px = px / self.stem.stride;
        let mut side = stem_px;
        let stage_px: Vec<u32> = self
            .stages
            .iter()
            .map(|s| {
                side /= s.stride;
                side
            })
            .collect();
        let level_px = self.levels.iter().map(|l| stage_px[l.stage as usize - 1]).collect();
        Ok(Resolutions { input_px: px, stem_px, stage_px, level_px })
    }

    /// Channel choices of a pyramid level: those of its stage.
    pub fn level_channels(&self, level: usize) -> &[u32] {
        &self.stages[self.levels[level].stage as usize - 1].channels
    }

    /// Base-10 logarithm of the number of architectures.
    pub fn log10_size(&self) -> f64 {
        let subsets = |n: usize| ((1u64 << n) - 1) as f64;
        let mut log = (self.stem.channels.len() as f64).log10();
        for s in &self.stages {
            let layer = s.channels.len() as f64 * subsets(s.kernels.len());
            log += s.depths.iter().map(|d| layer.powi(*d as i32)).sum::<f64>().log10();
        }
        for l in &self.levels {
            for f in [&l.transport, &l.decoder] {
                let free = f.sources.len() - f.required.len();
                log += 2f64.powi(free as i32).log10() + subsets(f.kernels.len()).log10();
            }
        }
        log
    }
}

/// Feature-map sides of a space at one input size, px.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolutions {
    /// Input side.
    pub input_px: u32,
    /// Side after the stem.
    pub stem_px: u32,
    /// Side after each stage.
    pub stage_px: Vec<u32>,
    /// Side of each pyramid level.
    pub level_px: Vec<u32>,
}

/// First 16 hex digits of SHA-256.
pub(crate) fn sha16(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).fold(String::new(), |mut hex, b| {
        let _ = write!(hex, "{b:02x}");
        hex
    })
}
