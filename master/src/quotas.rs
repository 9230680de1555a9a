//! What the tasks of one framework may put out: bytes and numbers of blobs, within the time for which a blob is kept even
//! if nobody names it.
//!
//! Owns sums per framework, in this process alone: a master that starts anew begins anew, and what is on its disk by then
//! counts for the disk's reserve. Never holds more than a few numbers for a framework.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tepui_proto::{FrameworkId, limits};
use tokio::time::Instant;

/// What is counted together.
const SLICE: Duration = Duration::from_millis(limits::BLOB_GRACE_MS / 6);
/// The time for which a blob stays, and until the next sweep after that.
const SLICES: u64 = 8;

/// A framework has put out too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its framework would have {bytes} bytes in {blobs} outputs, those that it keeps and those of the last 80 minutes, \
     and may have {most_bytes} in {most}", most = limits::FRAMEWORK_OUTPUTS
)]
pub(crate) struct OverQuota {
    bytes: u64,
    blobs: u64,
    most_bytes: u64,
}

/// The sums. Clones are the same sums.
#[derive(Clone, Debug)]
pub(crate) struct Quotas {
    most_bytes: u64,
    begun: Instant,
    /// Held for a look-up at a time, never across an await.
    sums: Arc<Mutex<BTreeMap<FrameworkId, BTreeMap<u64, Sum>>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// What the framework kept when this slice began, if that was counted.
    kept_bytes: Option<u64>,
    bytes: u64,
    blobs: u64,
}

impl Quotas {
    /// So many bytes for each framework.
    pub(crate) fn new(most_bytes: u64) -> Self {
        Self { most_bytes, begun: Instant::now(), sums: Arc::default() }
    }

    /// Whether the bytes that a framework keeps have to be counted anew: they are, once in a while.
    pub(crate) fn is_unknown(&self, framework: FrameworkId) -> bool {
        let now = self.slice();
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let slice = sums.get(&framework).and_then(|slices| slices.get(&now));
        slice.is_none_or(|sum| sum.kept_bytes.is_none())
    }

    /// The bytes of the blobs that a framework keeps.
    pub(crate) fn keep(&self, framework: FrameworkId, kept_bytes: u64) {
        let now = self.slice();
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.retain(|_, slices| {
            slices.retain(|slice, _| now - slice < SLICES);
            !slices.is_empty()
        });
        let slice = sums.entry(framework).or_default().entry(now).or_default();
        slice.kept_bytes = Some(kept_bytes);
    }

    /// Counts a blob that is about to be stored. It counts even if it is not stored in the end: who tries again and
    /// again is slowed down by that.
    ///
    /// # Errors
    /// If the framework would have more than it may.
    pub(crate) fn take(&self, framework: FrameworkId, bytes: u64) -> Result<(), OverQuota> {
        let now = self.slice();
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let slices = sums.entry(framework).or_default();
        // What was put out of late may be among what is kept, and counts once: what was kept before that, as far as it
        // still may be, and all that was put out since.
        let mut kept = slices.values().filter_map(|sum| sum.kept_bytes);
        let before = kept.next().unwrap_or(0);
        let before = before.min(kept.next_back().unwrap_or(before));
        let recent = slices.values().fold(0, |all: u64, sum| all.saturating_add(sum.bytes));
        let held = before.saturating_add(recent);
        let blobs = slices.values().fold(1, |all: u64, sum| all.saturating_add(sum.blobs));
        let all = (held.saturating_add(bytes), blobs);
        if all.0 > self.most_bytes || all.1 > limits::FRAMEWORK_OUTPUTS {
            return Err(OverQuota { bytes: all.0, blobs: all.1, most_bytes: self.most_bytes });
        }
        let sum = slices.entry(now).or_default();
        sum.bytes = sum.bytes.saturating_add(bytes);
        sum.blobs += 1;
        Ok(())
    }

