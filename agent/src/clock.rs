//! The one place that reads a clock for the core: wall time at the start, and from there on a clock that never goes back.

use std::time::Duration;
use tepui_proto::Timestamp;
use tokio::time::Instant;

/// A clock that agrees with the wall at its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    begin: Instant,
    wall: Timestamp,
}

impl Clock {
    #[expect(clippy::disallowed_types, reason = "this is the edge at which wall time comes in")]
    pub(crate) fn start() -> Self {
        let wall =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            begin: Instant::now(),
            wall: Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.wall.0.saturating_add(elapsed))
    }

    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.begin + Duration::from_millis(at.since(self.wall).0)
    }
}
