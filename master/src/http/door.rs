//! The door itself: TCP, TLS and HTTP connections, each bounded in number and in time from its first byte on.
//!
//! Owns every socket of people and tools. Whoever has not shown the token is a stranger: there is room for a few, not
//! for long, and when all of it is taken the address that has the most of it loses a connection. Whoever has shown it
//! is known, and competes only with others that are. Its one surprise: nobody is turned away here, so a flood of
//! strangers pushes out strangers.

use super::HttpError;
use super::auth::Token;
use super::error::Failure;
use super::serving::Looks;
use super::strangers::{Runner, Runtimes, Strangers};
use crate::descriptors::Shares;
use crate::places::{Owner, Place, Places};
use axum::Router;
use axum::response::IntoResponse as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tepui_proto::limits;
use tepui_transport::Identity;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

/// How long a stranger may take from the first packet to a request with the token: many round trips of a slow link.
const STRANGER: Duration = Duration::from_secs(10);
/// How long a client may take to send its headers, and how long an HTTP/1 connection may idle.
const HEADERS: Duration = Duration::from_secs(10);
/// How often a silent HTTP/2 client is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a known connection may have no request; clients keep theirs for some minutes at most.
const IDLE: Duration = Duration::from_mins(5);
/// How long requests may take to end once the master stops.
const DRAIN: Duration = Duration::from_secs(2);
/// Before the next try, if the kernel has no descriptor or no memory for a connection.
const NO_ROOM: Duration = Duration::from_millis(50);
/// A listener and what it needs.
pub(crate) struct Door {
    listener: TcpListener,
    tls: TlsAcceptor,
    token: Token,
    for_strangers: Strangers,
    strangers: Places,
    known: Places,
    sockets: Arc<Semaphore>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// One connection, as requests see it.
#[derive(Debug)]
pub(crate) struct Guest {
    owner: Owner,
    known: Places,
    /// Empty while it is a stranger's.
    place: OnceLock<Place>,
    admitted: CancellationToken,
    /// It has to end: somebody else needs a place that it holds and does not let go.
    cut: CancellationToken,
    /// Requests that are not answered to the last byte.
    busy: watch::Sender<usize>,
    /// Requests without the token.
    refused: AtomicU32,
    /// Of its requests, those that may look at much.
    pub(super) looks: Semaphore,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Guest>);

impl Guest {
    fn new(owner: Owner, known: Places) -> Arc<Self> {
        let (place, admitted) = (OnceLock::new(), CancellationToken::new());
        let (cut, busy) = (CancellationToken::new(), watch::Sender::new(0));
        let (refused, looks) = (AtomicU32::new(0), Semaphore::new(Looks::EACH));
        Arc::new(Self { owner, known, place, admitted, cut, busy, refused, looks })
    }

    /// Who it is when places are shared out.
    pub(crate) fn owner(&self) -> Owner {
        self.owner.clone()
    }

    /// A place for what a peer may hold on to: if it is lost, the whole connection is.
    pub(crate) fn take(&self, places: &Places) -> Place {
        places.take_with(self.owner.clone(), self.cut.clone())
    }

    /// Whether it has shown the token.
    pub(super) fn is_known(&self) -> bool {
        self.place.get().is_some()
    }

    /// A request with the token has come.
    fn know(&self) {
        self.place.get_or_init(|| self.take(&self.known)).touch();
        self.admitted.cancel();
    }

    /// A request with the token begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.know();
        self.busy.send_modify(|count| *count += 1);
        Busy(Arc::clone(self))
    }

    /// A request without the token has come. A stranger that sends many at once is not listened to for longer.
    fn refuse(&self) {
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        if !self.is_known() && before + 1 >= limits::STRANGER_REQUESTS {
            self.cut.cancel();
        }
    }

