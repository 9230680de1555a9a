//! Blobs by their SHA-256, on whatever `object_store` offers; a local folder for now.
//!
//! Owns the bytes. Never decides which blobs there are: the state does, and a file that the state does not know is as
//! good as absent. Its one surprise: what was stored is held against removal until its keeper is dropped, so that a
//! blob that is forgotten and uploaded again in one moment is not lost.

mod pace;
#[cfg(test)]
mod tests;

use crate::descriptors::Shares;
use crate::places::{Owner, Place, Places};
use crate::room::{DiskFull, Room};
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetResultPayload, MultipartUpload, ObjectStoreExt as _};
use pace::{PATIENCE, Pace};
use sha2::{Digest as _, Sha256};
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tepui_proto::{Digest, limits};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore};
use tokio_util::io::ReaderStream;

/// What is gathered before it is written: few enough calls, and little memory per upload.
const PART_BYTES: usize = 1 << 20;

/// Why a blob was not stored, or cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is none.
    #[error("there is no blob sha256:{0}")]
    Unknown(Digest),
    /// The bytes are others than were announced.
    #[error("the bytes are sha256:{got}, and sha256:{want} was announced")]
    DigestMismatch {
        /// What they should be.
        want: Digest,
        /// What they are.
        got: Digest,
    },
    /// More bytes than are allowed.
    #[error("it has more than {max} bytes, which is as many as it may have")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// Its bytes come too slowly: others wait for the place.
    #[error("its bytes come too slowly: less than {min} a second over {s} s", min = limits::UPLOAD_BYTES_PER_S,
        s = PATIENCE.as_secs())]
    TooSlow,
    /// Others need the place.
    #[error("as many blobs as may be are on their way, and most of them are of the same sender")]
    TooMany,
    /// There is no room for it.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// Whoever sent it stopped.
    #[error("its bytes stopped coming: {0}")]
    Source(String),
    /// The store failed.
    #[error("the blob store failed")]
    Store(#[source] object_store::Error),
    /// A file of the store cannot be read.
    #[error("the blob store failed")]
    Read(#[source] io::Error),
}

impl BlobError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "blob-unknown",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::TooLarge { .. } => "blob-too-large",
            Self::TooSlow => "upload-slow",
            Self::TooMany => "too-many-requests",
            Self::DiskFull(full) => full.code(),
            Self::Source(_) => "upload-cut",
            Self::Store(_) | Self::Read(_) => "blob-store",
        }
    }
}

/// Why a folder cannot be used for blobs.
#[derive(Debug, thiserror::Error)]
pub enum OpenBlobsError {
    /// A folder or file in it.
    #[error("cannot use `{}`", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store does not take it.
    #[error("cannot use `{}` for blobs", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: object_store::Error,
    },
}

/// A blob that was just stored, or is about to be. While it lives nothing is removed from the store.
#[derive(Debug)]
pub struct Stored {
    /// How many bytes.
    pub size_bytes: u64,
    _held: OwnedRwLockReadGuard<()>,
}

/// A blob's bytes as they come from the store.
pub type Chunks = BoxStream<'static, Result<Bytes, BlobError>>;

/// Who sends a blob. People and agents compete among themselves, never with each other: nobody's uploads stop the
/// outputs of tasks.
#[derive(Clone, Debug)]
pub(crate) enum Uploader {
    /// Somebody with the token.
    Person(Owner),
    /// An agent. Agents are the cluster's own, so they wait for each other, and none of theirs is cut for others.
    Agent,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<LocalFileSystem>,
    room: Room,
    /// Read by who stores, written by who removes.
    removal: Arc<RwLock<()>>,
    uploads: Places,
    outputs: Arc<Semaphore>,
    /// Agents' downloads; each has a file open. More wait: an agent that does not read is cut by its transport.
    fetches: Arc<Semaphore>,
}

