//! The master's shell: everything between the core, which decides, and the world.
//!
//! Owns the driver thread, the sessions with agents, the HTTP interface, the blobs, and the look into modules. Never
//! decides what the cluster does: that is `tepui-master-core`. Its one surprise: nothing here retries. What fails is
//! told to the core as a fact, or ends the master.

pub mod blobs;
mod descriptors;
mod driver;
mod http;
pub mod inspect;
mod inspector;
mod places;
mod quotas;
mod room;
mod sessions;
pub mod setup;

use blobs::Blobs;
use descriptors::Shares;
use driver::{Command, Driver};
use http::{Door, Services, Token};
use quotas::Quotas;
use room::{Reserve, Room};
use sessions::Hub;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tepui_proto::limits;
use tepui_proto::resources::Bytes;
use tepui_transport::{EndpointError, Identity, IdentityError, PeerRole};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use blobs::OpenBlobsError;
pub use driver::DriverError;
pub use http::HttpError;
pub use room::DiskFull;
pub use tepui_master_core::allocator::Settings as AllocatorSettings;

/// How long people and agents may take to hear that the master stops.
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
    /// Bytes of its disk that blobs leave to its journal; a part of the disk unless it is said.
    pub disk_reserve: Option<u64>,
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
    /// The certificate is not a master's.
    #[error("the certificate is for {0}, and this is a master")]
    NotMaster(String),
    /// The reserve leaves nothing of the disk.
    #[error("a reserve of {asked}, and the disk has {total}", asked = Bytes(*asked), total = Bytes(*total))]
    Reserve {
        /// What was asked for.
        asked: u64,
        /// What there is.
        total: u64,
    },
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
    let identity = identity(&config.identity)?;
    let failed = |source| MasterError::File { path: config.dir.clone(), source };
    make_private(&config.dir).map_err(failed)?;
    let total = room::total(&config.dir).map_err(failed)?;
    if let Some(asked) = config.disk_reserve.filter(|asked| *asked >= total) {
        return Err(MasterError::Reserve { asked, total });
    }
    let shares = Shares::claim();
    // Both addresses first: a master that is unreachable must not win a term.
    let (tcp, http) = http::listen(config.http)?;
    let mut listener = tepui_transport::server(&identity, config.quic)?;
    let quic = listener.local_address().map_err(failed)?;
    let door = Door::new(tcp, &identity, token, shares)?;
    let reserve = Reserve::of(&config.dir, config.disk_reserve).map_err(failed)?;
    let recovered = driver::recover(&config.dir.join("journal"), reserve.ballast)?;
    let room = Room::new(Arc::clone(recovered.room()), reserve);
    // Its log says so at once, if nothing can be taken in.
    room.check_work().ok();
    let blobs = Blobs::open(&config.dir.join("blobs"), room, shares)?;
    let (driver, mut ended) = driver::start(recovered, blobs.clone(), config.allocator.clone())?;
    let router = http::router(Services::new(driver.clone(), blobs.clone(), shares));
    let quotas = Quotas::new(total / limits::FRAMEWORK_OUTPUTS_PART);
    let hub = Hub { driver: driver.clone(), blobs, quotas };
    ready(Addresses { http, quic });
    tracing::info!(%http, %quic, "the master is ready");
    let stopping = CancellationToken::new();
    let mut served = AbortOnDropHandle::new(tokio::spawn(door.serve(router, stopping.clone())));
    {
        let sessions = sessions::serve(&mut listener, hub);
        tokio::select! {
            () = shutdown => {}
            () = sessions => {}
            end = &mut ended => return said(end),
        }
    }
    stopping.cancel();
    let stopped = stop(&driver, ended).await;
    listener.close(tepui_transport::CloseCode::Stopping);
    // Who waits is answered now that the driver is gone; agents that are not told find out by themselves.
    let goodbye = async { tokio::join!(&mut served, listener.wait_idle()) };
    tokio::time::timeout(GOODBYE, goodbye).await.ok();
    stopped
}

/// A master's identity: dialers believe no other, and would try for ever.
fn identity(path: &Path) -> Result<Identity, MasterError> {
    let identity = Identity::load(path)?;
    match identity.peer() {
        Ok(peer) if peer.role == PeerRole::Master => Ok(identity),
        Ok(peer) => Err(MasterError::NotMaster(peer.to_string())),
        Err(error) => Err(MasterError::NotMaster(error.to_string())),
    }
}

/// Makes a folder that only its owner may look into, and takes from others what an earlier version gave them: there are
/// modules, outputs and the environments of tasks in it.
fn make_private(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mode = std::fs::metadata(folder)?.permissions().mode();
    let of_others = mode & 0o077;
    if of_others == 0 {
        return Ok(());
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode & 0o700))
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
