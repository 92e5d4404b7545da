//! A latency model fitted on measured whole networks.
//!
//! The sum over blocks (thesis section 3.2.3) is off in a way that differs by runtime: in a network the weights of a
//! block are cold and its input warm, where a block in a loop has both warm, and layouts change at its edges. How much that
//! costs depends on what kind of block it is and on how large its maps are, so a few networks are measured and the
//! latency is fitted as `T = Σ a(kind, side)·warm + b·Σ (cold - warm) + c·blocks + d·Σ weight bytes + e` with no coefficient
//! below 0. Each `a` is drawn towards what fits best for all of them alike, so that a few networks settle many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use inas_space::{Architecture, BlockKey, BlockKind, LatencyTable, Micros, Space};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::profile::{BlockRow, Profile, write_whole};
use crate::{Error, Result, nnls, stats};

/// Name of the file in a profile's folder.
pub const CALIBRATION_FILE: &str = "calibration.json";

/// Schema of the file.
pub const SCHEMA: u64 = 2;

/// Fewest networks that a model is fitted on.
pub const LEAST_NETWORKS: usize = 10;

/// Confidence level of the interval of a prediction.
const LEVEL: f64 = 0.95;

/// How strongly each coefficient of a warm latency is drawn towards the common one: one that is off by 0.18 weighs as much
/// as a network whose prediction is off by 1 %.
const PULL: f64 = 3e-3;

/// End of the names of warm latencies' terms; alone, the coefficient that is common to all of them.
const WARM: &str = "warm";

const COLD_EXCESS: &str = "cold_excess";
const BLOCKS: &str = "blocks";
const WEIGHT_KB: &str = "weight_kb";
const CONSTANT: &str = "constant";

/// Name of the term of a block's warm latency: blocks of one kind with maps of one side share a coefficient.
fn warm_term(key: &BlockKey) -> String {
    let part = match key.kind {
        BlockKind::MbConv => "backbone",
        BlockKind::TransportFusion | BlockKind::DecoderFusion => "fusion",
        BlockKind::TransportBranch | BlockKind::DecoderBranch => "branch",
        BlockKind::Stem | BlockKind::Head => "ends",
    };
    format!("{part}_{}_{WARM}", key.out_px)
}

/// What a block adds to each term but the constant: microseconds, a count, and KB (1000 bytes) of weights.
fn features(key: &BlockKey, row: &BlockRow) -> [(String, f64); 4] {
    let m = &row.measurement;
    [
        (warm_term(key), m.median_us),
        (COLD_EXCESS.into(), m.cold_us.map_or(0.0, |cold| (cold - m.median_us).max(0.0))),
        (BLOCKS.into(), f64::from(u8::from(!key.is_identity()))),
        (WEIGHT_KB.into(), row.cost.params as f64 * 4e-3),
    ]
}

/// A measured network of the fit.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Measured {
    /// The network.
    pub arch: Architecture,
    /// Its latency, microseconds.
    pub latency_us: f64,
    /// How much its second fastest visit was slower than the fastest, relative.
    pub spread: f64,
    /// Latency by a model fitted on the other networks, microseconds.
    #[serde(default)]
    pub left_out_us: f64,
}

/// The fitted model: `calibration.json`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Calibration {
    /// Schema version of the file.
    pub schema: u64,
    /// When it was made, UTC, RFC 3339.
    pub created: String,
    /// [`Profile::measured_hash`] of the profile that it belongs to.
    pub profile: String,
    /// Load average before and after measuring.
    pub load: [f64; 2],
    /// Coefficients by term: `PART_SIDE_warm`, and `warm` where no measured network had such a block; `cold_excess`,
    /// `blocks`, `weight_kb`, `constant`.
    pub coefficients: BTreeMap<String, f64>,
    /// Mean absolute relative error of networks left out of the fit in turn, percent.
    pub cross_validated_mape_percent: f64,
    /// Half width of the 95 % interval of a prediction, relative: the fitting quantile of the left-out errors.
    pub interval: f64,
    /// The networks.
    pub networks: Vec<Measured>,
}

/// Sums of the features over a network's blocks, by term.
fn sums(profile: &Profile, arch: &Architecture) -> Result<BTreeMap<String, f64>> {
    let mut sums = BTreeMap::from([(CONSTANT.to_owned(), 1.0)]);
    for block in profile.space().blocks(arch, profile.input_px())? {
        let row = profile.rows().get(&block.key);
        let row = row.ok_or_else(|| inas_space::Error::MissingBlock { key: block.key.to_string() })?;
        for (term, value) in features(&block.key, row) {
            *sums.entry(term).or_default() += value;
        }
    }
    Ok(sums)
}

