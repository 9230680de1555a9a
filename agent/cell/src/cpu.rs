//! The share of a core, as measured time.
//!
//! A token bucket fills at the share and is charged what each slice took on its thread. Its one surprise: a slice
//! is paid for after it ran, so a bucket can be in debt by one slice, and the guest then waits until it is not.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// The least that can be booked; what is booked is what is had.
const LEAST_MILLI: u64 = 1;
/// How much of its own share a guest may save up, in milliseconds of wall time.
const BURST_MS: u64 = 100;
/// And at least so much CPU time, so that an empty command never waits: a thousand that begin together have a second.
const LEAST_BURST_MS: u64 = 2;

/// CPU time of this thread so far.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A token bucket of CPU time.
#[derive(Debug)]
pub(crate) struct Bucket {
    milli: u64,
    /// Nanoseconds of CPU; below zero is debt.
    balance: i64,
    capacity: i64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket for a share in thousandths of a core; 0 counts as 1.
    pub(crate) fn new(milli: u64, now: Instant) -> Self {
        let milli = milli.clamp(LEAST_MILLI, 1_000_000);
        let burst_ms = (milli * BURST_MS / 1_000).max(LEAST_BURST_MS);
        let capacity = i64::try_from(burst_ms * 1_000_000).unwrap_or(i64::MAX);
        Self { milli, balance: capacity, capacity, filled: now }
    }

    /// Pays for a slice; says how long to wait before the next one, if the bucket is in debt.
    pub(crate) fn charge(&mut self, now: Instant, spent: Duration) -> Option<Duration> {
        let elapsed = u64::try_from(now.saturating_duration_since(self.filled).as_nanos())
            .unwrap_or(u64::MAX);
        let gained =
            i64::try_from(u128::from(elapsed) * u128::from(self.milli) / 1_000).unwrap_or(i64::MAX);
        let spent = i64::try_from(spent.as_nanos()).unwrap_or(i64::MAX);
        self.filled = now;
        self.balance = self.balance.saturating_add(gained).min(self.capacity).saturating_sub(spent);
        if self.balance >= 0 {
            return None;
        }
        let debt = self.balance.unsigned_abs();
        Some(Duration::from_nanos(debt.saturating_mul(1_000) / self.milli))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spinner_gets_its_share_and_no_more() {
        let start = Instant::now();
        let (mut now, mut used) = (start, Duration::ZERO);
        let mut bucket = Bucket::new(250, now);
        while now < start + Duration::from_secs(10) {
            let slice = Duration::from_millis(1);
            now += slice;
            used += slice;
            now += bucket.charge(now, slice).unwrap_or_default();
        }
        assert!((2_450..=2_600).contains(&used.as_millis()), "{used:?}");
    }

    #[test]
    fn what_is_booked_is_what_is_had() {
        let start = Instant::now();
        for milli in [1, 3, 10] {
            let (mut now, mut used) = (start, Duration::ZERO);
            let mut bucket = Bucket::new(milli, now);
            while now < start + Duration::from_secs(100) {
                let slice = Duration::from_micros(700);
                now += slice;
                used += slice;
                now += bucket.charge(now, slice).unwrap_or_default();
            }
            // A thousandth of 100 s is 100 ms; beside it there are the burst and one slice of debt.
            let booked = 100 * u128::from(milli);
            assert!((booked..=booked + 3).contains(&used.as_millis()), "{milli}: {used:?}");
        }
        let wait = Bucket::new(0, start).charge(start, Duration::from_millis(3)).unwrap();
        assert_eq!(wait, Duration::from_secs(1));
    }
}
