//! What a process may have open, and what of that is for whom.
//!
//! Owns the split: sockets of people get what is left once the journal, snapshots, blobs and QUIC have theirs. Never
//! lets a stranger take what the journal needs: a master that cannot open its next log file ends.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tepui_proto::limits;

/// How many of everything there may be at once, so that all together stay below what the kernel grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Connections that have not shown the token yet.
    pub(crate) strangers: usize,
    /// Connections that have.
    pub(crate) known: usize,
    /// Uploads of people, and of agents, each.
    pub(crate) uploads: usize,
    /// Blobs that people read.
    pub(crate) readers: usize,
    /// Blobs that agents read.
    pub(crate) fetches: usize,
}

impl Shares {
    /// Raises the soft limit to the hard one, and splits what there is then.
    pub(crate) fn claim() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let granted = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit.maximum,
            Err(error) => {
                tracing::warn!(%error, "the limit of open files cannot be raised");
                limit.current
            }
        };
        let granted = granted.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let shares = Self::of(granted);
        tracing::info!(files = granted, ?shares, "what may be open at once");
        shares
    }

    /// Of so many descriptors.
    fn of(granted: usize) -> Self {
        let kept = (granted / 2).min(limits::KEPT_DESCRIPTORS);
        let sockets = granted.saturating_sub(kept);
        let strangers = (sockets / 4).clamp(1, limits::STRANGERS);
        let known = sockets.saturating_sub(strangers).clamp(1, limits::CONNECTIONS);
        Self {
            strangers,
            known,
            // Together three quarters of what is kept: the rest is the journal's.
            uploads: (kept / 16).clamp(1, limits::UPLOADS),
            readers: (kept * 3 / 8).max(1),
            fetches: (kept / 4).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_leave_some_to_the_journal() {
        for granted in [256, 1_024, 4_096, 20_000, 1 << 20, usize::MAX] {
            let shares = Shares::of(granted);
            let blobs = 2 * shares.uploads + shares.readers + shares.fetches;
            let all = shares.strangers + shares.known + blobs;
            assert!(all + 32 <= granted, "{granted}: {shares:?}");
            assert!(shares.strangers >= 32 && shares.known >= 90, "{granted}: {shares:?}");
        }
    }
}
