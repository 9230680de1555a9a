//! `/v1/frameworks`: submitting, looking, stopping.

use super::App;
use super::auth::tenant;
use super::error::Failure;
use super::extract::{Paging, Params, Segments, json, page_limit, wait_limit};
use super::serving::{Sender, Sent, wait};
use crate::inspect::ModuleUse;
use crate::inspector::ModuleError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;
use tepui_master_core::{Code, Input, Refusal, ReplyBody};
use tepui_proto::api::{EventView, FrameworkPhase, FrameworkSpec, FrameworkView, Page};
use tepui_proto::control::ModuleKind;
use tepui_proto::tasks::Blob;
use tepui_proto::{Digest, limits};

/// A specification: a digest and a name for each entry of the bundle, and the settings.
const SPEC_BYTES: usize = limits::BUNDLE_ENTRIES * 256 + limits::CONFIG_BYTES * 2;
/// A submission waits for a compiler, perhaps behind others: two agents in a row may use all their time.
const SUBMIT: Duration = Duration::from_millis(2 * limits::COMPILE_WALL_MS + 30_000);
/// What the leader answers at once.
pub(super) const AT_ONCE: Duration = Duration::from_secs(30);
/// A view of a framework counts its tasks, so it is not made more often than this for one who waits.
const PAUSE: Duration = Duration::from_millis(20);

/// `?wait=ended&timeout_ms=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    wait: Option<WaitFor>,
    timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WaitFor {
    Ended,
}

/// `?after=&limit=`, by number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    after: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn put(
    State(app): State<App>,
    Segments(name): Segments<String>,
    sent: Sent,
) -> Result<(StatusCode, Json<FrameworkView>), Failure> {
    app.room.check_work()?;
    let spec: FrameworkSpec = json(sent, SPEC_BYTES).await?;
    if spec.name != name {
        let message = format!("`name` is `{}`, and the address says `{name}`", spec.name);
        return Err(Refusal::new(Code::InvalidSpec, message).into());
    }
    if spec.modules.len() + spec.blobs.len() > limits::BUNDLE_ENTRIES {
        let message =
            format!("`modules` and `blobs` have more than {} entries", limits::BUNDLE_ENTRIES);
        return Err(Refusal::new(Code::InvalidSpec, message).into());
    }
    let kinds = kinds(&app, &spec).await?;
    let input = |ticket| Input::FrameworkSubmitted {
        ticket,
        tenant: tenant(),
        spec: Box::new(spec),
        kinds,
    };
    match app.driver.ask(SUBMIT, input).await? {
        ReplyBody::Framework { view, upgraded: true } => Ok((StatusCode::OK, Json(*view))),
        ReplyBody::Framework { view, upgraded: false } => Ok((StatusCode::CREATED, Json(*view))),
        ReplyBody::Done | ReplyBody::Response(_) => Err(unexpected()),
    }
}

/// Looks into every module of a specification; says what each is.
async fn kinds(app: &App, spec: &FrameworkSpec) -> Result<Vec<(Digest, ModuleKind)>, Failure> {
    let mut kinds = Vec::new();
    let mut seen = BTreeSet::new();
    let scheduler = (String::from("scheduler"), &spec.scheduler, ModuleUse::Scheduler);
    let commands = spec
        .modules
        .iter()
        .map(|(name, text)| (format!("modules.{name}"), text, ModuleUse::Command));
    for (field, text, wanted) in std::iter::once(scheduler).chain(commands) {
        let digest = digest(&field, text)?;
        if !seen.insert((digest, wanted == ModuleUse::Scheduler)) {
            continue;
        }
        let kind = app.inspector.check(digest, wanted).await.map_err(|error| match error {
            ModuleError::Unknown(_) | ModuleError::Unfit { .. } => {
                Failure::from(error).within(&field)
            }
            error => error.into(),
        })?;
        kinds.push((digest, kind));
    }
    Ok(kinds)
}

fn digest(field: &str, text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error: tepui_proto::ids::DigestError| {
        Refusal::new(Code::InvalidSpec, format!("`{field}` is not a SHA-256: {error}")).into()
    })
}

/// The leader answered a question that was not asked.
pub(super) fn unexpected() -> Failure {
    tracing::error!("the leader answered with a reply of the wrong kind");
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the leader's answer makes no sense",
    )
}

pub(super) async fn list(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<FrameworkView>>, Failure> {
    let look = move |view: &crate::driver::View<'_>| {
        view.leader.framework_views(&tenant(), paging.after.as_deref(), paging.limit())
    };
    Ok(Json(app.driver.query(look).await?))
}

pub(super) async fn get(
    State(app): State<App>,
    sender: Sender,
    Segments(name): Segments<String>,
    Params(waiting): Params<Waiting>,
) -> Result<Json<FrameworkView>, Failure> {
    let wanted = name.clone();
    let look = move |view: &crate::driver::View<'_>| view.leader.framework_view(&tenant(), &wanted);
    let seen = match waiting.wait {
        None => app.driver.query(look).await?,
        Some(WaitFor::Ended) => {
            let has_ended = |seen: &Option<FrameworkView>| {
                seen.as_ref().is_none_or(|view| view.phase == FrameworkPhase::Ended)
            };
            wait(&app, sender, wait_limit(waiting.timeout_ms), PAUSE, look, has_ended).await?
        }
    };
    seen.map(Json).ok_or_else(|| Failure::unknown_framework(&name))
}

pub(super) async fn events(
    State(app): State<App>,
    Segments(name): Segments<String>,
    Params(after): Params<After>,
) -> Result<Json<Page<EventView>>, Failure> {
    let wanted = name.clone();
    let look = move |view: &crate::driver::View<'_>| {
        view.leader.event_views(
            &tenant(),
            &wanted,
            after.after.unwrap_or(0),
            page_limit(after.limit),
        )
    };
    app.driver.query(look).await?.map(Json).ok_or_else(|| Failure::unknown_framework(&name))
}

pub(super) async fn blobs(
    State(app): State<App>,
    Segments(name): Segments<String>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<Blob>>, Failure> {
    let wanted = name.clone();
    let look = move |view: &crate::driver::View<'_>| {
        let (after, limit) = (paging.after.as_deref(), paging.limit());
        view.leader.framework_blobs(&tenant(), &wanted, after, limit)
    };
    app.driver.query(look).await?.map(Json).ok_or_else(|| Failure::unknown_framework(&name))
}

pub(super) async fn stop(
    State(app): State<App>,
    Segments(name): Segments<String>,
) -> Result<StatusCode, Failure> {
    let input = |ticket| Input::FrameworkStopRequested { ticket, tenant: tenant(), name };
    app.driver.ask(AT_ONCE, input).await?;
    Ok(StatusCode::ACCEPTED)
}
