//! QUIC between agents and masters, made once: certificates, endpoints, framed streams, blobs, back-off.
//!
//! Owns who may talk to whom (mutual TLS, roles in certificates, one ALPN) and how bytes become frames. Never looks
//! into a message, never decides what to do when a peer is gone. Its one surprise: with TLS 1.3 a dialer can hold a
//! connection that the listener is about to refuse, so a refusal shows up on the first read, not in `dial`.

pub mod authority;
pub mod blob;
pub mod close;
pub mod endpoint;
mod files;
pub mod identity;
pub mod listener;
pub mod reconnect;
pub mod session;
pub mod stream;
mod tls;

pub use authority::Authority;
pub use close::{CloseCode, CloseReason};
pub use endpoint::{DialError, Dialer, EndpointError, client};
pub use identity::{Identity, IdentityError, PeerError, PeerIdentity, PeerRole};
pub use listener::{AcceptError, Listener, ListenerLimits, server, server_with};
pub use reconnect::Backoff;
pub use session::{Connection, ConnectionError, QuicReader, QuicWriter};
pub use stream::{FrameReader, FrameWriter, StreamError};