/// Coefficients of the terms by relative errors, so that small networks count as much as large ones, and the common
/// coefficient of the warm latencies.
fn fit(terms: &[String], rows: &[Vec<f64>], values: &[f64]) -> (Vec<f64>, f64) {
    let mut scaled: Vec<Vec<f64>> = rows.iter().zip(values).map(|(r, v)| r.iter().map(|x| x / v).collect()).collect();
    let mut wanted = vec![1.0; values.len()];
    let (warm, others): (Vec<usize>, Vec<usize>) = (0..terms.len()).partition(|j| terms[*j].ends_with(WARM));
    let alike = |row: &Vec<f64>| {
        let sum = warm.iter().map(|j| row[*j]).sum();
        std::iter::once(sum).chain(others.iter().map(|j| row[*j])).collect()
    };
    let common = nnls::solve(&scaled.iter().map(alike).collect::<Vec<_>>(), &wanted)[0];
    for j in warm {
        let mut pull = vec![0.0; terms.len()];
        pull[j] = PULL.sqrt();
        wanted.push(pull[j] * common);
        scaled.push(pull);
    }
    (nnls::solve(&scaled, &wanted), common)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

impl Calibration {
    /// Fits the model on measured networks (latency in microseconds and its spread) of the profile's space.
    pub fn fit(profile: &Profile, measured: &[(Architecture, f64, f64)], load: [f64; 2]) -> Result<Self> {
        let n = measured.len();
        if n < LEAST_NETWORKS || measured.iter().any(|m| m.1.is_nan() || m.1 <= 0.0) {
            return Err(Error::Calibration {
                reason: format!("{n} networks; needed are {LEAST_NETWORKS} with a latency"),
            });
        }
        let by_term = measured.iter().map(|(arch, ..)| sums(profile, arch)).collect::<Result<Vec<_>>>()?;
        let terms: BTreeSet<String> = by_term.iter().flat_map(BTreeMap::keys).cloned().collect();
        let terms: Vec<String> = terms.into_iter().collect();
        let row = |sums: &BTreeMap<String, f64>| terms.iter().map(|t| sums.get(t).copied().unwrap_or(0.0)).collect();
        let rows: Vec<Vec<f64>> = by_term.iter().map(row).collect();
        let values: Vec<f64> = measured.iter().map(|m| m.1).collect();
        let without = |list: &[Vec<f64>], i: usize| {
            let mut list = list.to_vec();
            list.remove(i);
            list
        };
        let left_out: Vec<f64> = (0..n)
            .map(|i| {
                let mut others = values.clone();
                others.remove(i);
                dot(&fit(&terms, &without(&rows, i), &others).0, &rows[i])
            })
            .collect();
        let mut errors: Vec<f64> = left_out.iter().zip(&values).map(|(p, v)| (p / v - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        // The quantile that holds for a new network, should it be one of n + 1 alike (jackknife).
        let rank = ((n as f64 + 1.0) * LEVEL).ceil() as usize;
        let (coefficients, common) = fit(&terms, &rows, &values);
        let mut coefficients: BTreeMap<String, f64> = terms.into_iter().zip(coefficients).collect();
        coefficients.insert(WARM.into(), common);
        let networks = measured.iter().zip(&left_out).map(|((arch, latency_us, spread), left)| Measured {
            arch: arch.clone(),
            latency_us: *latency_us,
            spread: *spread,
            left_out_us: (left * 1e3).round() / 1e3,
        });
        Ok(Self {
            schema: SCHEMA,
            created: crate::run::now(),
            profile: profile.measured_hash(),
            load,
            coefficients,
            cross_validated_mape_percent: stats::mean(&errors) * 100.0,
            interval: errors[rank.min(n) - 1],
            networks: networks.collect(),
        })
    }

    fn coefficient(&self, term: &str) -> f64 {
        let common = if term.ends_with(WARM) { self.coefficients.get(WARM) } else { None };
        self.coefficients.get(term).or(common).copied().unwrap_or(0.0)
    }

    /// Share of a block in a network's latency; the stem's holds the constant.
    pub(crate) fn block(&self, key: &BlockKey, row: &BlockRow) -> Micros {
        let own: f64 = features(key, row).iter().map(|(term, value)| value * self.coefficient(term)).sum();
        Micros(own + if key.kind == BlockKind::Stem { self.coefficient(CONSTANT) } else { 0.0 })
    }

    /// The interval around a prediction, low and high end.
    pub fn around(&self, latency: Micros) -> (Micros, Micros) {
        (latency * (1.0 - self.interval), latency * (1.0 + self.interval))
    }

    /// Reads the calibration of a profile's folder; `None` when there is none.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(CALIBRATION_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        let damaged = |e: serde_json::Error| Error::ProfileDamaged { path: path.clone(), reason: e.to_string() };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(damaged)?;
        let found = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found > SCHEMA {
            return Err(Error::Schema { path, found, known: SCHEMA });
        }
        if found < SCHEMA {
            let reason = "it is of an earlier form; remove it and calibrate again".into();
            return Err(Error::ProfileDamaged { path, reason });
        }
        Ok(Some(serde_json::from_value(value).map_err(damaged)?))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::ProfileDamaged { path: path.to_owned(), reason: e.to_string() })?;
        write_whole(path, &json)
    }
}

/// How well predictions fit measurements.
#[derive(Debug, Clone, Copy, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
pub struct Fit {
    /// Mean absolute relative error, percent.
    pub mape_percent: f64,
    /// Mean relative error, percent; above 0 when predictions are too high.
    pub bias_percent: f64,
    /// Share of the networks predicted within 5 %, percent.
    pub within_5_percent: f64,
    /// Share within 10 %, percent.
    pub within_10_percent: f64,
    /// Spearman's rank correlation.
    pub spearman: f64,
    /// Kendall's rank correlation (tau-b).
    pub kendall: f64,
}

impl Fit {
    /// Compares predictions with measurements of the same networks.
    pub fn new(predicted: &[f64], measured: &[f64]) -> Self {
        let errors: Vec<f64> = predicted.iter().zip(measured).map(|(p, m)| (p / m - 1.0) * 100.0).collect();
        let absolute: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
        let within =
            |limit: f64| 100.0 * absolute.iter().filter(|e| **e <= limit).count() as f64 / absolute.len().max(1) as f64;
        Self {
            mape_percent: stats::mean(&absolute),
            bias_percent: stats::mean(&errors),
            within_5_percent: within(5.0),
            within_10_percent: within(10.0),
            spearman: stats::spearman(predicted, measured),
            kendall: stats::kendall(predicted, measured),
        }
    }
}

/// Plain sum and calibrated model against measured networks.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Verification {
    /// Sum over the blocks.
    pub sum: Fit,
    /// Calibrated model; absent when the profile has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<Fit>,
    /// The model's interval against the measurements; absent with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Coverage>,
}

