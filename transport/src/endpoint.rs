//! The dialling side: an agent's way to its masters.
//!
//! Owns one UDP socket for all connections. Never redials; see [`crate::reconnect`].

use crate::authority::MASTER_NAME;
use crate::close::{CloseCode, CloseReason};
use crate::identity::{Identity, IdentityError, PeerRole};
use crate::session::{CheckError, Connection};
use crate::tls;
use quinn::{EndpointConfig, TokioRuntime};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tepui_proto::control::ALPN_AGENT;

/// How long a master may take to shake hands.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an endpoint cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The identity is unusable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS does not take it.
    #[error("certificate and key cannot be used")]
    Tls(#[from] rustls::Error),
    /// TLS has no cipher for QUIC's first packets.
    #[error("TLS cannot be used for QUIC")]
    Cipher(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The socket cannot be had.
    #[error("cannot listen on {address}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a master cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address cannot be dialled.
    #[error("cannot dial {address}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: quinn::ConnectError,
    },
    /// It does not answer.
    #[error("{0} does not answer")]
    Timeout(SocketAddr),
    /// The handshake failed, on either side.
    #[error("{address} cannot be talked to")]
    Handshake {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: CloseReason,
    },
    /// Whoever answers is no master of this cluster.
    #[error("whoever answers at {address} is no master: {reason}")]
    Peer {
        /// Which.
        address: SocketAddr,
        /// `peer-identity`, `peer-role`, or `protocol`.
        code: CloseCode,
        /// For people.
        reason: String,
    },
}

impl DialError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address-invalid",
            Self::Timeout(_) => "dial-timeout",
            Self::Handshake { source, .. } => source.code(),
            Self::Peer { code, .. } => code.code(),
        }
    }
}

/// Dials masters. Clones share one socket.
#[derive(Clone, Debug)]
pub struct Dialer {
    endpoint: quinn::Endpoint,
}

/// A dialer for whoever `identity` is. To be called within a tokio runtime.
///
/// # Errors
/// If the identity is unusable, or no socket is to be had.
pub fn client(identity: &Identity) -> Result<Dialer, EndpointError> {
    client_with(identity, ALPN_AGENT)
}

pub(crate) fn client_with(identity: &Identity, alpn: &[u8]) -> Result<Dialer, EndpointError> {
    let config = tls::client_config(identity, alpn)?;
    // One socket for both families; IPv4 alone where there is no IPv6.
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let socket = tls::bind(both).or_else(|_| tls::bind(address));
    let mut endpoint = socket
        .and_then(|socket| {
            quinn::Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
        })
        .map_err(|source| EndpointError::Socket { address, source })?;
    endpoint.set_default_client_config(config);
    Ok(Dialer { endpoint })
}

impl Dialer {
    /// Dials a master, for 5 seconds at most. May be cancelled.
    ///
    /// A master that refuses this side's certificate does so after the handshake: `dial` succeeds, and the first
    /// read says [`CloseReason::Tls`] or [`CloseReason::Peer`].
    ///
    /// # Errors
    /// If no one answers, or whoever does is no master of this cluster.
    pub async fn dial(&self, address: SocketAddr) -> Result<Connection, DialError> {
        let connecting = self
            .endpoint
            .connect(address, MASTER_NAME)
            .map_err(|source| DialError::Address { address, source })?;
        let connection = match tokio::time::timeout(DIAL_TIMEOUT, connecting).await {
            Err(_) => return Err(DialError::Timeout(address)),
            Ok(Err(error)) => return Err(DialError::Handshake { address, source: error.into() }),
            Ok(Ok(connection)) => connection,
        };
        Connection::check(connection, PeerRole::Master).map_err(|error: CheckError| {
            DialError::Peer { address, code: error.close_code(), reason: error.to_string() }
        })
    }

    /// Closes all connections at once.
    pub fn close(&self, code: CloseCode) {
        self.endpoint.close(code.to_var(), code.code().as_bytes());
    }

    /// Waits until all peers have been told that their connections are closed; give it a limit.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, server};

    #[tokio::test]
    async fn another_protocol_is_refused_and_the_right_one_still_comes_in() {
        let authority = Authority::create().unwrap();
        let master = authority.issue(PeerRole::Master, "master-0", &[]).unwrap();
        let agent = authority.issue(PeerRole::Agent, "agent-1", &[]).unwrap();
        let mut listener = server(&master, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_address().unwrap();
        let error = client_with(&agent, b"tepui-agent/2").unwrap().dial(address).await.unwrap_err();
        assert_eq!(error.code(), "protocol");
        let near = client(&agent).unwrap().dial(address).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().peer().name, "agent-1");
        drop(near);
    }

    #[tokio::test]
    async fn no_one_is_there() {
        let authority = Authority::create().unwrap();
        let agent = authority.issue(PeerRole::Agent, "agent-1", &[]).unwrap();
        // A socket that never answers.
        let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dialer = client(&agent).unwrap();
        tokio::time::pause();
        let error = dialer.dial(silent.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(error.code(), "dial-timeout");
    }
}
