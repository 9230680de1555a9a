//! `/v1/roles`, `/v1/explain`: what is set for roles, and why somebody is offered what they are.

use super::App;
use super::auth::tenant;
use super::error::Failure;
use super::extract::{Paging, Params, Segments, json, notation};
use super::frameworks::AT_ONCE;
use super::serving::{Sender, Sent};
use crate::driver::View;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use tepui_master_core::{Code, Input, Refusal};
use tepui_proto::api::{
    FrameworkExplanation, Page, RoleExplanation, RolePatch, RoleView, RolesPatch,
};
use tepui_proto::roles::RoleChange;
use tepui_proto::{Role, limits, names};

/// Changes of one request: a thousand roles, and a line of text for each.
const BODY: usize = 1 << 20;

/// `?role=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfRole {
    role: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<RoleView>>, Failure> {
    let look =
        move |view: &View<'_>| view.leader.role_views(paging.after.as_deref(), paging.limit());
    Ok(Json(app.driver.query(look).await?))
}

pub(super) async fn get(
    State(app): State<App>,
    Segments(role): Segments<String>,
) -> Result<Json<RoleView>, Failure> {
    check(&role)?;
    let wanted = [Role::from(role.as_str())];
    let seen = app.driver.query(move |view| view.leader.views_of_roles(&wanted)).await?;
    seen.into_iter().next().map(Json).ok_or_else(|| Failure::unknown_role(&role))
}

/// Changes settings, all or nothing. The answer is those roles as they are then.
pub(super) async fn patch(
    State(app): State<App>,
    Sender(guest): Sender,
    sent: Sent,
) -> Result<Json<Page<RoleView>>, Failure> {
    let RolesPatch { changes, force } = json(sent, BODY).await?;
    let changes = changes.iter().map(change).collect::<Result<Vec<RoleChange>, Failure>>()?;
    let roles: Vec<Role> = changes.iter().map(|change| change.role.clone()).collect();
    let mut seen = HashSet::new();
    if let Some(twice) = roles.iter().find(|role| !seen.insert(role.as_str())) {
        let message = format!("`changes`: the role `{twice}` stands there twice");
        return Err(Refusal::new(Code::InvalidSpec, message).into());
    }
    drop(seen);
    let services = Arc::clone(&app);
    let change = async move { set(&services, changes, force, roles).await };
    Ok(Json(Page { items: app.changes.make(&guest, change).await?, next: None }))
}

async fn set(
    app: &App,
    changes: Vec<RoleChange>,
    force: bool,
    roles: Vec<Role>,
) -> Result<Vec<RoleView>, Failure> {
    app.driver.ask(AT_ONCE, |ticket| Input::RolesChanged { ticket, changes, force }).await?;
    Ok(app.driver.query(move |view| view.leader.views_of_roles(&roles)).await?)
}

fn change(patch: &RolePatch) -> Result<RoleChange, Failure> {
    let RolePatch { role, weight_milli, guarantee, limit, packing } = patch;
    let scalars = |field: &str, text: &Option<String>| {
        text.as_deref().map(|text| notation(field, text)).transpose()
    };
    Ok(RoleChange {
        role: Role::from(role.as_str()),
        weight_milli: *weight_milli,
        guarantee: scalars("guarantee", guarantee)?,
        limit: scalars("limit", limit)?,
        packing: *packing,
    })
}

pub(super) async fn explain_framework(
    State(app): State<App>,
    Segments(name): Segments<String>,
) -> Result<Json<FrameworkExplanation>, Failure> {
    let wanted = name.clone();
    let look = move |view: &View<'_>| view.leader.explain_framework(&tenant(), &wanted);
    let seen = app.driver.query(look).await?;
    seen.map(Json).ok_or_else(|| Failure::unknown_framework(&name))
}

pub(super) async fn explain_role(
    State(app): State<App>,
    Params(OfRole { role }): Params<OfRole>,
) -> Result<Json<RoleExplanation>, Failure> {
    check(&role)?;
    let wanted = role.clone();
    let seen = app.driver.query(move |view| view.leader.explain_role(&wanted)).await?;
    seen.map(Json).ok_or_else(|| Failure::unknown_role(&role))
}

fn check(role: &str) -> Result<(), Failure> {
    names::check_role(role).map_err(|error| {
        let shown: String = role.chars().take(limits::NAME_BYTES).collect();
        let message = format!("`{}`: {error}", shown.escape_debug());
        Refusal::new(Code::RoleInvalid, message).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_to_the_letter() {
        let patch = |guarantee: &str, limit: &str| RolePatch {
            role: "web".to_owned(),
            guarantee: Some(guarantee.to_owned()),
            limit: Some(limit.to_owned()),
            ..RolePatch::default()
        };
        let read = change(&patch("cpus:2;mem:1024", "")).unwrap();
        assert_eq!(read.guarantee.unwrap().to_string(), "cpus:2;mem:1024");
        assert!(read.limit.unwrap().is_empty());
        assert!(read.packing.is_none() && read.weight_milli.is_none());
        for bad in ["cpus", "cpus:-1", "cpus(web):1", "ports:[1-2]", "cpus:18446744073709552"] {
            assert_eq!(change(&patch("", bad)).unwrap_err().code(), "invalid-spec", "{bad}");
        }
    }

    #[test]
    fn a_role_is_a_path_of_names() {
        assert!(check("a/b").is_ok() && check("*").is_ok());
        assert_eq!(check("a//b").unwrap_err().code(), "role-invalid");
    }
}