impl Blobs {
    /// Opens a folder, which is made if need be; removes what uploads left that a crash cut off.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub(crate) fn open(folder: &Path, room: Room, shares: Shares) -> Result<Self, OpenBlobsError> {
        let failed = |source| OpenBlobsError::Folder { path: folder.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        sweep(folder, 0).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|source| OpenBlobsError::Store { path: folder.to_owned(), source })?;
        // Without this a blob is acknowledged that a power cut takes back.
        let store = Arc::new(store.with_fsync(true));
        Ok(Self {
            store,
            room,
            removal: Arc::new(RwLock::new(())),
            uploads: Places::new(shares.uploads),
            outputs: Arc::new(Semaphore::new(shares.uploads)),
            fetches: Arc::new(Semaphore::new(shares.fetches)),
        })
    }

    /// The room on its disk.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Stores what comes, if it hashes to `digest` and has at most `max` bytes. On disk when it returns.
    ///
    /// # Errors
    /// Other bytes, too many, no room for them, a source that fails or is slow, a store that fails. Nothing is then
    /// left behind.
    pub(crate) async fn put<S, E>(
        &self,
        from: Uploader,
        digest: &Digest,
        max: u64,
        mut source: S,
    ) -> Result<Stored, BlobError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Display,
    {
        // The permit fails only once the semaphore is closed, which it never is.
        let (place, _permit) = match from {
            Uploader::Person(owner) => (Some(self.uploads.take(owner)), None),
            Uploader::Agent => (None, self.outputs.acquire().await.ok()),
        };
        // Folders have to be made, too, and each of those takes a block.
        drop(self.room.grant(PART_BYTES as u64)?);
        let mut upload =
            self.store.put_multipart(&key(digest)).await.map_err(|error| self.failed(error))?;
        let taken = self.take(upload.as_mut(), place.as_ref(), digest, max, &mut source).await;
        let held = Arc::clone(&self.removal).read_owned().await;
        match taken {
            Ok(size_bytes) => {
                upload.complete().await.map_err(|error| self.failed(error))?;
                Ok(Stored { size_bytes, _held: held })
            }
            Err(error) => {
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(%digest, "a part of an upload could not be removed: {abort}");
                }
                Err(error)
            }
        }
    }

    /// Reads a source to its end into an upload, hashing on the way.
    #[expect(
        clippy::too_many_arguments,
        reason = "what was announced, and where it comes from and goes to"
    )]
    async fn take<S, E>(
        &self,
        upload: &mut dyn MultipartUpload,
        place: Option<&Place>,
        digest: &Digest,
        max: u64,
        source: &mut S,
    ) -> Result<u64, BlobError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Display,
    {
        let mut hash = Sha256::new();
        let mut size = 0_u64;
        let mut part = BytesMut::new();
        let mut pace = Pace::default();
        loop {
            let next = tokio::select! {
                biased;
                () = lost(place) => return Err(BlobError::TooMany),
                next = pace.next(source) => next?,
            };
            let Some(bytes) = next else { break };
            size = size.saturating_add(bytes.len() as u64);
            if size > max {
                return Err(BlobError::TooLarge { max });
            }
            hash.update(&bytes);
            part.extend_from_slice(&bytes);
            if part.len() >= PART_BYTES {
                self.write(upload, part.split().freeze()).await?;
                if let Some(place) = place {
                    place.touch();
                }
            }
        }
        let got = Digest(hash.finalize().into());
        if got != *digest {
            return Err(BlobError::DigestMismatch { want: *digest, got });
        }
        if !part.is_empty() {
            self.write(upload, part.freeze()).await?;
        }
        Ok(size)
    }

    async fn write(&self, upload: &mut dyn MultipartUpload, part: Bytes) -> Result<(), BlobError> {
        let granted = self.room.grant(part.len() as u64)?;
        let written = upload.put_part(part.into()).await;
        drop(granted);
        written.map_err(|error| self.failed(error))
    }

    /// A store that failed because its disk is full is not broken.
    fn failed(&self, error: object_store::Error) -> BlobError {
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && error.kind() == io::ErrorKind::StorageFull
            {
                return BlobError::DiskFull(self.room.full());
            }
            cause = error.source();
        }
        BlobError::Store(error)
    }

    /// A blob's size and bytes.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn get(&self, digest: &Digest) -> Result<(u64, Chunks), BlobError> {
        let got = self.store.get(&key(digest)).await.map_err(|error| unknown(digest, error))?;
        let size = got.meta.size;
        let chunks = match got.payload {
            // The store's own stream reads 8 KiB at a time.
            GetResultPayload::File(file, _) => {
                let file = tokio::fs::File::from_std(file);
                ReaderStream::with_capacity(file, limits::BLOB_CHUNK_BYTES)
                    .map_err(BlobError::Read)
                    .boxed()
            }
            GetResultPayload::Stream(stream) => stream.map_err(BlobError::Store).boxed(),
        };
        Ok((size, chunks))
    }

    /// As [`Self::get`], for an agent: waits while too many are on their way.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn fetch(&self, digest: &Digest) -> Result<Chunks, BlobError> {
        // Fails only once it is closed, which it never is.
        let permit = Arc::clone(&self.fetches).acquire_owned().await.ok();
        let (_, chunks) = self.get(digest).await?;
        // The permit goes with the bytes.
        let held = stream::unfold((chunks, permit), |(mut chunks, permit)| async move {
            chunks.next().await.map(|chunk| (chunk, (chunks, permit)))
        });
        Ok(held.boxed())
    }

    /// All bytes of a small blob.
    ///
    /// # Errors
    /// If there is none, it has more than `max` bytes, or the store fails.
    pub async fn read(&self, digest: &Digest, max: u64) -> Result<Bytes, BlobError> {
        let got = self.store.get(&key(digest)).await.map_err(|error| unknown(digest, error))?;
        if got.meta.size > max {
            return Err(BlobError::TooLarge { max });
        }
        got.bytes().await.map_err(BlobError::Store)
    }

    /// Waits until nobody stores, and lets nobody store while the guard lives: to be held while [`Self::remove`] is
    /// called for what the state, asked after this, does not know.
    pub async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.removal).write_owned().await
    }

    /// Removes a blob. One that is not there is no error.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove(
        &self,
        digest: &Digest,
        _held: &OwnedRwLockWriteGuard<()>,
    ) -> Result<(), BlobError> {
        match self.store.delete(&key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::Store(error)),
        }
    }
}

async fn lost(place: Option<&Place>) {
    match place {
        Some(place) => place.lost().await,
        None => std::future::pending().await,
    }
}

fn unknown(digest: &Digest, error: object_store::Error) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::Unknown(*digest),
        error => BlobError::Store(error),
    }
}

/// `sha256/aa/bb/<hex>`: folders of some hundred entries, however many blobs there are.
fn key(digest: &Digest) -> Key {
    let hex = digest.to_string();
    let (first, rest) = hex.split_at(2);
    let (second, _) = rest.split_at(2);
    Key::from(format!("sha256/{first}/{second}/{hex}"))
}

/// Removes the files that unfinished uploads leave: the store names them `<key>#<number>`.
fn sweep(folder: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        if is_folder && depth < 3 {
            sweep(&entry.path(), depth + 1)?;
        } else if !is_folder && entry.file_name().to_string_lossy().contains('#') {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
