//! How long to wait before the next try: exponential, with full jitter, so that many agents do not come back at once.
//!
//! Pure: chance comes in as a number, time goes out as one.

use std::time::Duration;

/// A back-off between two bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Waits at least `min` and at most `max` (which is `min` if it is less).
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), ceiling: min }
    }

    /// The next wait: between `min` and a ceiling that doubles with each call, chosen evenly by `random` (all of
    /// whose 64 bits should be). Exact to a nanosecond, up to 584 years.
    pub fn next(&mut self, random: u64) -> Duration {
        self.ceiling = self.ceiling.saturating_mul(2).clamp(self.min, self.max);
        let span =
            u64::try_from(self.ceiling.saturating_sub(self.min).as_nanos()).unwrap_or(u64::MAX);
        // The upper half of a 128-bit product: even, and without a division.
        let part = (u128::from(span) * u128::from(random)) >> 64;
        self.min + Duration::from_nanos(u64::try_from(part).unwrap_or(span))
    }

    /// Starts over, after a success that has lasted.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_between_the_bounds_and_double() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(min, max);
        let longest: Vec<u128> = (0..9).map(|_| backoff.next(u64::MAX).as_millis() + 1).collect();
        assert_eq!(longest, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
        assert_eq!(backoff.next(0), min);
        for step in 0..1_000_u64 {
            let wait = backoff.next(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!(wait >= min && wait <= max);
        }
        backoff.reset();
        assert!(backoff.next(u64::MAX) < Duration::from_millis(200));
    }

    #[test]
    fn odd_bounds_do_no_harm() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(backoff.next(u64::MAX), Duration::from_secs(2));
        let mut backoff = Backoff::new(Duration::ZERO, Duration::MAX);
        assert_eq!(backoff.next(u64::MAX), Duration::ZERO);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        for _ in 0..200 {
            assert!(backoff.next(u64::MAX) >= Duration::from_secs(1));
        }
    }
}
