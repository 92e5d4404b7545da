//! Timing with scripted times: a session that moves a clock.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inas_backend::{Session, Values, ValuesMut};
use inas_profiler::measure::{Clock, measure_with};
use inas_profiler::{Error, Measurement, Protocol};

/// Microseconds since the start.
#[derive(Clone, Default)]
struct Hand(Arc<Mutex<f64>>);

impl Clock for Hand {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(*self.0.lock().unwrap() / 1e6)
    }

    fn sleep(&self, time: Duration) {
        *self.0.lock().unwrap() += time.as_secs_f64() * 1e6;
    }
}

struct Scripted<F> {
    hand: Hand,
    run: usize,
    us: F,
}

impl<F: FnMut(usize) -> f64 + Send> Session for Scripted<F> {
    fn input_shapes(&self) -> &[Vec<usize>] {
        &[]
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        &[]
    }

    fn input_mut(&mut self, _index: usize) -> inas_backend::Result<ValuesMut<'_>> {
        Ok(ValuesMut::F32(&mut []))
    }

    fn run(&mut self) -> inas_backend::Result<()> {
        *self.hand.0.lock().unwrap() += (self.us)(self.run);
        self.run += 1;
        Ok(())
    }

    fn output_values(&self, _index: usize) -> inas_backend::Result<Values<'_>> {
        Ok(Values::F32(&[]))
    }
}

/// Measures runs that take `us(n)` microseconds; also tells how many ran.
fn timed(protocol: &Protocol, us: impl FnMut(usize) -> f64 + Send) -> (Measurement, usize) {
    let hand = Hand::default();
    let mut session = Scripted { hand: hand.clone(), run: 0, us };
    let protocol = Protocol { cold_runs: 0, ..protocol.clone() };
    let measurement = measure_with(&mut session, &protocol, &hand, &mut || {}).unwrap();
    (measurement, session.run)
}

/// A repeatable number in 0..1.
fn scatter(n: usize) -> f64 {
    (n * 7919 % 104_729) as f64 * 0.618_034 % 1.0
}

#[test]
fn steady_times_stop_at_the_least_runs() {
    let (m, ran) = timed(&Protocol::default(), |n| if n == 0 { 900.0 } else { 200.0 });
    assert_eq!((m.first_us, m.median_us, m.runs, m.batch, m.noisy), (900.0, 200.0, 5, 1, false));
    assert_eq!(ran, 8, "3 warm-up runs and 5 timed");
    assert_eq!((m.ci_low_us, m.ci_high_us, m.mad_us, m.mean_us), (200.0, 200.0, 0.0, 200.0));
}

#[test]
fn scattered_times_run_until_the_interval_is_narrow() {
    let protocol = Protocol { max_runs: 2000, target_ci: 0.02, ..Protocol::default() };
    let (m, _) = timed(&protocol, |n| 1000.0 + 300.0 * (scatter(n) - 0.5));
    assert!(m.runs > 10 && m.runs < 2000, "{m:?}");
    assert!(!m.noisy);
    assert!(m.ci_high_us - m.median_us <= 20.1 && m.median_us - m.ci_low_us <= 20.1, "{m:?}");
    assert!((m.median_us - 1000.0).abs() < 40.0, "{m:?}");
}

#[test]
fn heavy_tail_stops_at_the_most_runs_and_says_noisy() {
    let (m, _) = timed(&Protocol { max_seconds: 1e6, ..Protocol::default() }, |n| 100.0 / (scatter(n) + 0.01));
    assert_eq!((m.runs, m.noisy), (50, true));
    assert!(m.mean_us > m.median_us && m.p90_us > 2.0 * m.median_us, "{m:?}");
}

#[test]
fn rare_spikes_do_not_move_the_median() {
    let (m, _) = timed(&Protocol::default(), |n| if n % 9 == 0 { 5000.0 } else { 100.0 });
    assert_eq!((m.median_us, m.noisy), (100.0, false));
}

#[test]
fn short_runs_are_batched_and_reported_one_by_one() {
    let (m, ran) = timed(&Protocol::default(), |_| 4.0);
    assert_eq!((m.batch, m.median_us, m.runs), (13, 4.0, 5));
    assert_eq!(ran, 3 + 13 * 5);
    let (m, _) = timed(&Protocol { min_sample_us: 0.0, ..Protocol::default() }, |_| 4.0);
    assert_eq!(m.batch, 1);
}

#[test]
fn time_limit_leaves_three_samples() {
    let (m, _) = timed(&Protocol::default(), |_| 2e6);
    assert_eq!((m.runs, m.median_us), (3, 2e6));
    let (m, _) = timed(&Protocol { min_runs: 30, ..Protocol::default() }, |_| 0.1e6);
    assert_eq!(m.runs, 10, "1 s of 0.1 s runs");
}

#[test]
fn contradicting_protocols_are_refused() {
    let hand = Hand::default();
    let good = Protocol::default;
    for bad in [
        Protocol { warmup_runs: 0, ..good() },
        Protocol { max_runs: 4, ..good() },
        Protocol { target_ci: 0.0, ..good() },
        Protocol { max_seconds: f64::NAN, ..good() },
        Protocol { min_sample_us: -1.0, ..good() },
        Protocol { max_passes: 0, ..good() },
        Protocol { drift: 0.0, ..good() },
        Protocol { max_wait_seconds: f64::INFINITY, ..good() },
    ] {
        let mut session = Scripted { hand: hand.clone(), run: 0, us: |_| 1.0 };
        assert!(matches!(measure_with(&mut session, &bad, &hand, &mut || {}), Err(Error::Protocol { .. })), "{bad:?}");
    }
}

#[test]
fn cold_runs_follow_an_eviction_each() {
    let hand = Hand::default();
    let cold = Arc::new(AtomicBool::new(false));
    let evicted = Arc::clone(&cold);
    // A run after an eviction takes three times as long.
    let us = move |_| if evicted.swap(false, Ordering::Relaxed) { 300.0 } else { 100.0 };
    let mut session = Scripted { hand: hand.clone(), run: 0, us };
    let mut evictions = 0;
    let mut evict = || {
        evictions += 1;
        cold.store(true, Ordering::Relaxed);
    };
    let protocol = Protocol { cold_runs: 5, ..Protocol::default() };
    let m = measure_with(&mut session, &protocol, &hand, &mut evict).unwrap();
    assert_eq!((m.median_us, m.cold_us, evictions), (100.0, Some(300.0), 5));
}
