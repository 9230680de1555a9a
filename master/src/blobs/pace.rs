//! How fast the bytes of an upload come.

use super::BlobError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use std::fmt::Display;
use std::time::Duration;
use tepui_proto::limits;
use tokio::time::Instant;

/// How long a sender may be slow before it is looked at.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How fast bytes come, by the time that was spent waiting for them: a slow disk of ours is not their sender's fault.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// The next bytes, which may be none; nothing at the end.
    ///
    /// # Errors
    /// If the source fails, or is too slow.
    pub(super) async fn next<S, E>(&mut self, source: &mut S) -> Result<Option<Bytes>, BlobError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Display,
    {
        let begun = Instant::now();
        let next = tokio::time::timeout(PATIENCE.saturating_sub(self.waited), source.next()).await;
        self.waited += begun.elapsed();
        let next = match next {
            Ok(next) => next.transpose().map_err(|error| BlobError::Source(error.to_string()))?,
            // Nothing, which is not the end.
            Err(_elapsed) => Some(Bytes::new()),
        };
        self.bytes += next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.waited >= PATIENCE {
            if self.bytes < limits::UPLOAD_BYTES_PER_S * PATIENCE.as_secs() {
                return Err(BlobError::TooSlow);
            }
            *self = Self::default();
        }
        Ok(next)
    }
}
