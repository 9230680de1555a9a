//! The listening side: a master's door for agents.
//!
//! Owns the socket and the handshakes. Never reads a stream. Its one surprise: handshakes run beside each other in a
//! bounded number, and a peer that is refused is a line in the log, not an error of [`Listener::accept`].

use crate::close::{CloseCode, CloseReason};
use crate::endpoint::EndpointError;
use crate::identity::{Identity, PeerRole};
use crate::session::{CheckError, Connection};
use crate::tls;
use quinn::{Incoming, TokioRuntime};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Connections at once; more are refused before any cryptography.
    pub connections: usize,
    /// Handshakes at once, and connections that wait for [`Listener::accept`]. From half of it on, strangers must
    /// prove their address first.
    pub handshakes: usize,
    /// How long one handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            // A few more than there may be agents: one that comes again is there twice for a while.
            connections: tepui_proto::limits::AGENTS + 1_024,
            handshakes: 128,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// Why a peer was refused at the door.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There are too many connections.
    #[error("there are {0} connections, which is as many as may be")]
    TooMany(usize),
    /// The handshake was not over in time.
    #[error("the handshake was not over in time")]
    Timeout,
    /// The handshake failed: another authority, no certificate, another protocol.
    #[error("the handshake failed")]
    Handshake(#[source] CloseReason),
    /// It is verified, and not one that may come in here.
    #[error("{reason}")]
    Peer {
        /// `peer-identity`, `peer-role`, or `protocol`.
        code: CloseCode,
        /// For people.
        reason: String,
    },
}

impl AcceptError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooMany(_) => CloseCode::TooMany.code(),
            Self::Timeout => "handshake-timeout",
            Self::Handshake(reason) => reason.code(),
            Self::Peer { code, .. } => code.code(),
        }
    }
}

impl From<CheckError> for AcceptError {
    fn from(error: CheckError) -> Self {
        Self::Peer { code: error.close_code(), reason: error.to_string() }
    }
}

/// Yields connections of agents. When it is dropped, no more come in; those that are there stay.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    accepted: mpsc::Receiver<Connection>,
    door: tokio::task::JoinHandle<()>,
}

/// Listens for agents with the usual bounds. To be called within a tokio runtime.
///
/// # Errors
/// If the identity is unusable, or the socket cannot be had.
pub fn server(identity: &Identity, bind: SocketAddr) -> Result<Listener, EndpointError> {
    server_with(identity, bind, ListenerLimits::default())
}

/// Listens for agents within given bounds. To be called within a tokio runtime.
///
/// # Errors
/// If the identity is unusable, or the socket cannot be had.
pub fn server_with(
    identity: &Identity,
    bind: SocketAddr,
    limits: ListenerLimits,
) -> Result<Listener, EndpointError> {
    let config = tls::server_config(identity)?;
    let endpoint = tls::bind(bind)
        .and_then(|socket| {
            quinn::Endpoint::new(
                tls::endpoint_config(identity),
                Some(config),
                socket,
                Arc::new(TokioRuntime),
            )
        })
        .map_err(|source| EndpointError::Socket { address: bind, source })?;
    let (sender, accepted) = mpsc::channel(1);
    let door = Door { limits, free: Arc::new(Semaphore::new(limits.handshakes)), sender };
    let door = tokio::spawn(door.run(endpoint.clone()));
    Ok(Listener { endpoint, accepted, door })
}

impl Listener {
    /// The next verified agent; none once [`Self::close`] was called. May be cancelled.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.accepted.recv().await
    }

    /// Where it listens; the port is the one that was given, or chosen if that was 0.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Connections that are open or shaking hands.
    pub fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Closes all connections at once and lets no one in.
    pub fn close(&self, code: CloseCode) {
        self.endpoint.close(code.to_var(), code.code().as_bytes());
    }

    /// Waits until all peers have been told that their connections are closed; give it a limit.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.door.abort();
        self.endpoint.set_server_config(None);
    }
}

struct Door {
    limits: ListenerLimits,
    free: Arc<Semaphore>,
    sender: mpsc::Sender<Connection>,
}

impl Door {
    /// Takes a permit first: without one, strangers wait in QUIC's own bounded queue.
    async fn run(self, endpoint: quinn::Endpoint) {
        while let Ok(permit) = Arc::clone(&self.free).acquire_owned().await {
            let Some(incoming) = endpoint.accept().await else { return };
            let from = incoming.remote_address();
            let open = endpoint.open_connections();
            if open >= self.limits.connections {
                incoming.refuse();
                log_refusal(from, &AcceptError::TooMany(open));
            } else if self.is_busy() && incoming.may_retry() {
                // Fails only if it may not be asked again.
                drop(incoming.retry());
            } else {
                tokio::spawn(admit(
                    incoming,
                    self.limits.handshake_timeout,
                    self.sender.clone(),
                    permit,
                ));
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.free.available_permits() < self.limits.handshakes / 2
    }
}

/// Shakes hands with one peer. Holds its permit until someone takes the connection, so what waits is bounded.
async fn admit(
    incoming: Incoming,
    limit: Duration,
    sender: mpsc::Sender<Connection>,
    permit: OwnedSemaphorePermit,
) {
    let from = incoming.remote_address();
    match shake(incoming, limit).await {
        // Fails if the listener is gone; the connection goes with it.
        Ok(connection) => drop(sender.send(connection).await),
        Err(error) => log_refusal(from, &error),
    }
    drop(permit);
}

async fn shake(incoming: Incoming, limit: Duration) -> Result<Connection, AcceptError> {
    let connecting = incoming.accept().map_err(|error| AcceptError::Handshake(error.into()))?;
    match tokio::time::timeout(limit, connecting).await {
        Err(_) => Err(AcceptError::Timeout),
        Ok(Err(error)) => Err(AcceptError::Handshake(error.into())),
        Ok(Ok(connection)) => Ok(Connection::check(connection, PeerRole::Agent)?),
    }
}

fn log_refusal(from: SocketAddr, error: &AcceptError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%from, code = error.code(), cause, "refused a peer: {error}");
}
