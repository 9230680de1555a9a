//! `tepui agent …`: list, show, and what operators do with agents: modes, maintenance, reservations, volumes.
//!
//! Never runs one: `parts` does. Its one surprise: a drain is the master's, so it goes on when who waits for it has gone.

use crate::client::Client;
use crate::error::CliError;
use crate::out::{self, Format};
use crate::role;
use crate::units::{parse_bundle, parse_size, parse_span, parse_time};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use std::cmp::Reverse;
use tepui_proto::Bundle;
use tepui_proto::api::{
    AgentModeSpec, AgentOperationSpec, AgentView, MaintenanceSpec, ModeName, ReservationSpec,
    VolumeSpec,
};
use tepui_proto::names::check_name;

/// How long one look at an agent that drains may take.
const LOOK_MS: &str = "30000";

/// `tepui agent …`
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// List agents.
    Ls {
        /// Those with most room first.
        #[arg(long)]
        free: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show one agent.
    Show(NameArgs),
    /// Offer an agent no more, and stop its tasks; it is drained once all have ended.
    Drain {
        #[command(flatten)]
        agent: NameArgs,
        /// The longest that a task may take to stop, such as 30s [default: each task's own].
        #[arg(long, value_parser = parse_span)]
        grace: Option<u64>,
        /// It never comes back: gone once it is drained.
        #[arg(long)]
        then_gone: bool,
        /// Stay until it is drained.
        #[arg(long)]
        wait: bool,
    },
    /// Offer an agent no more; its tasks run on.
    Deactivate(NameArgs),
    /// Offer an agent again.
    Activate(NameArgs),
    /// Give an agent up for good: its tasks are gone, and who says hello under its name is refused.
    Gone(NameArgs),
    /// Say when an agent is to go down; frameworks on it are asked to leave.
    Maintain(MaintainArgs),
    /// Reserve what is free of an agent for a role.
    Reserve(ReservationArgs),
    /// Undo a reservation of what is free again.
    Unreserve(ReservationArgs),
    /// Make disks that outlive tasks.
    #[command(subcommand)]
    Volume(VolumeCommand),
}

/// Which agent.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name.
    name: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// `tepui agent maintain`
#[derive(Debug, Args)]
pub(crate) struct MaintainArgs {
    #[command(flatten)]
    agent: NameArgs,
    /// From when on: `now`, `+30m`, or UTC such as `2026-12-24T18:00:00Z`.
    #[arg(long, required_unless_present = "cancel", conflicts_with = "cancel")]
    start: Option<String>,
    /// For how long, such as 2h [default: until further notice].
    #[arg(
        long = "for",
        value_name = "SPAN",
        value_parser = parse_span,
        requires = "start",
        conflicts_with = "cancel"
    )]
    length: Option<u64>,
    /// Not at all.
    #[arg(long)]
    cancel: bool,
}

/// `tepui agent reserve` and `unreserve`
#[derive(Debug, Args)]
pub(crate) struct ReservationArgs {
    #[command(flatten)]
    agent: NameArgs,
    /// For which role.
    role: String,
    /// What, such as "cpus:2;mem:1024", memory in MiB.
    #[arg(value_parser = parse_bundle)]
    resources: Bundle,
}

/// `tepui agent volume …`
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume of disk that is reserved for a role.
    Create {
        #[command(flatten)]
        agent: NameArgs,
        /// Its name, unique on the agent.
        volume: String,
        /// For which role the disk is reserved.
        #[arg(long)]
        role: String,
        /// Its size, such as 5GiB; that of one copy, if it is shared.
        #[arg(long, value_parser = parse_size)]
        size: u64,
        /// Many tasks may hold it at once.
        #[arg(long)]
        shared: bool,
    },
    /// Make reserved disk of a volume again; what was written is lost.
    Destroy {
        #[command(flatten)]
        agent: NameArgs,
        /// Its name.
        volume: String,
    },
}

/// Does what was asked.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn agent(client: &Client, command: AgentCommand) -> Result<(), CliError> {
    match command {
        AgentCommand::Ls { free, output } => list(client, free, output).await,
        AgentCommand::Show(agent) => {
            let view: AgentView = client.get(&["agents", checked(&agent.name)?]).await?;
            out::thing(agent.output, &view)
        }
        AgentCommand::Drain { agent, grace, then_gone, wait } => {
            let spec = AgentModeSpec { mode: ModeName::Draining, grace_ms: grace, then_gone };
            let mut view = put(client, &agent.name, "mode", &spec).await?;
            if wait {
                view = drained(client, &agent.name).await?;
            }
            print(&agent, &view, &view.mode)
        }
        AgentCommand::Deactivate(agent) => set_mode(client, &agent, ModeName::Inactive).await,
        AgentCommand::Activate(agent) => set_mode(client, &agent, ModeName::Active).await,
        AgentCommand::Gone(agent) => set_mode(client, &agent, ModeName::Gone).await,
        AgentCommand::Maintain(args) => maintain(client, args).await,
        AgentCommand::Reserve(args) => reserve(client, args, AgentOperationSpec::Reserve).await,
        AgentCommand::Unreserve(args) => reserve(client, args, AgentOperationSpec::Unreserve).await,
        AgentCommand::Volume(VolumeCommand::Create { agent, volume, role, size, shared }) => {
            let role = role::checked(&role)?.to_owned();
            let spec = VolumeSpec { id: volume, role, size_bytes: size, shared };
            operate(client, &agent, &AgentOperationSpec::CreateVolume(spec)).await
        }
        AgentCommand::Volume(VolumeCommand::Destroy { agent, volume }) => {
            operate(client, &agent, &AgentOperationSpec::DestroyVolume(volume)).await
        }
    }
}

