//! The leader's time: measured by a clock that never goes back, and led towards the wall's.
//!
//! Deadlines, timers and restarts are spans, so a wall clock that is set may neither stop nor fire them. What people are
//! told is near the wall's time: after a step the two come together by a tenth of the time that passes.

use std::time::Instant;
use tepui_proto::Timestamp;

/// By which part of the time that passes the leader's time is led to the wall's.
const LEAD: u64 = 10;

#[derive(Debug)]
pub(super) struct Clock {
    /// Microseconds, so that nothing is lost between looks that are close together.
    now_us: u64,
    measured: Instant,
}

impl Clock {
    /// Begins at the wall's time, and not before what was decided last.
    pub(super) fn new(last: Timestamp) -> Self {
        Self { now_us: wall_us().max(last.0.saturating_mul(1_000)), measured: Instant::now() }
    }

    /// The time of the last look.
    pub(super) fn last(&self) -> Timestamp {
        Timestamp(self.now_us / 1_000)
    }

    /// Looks at both clocks.
    pub(super) fn read(&mut self) -> Timestamp {
        let measured = Instant::now();
        let spent = measured.duration_since(self.measured).as_micros();
        self.measured = measured;
        self.now_us = led(self.now_us, u64::try_from(spent).unwrap_or(u64::MAX), wall_us());
        self.last()
    }
}

/// The time after a while, near the wall's.
fn led(now: u64, spent: u64, wall: u64) -> u64 {
    let lead = spent / LEAD;
    wall.clamp(now.saturating_add(spent - lead), now.saturating_add(spent).saturating_add(lead))
}

fn wall_us() -> u64 {
    #[expect(clippy::disallowed_types, reason = "this is the edge where wall time enters")]
    let wall = std::time::SystemTime::UNIX_EPOCH.elapsed();
    wall.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_back_does_not_stop_the_leaders() {
        assert_eq!(led(1_000_000, 1_000, 10), 1_000_900);
    }

    #[test]
    fn a_wall_clock_that_is_set_ahead_fires_nothing_early() {
        assert_eq!(led(1_000_000, 1_000, u64::MAX), 1_001_100);
    }

    #[test]
    fn clocks_that_agree_stay_together_and_others_come_together() {
        let mut now = 1_000_000;
        for _ in 0..100 {
            now = led(now, 70, now + 70);
        }
        assert_eq!(now, 1_007_000);
        let mut wall = now - 500;
        for _ in 0..100 {
            wall += 70;
            now = led(now, 70, wall);
        }
        assert_eq!(now, wall);
    }
}
