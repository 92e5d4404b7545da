//! The state of the machine while it measures: frequencies, heat, load, battery; and the wait until it has cooled.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::{DeviceFacts, read_cores, read_thermal_zones};
use crate::measure::Clock;
use crate::power;

/// Pause between two looks at the sensors while waiting.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// State at one moment; what cannot be read is left out.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Current frequency of each core that tells, kHz.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub khz: Vec<u64>,
    /// Hottest sensor, degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celsius: Option<f64>,
    /// Load average over the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// A charger is attached to the phone or laptop; it heats the phone, and without it many clock lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charging: Option<bool>,
    /// Android: severity of throttling, 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttling: Option<u32>,
    /// Seconds waited for the machine to cool.
    #[serde(skip_serializing_if = "is_zero")]
    pub waited_s: f64,
    /// The wait ended before it was cool.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub still_hot: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

impl Conditions {
    /// Reads this machine.
    pub fn read() -> Self {
        let sys = std::path::Path::new("/sys");
        let celsius = read_thermal_zones(sys).into_iter().filter_map(|z| z.celsius);
        Self {
            khz: read_cores(sys).into_iter().filter_map(|c| c.current_khz).collect(),
            // A sensor that is off reads far below zero or absurdly high.
            celsius: celsius.filter(|c| (-40.0..150.0).contains(c)).reduce(f64::max),
            load: DeviceFacts::load().map(|l| l[0]),
            charging: power::is_charging(),
            throttling: power::throttling(),
            ..Self::default()
        }
    }
}

/// Waits until the hottest sensor is below `limit` and the system does not throttle, at most `longest`, and tells the
/// state then. A machine without sensors counts as cool; without a limit there is no wait.
pub(crate) fn cooled(
    limit: Option<f64>,
    longest: Duration,
    clock: &dyn Clock,
    read: &mut dyn FnMut() -> Conditions,
) -> Conditions {
    let start = clock.now();
    loop {
        let state = read();
        let waited = clock.now().saturating_sub(start);
        let is_over = |limit| state.celsius.is_some_and(|now| now >= limit) || state.throttling > Some(0);
        let hot = limit.is_some_and(is_over);
        if !hot || waited >= longest {
            let waited_s = (waited.as_secs_f64() * 10.0).round() / 10.0;
            return Conditions { waited_s, still_hot: hot, ..state };
        }
        clock.sleep(LOOK_EVERY.min(longest.saturating_sub(waited)));
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these results are exact")]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Passes time only by sleeping.
    #[derive(Default)]
    struct Hand(Cell<Duration>);

    impl Clock for Hand {
        fn now(&self) -> Duration {
            self.0.get()
        }

        fn sleep(&self, time: Duration) {
            self.0.set(self.0.get() + time);
        }
    }

    /// Waits on a machine that cools by half a degree a second from `start`.
    fn wait(start: f64, limit: Option<f64>, longest_s: u64) -> Conditions {
        let hand = Hand::default();
        let mut read = || Conditions { celsius: Some(start - 0.5 * hand.now().as_secs_f64()), ..Conditions::default() };
        cooled(limit, Duration::from_secs(longest_s), &hand, &mut read)
    }

    #[test]
    fn waits_as_long_as_needed_and_no_longer() {
        let state = wait(80.0, Some(70.0), 300);
        assert_eq!((state.waited_s, state.still_hot, state.celsius), (21.0, false, Some(69.5)));
        assert_eq!(wait(60.0, Some(70.0), 300).waited_s, 0.0);
        assert_eq!(wait(90.0, None, 300).waited_s, 0.0);
    }

    #[test]
    fn the_wait_is_bounded_and_says_that_it_was_not_enough() {
        let state = wait(80.0, Some(20.0), 15);
        assert_eq!((state.waited_s, state.still_hot), (15.0, true));
    }

    #[test]
    fn a_phone_that_throttles_is_hot_whatever_its_sensors_say() {
        let hand = Hand::default();
        let mut looks = 0;
        let mut read = || {
            looks += 1;
            Conditions { celsius: Some(40.0), throttling: Some(u32::from(looks <= 3)), ..Conditions::default() }
        };
        let state = cooled(Some(80.0), Duration::from_secs(9), &hand, &mut read);
        assert_eq!((state.waited_s, state.still_hot, state.throttling), (3.0, false, Some(0)));
    }

    #[test]
    fn no_sensor_is_no_wait() {
        let hand = Hand::default();
        let state = cooled(Some(1.0), Duration::from_secs(9), &hand, &mut Conditions::default);
        assert_eq!((state.waited_s, state.still_hot), (0.0, false));
        assert_eq!(serde_json::to_string(&state).ok().as_deref(), Some("{}"));
    }
}
