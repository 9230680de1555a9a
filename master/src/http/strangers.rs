//! Where strangers are heard: on one thread that stands back, so that handshakes and requests without the token,
//! however many come, wait behind everybody else's. Whoever has shown the token is served where all the rest of a
//! master runs.

use super::door::Guest;
use hyper::rt::Executor;
use std::io;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};

/// How far the thread stands back; about a third of the time of one that does not, if both want all of it.
const NICE: i32 = 5;

/// The thread.
#[derive(Debug)]
pub(super) struct Strangers(Option<Runtime>);

impl Strangers {
    pub(super) fn new() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(1).thread_name("tepui-door").enable_all();
        builder.on_thread_start(|| {
            if let Err(error) = rustix::process::nice(NICE) {
                tracing::warn!(%error, "strangers cannot be made to stand back");
            }
        });
        Ok(Self(Some(builder.build()?)))
    }

    /// Where to run what a stranger sends. To be called where the rest of the master runs.
    pub(super) fn runtimes(&self) -> Option<Runtimes> {
        let for_strangers = self.0.as_ref()?.handle().clone();
        Some(Runtimes { for_strangers, for_known: Handle::current() })
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        // It is dropped by a task, which may not wait for threads.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Before and behind the door.
#[derive(Clone, Debug)]
pub(super) struct Runtimes {
    pub(super) for_strangers: Handle,
    for_known: Handle,
}

/// Runs the requests of one connection.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) runtimes: Runtimes,
    pub(super) guest: Arc<Guest>,
}

impl<F> Executor<F> for Runner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let runtime = if self.guest.is_known() {
            &self.runtimes.for_known
        } else {
            &self.runtimes.for_strangers
        };
        runtime.spawn(future);
    }
}
