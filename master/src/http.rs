//! `/v1`: HTTPS and JSON for people and their tools.
//!
//! Owns the door: TLS, the token, and the bounds on what may come in. Never decides anything: each route asks the
//! driver. Its one surprise: a request that waits holds no thread and no lock, only a place among the bounded many.

mod agents;
mod auth;
mod blobs;
mod error;
mod extract;
mod frameworks;
mod logs;
mod metrics;
mod modules;
mod openapi;
mod proxy;
mod roles;
mod tasks;

use crate::blobs::Blobs;
use crate::driver::Driver;
use crate::inspector::Inspector;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post, put};
use axum::{Router, http::StatusCode};
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use error::Failure;
use hyper_util::rt::TokioTimer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tepui_transport::Identity;
use tokio::sync::Semaphore;

pub(crate) use auth::Token;

/// Requests at once, waiting ones among them.
const REQUESTS: usize = 4_096;
/// Log readers at once: each holds a stream to an agent for as long as it likes.
const LOG_READERS: usize = 512;
/// How long a client may take to send its headers.
const HEADERS: Duration = Duration::from_secs(10);
/// How often a silent HTTP/2 client is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// How long requests may take to end once the master stops.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The identity's certificate or key cannot be read.
    #[error("the identity cannot be used for HTTPS")]
    Pem(#[from] pem::Error),
    /// TLS does not take them.
    #[error("the identity cannot be used for HTTPS")]
    Tls(#[from] rustls::Error),
}

/// What every route may use.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) driver: Driver,
    pub(crate) blobs: Blobs,
    pub(crate) inspector: Inspector,
    token: Token,
    requests: Semaphore,
    log_readers: Arc<Semaphore>,
}

type App = Arc<Services>;

impl Services {
    pub(crate) fn new(driver: Driver, blobs: Blobs, token: Token) -> Self {
        let inspector = Inspector::new(driver.clone(), blobs.clone());
        let requests = Semaphore::new(REQUESTS);
        Self {
            driver,
            blobs,
            inspector,
            token,
            requests,
            log_readers: Arc::new(Semaphore::new(LOG_READERS)),
        }
    }
}

/// Takes the address. Nobody is answered before the server is served.
pub(crate) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), HttpError> {
    let failed = |source| HttpError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// A server on that listener, to be served with [`router`].
pub(crate) fn server(
    listener: TcpListener,
    identity: &Identity,
    handle: Handle<SocketAddr>,
) -> Result<Server<SocketAddr, RustlsAcceptor<NoDelayAcceptor>>, HttpError> {
    let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let config = RustlsConfig::from_config(Arc::new(tls(identity)?));
    // Answers are a few small frames; with Nagle's algorithm each would wait 40 ms for the client's kernel.
    let acceptor = RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new());
    let server = axum_server::from_tcp(listener);
    let server = server.map_err(|source| HttpError::Listen { address, source })?;
    let mut server = server.handle(handle).acceptor(acceptor);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    server
        .http_builder()
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HEADERS)
        .max_concurrent_streams(STREAMS);
    Ok(server)
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

/// All routes. `openapi` describes the same ones.
pub(crate) fn router(services: Services) -> Router {
    let app: App = Arc::new(services);
    Router::new()
        .route("/v1/cluster", get(agents::cluster))
        .route("/v1/blobs", get(blobs::list))
        .route("/v1/blobs/{digest}", put(blobs::put).get(blobs::get))
        .route("/v1/modules/{digest}/check", post(modules::check))
        .route("/v1/frameworks", get(frameworks::list))
        .route("/v1/frameworks/{name}", put(frameworks::put).get(frameworks::get))
        .route("/v1/frameworks/{name}/events", get(frameworks::events))
        .route("/v1/frameworks/{name}/stop", post(frameworks::stop))
        .route("/v1/frameworks/{name}/blobs", get(frameworks::blobs))
        .route("/v1/frameworks/{name}/http", any(proxy::call))
        .route("/v1/frameworks/{name}/http/", any(proxy::call))
        .route("/v1/frameworks/{name}/http/{*path}", any(proxy::call))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{framework}/{task}", get(tasks::get))
        .route("/v1/tasks/{framework}/{task}/kill", post(tasks::kill))
        .route("/v1/tasks/{framework}/{task}/logs", get(logs::read))
        .route("/v1/agents", get(agents::list))
        .route("/v1/agents/{name}", get(agents::get))
        .route("/v1/agents/{name}/mode", put(agents::set_mode))
        .route(
            "/v1/agents/{name}/maintenance",
            put(agents::plan_maintenance).delete(agents::cancel_maintenance),
        )
        .route("/v1/agents/{name}/operations", post(agents::operate))
        .route("/v1/roles", get(roles::list).patch(roles::patch))
        .route("/v1/roles/{*role}", get(roles::get))
        .route("/v1/explain/framework/{name}", get(roles::explain_framework))
        .route("/v1/explain/role", get(roles::explain_role))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/metrics", get(metrics::text))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), admit))
        .with_state(app)
}

/// The door: who has no token learns nothing, not even which routes there are.
async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    if !app.token.admits(request.headers()) {
        return Failure::unauthorized().into_response();
    }
    let Ok(_permit) = app.requests.try_acquire() else {
        return Failure::too_many("requests").into_response();
    };
    next.run(request).await
}

fn unknown() -> Ready<Failure> {
    let failure =
        Failure::new(StatusCode::NOT_FOUND, "route-unknown", "there is no such address here")
            .hint("see /v1/openapi.json for those that are");
    ready(failure)
}

fn wrong_method() -> Ready<Failure> {
    let what = "this address does not take this method";
    let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", what)
        .hint("see /v1/openapi.json for those that it takes");
    ready(failure)
}