    /// Comes back once a known connection has to end: it had nothing to do for too long, or others need its place.
    async fn ended(&self) {
        let mut busy = self.busy.subscribe();
        let idle = async {
            loop {
                let is_idle = *busy.borrow_and_update() == 0;
                let limit = if is_idle { IDLE } else { Duration::MAX };
                match tokio::time::timeout(limit, busy.changed()).await {
                    Ok(Ok(())) => {}
                    // It lives as long as `self` does, so only the time can be over.
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        tokio::select! {
            () = idle => {}
            () = self.cut.cancelled() => {}
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|count| *count -= 1);
    }
}

impl Door {
    /// With the master's own certificate.
    pub(crate) fn new(
        listener: TcpListener,
        identity: &Identity,
        token: Token,
        shares: Shares,
    ) -> Result<Self, HttpError> {
        Ok(Self {
            listener,
            tls: TlsAcceptor::from(Arc::new(tls(identity)?)),
            token,
            for_strangers: Strangers::new().map_err(HttpError::Thread)?,
            // The rest is for those that were told to end and have not yet.
            strangers: Places::new(shares.strangers / 4 * 3),
            known: Places::new(shares.known),
            sockets: Arc::new(Semaphore::new(shares.strangers + shares.known)),
        })
    }

    /// Serves until `stop`, and then lets what is under way end.
    pub(crate) async fn serve(self, router: Router, stop: CancellationToken) {
        let door = Arc::new(self);
        // There is none only while it is dropped.
        let Some(runtimes) = door.for_strangers.runtimes() else { return };
        let mut guests = JoinSet::new();
        let mut count = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                (stream, from, permit) = door.accept() => {
                    count += 1;
                    let owner = Owner::connection(from, count);
                    let stranger = door.strangers.take(owner.clone());
                    let guest = Guest::new(owner, door.known.clone());
                    let runner = Runner { runtimes: runtimes.clone(), guest: Arc::clone(&guest) };
                    let served = Arc::clone(&door).converse(stream, runner, router.clone(), stop.clone());
                    let both = runtimes.clone();
                    guests.spawn(async move {
                        attend(Box::pin(served), guest, stranger, &both).await;
                        drop(permit);
                    });
                }
                Some(ended) = guests.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!("a connection failed: {error}");
                    }
                }
            }
        }
        let rest = async { while guests.join_next().await.is_some() {} };
        // What has not ended by then is cut.
        tokio::time::timeout(DRAIN, rest).await.ok();
    }

    /// The next connection; what the kernel cannot give now is asked for again. May be cancelled.
    async fn accept(&self) -> (TcpStream, IpAddr, OwnedSemaphorePermit) {
        loop {
            // Fails only once it is closed, which it never is.
            let Ok(permit) = Arc::clone(&self.sockets).acquire_owned().await else {
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, from)) => return (stream, from.ip(), permit),
                Err(error) => {
                    tracing::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(NO_ROOM).await;
                }
            }
        }
    }

    /// Handshake and requests. What a peer gets wrong is its own affair.
    async fn converse(
        self: Arc<Self>,
        stream: TcpStream,
        runner: Runner,
        router: Router,
        stop: CancellationToken,
    ) {
        // Answers are a few small frames; with Nagle's algorithm each would wait 40 ms for the client's kernel.
        stream.set_nodelay(true).ok();
        let Ok(stream) = self.tls.accept(stream).await else { return };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (guest, token) = (Arc::clone(&runner.guest), self.token);
        let http = http(runner);
        let http = if is_http2 { http.http2_only() } else { http.http1_only() };
        // Called before it is decided where the request runs.
        let service = service_fn(move |mut request: Request<Incoming>| {
            let is_admitted = token.admits(request.headers());
            if is_admitted {
                guest.know();
            } else {
                guest.refuse();
            }
            request.extensions_mut().insert(Arc::clone(&guest));
            let router = router.clone();
            async move {
                if is_admitted {
                    router.oneshot(request).await
                } else {
                    Ok(Failure::unauthorized().into_response())
                }
            }
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ended = connection.as_mut() => return,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.ok();
    }
}

/// How HTTP is spoken.
fn http(runner: Runner) -> Builder<Runner> {
    let mut http = Builder::new(runner);
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HEADERS)
        .max_concurrent_streams(limits::CONNECTION_REQUESTS);
    http
}

/// A connection that is served until it ends.
type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves a connection: where strangers are heard, as long as it is a stranger's.
async fn attend(served: Served, guest: Arc<Guest>, stranger: Place, runtimes: &Runtimes) {
    let heard = runtimes.for_strangers.spawn(hear(served, Arc::clone(&guest), stranger));
    match AbortOnDropHandle::new(heard).await {
        Ok(None) => {}
        Ok(Some(served)) => tokio::select! {
            () = served => {}
            () = guest.ended() => {}
        },
        Err(error) => tracing::error!("a connection failed: {error}"),
    }
}

/// Serves a stranger. Gives the connection back once it has shown the token; none if it is over.
async fn hear(mut served: Served, guest: Arc<Guest>, stranger: Place) -> Option<Served> {
    tokio::select! {
        () = &mut served => None,
        () = stranger.lost() => None,
        () = tokio::time::sleep(STRANGER) => None,
        () = guest.cut.cancelled() => None,
        () = guest.admitted.cancelled() => Some(served),
    }
}

/// TLS with the master's own certificate. Clients are known by their token.
fn tls(identity: &Identity) -> Result<rustls::ServerConfig, HttpError> {
    let certificates = vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Arc<Guest> {
        Guest::new(Owner::named("a"), Places::new(1))
    }

    #[test]
    fn a_stranger_that_asks_again_and_again_is_cut_and_who_is_known_is_not() {
        let (stranger, known) = (guest(), guest());
        drop(known.begin());
        for _ in 1..limits::STRANGER_REQUESTS {
            stranger.refuse();
        }
        assert!(!stranger.cut.is_cancelled());
        stranger.refuse();
        assert!(stranger.cut.is_cancelled());
        // One connection may be several people's, and one of them wrong.
        (0..2 * limits::STRANGER_REQUESTS).for_each(|_| known.refuse());
        assert!(!known.cut.is_cancelled());
    }
}
