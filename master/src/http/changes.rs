//! Changes that operators make: one request after the other, and after each the loop has some times as long for
//! everything else.
//!
//! A change may cost the loop much: settings of a thousand roles, a volume on an agent with a thousand pools. Whoever asks
//! for one after the other waits for that, and nobody else does.

use super::door::Guest;
use super::error::Failure;
use super::frameworks::AT_ONCE;
use std::sync::Arc;
use std::time::Duration;
use tepui_master_core::{Code, Refusal};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How many times as long as a change took the next one waits, and how long at the most.
const REST: u32 = 4;
const REST_MOST: Duration = Duration::from_secs(5);

/// Held by who makes one, and for a while after.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(Arc<Mutex<()>>);

impl Changes {
    /// Makes a change when it is its turn. Whoever asked may go: what has begun is done, and the next one waits all the same.
    ///
    /// # Errors
    /// Those of the change, and when too many others are before it.
    pub(super) async fn make<T, F>(&self, guest: &Guest, change: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        // Of one connection two wait, whatever it sends at once.
        let _own = guest.looks.acquire().await;
        let turn = tokio::time::timeout(AT_ONCE, Arc::clone(&self.0).lock_owned()).await;
        let turn = turn.map_err(|_elapsed| {
            let message = "changes are made one request at a time, and many others are before";
            Refusal::new(Code::TooManyRequests, message)
        })?;
        let made = tokio::spawn(async move {
            let begun = Instant::now();
            let made = change.await;
            let rest = (begun.elapsed() * REST).min(REST_MOST);
            tokio::spawn(async move {
                tokio::time::sleep(rest).await;
                drop(turn);
            });
            made
        });
        made.await.map_err(|error| Failure::internal(&error, "internal"))?
    }
}
