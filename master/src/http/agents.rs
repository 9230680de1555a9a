//! `/v1/cluster`, `/v1/agents`: what there is, and what operators do with it.

use super::App;
use super::error::Failure;
use super::extract::{Paging, Params, Segments, json, notation, wait_limit};
use super::frameworks::AT_ONCE;
use super::serving::{Sender, Sent, wait};
use crate::driver::View;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tepui_master_core::{Code, Input, Refusal, Ticket};
use tepui_proto::api::{
    AgentModeSpec, AgentOperationSpec, AgentView, ClusterView, MaintenanceSpec, ModeName, Page,
    ReservationSpec, VolumeSpec,
};
use tepui_proto::calls::{NewVolume, Reservation};
use tepui_proto::events::Unavailability;
use tepui_proto::roles::{AgentMode, AgentOperation};
use tepui_proto::{Bundle, DurationMs, Role, Timestamp, limits};

/// What an operator says of one agent: a text of resources, and a few names.
const BODY: usize = 2 * limits::NOTATION_BYTES;
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
    sender: Sender,
    Params(waiting): Params<Waiting>,
) -> Result<Json<ClusterView>, Failure> {
    let look = |view: &View<'_>| {
        let mut seen: ClusterView = view.leader.cluster_view();
        seen.index = view.index;
        seen
    };
    let Some(wanted) = waiting.agents else { return Ok(Json(app.driver.query(look).await?)) };
    let are_there = |seen: &ClusterView| seen.agents >= wanted;
    Ok(Json(wait(&app, sender, wait_limit(waiting.timeout_ms), PAUSE, look, are_there).await?))
}

