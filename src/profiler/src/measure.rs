//! Times a model until its median is known well enough.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, cache, stats};
use inas_backend::Session;

/// Confidence level of the interval around the median.
const LEVEL: f64 = 0.95;

/// Bootstrap resamples for it.
const RESAMPLES: usize = 200;

/// Runs between two looks at the interval.
const CHECK_EVERY: usize = 5;

/// Runs that are timed even when the time is up.
const LEAST_RUNS: usize = 3;

/// Most inferences in one timed sample.
const MAX_BATCH: usize = 1000;

/// How to measure.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Protocol {
    /// Runs before timing starts; default 3, since runtimes still allocate in the second.
    pub warmup_runs: usize,
    /// Timed samples before the first look at the spread; default 5: on a quiet machine they agree to half a percent, on
    /// another one the interval asks for more.
    pub min_runs: usize,
    /// Timed samples at most; default 50.
    pub max_runs: usize,
    /// Stop once the 95 % confidence interval of the median is at most this far from it, relative; default 0.02.
    pub target_ci: f64,
    /// Stop timing after this long, but not before three samples; default 1.0 s.
    pub max_seconds: f64,
    /// A sample holds as many runs as needed to last this long, microseconds; default 50.
    pub min_sample_us: f64,
    /// Runs that each follow an eviction of the caches; 0 leaves the cold latency out; default 3.
    pub cold_runs: usize,
    /// Memory swept before each of them, KB; default twice a core's own cache, so that weights come from the shared
    /// cache or from memory as they do inside a whole network.
    pub evict_kb: u64,
    /// A sentinel block is timed after every so many blocks; 0 never; default 8.
    pub sentinel_every: usize,
    /// Blocks next to a sentinel that was this much slower than in quiet times are measured again, relative; default 0.05.
    pub drift: f64,
    /// Passes over the blocks at most, the first included; default 4.
    pub max_passes: usize,
    /// Wait until the hottest sensor is below this, degrees Celsius; `None` does not wait; default 80.
    pub max_celsius: Option<f64>,
    /// Longest wait for it before a segment, seconds; default 120.
    pub max_wait_seconds: f64,
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            warmup_runs: 3,
            min_runs: 5,
            max_runs: 50,
            target_ci: 0.02,
            max_seconds: 1.0,
            min_sample_us: 50.0,
            cold_runs: 3,
            evict_kb: 2 * cache::private_kb(),
            sentinel_every: 8,
            drift: 0.05,
            max_passes: 4,
            max_celsius: Some(80.0),
            max_wait_seconds: 120.0,
        }
    }
}

impl Protocol {
    /// Checks that the numbers make sense.
    pub fn check(&self) -> Result<()> {
        let fail = |reason| Err(Error::Protocol { reason });
        if self.warmup_runs == 0 || self.min_runs == 0 {
            return fail("warm-up runs and least runs must be at least 1");
        }
        if self.max_runs < self.min_runs {
            return fail("most runs must not be fewer than least runs");
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.target_ci) || !positive(self.max_seconds) {
            return fail("the target interval and the time limit must be positive");
        }
        if self.max_passes == 0 || !positive(self.drift) {
            return fail("passes must be at least 1 and the drift positive");
        }
        if !(self.max_wait_seconds.is_finite() && self.max_wait_seconds >= 0.0) {
            return fail("the longest wait must not be negative");
        }
        if !(self.min_sample_us.is_finite() && self.min_sample_us >= 0.0) {
            return fail("the shortest sample must not be negative");
        }
        Ok(())
    }
}

/// Latency of one model, microseconds an inference.
#[derive(Debug, Clone, Copy, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub struct Measurement {
    /// The very first run, cold.
    pub first_us: f64,
    /// Timed samples.
    pub runs: usize,
    /// Inferences in each sample.
    pub batch: usize,
    /// Median: the latency.
    pub median_us: f64,
    /// Low end of the median's 95 % confidence interval.
    pub ci_low_us: f64,
    /// High end of it.
    pub ci_high_us: f64,
    /// 10th percentile.
    pub p10_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// Mean.
    pub mean_us: f64,
    /// Median absolute deviation from the median.
    pub mad_us: f64,
    /// The interval did not get as narrow as asked for.
    pub noisy: bool,
    /// Median of runs that each follow an eviction of the caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_us: Option<f64>,
    /// Time to load and optimise the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_us: Option<f64>,
    /// Growth of the process's peak memory while the model was loaded and run first, KB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_kb: Option<u64>,
}

/// A source of time.
pub trait Clock {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn sleep(&self, time: Duration);
}

/// The system's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Measures the model with the inputs that are set.
pub fn measure(session: &mut dyn Session, protocol: &Protocol) -> Result<Measurement> {
    let mut evictor = cache::Evictor::new(protocol.evict_kb);
    measure_with(session, protocol, &SystemClock::default(), &mut || evictor.sweep())
}

/// [`measure`] by another clock and with another way to evict the caches.
pub fn measure_with(
    session: &mut dyn Session,
    protocol: &Protocol,
    clock: &dyn Clock,
    evict: &mut dyn FnMut(),
) -> Result<Measurement> {
    protocol.check()?;
    let mut sample = |batch: usize| -> Result<f64> {
        let start = clock.now();
        for _ in 0..batch {
            session.run()?;
        }
        Ok(clock.now().saturating_sub(start).as_secs_f64() * 1e6 / batch as f64)
    };
    let first_us = sample(1)?;
    let mut warm_us = first_us;
    for _ in 1..protocol.warmup_runs {
        warm_us = sample(1)?.min(warm_us);
    }
    let batch = ((protocol.min_sample_us / warm_us.max(1e-3)).ceil() as usize).clamp(1, MAX_BATCH);
    let end = clock.now() + Duration::from_secs_f64(protocol.max_seconds.min(1e9));
    let mut times = Vec::with_capacity(protocol.max_runs);
    let (mut low, mut high);
    loop {
        let late = clock.now() >= end && times.len() >= LEAST_RUNS;
        let full = times.len() >= protocol.max_runs;
        let look = times.len() >= protocol.min_runs && (times.len() - protocol.min_runs).is_multiple_of(CHECK_EVERY);
        if late || full || look {
            (low, high) = stats::median_ci(&times, LEVEL, RESAMPLES, times.len() as u64);
            if late || full || narrow(&times, low, high, protocol.target_ci) {
                break;
            }
        }
        times.push(sample(batch)?);
    }
    let mut cold = Vec::with_capacity(protocol.cold_runs);
    for _ in 0..protocol.cold_runs {
        evict();
        cold.push(sample(1)?);
    }
    // Clocks tell nanoseconds; more digits would only be noise in the files.
    let rounded = |us: f64| (us * 1e3).round() / 1e3;
    Ok(Measurement {
        first_us: rounded(first_us),
        runs: times.len(),
        batch,
        median_us: rounded(stats::median(&times)),
        ci_low_us: rounded(low),
        ci_high_us: rounded(high),
        p10_us: rounded(stats::percentile(&times, 10.0)),
        p90_us: rounded(stats::percentile(&times, 90.0)),
        mean_us: rounded(stats::mean(&times)),
        mad_us: rounded(stats::mad(&times)),
        noisy: !narrow(&times, low, high, protocol.target_ci),
        cold_us: (!cold.is_empty()).then(|| rounded(stats::median(&cold))),
        load_us: None,
        memory_kb: None,
    })
}

/// Whether both ends of the interval are within `target` of the median, relative.
fn narrow(times: &[f64], low: f64, high: f64, target: f64) -> bool {
    let median = stats::median(times);
    (high - median).max(median - low) <= target * median
}
