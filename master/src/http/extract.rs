//! What routes read from a request, each bounded, each refused with a code.

use super::error::Failure;
use super::serving::Sent;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::time::Duration;
use tepui_master_core::{Code, Refusal};
use tepui_proto::resources::NotationError;
use tepui_proto::{Digest, limits};

/// How long a client may take for a whole body that is no upload, all of which are small.
const BODY: Duration = Duration::from_secs(30);
/// Entries of a page, unless fewer are asked for.
const PAGE: usize = 1_000;
/// How long a request that waits does so, unless it says otherwise.
const WAIT_MS: u64 = 30_000;
/// The longest that a request may wait.
const WAIT_MS_MAX: u64 = 300_000;

/// The parts of the path.
#[derive(Debug)]
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(parts)) => Ok(Self(parts)),
            Err(rejection) => Err(Failure::invalid("invalid-path", rejection.body_text())),
        }
    }
}

/// The query. Unknown parameters are refused if `T` refuses them.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Failure::invalid("invalid-query", rejection.body_text())),
        }
    }
}

/// Which page of a listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    pub(super) after: Option<String>,
    limit: Option<usize>,
}

impl Paging {
    pub(super) fn limit(&self) -> usize {
        page_limit(self.limit)
    }
}

/// Entries of a page: as many as are asked for, within bounds.
pub(super) fn page_limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(PAGE).clamp(1, PAGE)
}

/// How long to wait, within bounds.
pub(super) fn wait_limit(timeout_ms: Option<u64>) -> Duration {
    Duration::from_millis(timeout_ms.unwrap_or(WAIT_MS).min(WAIT_MS_MAX))
}

/// A digest from a path or a manifest.
pub(super) fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error: tepui_proto::ids::DigestError| {
        let shown: String = text.chars().take(80).collect();
        Failure::invalid("invalid-digest", format!("`{shown}` is not a SHA-256: {error}"))
    })
}

/// A text in the notation of resources, from a field of a body.
pub(super) fn notation<T: FromStr<Err = NotationError>>(
    field: &str,
    text: &str,
) -> Result<T, Failure> {
    text.parse().map_err(|error: NotationError| {
        Failure::from(Refusal::new(Code::InvalidSpec, error.to_string()))
            .within(field)
            .hint("resources are written as `cpus:2;mem:1024;disk:0.5`, memory and disk in MiB")
    })
}

/// A body's bytes as they come.
pub(super) fn chunks(body: Body) -> impl Stream<Item = Result<Bytes, String>> + Send {
    body.into_data_stream().map_err(|error| error.to_string())
}

/// A whole body of at most `max` bytes. From some size on it needs a place, and is refused if others need it more.
pub(super) async fn bytes(sent: Sent, max: usize) -> Result<Vec<u8>, Failure> {
    let Sent { body, large: places, owner } = sent;
    let large = std::sync::OnceLock::new();
    let whole = async {
        let mut chunks = Box::pin(chunks(body));
        let mut whole = Vec::new();
        while let Some(bytes) = chunks.next().await {
            let bytes = bytes.map_err(|error| Failure::invalid("body-cut", error))?;
            if whole.len() + bytes.len() > max {
                return Err(Failure::body_too_large(max));
            }
            whole.extend_from_slice(&bytes);
            if whole.len() as u64 > limits::LARGE_BODY_BYTES {
                let place = large.get_or_init(|| places.take(owner.clone()));
                if place.is_lost() {
                    return Err(Failure::too_many("large bodies"));
                }
            }
        }
        Ok(whole)
    };
    let late = || format!("it was not over within {} s", BODY.as_secs());
    tokio::time::timeout(BODY, whole)
        .await
        .unwrap_or_else(|_elapsed| Err(Failure::invalid("body-cut", late())))
}

/// A whole body of JSON.
pub(super) async fn json<T: DeserializeOwned>(sent: Sent, max: usize) -> Result<T, Failure> {
    let bytes = bytes(sent, max).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::invalid("invalid-spec", format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::{Owner, Places};

    fn sent(body: &'static str) -> Sent {
        Sent { body: Body::from(body), large: Places::new(1), owner: Owner::named("a") }
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        assert_eq!(bytes(sent("12345"), 5).await.unwrap(), b"12345");
        assert_eq!(bytes(sent("123456"), 5).await.unwrap_err().code(), "body-too-large");
        assert_eq!(json::<u32>(sent("{"), 5).await.unwrap_err().code(), "invalid-spec");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_cut() {
        let drops = futures_util::stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let sent = Sent { body: Body::from_stream(drops), ..sent("") };
        assert_eq!(bytes(sent, 1 << 20).await.unwrap_err().code(), "body-cut");
    }

    #[test]
    fn pages_and_waits_are_bounded() {
        assert_eq!(
            (page_limit(None), page_limit(Some(0)), page_limit(Some(usize::MAX))),
            (PAGE, 1, PAGE)
        );
        assert_eq!(wait_limit(Some(u64::MAX)), Duration::from_millis(WAIT_MS_MAX));
        assert_eq!(digest("abc").unwrap_err().code(), "invalid-digest");
    }
}
