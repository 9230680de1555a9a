//! Between the guests' words (WIT 0.1.0) and the wire's. The only place that knows both.
//!
//! Owns no state and moves rather than copies, since a turn carries hundreds of offers. Its one surprise: what a
//! guest may say and this version does not do is not lost here but named, so that the leader can refuse it in words.

use crate::bindings::framework::tepui::framework::{log, protocol as p, types as t};
use std::collections::BTreeMap;
use tepui_proto::calls::{
    Acceptance, Call, Comparison, Constraint, NewVolume, Operation, Outcome, Reservation, Response,
    Want,
};
use tepui_proto::events::{
    AgentInfo, AttributeValue, Event, FaultDomain, InverseOffer, Message, Offer, Refusal, Start,
    StartCause, Unavailability,
};
use tepui_proto::resources::Custom;
use tepui_proto::scheduler::Level;
use tepui_proto::tasks::{Blob, Input, OnUnreachable, Output, TaskLimits, Workload};
use tepui_proto::{
    DurationMs, OfferId, PoolKind, PortRange, RequestId, Resources, Role, TaskId, TaskSpec,
    TaskState, TaskStatus,
};

// ---- to the guest -------------------------------------------------------

/// What happened, for the guest.
pub(crate) fn event(event: Event) -> p::Event {
    match event {
        Event::Started(start) => p::Event::Started(started(start)),
        Event::Tasks { tasks, last } => p::Event::Tasks(p::TaskPage {
            tasks: tasks.into_iter().map(task_status).collect(),
            last,
        }),
        Event::TaskUpdated(status) => p::Event::TaskUpdated(task_status(status)),
        Event::Message(message) => {
            p::Event::Message(p::Message { task: message.task.0, data: message.data })
        }
        Event::Timer(name) => p::Event::Timer(name),
        Event::Refused(refusal) => p::Event::Refused(refused(refusal)),
        Event::AgentLost(agent) => p::Event::AgentLost(agent),
        Event::Agents(agents) => p::Event::Agents(agents.into_iter().map(agent_info).collect()),
        Event::Rescinded(offers) => {
            p::Event::Rescinded(offers.into_iter().map(|offer| offer.0).collect())
        }
        Event::InverseOffers(offers) => {
            p::Event::InverseOffers(offers.iter().map(inverse_offer).collect())
        }
        Event::Offers(offers) => p::Event::Offers(offers.into_iter().map(offer).collect()),
        Event::Request(request) => p::Event::Request(p::Request {
            id: request.id.0,
            method: request.method,
            path: request.path,
            headers: request.headers,
            body: request.body,
        }),
    }
}

fn inverse_offer(offer: &InverseOffer) -> p::InverseOffer {
    p::InverseOffer {
        id: offer.id.0,
        agent: offer.agent.0,
        unavailability: unavailability(offer.unavailability),
    }
}

fn started(start: Start) -> p::Start {
    p::Start {
        cause: match start.cause {
            StartCause::Submitted => p::StartCause::Submitted,
            StartCause::Restarted => p::StartCause::Restarted,
            StartCause::NewLeader => p::StartCause::NewLeader,
            StartCause::Upgraded => p::StartCause::Upgraded,
        },
        framework: start.framework.to_string(),
        roles: start.roles.into_iter().map(|role| role.0).collect(),
        config: start.config,
        blobs: start.blobs.into_iter().map(blob).collect(),
    }
}

fn refused(refusal: Refusal) -> p::Refusal {
    p::Refusal {
        turn: refusal.turn.0,
        index: refusal.index,
        code: refusal.code,
        message: refusal.message,
    }
}

fn blob(blob: Blob) -> t::Blob {
    t::Blob { name: blob.name, digest: blob.digest.to_string(), size_bytes: blob.size_bytes }
}

