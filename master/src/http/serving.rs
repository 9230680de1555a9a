//! What every request goes through: the token, its place among the others, and its place until the last byte is out.

use super::App;
use super::door::{Busy, Guest};
use super::error::Failure;
use crate::driver::{Stopped, View};
use crate::places::{Owner, Place, Places};
use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tepui_proto::limits;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Waits of one connection that may look at everything that happens, as soon as it does.
const FEW: usize = 16;
/// What a look costs the driver, generously: those of a connection with more look no more often than there is time for
/// all that wait.
const LOOK: Duration = Duration::from_micros(500);

/// The door lets in requests with the token alone: who has none learns nothing, not even which routes there are. A request
/// gets a place, and loses it if its connection has the most of all and others come.
pub(super) async fn admit(
    State(app): State<App>,
    Extension(guest): Extension<Arc<Guest>>,
    request: Request,
    next: Next,
) -> Response {
    let busy = guest.begin();
    let place = app.requests.take(guest.owner());
    let answered = async {
        // Its turn to look; what is looked at stays in memory until it is an answer.
        let turn = if is_look(&request) { app.looks.turn(&guest).await } else { None };
        (next.run(request).await, turn)
    };
    let (response, turn) = tokio::select! {
        biased;
        answered = answered => answered,
        () = place.lost() => return Failure::too_many("requests").into_response(),
    };
    // What is left waits in memory for as long as its reader likes. A reader that does not read cannot be told anything
    // but the end of its connection.
    let is_large = response.body().size_hint().lower() > limits::LARGE_BODY_BYTES;
    let places = if is_large { &app.large } else { &app.requests };
    drop((place, turn));
    let place = guest.take(places);
    response.map(|body| Body::new(Held { body, _place: place, _busy: busy }))
}

/// Routes that answer with much, which the driver puts together: pages, explanations, figures.
const LOOKS: [&str; 12] = [
    "/v1/blobs",
    "/v1/frameworks",
    "/v1/frameworks/{name}/events",
    "/v1/frameworks/{name}/blobs",
    "/v1/tasks",
    "/v1/agents",
    "/v1/roles",
    "/v1/roles/{*role}",
    "/v1/explain/framework/{name}",
    "/v1/explain/role",
    "/v1/openapi.json",
    "/metrics",
];

fn is_look(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    request.method() == Method::GET && path.is_some_and(|path| LOOKS.contains(&path.as_str()))
}

/// Who may look now: few at once, and of one connection fewer, so that whoever asks for much waits for themselves.
#[derive(Debug)]
pub(super) struct Looks(Semaphore);

impl Looks {
    /// In all, and of one connection.
    const ALL: usize = 8;
    pub(super) const EACH: usize = 2;

    pub(super) fn new() -> Self {
        Self(Semaphore::new(Self::ALL))
    }

    /// Waits for a turn, which lasts as long as what is given. None is given only once they are closed, which they never
    /// are. May be cancelled.
    async fn turn<'a>(
        &'a self,
        guest: &'a Guest,
    ) -> Option<(SemaphorePermit<'a>, SemaphorePermit<'a>)> {
        let own = guest.looks.acquire().await.ok()?;
        Some((own, self.0.acquire().await.ok()?))
    }
}

/// An answer that holds its places until it is out.
struct Held {
    body: Body,
    _place: Place,
    _busy: Busy,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body, and who sends it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) body: Body,
    /// Where a large one competes for a place.
    pub(super) large: Places,
    pub(super) owner: Owner,
}

impl FromRequest<App> for Sent {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let Sender(guest) = Sender::from_request_parts(&mut parts, app).await?;
        Ok(Self { body, large: app.large.clone(), owner: guest.owner() })
    }
}

/// Who sends a request.
#[derive(Debug)]
pub(super) struct Sender(pub(super) Arc<Guest>);

impl FromRequestParts<App> for Sender {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Failure> {
        // The door gives one to every request.
        let guest = parts.extensions.get::<Arc<Guest>>().cloned();
        guest.map(Self).ok_or_else(|| Failure::internal(&NoGuest, "internal"))
    }
}

/// A request that did not come through the door.
#[derive(Debug, thiserror::Error)]
#[error("a request without a connection")]
struct NoGuest;

/// Looks at the state until it has seen enough, or for so long, or until others need the place of who waits: all three
/// are answered with what was seen last, as clients that wait have to expect.
#[expect(clippy::too_many_arguments, reason = "as the driver's, and for whom")]
pub(super) async fn wait<T, F>(
    app: &App,
    Sender(guest): Sender,
    limit: Duration,
    pause: Duration,
    look: F,
    is_enough: impl Fn(&T) -> bool,
) -> Result<T, Stopped>
where
    T: Send + 'static,
    F: FnOnce(&View<'_>) -> T + Clone + Send + 'static,
{
    let begun = Instant::now();
    let place = app.waits.take(guest.owner());
    let over = async {
        place.lost().await;
        tokio::time::sleep_until(begun + Duration::from_millis(limits::WAIT_MS_MIN)).await;
    };
    let (all, own) = app.waits.crowd(&guest.owner());
    let pause =
        if own <= FEW { pause } else { pause.max(LOOK * u32::try_from(all).unwrap_or(u32::MAX)) };
    app.driver.wait(limit, pause, over, look, is_enough).await
}
