//! What one search says of several devices, and where networks come from.

use std::collections::BTreeMap;

use inas_space::Micros;
use serde::{Deserialize, Serialize};

use super::pareto::{self, Point};
use super::{Devices, Evaluated, Origin, Result, SearchResult, TablePredictor};

/// The front on one device of everything evaluated, with that device's latencies.
pub fn device_front(
    result: &SearchResult,
    predictor: &TablePredictor,
    min_score: Option<f64>,
) -> Result<Vec<Evaluated>> {
    let mut on_device = Vec::with_capacity(result.evaluated.len());
    for network in &result.evaluated {
        on_device.push(Evaluated { latency: predictor.latency(&network.arch)?, ..network.clone() });
    }
    Ok(SearchResult::front_of(&on_device, min_score))
}

/// A network for all devices, held against each device's own front.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedNetwork {
    /// Hash of the architecture.
    pub hash: String,
    /// F-measure.
    pub f_max: f64,
    /// Latency on each device, ms.
    pub latency_ms: Vec<f64>,
    /// How much slower than the device's fastest evaluated network that is at least as accurate, percent.
    pub loss_percent: Vec<f64>,
}

impl SharedNetwork {
    /// Loss on the device where it is greatest, percent.
    pub fn worst_percent(&self) -> f64 {
        self.loss_percent.iter().copied().fold(0.0, f64::max)
    }
}

/// Networks that no other beats on all devices and in accuracy by the mean relative latency: the front of the search,
/// with what each costs on every device.
pub fn shared_networks(result: &SearchResult, devices: &Devices, min_score: Option<f64>) -> Result<Vec<SharedNetwork>> {
    let mut fronts = Vec::new();
    for (_, predictor) in devices.each() {
        fronts.push(device_front(result, predictor, min_score)?);
    }
    let mut shared = Vec::with_capacity(result.front.len());
    for network in &result.front {
        let (mut latency_ms, mut loss_percent) = (Vec::new(), Vec::new());
        for ((_, predictor), front) in devices.each().zip(&fronts) {
            let here = predictor.latency(&network.arch)?.total();
            let own = front.iter().filter(|e| e.score.f_max >= network.score.f_max);
            let own = own.map(|e| e.latency.total().0).fold(here.0, f64::min);
            latency_ms.push(here.ms());
            loss_percent.push(if own > 0.0 { (here.0 / own - 1.0) * 100.0 } else { 0.0 });
        }
        let hash = network.hash.clone();
        shared.push(SharedNetwork { hash, f_max: network.score.f_max, latency_ms, loss_percent });
    }
    Ok(shared)
}

/// A network among the ancestors of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Hash of the architecture.
    pub hash: String,
    /// Generation that it was evaluated in.
    pub generation: usize,
    /// How it was made.
    pub origin: Origin,
    /// Predicted latency, ms.
    pub latency_ms: f64,
    /// F-measure.
    pub f_max: f64,
    /// Hashes of its parents.
    pub parents: Vec<String>,
}

/// All ancestors of each network of the front, itself first, then by falling generation.
pub fn lineage(result: &SearchResult) -> BTreeMap<String, Vec<Ancestor>> {
    let by_hash: BTreeMap<&str, &Evaluated> = result.evaluated.iter().map(|e| (e.hash.as_str(), e)).collect();
    let line = |network: &Evaluated| {
        let mut found: BTreeMap<usize, &Evaluated> = BTreeMap::new();
        let mut open = vec![network.hash.as_str()];
        while let Some(hash) = open.pop() {
            let Some(e) = by_hash.get(hash) else { continue };
            if found.insert(e.index, e).is_none() {
                open.extend(e.parents.iter().map(String::as_str));
            }
        }
        found.into_values().rev().map(ancestor).collect()
    };
    result.front.iter().map(|e| (e.hash.clone(), line(e))).collect()
}

fn ancestor(e: &Evaluated) -> Ancestor {
    Ancestor {
        hash: e.hash.clone(),
        generation: e.generation,
        origin: e.origin,
        latency_ms: e.latency.total().ms(),
        f_max: e.score.f_max,
        parents: e.parents.clone(),
    }
}

/// Hypervolume of evaluated networks on latencies of a common range, see [`pareto::relative_hypervolume`].
pub fn hypervolume_of(networks: &[Evaluated], range: (Micros, Micros)) -> f64 {
    let points: Vec<Point> = networks.iter().map(Evaluated::point).collect();
    pareto::relative_hypervolume(&points, range)
}
