//! Blobs by their SHA-256, on whatever `object_store` offers; a local folder for now.
//!
//! Owns the bytes. Never decides which blobs there are: the state does, and a file that the state does not know is as
//! good as absent. Its one surprise: what was stored is held against removal until its keeper is dropped, so that a
//! blob that is forgotten and uploaded again in one moment is not lost.

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetResultPayload, MultipartUpload, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tepui_proto::{Digest, limits};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore};
use tokio_util::io::ReaderStream;

/// What is gathered before it is written: few enough calls, and little memory per upload.
const PART_BYTES: usize = 1 << 20;
/// Uploads at once; more wait for their turn.
const UPLOADS: usize = 64;

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

/// The store.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<LocalFileSystem>,
    /// Read by who stores, written by who removes.
    removal: Arc<RwLock<()>>,
    uploads: Arc<Semaphore>,
}

impl Blobs {
    /// Opens a folder, which is made if need be; removes what uploads left that a crash cut off.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self, OpenBlobsError> {
        let failed = |source| OpenBlobsError::Folder { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        sweep(folder, 0).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|source| OpenBlobsError::Store { path: folder.to_owned(), source })?;
        // Without this a blob is acknowledged that a power cut takes back.
        let store = Arc::new(store.with_fsync(true));
        Ok(Self {
            store,
            removal: Arc::new(RwLock::new(())),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
        })
    }

    /// Stores what comes, if it hashes to `digest` and has at most `max` bytes. On disk when it returns.
    ///
    /// # Errors
    /// Other bytes, too many, a source or a store that fails. Nothing is then left behind.
    pub async fn put<S, E>(
        &self,
        digest: &Digest,
        max: u64,
        mut source: S,
    ) -> Result<Stored, BlobError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Display,
    {
        // Fails only once it is closed, which it never is.
        let _permit = self.uploads.acquire().await.ok();
        let mut upload = self.store.put_multipart(&key(digest)).await.map_err(BlobError::Store)?;
        let taken = take(upload.as_mut(), digest, max, &mut source).await;
        let held = Arc::clone(&self.removal).read_owned().await;
        match taken {
            Ok(size_bytes) => {
                upload.complete().await.map_err(BlobError::Store)?;
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

    /// A blob's size and bytes.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn get(&self, digest: &Digest) -> Result<(u64, Chunks), BlobError> {
        let got = self.store.get(&key(digest)).await.map_err(|error| lost(digest, error))?;
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

    /// All bytes of a small blob.
    ///
    /// # Errors
    /// If there is none, it has more than `max` bytes, or the store fails.
    pub async fn read(&self, digest: &Digest, max: u64) -> Result<Bytes, BlobError> {
        let got = self.store.get(&key(digest)).await.map_err(|error| lost(digest, error))?;
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

fn lost(digest: &Digest, error: object_store::Error) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::Unknown(*digest),
        error => BlobError::Store(error),
    }
}

/// Reads a source to its end into an upload, hashing on the way.
async fn take<S, E>(
    upload: &mut dyn MultipartUpload,
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
    while let Some(bytes) = source.next().await {
        let bytes = bytes.map_err(|error| BlobError::Source(error.to_string()))?;
        size = size.saturating_add(bytes.len() as u64);
        if size > max {
            return Err(BlobError::TooLarge { max });
        }
        hash.update(&bytes);
        part.extend_from_slice(&bytes);
        if part.len() >= PART_BYTES {
            upload.put_part(part.split().freeze().into()).await.map_err(BlobError::Store)?;
        }
    }
    let got = Digest(hash.finalize().into());
    if got != *digest {
        return Err(BlobError::DigestMismatch { want: *digest, got });
    }
    if !part.is_empty() {
        upload.put_part(part.freeze().into()).await.map_err(BlobError::Store)?;
    }
    Ok(size)
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    fn pieces(
        bytes: &[u8],
    ) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin + use<> {
        let pieces: Vec<_> =
            bytes.chunks(70_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        stream::iter(pieces)
    }

    fn digest(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                names.extend(files(&entry.path()));
            } else {
                names.push(entry.file_name().into_string().unwrap());
            }
        }
        names
    }

    #[tokio::test]
    async fn a_blob_comes_back_as_it_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        for bytes in [vec![], vec![7; 10], vec![9; 3 * PART_BYTES + 1]] {
            let digest = digest(&bytes);
            let stored = blobs.put(&digest, limits::BLOB_BYTES, pieces(&bytes)).await.unwrap();
            assert_eq!(stored.size_bytes, bytes.len() as u64);
            let (size, chunks) = blobs.get(&digest).await.unwrap();
            let got: Vec<Bytes> = chunks.try_collect().await.unwrap();
            assert_eq!((size, got.concat()), (bytes.len() as u64, bytes.clone()));
            assert_eq!(blobs.read(&digest, u64::MAX).await.unwrap(), bytes);
        }
    }

    #[tokio::test]
    async fn what_is_refused_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let other = digest(b"other");
        let refused = blobs.put(&other, 100, pieces(b"bytes")).await.unwrap_err();
        assert_eq!(refused.code(), "digest-mismatch");
        let large = vec![1; 2 * PART_BYTES];
        let refused = blobs
            .put(&digest(&large), 2 * PART_BYTES as u64 - 1, pieces(&large))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), "blob-too-large");
        let cut = stream::iter([Ok(Bytes::from_static(b"by")), Err("gone")]);
        assert_eq!(blobs.put(&other, 100, cut).await.unwrap_err().code(), "upload-cut");
        assert_eq!(files(folder.path()), Vec::<String>::new());
        assert_eq!(blobs.get(&other).await.err().map(|error| error.code()), Some("blob-unknown"));
    }

    #[tokio::test]
    async fn removed_blobs_are_unknown_and_removing_them_again_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = digest(b"bytes");
        drop(blobs.put(&digest, 100, pieces(b"bytes")).await.unwrap());
        let held = blobs.hold().await;
        blobs.remove(&digest, &held).await.unwrap();
        blobs.remove(&digest, &held).await.unwrap();
        assert_eq!(blobs.read(&digest, 100).await.unwrap_err().code(), "blob-unknown");
    }

    #[test]
    fn what_a_crash_cut_off_is_swept_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("sha256/aa/bb");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("aabb#1"), b"half").unwrap();
        fs::write(deep.join("aabb"), b"whole").unwrap();
        Blobs::open(folder.path()).unwrap();
        assert_eq!(files(folder.path()), ["aabb"]);
    }
}
