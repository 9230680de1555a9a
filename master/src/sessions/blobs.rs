//! Blob streams of agents: one blob each, fetched or stored.

use super::Hub;
use super::agent::FIRST_FRAME;
use crate::blobs::Uploader;
use crate::driver::View;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tepui_master_core::Input;
use tepui_proto::control::{AgentStream, BlobChunk, StoreAnswer};
use tepui_proto::frame::FrameError;
use tepui_proto::{Digest, LaunchNumber, limits};
use tepui_transport::StreamError;
use tepui_transport::blob::{self, BlobError, BlobReader};
use tepui_transport::session::{QuicReader, QuicWriter};
use tokio::sync::Semaphore;
use tokio_util::io::StreamReader;

/// How long the state may take to know a blob that is on disk.
const COMMIT: Duration = Duration::from_secs(30);

/// Serves one stream. Only a stream that breaks the rules is an error; what cannot be done is told to the agent.
pub(super) async fn serve(
    mut writer: QuicWriter,
    mut reader: QuicReader,
    agent: String,
    stores: Arc<Semaphore>,
    hub: Hub,
) -> Result<(), StreamError> {
    match reader.read_within(FIRST_FRAME).await? {
        Some(AgentStream::Fetch(digest)) => fetch(&digest, &mut writer, &hub).await?,
        Some(AgentStream::Store { launch, digest, size_bytes }) => {
            let stored = match admit(&agent, launch, size_bytes, &hub).await {
                Ok(()) => store(&stores, &digest, size_bytes, &mut reader, &hub).await,
                refused => refused,
            };
            let answer = match stored {
                Ok(()) => StoreAnswer::Stored,
                Err(reason) => StoreAnswer::Refused(reason),
            };
            writer.write(&answer).await?;
        }
        // There is one control stream, and it is open already.
        Some(AgentStream::Control) => return Err(FrameError::Body.into()),
        None => {}
    }
    writer.finish().await
}

async fn fetch(digest: &Digest, writer: &mut QuicWriter, hub: &Hub) -> Result<(), StreamError> {
    let chunks = match hub.blobs.fetch(digest).await {
        Ok(chunks) => chunks,
        Err(error) => return writer.write(&BlobChunk::Missing(error.to_string())).await,
    };
    let mut source = StreamReader::new(chunks.map_err(io::Error::other));
    match blob::send(&mut source, writer).await {
        Ok(_) => Ok(()),
        Err(BlobError::Stream(error)) => Err(error),
        Err(error) => {
            tracing::warn!(%digest, cause = ?error, "a blob could not be sent: {error}");
            Ok(())
        }
    }
}

/// Whether there is a task of that agent's whose output this can be, and its framework may have more.
async fn admit(
    agent: &str,
    launch: LaunchNumber,
    size_bytes: u64,
    hub: &Hub,
) -> Result<(), String> {
    let agent = agent.to_owned();
    let look =
        move |view: &View<'_>| (view.leader.launched_for(&agent, launch), view.leader.blob_count());
    let (framework, blobs) = hub.driver.query(look).await.map_err(|error| error.to_string())?;
    let framework =
        framework.ok_or_else(|| format!("launch {} is none of this agent's", launch.0))?;
    if blobs >= limits::BLOBS {
        return Err(format!("the cluster has {blobs} blobs, which is as many as it may"));
    }
    if hub.quotas.is_unknown(framework) {
        let look = move |view: &View<'_>| view.leader.output_bytes(framework);
        let kept = hub.driver.query(look).await.map_err(|error| error.to_string())?;
        hub.quotas.keep(framework, kept);
    }
    hub.quotas.take(framework, size_bytes).map_err(|over| over.to_string())
}

async fn store(
    stores: &Semaphore,
    digest: &Digest,
    size_bytes: u64,
    reader: &mut QuicReader,
    hub: &Hub,
) -> Result<(), String> {
    if size_bytes > limits::BLOB_BYTES {
        return Err(format!("it has {size_bytes} bytes, and {} are allowed", limits::BLOB_BYTES));
    }
    // So that one agent does not take all places from the others; fails only once it is closed, which it never is.
    let _permit = stores.acquire().await.ok();
    let chunks = stream::try_unfold(BlobReader::new(reader, size_bytes), |mut chunks| async move {
        Ok::<_, BlobError>(chunks.next().await?.map(|bytes| (Bytes::from(bytes), chunks)))
    });
    let stored = hub
        .blobs
        .put(Uploader::Agent, digest, size_bytes, Box::pin(chunks))
        .await
        .map_err(|error| error.to_string())?;
    let (digest, size_bytes) = (*digest, stored.size_bytes);
    let known =
        hub.driver.ask(COMMIT, |ticket| Input::BlobStored { ticket, digest, size_bytes }).await;
    // Only now may it be removed again: the state knows it.
    drop(stored);
    known.map(drop).map_err(|refusal| refusal.to_string())
}
