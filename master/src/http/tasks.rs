//! `/v1/tasks`: looking, waiting, killing.

use super::App;
use super::auth::tenant;
use super::error::Failure;
use super::extract::{Params, Segments, page_limit, wait_limit};
use super::frameworks::AT_ONCE;
use super::serving::{Sender, wait};
use crate::driver::View;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use std::time::Duration;
use tepui_master_core::Input;
use tepui_proto::api::{Page, TaskView};

/// `?framework=&after=&limit=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    framework: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// `?wait=final&timeout_ms=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    wait: Option<WaitFor>,
    timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WaitFor {
    Final,
}

pub(super) async fn list(
    State(app): State<App>,
    Params(listing): Params<Listing>,
) -> Result<Json<Page<TaskView>>, Failure> {
    let Listing { framework, after, limit } = listing;
    let known = framework.clone();
    let look = move |view: &View<'_>| {
        let page = view.leader.task_views(
            &tenant(),
            framework.as_deref(),
            after.as_deref(),
            page_limit(limit),
        );
        let is_known =
            framework.is_none_or(|name| view.leader.framework_view(&tenant(), &name).is_some());
        (page, is_known)
    };
    match (app.driver.query(look).await?, known) {
        ((_, false), Some(name)) => Err(Failure::unknown_framework(&name)),
        ((page, _), _) => Ok(Json(page)),
    }
}

/// A task that is waited for may not be launched yet: its scheduler has promised it, and offers have not come.
pub(super) async fn get(
    State(app): State<App>,
    sender: Sender,
    Segments((framework, task)): Segments<(String, String)>,
    Params(waiting): Params<Waiting>,
) -> Result<Json<TaskView>, Failure> {
    let (in_framework, wanted) = (framework.clone(), task.clone());
    let look = move |view: &View<'_>| view.leader.task_view(&tenant(), &in_framework, &wanted);
    let seen = match waiting.wait {
        None => app.driver.query(look).await?,
        Some(WaitFor::Final) => {
            let name = framework.clone();
            let is_known =
                move |view: &View<'_>| view.leader.framework_view(&tenant(), &name).is_some();
            if !app.driver.query(is_known).await? {
                return Err(Failure::unknown_framework(&framework));
            }
            let is_final =
                |seen: &Option<TaskView>| seen.as_ref().is_some_and(|view| view.state.is_final());
            wait(&app, sender, wait_limit(waiting.timeout_ms), Duration::ZERO, look, is_final)
                .await?
        }
    };
    seen.map(Json).ok_or_else(|| Failure::unknown_task(&framework, &task))
}

pub(super) async fn kill(
    State(app): State<App>,
    Segments((framework, task)): Segments<(String, String)>,
) -> Result<StatusCode, Failure> {
    let input = |ticket| Input::TaskKillRequested { ticket, tenant: tenant(), framework, task };
    app.driver.ask(AT_ONCE, input).await?;
    Ok(StatusCode::ACCEPTED)
}