fn agent_info(agent: AgentInfo) -> t::AgentInfo {
    t::AgentInfo {
        handle: agent.handle.0,
        id: agent.id,
        hostname: agent.hostname,
        domain: agent.domain.map(|FaultDomain { region, zone }| t::FaultDomain { region, zone }),
        attributes: agent.attributes.into_iter().map(attribute).collect(),
        unavailability: agent.unavailability.map(unavailability),
        extra: Vec::new(),
    }
}

fn attribute((name, value): (String, AttributeValue)) -> t::Attribute {
    let value = match value {
        AttributeValue::Text(text) => t::AttributeValue::Text(text),
        AttributeValue::Milli(milli) => t::AttributeValue::NumberMilli(milli),
        AttributeValue::Ranges(ranges) => t::AttributeValue::Ranges(ranges),
    };
    t::Attribute { name, value }
}

fn offer(offer: Offer) -> t::Offer {
    t::Offer {
        id: offer.id.0,
        agent: offer.agent.0,
        role: offer.role,
        want: offer.want,
        resources: resources_to_guest(offer.resources),
        volumes: offer.pools.iter().filter_map(|(kind, amount)| volume(kind, amount)).collect(),
        pools: offer.pools.into_iter().filter_map(pool).collect(),
        expires: offer.expires.0,
    }
}

/// What is not a volume or a disk of its own.
fn pool((kind, amount): (PoolKind, Resources)) -> Option<t::Pool> {
    if kind.is_whole() || kind.disk.volume.is_some() {
        return None;
    }
    Some(t::Pool {
        reserved_for: kind.owner().map(|role| role.0.clone()),
        revocable: kind.revocable,
        resources: resources_to_guest(amount),
    })
}

fn volume(kind: &PoolKind, amount: &Resources) -> Option<t::Volume> {
    let volume = kind.disk.volume.as_ref();
    let id = volume.map(|volume| &volume.id).or(kind.disk.whole.as_ref())?;
    Some(t::Volume {
        id: id.clone(),
        role: kind.owner().map_or_else(|| "*".to_owned(), |role| role.0.clone()),
        size_bytes: volume.and_then(|volume| volume.shared_bytes).unwrap_or(amount.disk_bytes),
        shared: kind.is_shared(),
        whole_disk: kind.is_whole(),
    })
}

fn unavailability(when: Unavailability) -> t::Unavailability {
    t::Unavailability { start: when.start.0, length: when.length.map(|length| length.0) }
}

fn resources_to_guest(resources: Resources) -> t::Resources {
    let ports = resources
        .ports
        .ranges()
        .iter()
        .map(|range| t::PortRange { first: range.first, last: range.last });
    let custom = resources.custom.into_iter().map(|(name, amount)| t::CustomResource {
        name,
        amount: match amount {
            Custom::Milli(milli) => t::CustomAmount::Milli(milli),
            Custom::Items(items) => t::CustomAmount::Items(items.into_iter().collect()),
        },
    });
    t::Resources {
        cpu_milli: resources.cpu_milli,
        memory_bytes: resources.memory_bytes,
        disk_bytes: resources.disk_bytes,
        ports: ports.collect(),
        custom: custom.collect(),
    }
}

fn task_status(status: TaskStatus) -> t::TaskStatus {
    t::TaskStatus {
        task: status.task.0,
        agent: status.agent,
        state: task_state(status.state),
        reason: status.reason.code().to_owned(),
        message: status.message,
        exit_code: status.exit_code,
        healthy: None,
        endpoint: None,
        outputs: status.outputs.into_iter().map(blob).collect(),
        usage: t::Usage {
            fuel: status.usage.fuel,
            cpu_us: status.usage.cpu_us,
            wall_us: status.usage.wall_us,
            memory_bytes_peak: status.usage.memory_bytes_peak,
            disk_bytes: status.usage.disk_bytes,
            log_bytes: status.usage.log_bytes,
        },
        at: status.at.0,
        extra: Vec::new(),
    }
}

