//! `/v1/cluster`, `/v1/agents`, `/v1/roles`: what there is.

use super::App;
use super::error::Failure;
use super::extract::{Paging, Params, Segments, wait_limit};
use crate::driver::View;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use std::time::Duration;
use tepui_proto::api::{AgentView, ClusterView, Page, RoleView};

/// Nobody needs to know sooner than this that agents came.
const PAUSE: Duration = Duration::from_millis(5);

/// `?agents=N&timeout_ms=`: waits until so many agents are connected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    agents: Option<u64>,
    timeout_ms: Option<u64>,
}

pub(super) async fn cluster(
    State(app): State<App>,
    Params(waiting): Params<Waiting>,
) -> Result<Json<ClusterView>, Failure> {
    let look = |view: &View<'_>| {
        let mut seen: ClusterView = view.leader.cluster_view();
        seen.index = view.index;
        seen
    };
    let Some(wanted) = waiting.agents else { return Ok(Json(app.driver.query(look).await?)) };
    let are_there = |seen: &ClusterView| seen.agents >= wanted;
    Ok(Json(app.driver.wait(wait_limit(waiting.timeout_ms), PAUSE, look, are_there).await?))
}

pub(super) async fn list(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<AgentView>>, Failure> {
    let look =
        move |view: &View<'_>| view.leader.agent_views(paging.after.as_deref(), paging.limit());
    Ok(Json(app.driver.query(look).await?))
}

pub(super) async fn get(
    State(app): State<App>,
    Segments(name): Segments<String>,
) -> Result<Json<AgentView>, Failure> {
    let wanted = name.clone();
    let seen = app.driver.query(move |view| view.leader.agent_view(&wanted)).await?;
    seen.map(Json).ok_or_else(|| {
        Failure::new(StatusCode::NOT_FOUND, "agent-unknown", format!("there is no agent `{name}`"))
    })
}

pub(super) async fn roles(State(app): State<App>) -> Result<Json<Page<RoleView>>, Failure> {
    Ok(Json(app.driver.query(|view| view.leader.role_views()).await?))
}
