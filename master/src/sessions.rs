//! Sessions with agents: one task per connection, one per stream, and the links over which orders leave.
//!
//! Owns connections. Never decides anything: what is heard becomes an input, orders become frames. Its one surprise: an
//! agent that does not read fast enough loses its connection rather than slow anyone down; it says hello again and is
//! told the difference.

mod agent;
mod blobs;
mod links;
mod logs;
mod scheduler;

use crate::blobs::Blobs;
use crate::driver::Driver;
use crate::quotas::Quotas;
use tepui_master_core::ConnectionId;
use tepui_transport::{CloseCode, Listener};
use tokio::task::JoinSet;

pub(crate) use links::{Link, Links};
pub(crate) use logs::{LogReader, open_log};
pub(crate) use scheduler::SchedulerStream;

/// What every session needs.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    pub(crate) driver: Driver,
    pub(crate) blobs: Blobs,
    pub(crate) quotas: Quotas,
}

/// Attends to agents for as long as the listener lives. When this is dropped, all sessions end.
pub(crate) async fn serve(listener: &mut Listener, hub: Hub) {
    let mut sessions = JoinSet::new();
    let mut count = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Some(connection) = accepted else { break };
                count += 1;
                sessions.spawn(agent::attend(connection, ConnectionId(count), hub.clone()));
            }
            Some(ended) = sessions.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("a session failed: {error}");
                }
            }
        }
    }
    listener.close(CloseCode::Stopping);
}
