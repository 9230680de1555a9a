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
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::warn!(%error, "strangers cannot be made to stand back");
            }
        });
        Ok(Self(Some(builder.build()?)))
    }

    /// Where to run what a stranger sends. To be called where the rest of the master runs.
    pub(super) fn rooms(&self) -> Option<Rooms> {
        let outside = self.0.as_ref()?.handle().clone();
        Some(Rooms { outside, inside: Handle::current() })
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
pub(super) struct Rooms {
    pub(super) outside: Handle,
    inside: Handle,
}

/// Runs the requests of one connection.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) rooms: Rooms,
    pub(super) guest: Arc<Guest>,
}

impl<F> Executor<F> for Runner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let room = if self.guest.is_known() { &self.rooms.inside } else { &self.rooms.outside };
        room.spawn(future);
    }
}
