//! One model, measured in rounds, and compared with an earlier measurement.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::conditions::Conditions;
use crate::device::DeviceFacts;
use crate::measure::{Clock, SystemClock};
use crate::run::{load, random_inputs};
use crate::{Error, Result, stats};
use inas_backend::{Backend, OperatorTime, RuntimeInfo, Session};

/// Newest schema of the report that is read, and the one written.
pub const SCHEMA: u64 = 1;

/// Smallest difference that counts, relative.
const FLOOR: f64 = 0.05;

/// A difference counts from this many times the difference between rounds.
const NOISE_FACTOR: f64 = 3.0;

/// Beyond this difference between rounds nothing can be said, relative.
const TOO_NOISY: f64 = 0.20;

/// What was measured: times in microseconds.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Report {
    /// Schema version.
    pub schema: u64,
    /// SHA-256 of the model, first 16 hex digits.
    pub model: String,
    /// Runtime.
    pub runtime: RuntimeInfo,
    /// Threads of one inference.
    pub threads: usize,
    /// Hash of what must match on the machine.
    pub fingerprint: String,
    /// State of the machine before and after.
    pub conditions: [Conditions; 2],
    /// Time to load and optimise the model.
    pub load_us: f64,
    /// The very first run.
    pub first_us: f64,
    /// Timed runs.
    pub runs: usize,
    /// Mean of all runs.
    pub mean_us: f64,
    /// Fastest and slowest run.
    pub range_us: [f64; 2],
    /// Percentiles 50, 90, 95, 99 of all runs.
    pub percentiles_us: [f64; 4],
    /// 95 % interval of the median.
    pub median_ci_us: [f64; 2],
    /// Median of each round, in order.
    pub rounds_us: Vec<f64>,
    /// Time of each operator in the order of execution, when asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<OperatorTime>,
}

/// How to measure a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounds {
    /// Runs before timing starts.
    pub warmup_runs: usize,
    /// Rounds, each with a pause before.
    pub rounds: usize,
    /// Runs of a round.
    pub runs: usize,
    /// Length of a round instead of a number of runs, seconds.
    pub round_seconds: Option<f64>,
    /// Pause between rounds, seconds.
    pub pause_seconds: f64,
    /// Runs in which each operator is timed, after the rounds; 0 leaves that out.
    pub traced_runs: usize,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { warmup_runs: 3, rounds: 5, runs: 20, round_seconds: None, pause_seconds: 0.2, traced_runs: 0 }
    }
}

/// Measures a model on random inputs; `observer` gets the number of a round and its median in microseconds.
pub fn bench(
    onnx: &[u8],
    backend: &dyn Backend,
    plan: &Rounds,
    observer: &mut dyn FnMut(usize, f64),
) -> Result<Report> {
    if plan.rounds == 0 || plan.runs == 0 || plan.round_seconds.is_some_and(|s| s.is_nan() || s <= 0.0) {
        return Err(Error::Protocol { reason: "rounds, runs and their length must be positive" });
    }
    let before = Conditions::read();
    let (mut session, load_us) = load(onnx, backend, 0)?;
    let clock = SystemClock::default();
    let first_us = timed(session.as_mut(), &clock)?;
    for _ in 1..plan.warmup_runs {
        session.run()?;
    }
    let (mut all, mut rounds_us) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        if round > 0 {
            clock.sleep(Duration::from_secs_f64(plan.pause_seconds.max(0.0)));
            session.run()?;
        }
        let end = clock.now() + Duration::from_secs_f64(plan.round_seconds.unwrap_or(0.0));
        let mut times = Vec::new();
        while times.len() < plan.runs || clock.now() < end {
            times.push(timed(session.as_mut(), &clock)?);
        }
        rounds_us.push(stats::median(&times));
        observer(round, stats::median(&times));
        all.extend(times);
    }
    let after = Conditions::read();
    let operators = if plan.traced_runs > 0 {
        let inputs = random_inputs(session.input_shapes(), 0);
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        backend.operator_times(onnx, &inputs, plan.traced_runs)?
    } else {
        Vec::new()
    };
    let (low, high) = stats::median_ci(&all, 0.95, 200, all.len() as u64);
    let at = |p: f64| stats::percentile(&all, p);
    Ok(Report {
        schema: SCHEMA,
        model: crate::device::hex16(&Sha256::digest(onnx)),
        runtime: backend.info(),
        threads: backend.threads(),
        fingerprint: DeviceFacts::read().fingerprint(),
        conditions: [before, after],
        load_us,
        first_us,
        runs: all.len(),
        mean_us: stats::mean(&all),
        range_us: [at(0.0), at(100.0)],
        percentiles_us: [50.0, 90.0, 95.0, 99.0].map(at),
        median_ci_us: [low, high],
        rounds_us,
        operators,
    })
}