fn task_state(state: TaskState) -> t::TaskState {
    match state {
        TaskState::Staging => t::TaskState::Staging,
        TaskState::Starting => t::TaskState::Starting,
        TaskState::Running => t::TaskState::Running,
        TaskState::Unreachable => t::TaskState::Unreachable,
        TaskState::Killing => t::TaskState::Killing,
        TaskState::Finished => t::TaskState::Finished,
        TaskState::Failed => t::TaskState::Failed,
        TaskState::Killed => t::TaskState::Killed,
        TaskState::Error => t::TaskState::Error,
        TaskState::Dropped => t::TaskState::Dropped,
        TaskState::Lost => t::TaskState::Lost,
        TaskState::Gone => t::TaskState::Gone,
    }
}

// ---- from the guest -----------------------------------------------------

/// What the guest asks for.
pub(crate) fn call(call: p::Call) -> Call {
    match call {
        p::Call::Accept(acceptance) => Call::Accept(Acceptance {
            offers: offers(acceptance.offers),
            operations: acceptance.operations.into_iter().map(operation).collect(),
            refuse_for: acceptance.refuse_for.map(DurationMs),
        }),
        p::Call::Decline(decline) => Call::Decline {
            offers: offers(decline.offers),
            refuse_for: decline.refuse_for.map(DurationMs),
        },
        p::Call::AcceptInverse(ids) => Call::AcceptInverse(offers(ids)),
        p::Call::DeclineInverse(decline) => Call::DeclineInverse {
            offers: offers(decline.offers),
            refuse_for: decline.refuse_for.map(DurationMs),
        },
        p::Call::Want(wants) => {
            Call::Want(wants.map(|wants| wants.into_iter().map(want).collect()))
        }
        p::Call::Suppress(names) => Call::Suppress(roles(names)),
        p::Call::Revive(names) => Call::Revive(roles(names)),
        p::Call::Kill(kill) => {
            Call::Kill { task: TaskId(kill.task), grace: kill.grace.map(DurationMs) }
        }
        p::Call::Reconcile(tasks) => Call::Reconcile(tasks.into_iter().map(TaskId).collect()),
        p::Call::Send(message) => {
            Call::Send(Message { task: TaskId(message.task), data: message.data })
        }
        p::Call::SetTimer(timer) => {
            Call::SetTimer { name: timer.name, after: DurationMs(timer.after) }
        }
        p::Call::CancelTimer(name) => Call::CancelTimer(name),
        p::Call::Respond(response) => Call::Respond(Response {
            id: RequestId(response.id),
            status: response.status,
            headers: response.headers,
            body: response.body,
        }),
        p::Call::Put(write) => Call::Put { key: write.key, value: write.value },
        p::Call::Complete(outcome) => Call::Complete(Outcome {
            success: outcome.success,
            message: outcome.message,
            results: outcome.results,
        }),
    }
}

/// How loud a line is.
pub(crate) fn level(level: log::Level) -> Level {
    match level {
        log::Level::Trace => Level::Trace,
        log::Level::Debug => Level::Debug,
        log::Level::Info => Level::Info,
        log::Level::Warn => Level::Warn,
        log::Level::Error => Level::Error,
    }
}

fn offers(ids: Vec<u64>) -> Vec<OfferId> {
    ids.into_iter().map(OfferId).collect()
}

fn roles(names: Vec<String>) -> Vec<Role> {
    names.into_iter().map(Role).collect()
}

fn operation(operation: p::Operation) -> Operation {
    match operation {
        p::Operation::Launch(spec) => Operation::Launch(task(spec)),
        p::Operation::LaunchGroup(specs) => {
            Operation::LaunchGroup(specs.into_iter().map(task).collect())
        }
        p::Operation::Reserve(wanted) => Operation::Reserve(reservation(wanted)),
        p::Operation::Unreserve(wanted) => Operation::Unreserve(reservation(wanted)),
        p::Operation::CreateVolume(volume) => Operation::CreateVolume(NewVolume {
            id: volume.id,
            role: Role(volume.role),
            size_bytes: volume.size_bytes,
            shared: volume.shared,
        }),
        p::Operation::DestroyVolume(id) => Operation::DestroyVolume(id),
    }
}

