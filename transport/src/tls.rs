//! The settings of TLS and QUIC, with the reason of each number.

use crate::endpoint::EndpointError;
use crate::identity::Identity;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tepui_proto::control::ALPN_AGENT;

/// A connection that was silent for so long is gone; as long as an agent may be silent.
const IDLE: Duration = Duration::from_millis(tepui_proto::limits::AGENT_TIMEOUT_MS);
/// Agents keep their connections alive; three may be lost within [`IDLE`]. Masters do not, or both would.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// What one stream may have sent that was not read; half a turn of the largest.
const STREAM_WINDOW: u32 = 512 << 10;
/// What an agent may have sent on all streams that its master did not read: memory of a master, per agent.
const MASTER_WINDOW: u32 = 4 << 20;
/// What a master may have sent on all streams that an agent did not read: 64 slow schedulers do not stop the others.
const AGENT_WINDOW: u32 = 32 << 20;
/// What was sent and is not acknowledged.
const SEND_WINDOW: u64 = 4 << 20;
/// Streams that an agent may have open: the control stream and blobs.
const AGENT_STREAMS: u32 = 64;
/// Streams that a master may have open to one agent: schedulers and logs.
const MASTER_STREAMS: u32 = 1_024;
/// Datagrams that wait: heartbeats and usage, of which only the latest matter.
const DATAGRAM_BYTES: usize = 64 << 10;
/// UDP buffers of the socket, which all connections share; the usual default holds 150 packets.
const SOCKET_BYTES: usize = 4 << 20;
/// First packets of strangers that wait to be looked at, and their bytes.
const INCOMING: usize = 1_024;
const INCOMING_BYTES: u64 = 64 << 10;
const INCOMING_BYTES_ALL: u64 = 16 << 20;

/// A socket with large buffers; for `[::]` it takes IPv4 too.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The kernel may give less than was asked for, which is slower, not wrong.
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.bind(&address.into())?;
    if socket.recv_buffer_size().is_ok_and(|got| got < SOCKET_BYTES) {
        tracing::debug!(
            asked = SOCKET_BYTES,
            "the kernel grants a smaller UDP receive buffer (net.core.rmem_max)"
        );
    }
    Ok(socket.into())
}

/// How a master listens.
pub(crate) fn server_config(identity: &Identity) -> Result<quinn::ServerConfig, EndpointError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(identity)?),
        Arc::clone(&provider),
    )
    .build()
    .map_err(|error| EndpointError::Tls(rustls::Error::General(error.to_string())))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate()?], identity.key()?)?;
    tls.alpn_protocols = vec![ALPN_AGENT.to_vec()];
    let tls = QuicServerConfig::try_from(tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport(AGENT_STREAMS, MASTER_WINDOW, None)));
    config.max_incoming(INCOMING).incoming_buffer_size(INCOMING_BYTES);
    config.incoming_buffer_size_total(INCOMING_BYTES_ALL);
    Ok(config)
}

/// What a master's endpoint is made with. Its keys come from the identity, so that a master that was killed and is back
/// knows the connections of its former self for its own, and resets them: agents then dial again at once, and not when
/// [`IDLE`] is over (RFC 9000, section 10.3).
pub(crate) fn endpoint_config(identity: &Identity) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, identity.key_pem.as_bytes());
    let tag = hmac::sign(&key, b"tepui connection ids");
    let ids = tag.as_ref().first_chunk().copied().map_or(0, u64::from_le_bytes);
    let resets = hmac::sign(&key, b"tepui stateless resets");
    let resets = hmac::Key::new(hmac::HMAC_SHA256, resets.as_ref());
    let mut config = EndpointConfig::new(Arc::new(resets));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

/// How an agent dials.
pub(crate) fn client_config(
    identity: &Identity,
    alpn: &[u8],
) -> Result<quinn::ClientConfig, EndpointError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(vec![identity.certificate()?], identity.key()?)?;
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = QuicClientConfig::try_from(tls)?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport(MASTER_STREAMS, AGENT_WINDOW, Some(KEEP_ALIVE))));
    Ok(config)
}

fn transport(peer_streams: u32, window: u32, keep_alive: Option<Duration>) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(peer_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(window))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(keep_alive)
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BYTES);
    config
}

/// Named here and never installed for the process, so that no one else's choice can change it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(identity: &Identity) -> Result<RootCertStore, EndpointError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority()?)?;
    Ok(roots)
}
