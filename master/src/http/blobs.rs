//! `/v1/blobs`: bytes in and out, streamed and checked.

use super::App;
use super::error::Failure;
use super::extract::{Paging, Params, Segments, chunks, digest};
use super::frameworks::AT_ONCE;
use super::serving::{Sender, Sent};
use crate::blobs::{BlobError, Uploader};
use crate::driver::View;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use tepui_master_core::{Code, Input, Refusal};
use tepui_proto::api::{BlobView, Page};
use tepui_proto::limits;

pub(super) async fn put(
    State(app): State<App>,
    Segments(name): Segments<String>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<(StatusCode, Json<BlobView>), Failure> {
    let digest = digest(&name)?;
    let look = move |view: &View<'_>| (view.leader.has_blob(&digest), view.leader.blob_count());
    let (known, count) = app.driver.query(look).await?;
    if let Some(size_bytes) = known {
        app.driver.tell(Input::BlobAskedFor(digest)).await?;
        return Ok((StatusCode::OK, Json(BlobView { digest: digest.to_string(), size_bytes })));
    }
    if count >= limits::BLOBS {
        let message = format!("the cluster has {count} blobs, which is as many as it may");
        return Err(Refusal::new(Code::LimitReached, message).into());
    }
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|size| size > limits::BLOB_BYTES) {
        return Err(BlobError::TooLarge { max: limits::BLOB_BYTES }.into());
    }
    let Sent { body, owner, .. } = sent;
    let from = Uploader::Person(owner);
    let stored = app.blobs.put(from, &digest, limits::BLOB_BYTES, Box::pin(chunks(body))).await?;
    let size_bytes = stored.size_bytes;
    app.driver.ask(AT_ONCE, |ticket| Input::BlobStored { ticket, digest, size_bytes }).await?;
    // Only now may it be removed again: the state knows it.
    drop(stored);
    Ok((StatusCode::CREATED, Json(BlobView { digest: digest.to_string(), size_bytes })))
}

/// `GET` and `HEAD`; the server leaves the body out of the latter.
pub(super) async fn get(
    State(app): State<App>,
    Sender(guest): Sender,
    Segments(name): Segments<String>,
) -> Result<Response, Failure> {
    let digest = digest(&name)?;
    // A file that the state does not know is as good as absent.
    if app.driver.query(move |view| view.leader.has_blob(&digest)).await?.is_none() {
        return Err(Failure::unknown_blob(digest));
    }
    // Whoever is told that it is here need not send it again.
    app.driver.tell(Input::BlobAskedFor(digest)).await?;
    let place = guest.take(&app.readers);
    let (size, chunks) = app.blobs.get(&digest).await?;
    // The place goes with the bytes.
    let chunks = stream::unfold((chunks, place), |(mut chunks, place)| async move {
        chunks.next().await.map(|chunk| (chunk, (chunks, place)))
    });
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, size.to_string()),
        (ETAG, format!("\"{digest}\"")),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

pub(super) async fn list(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<BlobView>>, Failure> {
    let look =
        move |view: &View<'_>| view.leader.blob_views(paging.after.as_deref(), paging.limit());
    Ok(Json(app.driver.query(look).await?))
}