fn timed(session: &mut dyn Session, clock: &dyn Clock) -> Result<f64> {
    let start = clock.now();
    session.run()?;
    Ok(clock.now().saturating_sub(start).as_secs_f64() * 1e6)
}

/// Result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Faster by more than the noise.
    Better,
    /// No difference beyond the noise.
    Same,
    /// Slower by more than the noise.
    Worse,
    /// The rounds differ too much among themselves.
    Noisy,
    /// Another machine, runtime or thread count.
    Incomparable,
}

/// A comparison with an earlier report.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Comparison {
    /// The result.
    pub verdict: Verdict,
    /// Change of the median, percent; above 0 is slower.
    pub change_percent: f64,
    /// Change that would have counted, percent.
    pub threshold_percent: f64,
    /// Why the two are incomparable; empty when they are not.
    pub differences: String,
}

impl Report {
    /// Median, microseconds.
    pub fn median_us(&self) -> f64 {
        self.percentiles_us[0]
    }

    /// Difference between the slowest and the fastest round, relative to the median.
    pub fn noise(&self) -> f64 {
        let low = self.rounds_us.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let high = self.rounds_us.iter().copied().reduce(f64::max).unwrap_or(0.0);
        (high - low) / self.median_us().max(1e-9)
    }

    /// Compares with an earlier report of the same or another model.
    pub fn compare(&self, baseline: &Self) -> Comparison {
        let pairs = [
            ("machine", &baseline.fingerprint, &self.fingerprint),
            ("runtime", &baseline.runtime.to_string(), &self.runtime.to_string()),
            ("threads", &baseline.threads.to_string(), &self.threads.to_string()),
        ];
        let differing = pairs.iter().filter(|p| p.1 != p.2).map(|(name, a, b)| format!("{name}: {a}, now {b}"));
        let differences = differing.collect::<Vec<_>>().join("; ");
        let noise = self.noise().max(baseline.noise());
        let threshold = FLOOR.max(NOISE_FACTOR * noise.min(TOO_NOISY));
        let change = self.median_us() / baseline.median_us().max(1e-9) - 1.0;
        let verdict = if !differences.is_empty() {
            Verdict::Incomparable
        } else if change.abs() > threshold {
            if change > 0.0 { Verdict::Worse } else { Verdict::Better }
        } else if noise > TOO_NOISY {
            Verdict::Noisy
        } else {
            Verdict::Same
        };
        let percent = 100.0;
        Comparison { verdict, change_percent: change * percent, threshold_percent: threshold * percent, differences }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rounds: &[f64]) -> Report {
        let median = stats::median(rounds);
        Report {
            schema: SCHEMA,
            model: String::new(),
            runtime: RuntimeInfo { name: "tract".into(), version: "1".into(), options: [].into() },
            threads: 1,
            fingerprint: "a".into(),
            conditions: [Conditions::default(), Conditions::default()],
            load_us: 0.0,
            first_us: 0.0,
            runs: rounds.len(),
            mean_us: median,
            range_us: [median; 2],
            percentiles_us: [median; 4],
            median_ci_us: [median; 2],
            rounds_us: rounds.to_vec(),
            operators: Vec::new(),
        }
    }

    #[test]
    fn verdicts_mind_the_noise() {
        let base = report(&[100.0, 101.0, 100.0]);
        let verdict = |rounds: &[f64]| report(rounds).compare(&base).verdict;
        assert_eq!(verdict(&[103.0, 103.0, 103.0]), Verdict::Same);
        assert_eq!(verdict(&[110.0, 110.0, 110.0]), Verdict::Worse);
        assert_eq!(verdict(&[90.0, 90.0, 90.0]), Verdict::Better);
        assert_eq!(verdict(&[105.0, 110.0, 115.0]), Verdict::Same, "the rounds differ by 9 %");
        assert_eq!(verdict(&[90.0, 110.0, 150.0]), Verdict::Noisy);
        assert_eq!(verdict(&[190.0, 210.0, 350.0]), Verdict::Worse, "twice as slow is beyond any noise");
        let other = Report { threads: 2, ..report(&[100.0]) };
        let comparison = other.compare(&base);
        assert_eq!((comparison.verdict, comparison.differences.as_str()), (Verdict::Incomparable, "threads: 1, now 2"));
    }
}
