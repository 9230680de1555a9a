//! `tepui agent ls|show`, `tepui role ls`, `tepui cluster status`: what the cluster has and who gets it.

use crate::client::Client;
use crate::error::CliError;
use crate::out::{self, Format};
use std::cmp::Reverse;
use tepui_proto::api::{AgentView, ClusterView, RoleView};
use tepui_proto::resources::Milli;

/// Lists agents; with `by_free` those with most room first.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn list_agents(
    client: &Client,
    by_free: bool,
    output: Format,
) -> Result<(), CliError> {
    let mut items: Vec<AgentView> = client.list(&["agents"], &[]).await?;
    if by_free {
        items.sort_by_key(|item| Reverse((item.free.cpu_milli, item.free.memory_bytes)));
    }
    let head =
        ["ID", "STATE", "TASKS", "SCHEDULERS", "FREE", "OFFERED", "USED", "TOTAL", "VERSION"];
    out::listing(output, &items, &head, |item| {
        vec![
            item.id.clone(),
            item.state.clone(),
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

/// Shows one agent.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn show_agent(client: &Client, id: &str, output: Format) -> Result<(), CliError> {
    let view: AgentView = client.get(&["agents", id]).await?;
    out::thing(output, &view)
}

/// Lists roles.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn list_roles(client: &Client, output: Format) -> Result<(), CliError> {
    let items: Vec<RoleView> = client.list(&["roles"], &[]).await?;
    out::listing(output, &items, &["ROLE", "WEIGHT", "SHARE", "FRAMEWORKS", "ALLOCATED"], |item| {
        vec![
            item.role.clone(),
            Milli(item.weight_milli).to_string(),
            Milli(item.share_milli).to_string(),
            item.frameworks.to_string(),
            item.allocated.to_string(),
        ]
    })
}

/// Shows the cluster.
///
/// # Errors
/// When it cannot be reached.
pub(crate) async fn show_cluster(client: &Client, output: Format) -> Result<(), CliError> {
    let view: ClusterView = client.get(&["cluster"]).await?;
    out::thing(output, &view)
}
