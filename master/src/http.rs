//! `/v1`: HTTPS and JSON for people and their tools.
//!
//! Owns the door: TLS, the token, and the bounds on what may come in. Never decides anything: each route asks the
//! driver. Its one surprise: a request that waits holds no thread and no lock, only a place among the bounded many.

mod agents;
mod auth;
mod blobs;
mod changes;
mod door;
mod error;
mod extract;
mod frameworks;
mod logs;
mod metrics;
mod modules;
mod openapi;
mod proxy;
mod roles;
mod serving;
mod strangers;
mod tasks;

use crate::blobs::Blobs;
use crate::descriptors::Shares;
use crate::driver::Driver;
use crate::inspector::Inspector;
use crate::places::Places;
use crate::room::Room;
use axum::routing::{any, get, post, put};
use axum::{Router, http::StatusCode, middleware};
use error::Failure;
use rustls::pki_types::pem;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tepui_proto::limits;
use tokio::net::{TcpListener, TcpSocket};

pub(crate) use auth::Token;
pub(crate) use door::Door;

/// Connections that the kernel has taken and this has not: while a crowd comes, the next one is not to be dropped.
const WAITING_OUTSIDE: u32 = 1_024;

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
    /// The thread that hears strangers cannot be had.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
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
    room: Room,
    /// Requests that are not answered to the last byte.
    requests: Places,
    /// Those of them that wait for something to happen. Fewer, so that who waits never keeps out who does not.
    waits: Places,
    /// Those that look at much.
    looks: serving::Looks,
    changes: changes::Changes,
    /// Those that wait for a scheduler's answer, by framework.
    calls: Places,
    /// Bodies, in either direction, that are large and in memory.
    large: Places,
    /// Blobs on their way to somebody: each has a file open.
    readers: Places,
    /// Logs on their way to somebody: each has a stream of an agent.
    log_readers: Places,
}

type App = Arc<Services>;

impl Services {
    pub(crate) fn new(driver: Driver, blobs: Blobs, shares: Shares) -> Self {
        let inspector = Inspector::new(driver.clone(), blobs.clone());
        Self {
            driver,
            room: blobs.room().clone(),
            blobs,
            inspector,
            requests: Places::new(limits::REQUESTS),
            waits: Places::new(limits::WAITS),
            looks: serving::Looks::new(),
            changes: changes::Changes::default(),
            calls: Places::new(limits::CALLS_OF_FRAMEWORKS),
            large: Places::new(limits::LARGE_BODIES),
            readers: Places::new(shares.readers),
            log_readers: Places::new(limits::LOG_READERS),
        }
    }
}

/// Takes the address. Nobody is answered before the door is served. To be called within a tokio runtime.
pub(crate) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), HttpError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A master that was killed and is back finds its port in use otherwise.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(WAITING_OUTSIDE)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(|source| HttpError::Listen { address, source })
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
        .layer(middleware::from_fn_with_state(Arc::clone(&app), serving::admit))
        .with_state(app)
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
