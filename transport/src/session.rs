//! A connection between an agent and a master whose certificates were checked on both sides.
//!
//! Owns the way from QUIC's streams to framed ones. Never opens a stream of its own.

use crate::close::{self, CloseCode, CloseReason};
use crate::identity::{PeerError, PeerIdentity, PeerRole};
use crate::stream::{FrameReader, FrameWriter};
use quinn::crypto::rustls::HandshakeData;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::Arc;
use tepui_proto::control::ALPN_AGENT;
use tepui_proto::frame::{self, FrameError};

/// Frames from a QUIC stream.
pub type QuicReader = FrameReader<quinn::RecvStream>;
/// Frames to a QUIC stream.
pub type QuicWriter = FrameWriter<quinn::SendStream>;

/// Why a connection cannot go on, or a datagram is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// It has ended.
    #[error(transparent)]
    Closed(#[from] CloseReason),
    /// A datagram is not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A datagram does not fit into a packet.
    #[error("a datagram of {bytes} bytes does not fit into a packet")]
    Datagram {
        /// Its size.
        bytes: usize,
    },
}

impl ConnectionError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Closed(reason) => reason.code(),
            Self::Frame(error) => error.code(),
            Self::Datagram { .. } => "datagram-too-large",
        }
    }
}

/// Why a peer is not whom it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("{peer} is no {wanted}")]
    Role { peer: PeerIdentity, wanted: PeerRole },
    #[error("another protocol was agreed on")]
    Protocol,
}

impl CheckError {
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::Peer(_) => CloseCode::PeerIdentity,
            Self::Role { .. } => CloseCode::PeerRole,
            Self::Protocol => CloseCode::Protocol,
        }
    }
}

/// A verified connection. Clones are the same connection; it closes when the last is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: quinn::Connection,
    peer: Arc<PeerIdentity>,
}

impl Connection {
    /// Checks protocol and certificate; a peer that is not `wanted` is closed with a code that says so.
    pub(crate) fn check(inner: quinn::Connection, wanted: PeerRole) -> Result<Self, CheckError> {
        let checked = check(&inner, wanted);
        if let Err(error) = &checked {
            let code = error.close_code();
            inner.close(code.to_var(), close::reason(code, "").as_bytes());
        }
        Ok(Self { inner, peer: Arc::new(checked?) })
    }

    /// Who is at the other end, by its certificate.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// Where the peer is now; it may move.
    pub fn remote_address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Tells connections of this process apart.
    pub fn id(&self) -> usize {
        self.inner.stable_id()
    }

    /// Opens a stream; waits while the peer allows no more. The peer learns of it with the first frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn open(&self) -> Result<(QuicWriter, QuicReader), ConnectionError> {
        let (send, receive) = self.inner.open_bi().await.map_err(CloseReason::from)?;
        Ok((FrameWriter::new(send), FrameReader::new(receive)))
    }

    /// The next stream that the peer opened. May be cancelled. Read its first frame with
    /// [`FrameReader::read_within`], in a task of its own, so that a silent stream delays no other.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn accept(&self) -> Result<(QuicWriter, QuicReader), ConnectionError> {
        let (send, receive) = self.inner.accept_bi().await.map_err(CloseReason::from)?;
        Ok((FrameWriter::new(send), FrameReader::new(receive)))
    }

    /// Sends a message that may be lost; older ones that still wait are dropped for it.
    ///
    /// # Errors
    /// If it does not fit into a packet (about 1 KiB), or the connection has ended.
    pub fn send_datagram<T: Serialize>(&self, message: &T) -> Result<(), ConnectionError> {
        use quinn::SendDatagramError as E;
        let bytes = frame::encode(message)?;
        let size = bytes.len();
        match self.inner.send_datagram(bytes.into()) {
            Ok(()) => Ok(()),
            Err(E::ConnectionLost(error)) => Err(CloseReason::from(error).into()),
            Err(E::TooLarge | E::UnsupportedByPeer | E::Disabled) => {
                Err(ConnectionError::Datagram { bytes: size })
            }
        }
    }

    /// The next message that was sent as a datagram. May be cancelled.
    ///
    /// # Errors
    /// A bad frame (the next call goes on with the next one), or the connection has ended.
    pub async fn read_datagram<T: DeserializeOwned>(&self) -> Result<T, ConnectionError> {
        let bytes = self.inner.read_datagram().await.map_err(CloseReason::from)?;
        let Some((header, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(FrameError::Cut.into());
        };
        match frame::check_length(*header, tepui_proto::limits::FRAME_BYTES)? {
            length if length == rest.len() => Ok(frame::decode(rest)?),
            length if length > rest.len() => Err(FrameError::Cut.into()),
            length => Err(FrameError::Trailing(rest.len() - length).into()),
        }
    }

    /// Closes it at once. What was written and not yet received may be lost; let the peer answer first if it matters.
    /// The peer sees the code, and its text with `message` as the reason (cut at 256 bytes).
    pub fn close(&self, code: CloseCode, message: &str) {
        self.inner.close(code.to_var(), close::reason(code, message).as_bytes());
    }

    /// Waits until it has ended, and says how.
    pub async fn closed(&self) -> CloseReason {
        self.inner.closed().await.into()
    }

    /// How it ended; none while it lives.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.inner.close_reason().map(CloseReason::from)
    }

    /// QUIC's own connection, for statistics.
    pub fn quic(&self) -> &quinn::Connection {
        &self.inner
    }
}

fn check(inner: &quinn::Connection, wanted: PeerRole) -> Result<PeerIdentity, CheckError> {
    let protocol = inner.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    if protocol.and_then(|data| data.protocol).as_deref() != Some(ALPN_AGENT) {
        return Err(CheckError::Protocol);
    }
    let chain = inner
        .peer_identity()
        .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first()).ok_or(PeerError::Missing)?;
    let peer = PeerIdentity::from_certificate(leaf)?;
    if peer.role == wanted { Ok(peer) } else { Err(CheckError::Role { peer, wanted }) }
}
