//! Search spaces of salient-object-detection networks, as data.
//!
//! A [`Space`] says which networks exist (TOML; some are presets). An [`Architecture`] is one of them: a value with a
//! canonical JSON form and a stable hash. Its building blocks have [`BlockKey`]s, the rows of a [`LatencyTable`],
//! and the latency of an architecture is the sum of its rows (thesis section 3.2.3).
//!
//! ```
//! use inas_space::Space;
//! use rand::SeedableRng;
//!
//! let space = Space::preset("iccv21")?;
//! assert_eq!(space.block_keys(224)?.len(), 2798);
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let arch = space.uniform(&mut rng);
//! space.validate(&arch)?;
//! println!("{} {}", arch.hash(), arch.to_json());
//! # Ok::<(), inas_space::Error>(())
//! ```

mod architecture;
mod blocks;
mod draw;
mod error;
mod interpolate;
mod key;
mod latency;
mod part;
mod release;
mod space;

pub use architecture::{Architecture, LayerChoice, LevelChoice};
pub use blocks::{Block, Part};
pub use error::{Error, Result, toml_reason};
pub use key::{BlockKey, BlockKind};
pub use latency::{LatencyBreakdown, LatencyTable, Micros};
pub use release::space_from_release_json;
pub use space::{ActivationKind, FusionChoices, Level, PRESETS, Resolutions, Space, SqueezeExcite, Stage, Stem};