async fn list(client: &Client, by_free: bool, output: Format) -> Result<(), CliError> {
    let mut items: Vec<AgentView> = client.list(&["agents"], &[]).await?;
    if by_free {
        items.sort_by_key(|item| Reverse((item.free.cpu_milli, item.free.memory_bytes)));
    }
    let head =
        ["ID", "STATE", "TASKS", "SCHEDULERS", "FREE", "OFFERED", "USED", "TOTAL", "VERSION"];
    out::listing(output, &items, &head, |item| {
        vec![
            item.id.clone(),
            state(item),
            item.tasks.to_string(),
            item.schedulers.to_string(),
            item.free.to_string(),
            item.offered.to_string(),
            item.used.to_string(),
            item.total.to_string(),
            item.version.clone(),
        ]
    })
}

/// Beside whether it is there: its mode where it is not the usual one, and that its disk has no room.
fn state(view: &AgentView) -> String {
    let mode = (view.mode != "active").then_some(view.mode.as_str());
    let room = (view.has_room == Some(false)).then_some("disk full");
    let told = [Some(view.state.as_str()), mode, room];
    told.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

async fn set_mode(client: &Client, agent: &NameArgs, mode: ModeName) -> Result<(), CliError> {
    let spec = AgentModeSpec { mode, grace_ms: None, then_gone: false };
    let view = put(client, &agent.name, "mode", &spec).await?;
    print(agent, &view, &view.mode)
}

/// Waits until an agent is not draining any more.
async fn drained(client: &Client, name: &str) -> Result<AgentView, CliError> {
    loop {
        let request = client.request(Method::GET, &["agents", checked(name)?]);
        let request = request.query(&[("wait", "drained"), ("timeout_ms", LOOK_MS)]);
        let view: AgentView = client.json(request).await?;
        match view.mode.as_str() {
            "draining" => {}
            "drained" | "gone" => return Ok(view),
            mode => {
                let what = format!("`{name}` is not drained: somebody made it {mode} meanwhile");
                return Err(CliError::failed(what));
            }
        }
    }
}

async fn maintain(client: &Client, args: MaintainArgs) -> Result<(), CliError> {
    let MaintainArgs { agent, start, length, cancel: _ } = args;
    let Some(start) = start else {
        let path = ["agents", checked(&agent.name)?, "maintenance"];
        let view: AgentView = client.json(client.request(Method::DELETE, &path)).await?;
        return print(&agent, &view, "not to go down");
    };
    let start = parse_time(&start, now_ms()).map_err(CliError::usage)?;
    let spec = MaintenanceSpec { start, length_ms: length };
    let view = put(client, &agent.name, "maintenance", &spec).await?;
    print(&agent, &view, "to go down; frameworks on it are asked to leave")
}

#[expect(clippy::disallowed_types, reason = "`+30m` is from the operator's now")]
fn now_ms() -> u64 {
    let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

async fn reserve(
    client: &Client,
    args: ReservationArgs,
    operation: fn(ReservationSpec) -> AgentOperationSpec,
) -> Result<(), CliError> {
    let ReservationArgs { agent, role, resources } = args;
    let role = role::checked(&role)?.to_owned();
    let spec = ReservationSpec { role, resources: resources.to_string() };
    operate(client, &agent, &operation(spec)).await
}

async fn operate(
    client: &Client,
    agent: &NameArgs,
    operation: &AgentOperationSpec,
) -> Result<(), CliError> {
    let path = ["agents", checked(&agent.name)?, "operations"];
    let view: AgentView = client.json(client.request(Method::POST, &path).json(operation)).await?;
    let pools = if view.pools.is_empty() { "nothing is reserved" } else { &view.pools };
    print(agent, &view, pools)
}

async fn put<B: Serialize + Sync>(
    client: &Client,
    name: &str,
    what: &str,
    body: &B,
) -> Result<AgentView, CliError> {
    client.put(&["agents", checked(name)?, what], body).await
}

/// How the agent is after what was done, in one line or in full.
fn print(agent: &NameArgs, view: &AgentView, words: &str) -> Result<(), CliError> {
    match agent.output {
        Format::Json => out::json(view),
        Format::Table => out::line(format_args!("{}  {words}", view.id)),
    }
}

fn checked(name: &str) -> Result<&str, CliError> {
    check_name(name).map_err(|error| {
        CliError::usage(format!("`{}` is not an agent: {error}", name.escape_debug()))
            .hint("see `tepui agent ls`")
    })?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn an_agents_name_is_refused_before_anything_is_sent() {
        assert!(checked("agent-1").is_ok());
        for bad in ["", "..", "a/b", "-a"] {
            assert_eq!(checked(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