    fn slice(&self) -> u64 {
        let now = self.begun.elapsed().as_millis() / SLICE.as_millis();
        u64::try_from(now).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_framework_has_so_much_an_hour_and_others_have_theirs() {
        let quotas = Quotas::new(100);
        let (greedy, other) = (FrameworkId(1), FrameworkId(2));
        assert!(quotas.take(greedy, 60).is_ok());
        assert!(quotas.take(greedy, 60).is_err());
        assert!(quotas.take(greedy, 40).is_ok());
        assert!(quotas.take(other, 100).is_ok());
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(quotas.take(greedy, 1).is_err());
        tokio::time::advance(Duration::from_mins(30)).await;
        assert!(quotas.is_unknown(greedy));
        quotas.keep(greedy, 30);
        assert!(quotas.take(greedy, 71).is_err());
        assert!(quotas.take(greedy, 70).is_ok());
        assert!(!quotas.is_unknown(greedy));
        assert_eq!(quotas.sums.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn empty_blobs_count_by_their_number() {
        let quotas = Quotas::new(100);
        let all = 0..=limits::FRAMEWORK_OUTPUTS;
        let taken = all.filter(|_| quotas.take(FrameworkId(1), 0).is_ok()).count();
        assert_eq!(taken as u64, limits::FRAMEWORK_OUTPUTS);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_counts_beside_what_was_put_out_since_and_never_named() {
        let (quotas, framework) = (Quotas::new(100), FrameworkId(1));
        // 60 are kept from long ago; of what is put out nothing is ever named.
        let mut taken = 0;
        for _ in 0..SLICES {
            quotas.keep(framework, 60);
            taken += (0..10).filter(|_| quotas.take(framework, 10).is_ok()).count();
            tokio::time::advance(SLICE).await;
        }
        assert_eq!(taken, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_counts_even_before_it_was_counted_in_this_slice() {
        let (quotas, framework) = (Quotas::new(100), FrameworkId(1));
        quotas.keep(framework, 95);
        assert!(quotas.take(framework, 1).is_ok());
        tokio::time::advance(SLICE).await;
        assert!(quotas.take(framework, 5).is_err());
        assert!(quotas.is_unknown(framework));
        // What it has let go of does not count any more.
        quotas.keep(framework, 10);
        assert!(quotas.take(framework, 80).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_put_out_and_is_kept_since_counts_once() {
        let (quotas, framework) = (Quotas::new(100), FrameworkId(1));
        quotas.keep(framework, 0);
        assert!(quotas.take(framework, 60).is_ok());
        // Another output of the same moment had the kept ones counted as well; that takes nothing away.
        quotas.keep(framework, 0);
        assert!(quotas.take(framework, 41).is_err());
        // By now it is among what the framework keeps.
        tokio::time::advance(SLICE).await;
        assert!(quotas.is_unknown(framework));
        quotas.keep(framework, 60);
        assert!(quotas.take(framework, 41).is_err());
        assert!(quotas.take(framework, 40).is_ok());
        assert!(quotas.take(framework, 1).is_err());
        // What is new counts beside what is kept, at once.
        let other = FrameworkId(2);
        quotas.keep(other, 60);
        assert!(quotas.take(other, 30).is_ok());
        assert!(quotas.take(other, 11).is_err());
        assert!(quotas.take(other, 10).is_ok());
        // Nobody keeps any of it: it counts for as long as it may be there, and then no more.
        tokio::time::advance(SLICE * 6).await;
        quotas.keep(framework, 0);
        assert!(quotas.take(framework, 1).is_err());
        tokio::time::advance(SLICE * 2).await;
        quotas.keep(framework, 0);
        assert!(quotas.take(framework, 100).is_ok());
    }

    #[tokio::test]
    async fn what_is_refused_counts_for_nothing_however_large_it_says_it_is() {
        let (quotas, framework) = (Quotas::new(100), FrameworkId(1));
        quotas.keep(framework, u64::MAX);
        assert!(quotas.take(framework, u64::MAX).is_err());
        quotas.keep(framework, 0);
        assert!(quotas.take(framework, u64::MAX).is_err());
        assert!(quotas.take(framework, 100).is_ok());
        let over = quotas.take(framework, 1).unwrap_err().to_string();
        assert!(over.contains("101 bytes in 2 outputs") && over.contains("may have 100"), "{over}");
    }
}
