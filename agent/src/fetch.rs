//! Blobs from the master into a file: checked against their digest, whole or not at all.
//!
//! Waits while there is no master: what asks for a blob has nothing better to do, and is told when it is killed.

use sha2::{Digest as _, Sha256};
use std::io;
use std::path::Path;
use std::time::Duration;
use tepui_proto::Digest;
use tepui_proto::control::AgentStream;
use tepui_transport::Connection;
use tepui_transport::blob::{BlobError, BlobReader};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use crate::room;

/// How often a transfer is begun again after its connection or stream broke.
pub(crate) const ATTEMPTS: u32 = 6;
/// The wait before the first repetition; doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a blob is not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the master does not have it: {0}")]
    Missing(String),
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    #[error("its bytes do not have its digest")]
    Digest,
    #[error("cannot write it: {0}")]
    Write(#[from] io::Error),
    #[error("the connection broke, {ATTEMPTS} times: {0}")]
    Lost(String),
}

/// The way to the master that has said welcome, while there is one.
#[derive(Clone, Debug)]
pub(crate) struct Link(pub(crate) watch::Receiver<Option<Connection>>);

impl Link {
    /// The connection, as soon as there is one. None if the agent stops.
    pub(crate) async fn connection(&mut self) -> Option<Connection> {
        match self.0.wait_for(Option::is_some).await {
            Ok(connection) => connection.clone(),
            Err(_stopping) => None,
        }
    }

    /// Puts a blob into a new file at `path`; says how large it is. On failure there may be a part of it.
    pub(crate) async fn fetch(
        &mut self,
        digest: Digest,
        path: &Path,
        max: u64,
    ) -> Result<u64, FetchError> {
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let Some(connection) = self.connection().await else { break };
            match fetch_once(&connection, digest, path, max).await {
                Err(FetchError::Lost(why)) => last = why,
                done => return done,
            }
        }
        Err(FetchError::Lost(last))
    }
}

/// Waits before a repetition.
pub(crate) async fn pause(attempt: u32) {
    if attempt > 0 {
        tokio::time::sleep(PAUSE * (1_u32 << attempt.min(10))).await;
    }
}

async fn fetch_once(
    connection: &Connection,
    digest: Digest,
    path: &Path,
    max: u64,
) -> Result<u64, FetchError> {
    let lost = |error: &dyn std::fmt::Display| FetchError::Lost(error.to_string());
    let (mut writer, mut reader) = connection.open().await.map_err(|error| lost(&error))?;
    writer.write(&AgentStream::Fetch(digest)).await.map_err(|error| lost(&error))?;
    writer.finish().await.map_err(|error| lost(&error))?;
    let mut file = tokio::fs::File::create(path).await?;
    let mut chunks = BlobReader::new(&mut reader, max);
    let mut hash = Sha256::new();
    loop {
        match chunks.next().await {
            Ok(Some(bytes)) => {
                room::check(path)?;
                hash.update(&bytes);
                file.write_all(&bytes).await?;
            }
            Ok(None) => break,
            Err(BlobError::Missing(why)) => return Err(FetchError::Missing(why)),
            Err(BlobError::TooLarge { max }) => return Err(FetchError::TooLarge(max)),
            Err(error) => return Err(lost(&error)),
        }
    }
    file.flush().await?;
    if <[u8; 32]>::from(hash.finalize()) != digest.0 {
        return Err(FetchError::Digest);
    }
    Ok(chunks.total())
}