/// Whether an interval holds what it promises.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Coverage {
    /// Share of networks that should be inside, percent.
    pub level_percent: f64,
    /// Half width of the interval, percent of the prediction.
    pub half_width_percent: f64,
    /// Share of networks that were inside, percent.
    pub inside_percent: f64,
}

impl Coverage {
    fn new(calibration: &Calibration, predicted: &[f64], measured: &[f64]) -> Self {
        let inside = |(p, m): (&f64, &f64)| {
            let (low, high) = calibration.around(Micros(*p));
            (low.0..=high.0).contains(m)
        };
        let count = predicted.iter().zip(measured).filter(|pair| inside(*pair)).count();
        Self {
            level_percent: LEVEL * 100.0,
            half_width_percent: calibration.interval * 100.0,
            inside_percent: 100.0 * count as f64 / measured.len().max(1) as f64,
        }
    }
}

/// Predictions of a table for networks, microseconds.
pub fn predict_all(table: &LatencyTable, space: &Space, px: u32, archs: &[Architecture]) -> Result<Vec<f64>> {
    archs.iter().map(|arch| Ok(table.latency(space, arch, px)?.total().0)).collect()
}

impl Verification {
    /// Compares the profile's predictions with measured latencies (microseconds) of networks.
    pub fn new(profile: &Profile, archs: &[Architecture], measured: &[f64]) -> Result<Self> {
        let predict = |table: &LatencyTable| predict_all(table, profile.space(), profile.input_px(), archs);
        let sum = Fit::new(&predict(&profile.table())?, measured);
        let (mut calibrated, mut interval) = (None, None);
        if let (Some(table), Some(calibration)) = (profile.calibrated_table(), profile.calibration()) {
            let predicted = predict(&table)?;
            calibrated = Some(Fit::new(&predicted, measured));
            interval = Some(Coverage::new(calibration, &predicted, measured));
        }
        Ok(Self { sum, calibrated, interval })
    }
}