fn reservation(reservation: p::Reservation) -> Reservation {
    let resources = resources_from_guest(reservation.resources);
    Reservation { role: Role(reservation.role), resources }
}

fn want(want: p::Want) -> Want {
    Want {
        id: want.id,
        role: Role(want.role),
        count: want.count,
        each: resources_from_guest(want.each),
        port_count: want.port_count,
        revocable: want.revocable,
        constraints: want.constraints.into_iter().map(constraint).collect(),
    }
}

fn constraint(constraint: p::Constraint) -> Constraint {
    let comparison = match constraint.comparison {
        p::Comparison::Exists => Comparison::Exists,
        p::Comparison::Absent => Comparison::Absent,
        p::Comparison::Equals => Comparison::Equals,
        p::Comparison::Differs => Comparison::Differs,
        p::Comparison::Matches => Comparison::Matches,
        p::Comparison::MatchesNot => Comparison::MatchesNot,
    };
    Constraint { attribute: constraint.attribute, comparison, operand: constraint.operand }
}

fn resources_from_guest(resources: t::Resources) -> Resources {
    let ports: Vec<PortRange> = resources
        .ports
        .into_iter()
        .map(|range| PortRange { first: range.first, last: range.last })
        .collect();
    let mut custom = BTreeMap::new();
    for resource in resources.custom {
        match resource.amount {
            t::CustomAmount::Milli(0) => {}
            t::CustomAmount::Milli(milli) => {
                custom.insert(resource.name, Custom::Milli(milli));
            }
            t::CustomAmount::Items(items) if items.is_empty() => {}
            t::CustomAmount::Items(items) => {
                custom.insert(resource.name, Custom::Items(items.into_iter().collect()));
            }
        }
    }
    Resources {
        cpu_milli: resources.cpu_milli,
        memory_bytes: resources.memory_bytes,
        disk_bytes: resources.disk_bytes,
        ports: ports.into(),
        custom,
    }
}

fn task(task: t::Task) -> TaskSpec {
    TaskSpec {
        unsupported: unsupported(&task),
        id: TaskId(task.id),
        name: task.name,
        workload: match task.workload {
            t::Workload::Command => Workload::Command,
            t::Workload::HttpService => Workload::HttpService,
        },
        module: task.module,
        args: task.args,
        env: task.env,
        stdin: task.stdin,
        resources: resources_from_guest(task.resources),
        priority: task.priority,
        inputs: task.inputs.into_iter().map(input).collect(),
        outputs: task
            .outputs
            .into_iter()
            .map(|output| Output { path: output.path, blob: output.blob })
            .collect(),
        limits: TaskLimits {
            fuel: task.limits.fuel,
            wall_time: task.limits.wall_time.map(DurationMs),
            log_bytes: task.limits.log_bytes,
        },
        on_unreachable: match task.on_unreachable {
            t::OnUnreachable::Wait => OnUnreachable::Wait,
            t::OnUnreachable::LostAfter(span) => OnUnreachable::LostAfter(DurationMs(span)),
        },
        kill_grace: task.kill_grace.map(DurationMs),
        labels: task.labels,
    }
}

fn input(input: t::Input) -> Input {
    Input { source: input.source, range: input.range, path: input.path }
}

fn unsupported(task: &t::Task) -> Vec<String> {
    let grants = &task.grants;
    let asked = [
        ("mounts", !task.mounts.is_empty()),
        ("grants.connect", !grants.connect.is_empty()),
        ("grants.http", !grants.http.is_empty()),
        ("grants.secrets", !grants.secrets.is_empty()),
        ("health", task.health.is_some()),
        (TaskSpec::REVOCABLE, task.revocable),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name.to_owned()).collect()
}
