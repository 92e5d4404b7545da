//! BN statistics of one sub-network (thesis section 3.2.4, spec section 4).

use std::collections::BTreeMap;

use candle_core::Tensor;
use inas_space::Architecture;

use super::forward::{BatchNorm, Outputs, Statistics};
use super::{Error, Result, Supernet};

/// Plain average, over the batches, of each BN's batch mean and unbiased variance in the sub-network `arch`.
///
/// The shared running statistics fit no sub-network; they are neither read nor changed. `batches`: `[N, H, W, 3]`.
pub fn recalibrate(net: &Supernet, arch: &Architecture, batches: &[Tensor]) -> Result<Statistics> {
    recalibrate_part(net, arch, batches, Outputs::Finest)
}

/// As [`recalibrate`], of what these outputs need.
pub(crate) fn recalibrate_part(
    net: &Supernet,
    arch: &Architecture,
    batches: &[Tensor],
    outputs: Outputs,
) -> Result<Statistics> {
    let mut sums: BTreeMap<String, (Tensor, Tensor)> = BTreeMap::new();
    for image in batches {
        let mut seen = Vec::new();
        net.forward(arch, image, &mut BatchNorm::Observe(&mut seen), outputs)?;
        for (name, stats) in seen {
            let sum = match sums.remove(&name) {
                None => (stats.mean, stats.var),
                Some((mean, var)) => ((mean + stats.mean)?, (var + stats.var)?),
            };
            sums.insert(name, sum);
        }
    }
    if batches.is_empty() {
        return Err(Error::NoBatches);
    }
    let share = 1.0 / batches.len() as f64;
    let mut statistics = Statistics::default();
    for (name, (mean, var)) in sums {
        statistics.insert(name, mean.affine(share, 0.0)?, var.affine(share, 0.0)?);
    }
    Ok(statistics)
}
