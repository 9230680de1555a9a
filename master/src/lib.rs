//! The master's shell: everything between the core, which decides, and the world.
//!
//! Owns the driver thread, the sessions with agents, the HTTP interface, the blobs, and the look into modules. Never
//! decides what the cluster does: that is `tepui-master-core`. Its one surprise: nothing here retries. What fails is
//! told to the core as a fact, or ends the master.

pub mod blobs;
mod driver;
mod http;
pub mod inspect;
mod inspector;
mod sessions;
pub mod setup;

use axum_server::Handle;
use blobs::Blobs;
use driver::{Command, Driver};
use http::{Services, Token};
use sessions::Hub;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tepui_transport::{EndpointError, Identity, IdentityError};

pub use blobs::OpenBlobsError;
pub use driver::DriverError;
pub use http::HttpError;
pub use tepui_master_core::allocator::Settings as AllocatorSettings;

/// How long agents may take to hear that the master stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// The settings of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterConfig {
    /// Where it keeps its log (`journal/`) and its blobs (`blobs/`). Made if it is not there.
    pub dir: PathBuf,
    /// Where people and tools are served, over HTTPS. Port 0 takes any.
    pub http: SocketAddr,
    /// Where agents are served, over QUIC. Port 0 takes any.
    pub quic: SocketAddr,
    /// Its certificate and key, and the authority that it and its agents trust.
    pub identity: PathBuf,
    /// A file with the bearer token that people and tools must have.
    pub token_file: PathBuf,
    /// How resources are given out.
    pub allocator: AllocatorSettings,
}

/// Where a master listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For people and tools.
    pub http: SocketAddr,
    /// For agents.
    pub quic: SocketAddr,
}

/// Why a master cannot start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// A file or folder.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of the token holds none.
    #[error("there is no token in `{}`", .0.display())]
    NoToken(PathBuf),
    /// Its identity cannot be read.
    #[error("cannot read the master's identity")]
    Identity(#[from] IdentityError),
    /// Blobs cannot be kept.
    #[error("cannot keep blobs")]
    Blobs(#[from] OpenBlobsError),
    /// The state cannot be recovered, or no longer be written down.
    #[error("the master's state cannot be kept")]
    Driver(#[from] DriverError),
    /// Agents cannot be served.
    #[error("cannot serve agents")]
    Listen(#[from] EndpointError),
    /// People and tools cannot be served.
    #[error("cannot serve HTTPS")]
    Http(#[from] HttpError),
    /// The HTTPS server ended by itself.
    #[error("the HTTPS server ended")]
    Serve(#[source] io::Error),
}

/// Runs a master until `shutdown`, or until it cannot go on. `ready` is called once it can be reached. To be called
/// within a multi-threaded tokio runtime.
///
/// # Errors
/// If it cannot start, or its log fails: then it stops rather than go on with what may not be written down.
pub async fn run<R, S>(config: MasterConfig, ready: R, shutdown: S) -> Result<(), MasterError>
where
    R: FnOnce(Addresses),
    S: Future<Output = ()>,
{
    let token = read_token(&config)?;
    let identity = Identity::load(&config.identity)?;
    let failed = |source| MasterError::File { path: config.dir.clone(), source };
    std::fs::create_dir_all(&config.dir).map_err(failed)?;
    let blobs = Blobs::open(&config.dir.join("blobs"))?;
    // Both addresses first: a master that is unreachable must not win a term.
    let (tcp, http) = http::listen(config.http)?;
    let mut listener = tepui_transport::server(&identity, config.quic)?;
    let quic = listener.local_address().map_err(failed)?;
    let handle = Handle::new();
    let server = http::server(tcp, &identity, handle.clone())?;
    let (driver, mut ended) =
        driver::start(&config.dir.join("journal"), blobs.clone(), config.allocator.clone())?;
    let router = http::router(Services::new(driver.clone(), blobs.clone(), token));
    let hub = Hub { driver: driver.clone(), blobs };
    ready(Addresses { http, quic });
    tracing::info!(%http, %quic, "the master is ready");
    let end = {
        let sessions = sessions::serve(&mut listener, hub);
        tokio::select! {
            () = shutdown => None,
            served = server.serve(router.into_make_service()) => Some(served.map_err(MasterError::Serve)),
            () = sessions => None,
            end = &mut ended => return said(end),
        }
    };
    handle.graceful_shutdown(Some(http::DRAIN));
    let stopped = stop(&driver, ended).await;
    handle.shutdown();
    listener.close(tepui_transport::CloseCode::Stopping);
    // Agents that are not told find out by themselves.
    tokio::time::timeout(GOODBYE, listener.wait_idle()).await.ok();
    stopped.and(end.unwrap_or(Ok(())))
}

/// Lets the driver commit what it has, and take a snapshot.
async fn stop(driver: &Driver, ended: driver::Ended) -> Result<(), MasterError> {
    // If it is gone already, it has said why.
    driver.send(Command::Stop).await.ok();
    said(ended.await)
}

fn said(
    end: Result<Result<(), DriverError>, tokio::sync::oneshot::error::RecvError>,
) -> Result<(), MasterError> {
    Ok(end.unwrap_or(Err(DriverError::Gone))?)
}

fn read_token(config: &MasterConfig) -> Result<Token, MasterError> {
    let path = &config.token_file;
    let text = std::fs::read_to_string(path)
        .map_err(|source| MasterError::File { path: path.clone(), source })?;
    Token::new(&text).ok_or_else(|| MasterError::NoToken(path.clone()))
}
