//! Local files on their way into the cluster's blob store: digests, what is lacking, streams.
//!
//! Never holds a large file in memory. Its one surprise: what the cluster has already is not sent again, so submitting
//! twice costs a question per file.

use crate::client::Client;
use crate::error::CliError;
use crate::out;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use reqwest::{Body, Method};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tepui_proto::{Digest, limits};
use tokio_util::io::ReaderStream;

/// Uploads at the same time: enough to hide the way there and back, few enough to leave the master to others.
const PARALLEL: usize = 8;
/// Read from a file at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Something to upload.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file, read as it is sent.
    File(PathBuf),
    /// Bytes that are here.
    Memory(Bytes),
}

/// Bytes with their digest.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    /// Their SHA-256.
    pub(crate) digest: Digest,
    /// How many.
    pub(crate) size_bytes: u64,
    /// Where they are.
    pub(crate) source: Source,
}

impl Upload {
    /// Bytes that are here.
    pub(crate) fn memory(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = Digest(Sha256::digest(&bytes).into());
        Self { digest, size_bytes: bytes.len() as u64, source: Source::Memory(bytes) }
    }

    /// Reads a file once, for its digest.
    ///
    /// # Errors
    /// When it cannot be read, or is larger than a blob may be.
    pub(crate) fn file(path: &Path) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::file("read", path, &error);
        let mut file = std::fs::File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(CliError::usage(format!(
                "cannot read `{}`: it is not a regular file",
                path.display()
            )));
        }
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut size_bytes = 0_u64;
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
            hash.update(read);
            size_bytes += read.len() as u64;
        }
        if size_bytes > limits::BLOB_BYTES {
            let (has, most) = (
                tepui_proto::resources::Bytes(size_bytes),
                tepui_proto::resources::Bytes(limits::BLOB_BYTES),
            );
            return Err(CliError::failed(format!(
                "cannot upload `{}`: it has {has}, and a blob may have {most}",
                path.display()
            )));
        }
        Ok(Self {
            digest: Digest(hash.finalize().into()),
            size_bytes,
            source: Source::File(path.to_owned()),
        })
    }

    fn body(&self, bar: &ProgressBar) -> Result<Body, CliError> {
        let path = match &self.source {
            Source::Memory(bytes) => {
                bar.inc(self.size_bytes);
                return Ok(Body::from(bytes.clone()));
            }
            Source::File(path) => path,
        };
        let file =
            std::fs::File::open(path).map_err(|error| CliError::file("read", path, &error))?;
        let bar = bar.clone();
        let reader = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
        Ok(Body::wrap_stream(reader.inspect_ok(move |chunk| bar.inc(chunk.len() as u64))))
    }
}

/// Digests of many files, on a thread that may block.
///
/// # Errors
/// As for [`Upload::file`], of the first file that fails.
pub(crate) async fn hash_all(paths: Vec<PathBuf>) -> Result<Vec<Upload>, CliError> {
    let hashed =
        tokio::task::spawn_blocking(move || paths.iter().map(|path| Upload::file(path)).collect());
    hashed
        .await
        .unwrap_or_else(|error| Err(CliError::failed("cannot read the files").because(&error)))
}

/// Uploads what the cluster lacks.
///
/// # Errors
/// The first refusal.
pub(crate) async fn upload_all(client: &Client, uploads: &[Upload]) -> Result<(), CliError> {
    // The same bytes under two names are sent once.
    let distinct: BTreeMap<Digest, &Upload> =
        uploads.iter().map(|upload| (upload.digest, upload)).collect();
    let lacking: Vec<Option<&Upload>> = stream::iter(distinct.into_values())
        .map(|upload| async move {
            has(client, upload.digest).await.map(|has| (!has).then_some(upload))
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let lacking: Vec<&Upload> = lacking.into_iter().flatten().collect();
    let bar = out::byte_bar(lacking.iter().map(|upload| upload.size_bytes).sum(), "uploading");
    let sent = stream::iter(lacking)
        .map(|upload| send(client, upload, &bar))
        .buffer_unordered(PARALLEL)
        .try_for_each(|()| async { Ok(()) })
        .await;
    bar.finish_and_clear();
    sent
}

/// Whether the cluster has these bytes.
///
/// # Errors
/// When the master cannot be asked.
pub(crate) async fn has(client: &Client, digest: Digest) -> Result<bool, CliError> {
    match client.send(client.request(Method::HEAD, &["blobs", &digest.to_string()])).await {
        Ok(_) => Ok(true),
        Err(error) if error.has_code("not-found") => Ok(false),
        Err(error) => Err(error),
    }
}

async fn send(client: &Client, upload: &Upload, bar: &ProgressBar) -> Result<(), CliError> {
    let what = match &upload.source {
        Source::File(path) => path.display().to_string(),
        Source::Memory(_) => format!("sha256:{}", upload.digest),
    };
    let request = client
        .request(Method::PUT, &["blobs", &upload.digest.to_string()])
        .header(reqwest::header::CONTENT_LENGTH, upload.size_bytes)
        .body(upload.body(bar)?);
    client
        .send(request)
        .await
        .map(drop)
        .map_err(|error| error.doing(format_args!("cannot upload `{what}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_the_same_bytes_have_one_digest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        let upload = Upload::file(file.path()).unwrap();
        assert_eq!(upload.digest, Upload::memory(&b"abc"[..]).digest);
        assert_eq!(
            upload.digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(upload.size_bytes, 3);
    }

    #[test]
    fn a_folder_is_no_blob() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Upload::file(dir.path()).is_err());
    }
}
