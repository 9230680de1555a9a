//! `/v1/modules`: whether a module can be used, before anyone depends on it.

use super::App;
use super::error::Failure;
use super::extract::{Params, Segments, digest};
use crate::inspect::ModuleUse;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::time::Duration;
use tepui_master_core::Input;
use tepui_proto::limits;

/// One compilation, and the way to an agent and back, perhaps twice.
const CHECK: Duration = Duration::from_millis(2 * limits::COMPILE_WALL_MS + 30_000);

/// `?kind=scheduler|command`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    kind: ModuleUse,
}

/// Looks at its structure, then has an agent compile it.
pub(super) async fn check(
    State(app): State<App>,
    Segments(name): Segments<String>,
    Params(wanted): Params<Check>,
) -> Result<Json<serde_json::Value>, Failure> {
    let digest = digest(&name)?;
    let kind = app.inspector.check(digest, wanted.kind).await?;
    app.driver.ask(CHECK, |ticket| Input::ModuleCheckRequested { ticket, digest, kind }).await?;
    Ok(Json(serde_json::json!({})))
}
