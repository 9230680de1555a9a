//! Looks into modules by their digest, and remembers what it saw.
//!
//! Owns the verdicts of this process; they follow from the bytes, so they never go stale. Bounded: how many modules
//! are looked at at once, and how many verdicts are kept.

use crate::blobs::{BlobError, Blobs};
use crate::driver::{Driver, Stopped};
use crate::inspect::{InspectError, ModuleUse, inspect};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use tepui_proto::control::ModuleKind;
use tepui_proto::{Digest, limits};
use tokio::sync::Semaphore;

/// Modules in memory at once, each up to 32 MiB.
const LOOKS: usize = 2;
/// Verdicts that are kept: some hundred bytes each.
const VERDICTS: usize = 4_096;

/// Why a module cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("module sha256:{0} is not uploaded")]
    Unknown(Digest),
    #[error("module sha256:{digest} cannot be used: {source}")]
    Unfit { digest: Digest, source: InspectError },
    #[error(transparent)]
    Blob(BlobError),
    #[error("the module could not be looked at")]
    Look(#[source] tokio::task::JoinError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

#[derive(Debug, Default)]
struct Verdicts {
    verdicts: BTreeMap<Digest, Result<ModuleKind, InspectError>>,
    /// The oldest first.
    order: VecDeque<Digest>,
}

/// Looks into modules.
#[derive(Debug)]
pub(crate) struct Inspector {
    driver: Driver,
    blobs: Blobs,
    looks: Semaphore,
    /// Held for a look-up at a time, never across an await.
    verdicts: Mutex<Verdicts>,
}

impl Inspector {
    pub(crate) fn new(driver: Driver, blobs: Blobs) -> Self {
        Self { driver, blobs, looks: Semaphore::new(LOOKS), verdicts: Mutex::default() }
    }

    /// What an uploaded module is, if it may be used as this.
    pub(crate) async fn check(
        &self,
        digest: Digest,
        wanted: ModuleUse,
    ) -> Result<ModuleKind, ModuleError> {
        let size = self.driver.query(move |view| view.leader.has_blob(&digest)).await?;
        let size = size.ok_or(ModuleError::Unknown(digest))?;
        let verdict = match self.known(&digest) {
            Some(verdict) => verdict,
            None if size > limits::MODULE_BYTES => Err(InspectError::TooLarge(size)),
            None => self.look(digest).await?,
        };
        verdict
            .and_then(|kind| wanted.check(kind))
            .map_err(|source| ModuleError::Unfit { digest, source })
    }

    async fn look(&self, digest: Digest) -> Result<Result<ModuleKind, InspectError>, ModuleError> {
        // Fails only once it is closed, which it never is.
        let _permit = self.looks.acquire().await.ok();
        let bytes = match self.blobs.read(&digest, limits::MODULE_BYTES).await {
            Ok(bytes) => bytes,
            Err(BlobError::Unknown(digest)) => return Err(ModuleError::Unknown(digest)),
            Err(error) => return Err(ModuleError::Blob(error)),
        };
        let look = tokio::task::spawn_blocking(move || inspect(&bytes));
        let verdict = look.await.map_err(ModuleError::Look)?;
        self.remember(digest, verdict.clone());
        Ok(verdict)
    }

    fn known(&self, digest: &Digest) -> Option<Result<ModuleKind, InspectError>> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.verdicts.get(digest).cloned()
    }

    fn remember(&self, digest: Digest, verdict: Result<ModuleKind, InspectError>) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.verdicts.insert(digest, verdict).is_none() {
            verdicts.order.push_back(digest);
        }
        if verdicts.order.len() > VERDICTS
            && let Some(oldest) = verdicts.order.pop_front()
        {
            verdicts.verdicts.remove(&oldest);
        }
    }
}
