//! Where convolution weights come from.

use crate::Result;

/// One deployed convolution, as asked of a weight source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvSpec {
    /// Name in the supernet, e.g. `backbone.stage_3.0.depth_conv`.
    pub name: String,
    /// Output channels.
    pub out_ch: u32,
    /// Input channels of one group.
    pub in_ch: u32,
    /// Kernel side.
    pub kernel: u32,
    /// Groups; the channel count for a depthwise convolution.
    pub groups: u32,
    /// Whether there is a bias.
    pub bias: bool,
}

impl ConvSpec {
    /// Number of weights, `out_ch * in_ch * kernel * kernel`.
    pub fn weight_len(&self) -> usize {
        usize::try_from(self.weights()).unwrap_or(usize::MAX)
    }

    /// As [`ConvSpec::weight_len`]; the largest number when there are more.
    pub(crate) fn weights(&self) -> u64 {
        [self.out_ch, self.in_ch, self.kernel, self.kernel].map(u64::from).into_iter().fold(1, u64::saturating_mul)
    }
}

/// Weights of one convolution: `[out_ch, in_ch, kernel, kernel]` row-major, and `[out_ch]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvWeights {
    /// `[out_ch, in_ch, kernel, kernel]`.
    pub weight: Vec<f32>,
    /// `[out_ch]`.
    pub bias: Option<Vec<f32>>,
}

/// A source of weights: a supernet for export, random numbers for profiling.
pub trait Weights {
    /// Weights of one convolution, of the lengths that `spec` asks for.
    fn conv(&mut self, spec: &ConvSpec) -> Result<ConvWeights>;
}

/// Random weights, a function of the seed and of each convolution's name and shape only.
///
/// Zero mean and variance 1 / fan-in keep activations in a normal range: latency depends on denormals, not on values.
#[derive(Debug, Clone, Copy)]
pub struct SeededWeights {
    seed: u64,
}

impl SeededWeights {
    /// Weights of that seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl Weights for SeededWeights {
    fn conv(&mut self, spec: &ConvSpec) -> Result<ConvWeights> {
        let shape = [spec.out_ch, spec.in_ch, spec.kernel].map(u32::to_le_bytes);
        let mut state = fnv(self.seed, spec.name.as_bytes().iter().chain(shape.iter().flatten()));
        let mut uniform = || uniform(split_mix(&mut state));
        let scale = [spec.in_ch, spec.kernel, spec.kernel].map(f64::from).iter().product::<f64>().sqrt().recip();
        let weight = (0..spec.weight_len()).map(|_| (uniform() * scale) as f32).collect();
        let bias = spec.bias.then(|| (0..spec.out_ch).map(|_| (uniform() * 0.1) as f32).collect());
        Ok(ConvWeights { weight, bias })
    }
}

/// FNV-1a of the bytes from a start value; the same on every machine and compiler.
fn fnv<'a>(seed: u64, bytes: impl Iterator<Item = &'a u8>) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    bytes.fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Zero-mean uniform of unit variance (width 2 * sqrt(3)) from random bits: the middle of one of 2^24 steps, never 0.
fn uniform(bits: u64) -> f64 {
    ((f64::from((bits >> 40) as u32) + 0.5) / f64::from(1 << 24) - 0.5) * 12f64.sqrt()
}

/// One step of the SplitMix64 generator.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::uniform;

    #[test]
    fn no_random_bits_give_zero() {
        let middle = 1 << 63;
        for bits in [0, 1, middle - 1, middle, middle + 1, u64::MAX] {
            let value = uniform(bits) as f32;
            assert!((1e-8..1.74).contains(&value.abs()), "{bits:x}: {value}");
        }
        assert!(uniform(middle - 1) < 0.0 && uniform(middle) > 0.0);
    }
}
