//! `tepui role …`: list, show, set.
//!
//! Never checks one setting against another: the master does, against what stands and what is used.

use crate::client::Client;
use crate::error::CliError;
use crate::out::{self, Format};
use crate::units::{parse_scalars, parse_weight};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use tepui_proto::Scalars;
use tepui_proto::api::{Page, RolePatch, RoleView, RolesPatch};
use tepui_proto::names::check_role;
use tepui_proto::resources::Milli;
use tepui_proto::roles::Packing;

/// `tepui role …`
#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// List roles.
    Ls {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show one role.
    Show {
        /// Its path, such as `acme/web`.
        role: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Set what a role gets; what is not named stays.
    Set(SetArgs),
}

/// `tepui role set`
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Its path, such as `acme/web`.
    role: String,
    /// How much of a fair share it gets, such as 2 or 0.5; empty is 1 again.
    #[arg(long, value_parser = parse_weight)]
    weight: Option<u64>,
    /// Held for it whoever else waits, such as "cpus:2;mem:1024", memory in MiB; empty is nothing.
    #[arg(long, value_parser = parse_scalars)]
    guarantee: Option<Scalars>,
    /// The most that it holds, such as "cpus:2;mem:1024"; a name that is absent is without limit, empty is none.
    #[arg(long, value_parser = parse_scalars)]
    limit: Option<Scalars>,
    /// The order in which it is offered agents. It can be changed, and not be cleared.
    #[arg(long, value_enum)]
    packing: Option<PackingName>,
    /// Take a limit below what is used, and a guarantee beyond what the cluster has.
    #[arg(long)]
    force: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The order of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PackingName {
    /// The emptiest first, a task at a time on each.
    Spread,
    /// The fullest that still fits first.
    Pack,
    /// In no order.
    Random,
}

impl From<PackingName> for Packing {
    fn from(name: PackingName) -> Self {
        match name {
            PackingName::Spread => Self::Spread,
            PackingName::Pack => Self::Pack,
            PackingName::Random => Self::Random,
        }
    }
}

/// Does what was asked.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn role(client: &Client, command: RoleCommand) -> Result<(), CliError> {
    match command {
        RoleCommand::Ls { output } => print(output, &client.list(&["roles"], &[]).await?),
        RoleCommand::Show { role, output } => {
            let view: RoleView = client.get(&["roles", checked(&role)?]).await?;
            out::thing(output, &view)
        }
        RoleCommand::Set(args) => set(client, args).await,
    }
}

async fn set(client: &Client, args: SetArgs) -> Result<(), CliError> {
    let SetArgs { role, weight, guarantee, limit, packing, force, output } = args;
    if weight.is_none() && guarantee.is_none() && limit.is_none() && packing.is_none() {
        let what = format!("nothing of `{role}` is to be set");
        return Err(CliError::usage(what)
            .hint("name some of `--weight`, `--guarantee`, `--limit`, `--packing`"));
    }
    let change = RolePatch {
        role: checked(&role)?.to_owned(),
        weight_milli: weight,
        guarantee: guarantee.map(|amounts| amounts.to_string()),
        limit: limit.map(|amounts| amounts.to_string()),
        packing: packing.map(Packing::from),
    };
    let patch = RolesPatch { changes: vec![change], force };
    let request = client.request(Method::PATCH, &["roles"]).json(&patch);
    let set: Result<Page<RoleView>, CliError> = client.json(request).await;
    print(output, &set.map_err(|error| error.doing(format_args!("cannot set `{role}`")))?.items)
}

/// A role's path.
///
/// # Errors
/// Exit code 2 if it is none.
pub(crate) fn checked(role: &str) -> Result<&str, CliError> {
    check_role(role).map_err(|error| {
        CliError::usage(format!("`{}` is not a role: {error}", role.escape_debug()))
            .hint("a role is `*`, or names with `/` between them, such as `acme/web`")
    })?;
    Ok(role)
}

/// Roles under a head.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print(output: Format, items: &[RoleView]) -> Result<(), CliError> {
    let head =
        ["ROLE", "WEIGHT", "SHARE", "FRAMEWORKS", "GUARANTEE", "LIMIT", "RESERVED", "ALLOCATED"];
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    out::listing(output, items, &head, |item| {
        vec![
            item.role.clone(),
            Milli(item.weight_milli).to_string(),
            Milli(item.share_milli).to_string(),
            item.frameworks.to_string(),
            or_none(&item.guarantee),
            or_none(&item.limit),
            or_none(&item.reserved),
            item.allocated.to_string(),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn a_role_is_refused_before_anything_is_sent() {
        assert!(checked("*").is_ok() && checked("acme/web").is_ok());
        for bad in ["", "a//b", "..", "a b", "/a"] {
            assert_eq!(checked(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