pub(super) async fn list(
    State(app): State<App>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<AgentView>>, Failure> {
    let look =
        move |view: &View<'_>| view.leader.agent_views(paging.after.as_deref(), paging.limit());
    Ok(Json(app.driver.query(look).await?))
}

/// `?wait=drained&timeout_ms=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitingFor {
    wait: Option<WaitFor>,
    timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WaitFor {
    Drained,
}

pub(super) async fn get(
    State(app): State<App>,
    sender: Sender,
    Segments(name): Segments<String>,
    Params(waiting): Params<WaitingFor>,
) -> Result<Json<AgentView>, Failure> {
    let wanted = name.clone();
    let look = move |view: &View<'_>| view.leader.agent_view(&wanted);
    let seen = match waiting.wait {
        None => app.driver.query(look).await?,
        Some(WaitFor::Drained) => {
            let is_over =
                |seen: &Option<AgentView>| seen.as_ref().is_none_or(|view| view.mode != "draining");
            wait(&app, sender, wait_limit(waiting.timeout_ms), PAUSE, look, is_over).await?
        }
    };
    seen.map(Json).ok_or_else(|| Failure::unknown_agent(&name))
}

/// Another mode. The answer is how the agent is right after that: one without tasks is drained at once.
pub(super) async fn set_mode(
    State(app): State<App>,
    sender: Sender,
    Segments(name): Segments<String>,
    sent: Sent,
) -> Result<Json<AgentView>, Failure> {
    let spec: AgentModeSpec = json(sent, BODY).await?;
    let mode = mode(spec)?;
    let agent = name.clone();
    tell(&app, sender, &name, move |ticket| Input::AgentModeRequested { ticket, agent, mode }).await
}

fn mode(spec: AgentModeSpec) -> Result<AgentMode, Failure> {
    let AgentModeSpec { mode, grace_ms, then_gone } = spec;
    if mode != ModeName::Draining && (grace_ms.is_some() || then_gone) {
        let message = "`grace_ms` and `then_gone` are for the mode `draining`";
        return Err(Refusal::new(Code::InvalidSpec, message).into());
    }
    Ok(match mode {
        ModeName::Active => AgentMode::Active,
        ModeName::Inactive => AgentMode::Inactive,
        ModeName::Draining => AgentMode::Draining {
            grace: DurationMs(grace_ms.unwrap_or(limits::KILL_GRACE_MS_MAX)),
            then_gone,
        },
        ModeName::Gone => AgentMode::Gone,
    })
}

pub(super) async fn plan_maintenance(
    State(app): State<App>,
    sender: Sender,
    Segments(name): Segments<String>,
    sent: Sent,
) -> Result<Json<AgentView>, Failure> {
    let MaintenanceSpec { start, length_ms } = json(sent, BODY).await?;
    let unavailability =
        Unavailability { start: Timestamp(start), length: length_ms.map(DurationMs) };
    maintain(&app, sender, &name, Some(unavailability)).await
}

pub(super) async fn cancel_maintenance(
    State(app): State<App>,
    sender: Sender,
    Segments(name): Segments<String>,
) -> Result<Json<AgentView>, Failure> {
    maintain(&app, sender, &name, None).await
}

async fn maintain(
    app: &App,
    sender: Sender,
    name: &str,
    unavailability: Option<Unavailability>,
) -> Result<Json<AgentView>, Failure> {
    let agent = name.to_owned();
    tell(app, sender, name, move |ticket| Input::MaintenanceRequested {
        ticket,
        agent,
        unavailability,
    })
    .await
}

pub(super) async fn operate(
    State(app): State<App>,
    sender: Sender,
    Segments(name): Segments<String>,
    sent: Sent,
) -> Result<Json<AgentView>, Failure> {
    let spec: AgentOperationSpec = json(sent, BODY).await?;
    let operation = operation(spec)?;
    let agent = name.clone();
    tell(&app, sender, &name, move |ticket| Input::OperationRequested { ticket, agent, operation })
        .await
}

fn operation(spec: AgentOperationSpec) -> Result<AgentOperation, Failure> {
    Ok(match spec {
        AgentOperationSpec::Reserve(spec) => AgentOperation::Reserve(reservation(&spec)?),
        AgentOperationSpec::Unreserve(spec) => AgentOperation::Unreserve(reservation(&spec)?),
        AgentOperationSpec::CreateVolume(VolumeSpec { id, role, size_bytes, shared }) => {
            let role = Role(role);
            AgentOperation::CreateVolume(NewVolume { id, role, size_bytes, shared })
        }
        AgentOperationSpec::DestroyVolume(id) => AgentOperation::DestroyVolume(id),
    })
}

fn reservation(spec: &ReservationSpec) -> Result<Reservation, Failure> {
    let bundle: Bundle = notation("resources", &spec.resources)?;
    if !bundle.is_plain() {
        let message = "`resources`: the role stands beside them: `cpus:2;mem:1024`";
        return Err(Refusal::new(Code::InvalidSpec, message).into());
    }
    Ok(Reservation { role: Role::from(spec.role.as_str()), resources: bundle.plain().clone() })
}

/// Tells the leader when it is its turn, and answers with the agent as it is then.
async fn tell(
    app: &App,
    Sender(guest): Sender,
    name: &str,
    input: impl FnOnce(Ticket) -> Input + Send + 'static,
) -> Result<Json<AgentView>, Failure> {
    let (services, wanted) = (Arc::clone(app), name.to_owned());
    let change = async move {
        services.driver.ask(AT_ONCE, input).await?;
        Ok(services.driver.query(move |view| view.leader.agent_view(&wanted)).await?)
    };
    let seen = app.changes.make(&guest, change).await?;
    seen.map(Json).ok_or_else(|| Failure::unknown_agent(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_for_draining_alone() {
        let spec = |mode| AgentModeSpec { mode, grace_ms: Some(5), then_gone: true };
        let draining = AgentMode::Draining { grace: DurationMs(5), then_gone: true };
        assert_eq!(mode(spec(ModeName::Draining)).unwrap(), draining);
        for other in [ModeName::Active, ModeName::Inactive, ModeName::Gone] {
            assert_eq!(mode(spec(other)).unwrap_err().code(), "invalid-spec");
        }
    }

    #[test]
    fn what_is_reserved_is_plain_text() {
        let read = |text: &str| {
            let spec = serde_json::json!({"reserve": {"role": "web", "resources": text}});
            operation(serde_json::from_value(spec).unwrap())
        };
        assert!(matches!(read("cpus:1;mem:64"), Ok(AgentOperation::Reserve(_))));
        for bad in ["cpus(web):1", "cpus", "cpus:-1"] {
            let refused = read(bad).unwrap_err();
            assert_eq!(refused.code(), "invalid-spec", "{bad}");
        }
    }
}
