//! The devices that a search is for.

use inas_space::{Architecture, LatencyBreakdown, LatencyTable, Micros, Space};

use super::{Result, SearchError, TablePredictor};

/// Latency predictors of one or several devices over one space.
///
/// For several devices a search minimises the mean of their latencies, each relative to that of the device's slowest
/// network: a sum over blocks too, so that every sampler works on it as on a single device.
#[derive(Debug, Clone)]
pub struct Devices {
    names: Vec<String>,
    each: Vec<TablePredictor>,
    /// Factor of each device's latency in the mean.
    weights: Vec<f64>,
    mean: TablePredictor,
}

impl Devices {
    /// One device.
    pub fn one(name: impl Into<String>, predictor: TablePredictor) -> Self {
        Self { names: vec![name.into()], each: vec![predictor.clone()], weights: vec![1.0], mean: predictor }
    }

    /// Devices by name with their latency tables.
    pub fn new(space: &Space, tables: &[(String, LatencyTable)], px: u32) -> Result<Self> {
        let each = tables.iter().map(|(_, t)| TablePredictor::new(space, t, px)).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = tables.iter().map(|(name, _)| name.clone()).collect();
        if let ([name], [predictor]) = (&names[..], &each[..]) {
            return Ok(Self::one(name.clone(), predictor.clone()));
        }
        let slowest: Vec<f64> = each.iter().map(|p| p.ends().1.0).collect();
        let usual = slowest.iter().sum::<f64>() / slowest.len().max(1) as f64;
        let weights: Vec<f64> = slowest.iter().map(|s| usual / (s * slowest.len() as f64)).collect();
        let mut mean = LatencyTable::default();
        for key in space.block_keys(px)? {
            let mut sum = 0.0;
            for ((_, table), weight) in tables.iter().zip(&weights) {
                sum += weight * table.get(&key)?.0;
            }
            mean.insert(key, Micros(sum));
        }
        Ok(Self { names, each, weights, mean: TablePredictor::new(space, &mean, px)? })
    }

    /// What the search minimises: the device's latency, or the mean of several.
    pub fn objective(&self) -> &TablePredictor {
        &self.mean
    }

    /// Each device.
    pub fn each(&self) -> impl Iterator<Item = (&str, &TablePredictor)> {
        self.names.iter().map(String::as_str).zip(&self.each)
    }

    /// Number of devices.
    pub fn len(&self) -> usize {
        self.each.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// The space.
    pub fn space(&self) -> &Space {
        self.mean.space()
    }

    /// What the search minimises, and the latency of each device when there are several, us.
    pub(super) fn latency(&self, arch: &Architecture) -> Result<(LatencyBreakdown, Vec<f64>)> {
        let mean = self.mean.latency(arch)?;
        if self.each.len() < 2 {
            return Ok((mean, Vec::new()));
        }
        let each = self.each.iter().map(|p| Ok(p.latency(arch)?.total().0)).collect::<Result<_>>()?;
        Ok((mean, each))
    }

    /// Refuses a maximum latency that some device does not reach.
    pub(super) fn check(&self, max: Option<Micros>) -> Result<()> {
        let Some(max) = max else { return Ok(()) };
        let unreached = self.each.iter().map(TablePredictor::reachable).find(|(lowest, _)| max.0 < lowest.0);
        unreached.map_or(Ok(()), |(lowest, highest)| Err(SearchError::Unreachable { max, lowest, highest }))
    }

    /// Upper end of what the search minimises where no device is slower than `max`.
    pub(super) fn ceiling(&self, max: Micros) -> f64 {
        self.each.iter().zip(&self.weights).map(|(p, w)| w * max.0.min(p.reachable().1.0)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inas_space::BlockKey;
    use rand::SeedableRng as _;

    #[test]
    fn the_mean_of_devices_is_the_weighted_sum_of_their_latencies() {
        let space = Space::preset("nano").unwrap();
        let table = |a: f64, b: f64| -> LatencyTable {
            let time = |k: &BlockKey| a + b * f64::from(k.out_ch) + f64::from(k.kernel);
            space.block_keys(128).unwrap().into_iter().map(|k| (k, Micros(time(&k)))).collect()
        };
        let devices =
            Devices::new(&space, &[("a".into(), table(1.0, 2.0)), ("b".into(), table(50.0, 1.0))], 128).unwrap();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for arch in (0..50).map(|_| space.uniform(&mut rng)).chain([space.max()]) {
            let (mean, each) = devices.latency(&arch).unwrap();
            let relative: f64 =
                each.iter().zip(&devices.each).map(|(t, p)| t / p.ends().1.0).sum::<f64>() / each.len() as f64;
            let usual = devices.each.iter().map(|p| p.ends().1.0).sum::<f64>() / 2.0;
            assert!((mean.total().0 - relative * usual).abs() < 1e-6 * usual);
        }
    }
}
