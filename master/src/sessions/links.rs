//! The ways to agents, as the driver has them: a bounded queue each, emptied by a writer of its own.

use std::collections::BTreeMap;
use std::time::Duration;
use tepui_master_core::ConnectionId;
use tepui_proto::control::{Launch, MasterMessage};
use tepui_transport::session::QuicWriter;
use tepui_transport::{CloseCode, Connection, StreamError};
use tokio::sync::mpsc;

/// Messages that wait for one agent. A thousand launches are a few; more than this means that it does not read.
const WAITING: usize = 1_024;
/// Messages that leave in one write.
const TOGETHER: usize = 256;
/// Launches of one frame: with the largest records it stays within the limit of frames.
const LAUNCHES: usize = 32;
/// How long a peer has to read the last words before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);

/// What a writer is told.
#[derive(Debug)]
pub(super) enum Outbound {
    Message(MasterMessage),
    /// The last.
    Close(CloseCode),
}

/// The way to one agent.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    outbound: mpsc::Sender<Outbound>,
}

impl Link {
    /// A link, and what its writer reads.
    pub(super) fn new(connection: Connection) -> (Self, mpsc::Receiver<Outbound>) {
        let (outbound, receiver) = mpsc::channel(WAITING);
        (Self { connection, outbound }, receiver)
    }

    fn tell(&self, outbound: Outbound) {
        // If its writer has ended, so has the connection, and that will be told.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.outbound.try_send(outbound) {
            tracing::warn!(agent = %self.connection.peer(), "closed: it does not read what it is sent");
            self.connection.close(CloseCode::StreamLost, "too many messages wait to be read");
        }
    }
}

/// All ways to agents.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<ConnectionId, Link>,
}

impl Links {
    pub(crate) fn insert(&mut self, connection: ConnectionId, link: Link) {
        self.links.insert(connection, link);
    }

    pub(crate) fn remove(&mut self, connection: ConnectionId) {
        self.links.remove(&connection);
    }

    /// Agents that have said hello and are connected.
    pub(crate) fn count(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn connection(&self, connection: ConnectionId) -> Option<Connection> {
        self.links.get(&connection).map(|link| link.connection.clone())
    }

    /// Sends a message; a connection that is gone is passed over.
    pub(crate) fn send(&self, connection: ConnectionId, message: MasterMessage) {
        if let Some(link) = self.links.get(&connection) {
            link.tell(Outbound::Message(message));
        }
    }

    /// Closes a connection after what was sent before.
    pub(crate) fn close(&mut self, connection: ConnectionId, code: &str) {
        if let Some(link) = self.links.remove(&connection) {
            link.tell(Outbound::Close(close_code(code)));
        }
    }

    /// Closes all at once.
    pub(crate) fn close_all(&mut self, code: CloseCode) {
        for link in std::mem::take(&mut self.links).into_values() {
            link.connection.close(code, "");
        }
    }
}

/// The wire's word for the leader's; a code that the wire has no number for was said as a refusal before.
fn close_code(code: &str) -> CloseCode {
    match code {
        "session-replaced" => CloseCode::Superseded,
        "silent" => CloseCode::StreamSilent,
        _ => CloseCode::ALL
            .iter()
            .copied()
            .find(|known| known.code() == code)
            .unwrap_or(CloseCode::Refused),
    }
}

/// Writes what is told, as much as waits in one go, until it is told to close or its link is gone.
pub(super) async fn write(
    connection: &Connection,
    mut writer: QuicWriter,
    mut outbound: mpsc::Receiver<Outbound>,
) -> Result<(), StreamError> {
    let mut taken = Vec::with_capacity(TOGETHER);
    let mut messages = Vec::with_capacity(TOGETHER);
    while outbound.recv_many(&mut taken, TOGETHER).await > 0 {
        let mut close = None;
        for outbound in taken.drain(..) {
            match outbound {
                Outbound::Message(message) => split(message, &mut messages),
                Outbound::Close(code) => close = close.or(Some(code)),
            }
        }
        writer.write_all(&messages).await?;
        messages.clear();
        if let Some(code) = close {
            writer.finish().await?;
            // The peer closes once it has read the last words; if it does not, it is closed.
            drop(tokio::time::timeout(LINGER, connection.closed()).await);
            connection.close(code, "");
            return Ok(());
        }
    }
    Ok(())
}

/// Many launches in one message might not fit into a frame; in several they mean the same.
fn split(message: MasterMessage, messages: &mut Vec<MasterMessage>) {
    match message {
        MasterMessage::Launch { term, life, launches } if launches.len() > LAUNCHES => {
            let mut launches = launches.into_iter();
            loop {
                let part: Vec<Launch> = launches.by_ref().take(LAUNCHES).collect();
                if part.is_empty() {
                    return;
                }
                messages.push(MasterMessage::Launch { term, life, launches: part });
            }
        }
        message => messages.push(message),
    }
}
