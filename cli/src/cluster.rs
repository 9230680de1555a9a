//! `tepui cluster …`: the set-up of real machines, and a look at the whole.

use crate::client::Client;
use crate::error::CliError;
use crate::out::{self, Format};
use crate::setup::{self, Layout, authority, identity};
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;
use tepui_proto::api::ClusterView;
use tepui_transport::PeerRole;

/// `tepui cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make the authority and the token of a new cluster in a folder.
    Init {
        /// The folder; keep it safe, it makes identities.
        dir: PathBuf,
    },
    /// Make an identity: certificate, key, and the authority's certificate, in one file.
    Identity {
        /// For what.
        role: Role,
        /// Unique among its role.
        name: String,
        /// The folder of `tepui cluster init`.
        #[arg(long)]
        dir: PathBuf,
        /// The file to write; move it to the machine and nowhere else.
        #[arg(long)]
        out: PathBuf,
        /// A name or address under which it is reached, beside loopback; masters need theirs.
        #[arg(long)]
        host: Vec<String>,
    },
    /// Show the cluster: version, term, agents, index, digest.
    Status {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Which part of a cluster.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Runs tasks.
    Agent,
    /// Keeps the state.
    Master,
}

/// `tepui cluster status`
///
/// # Errors
/// When it cannot be reached.
pub(crate) async fn show(client: &Client, output: Format) -> Result<(), CliError> {
    let view: ClusterView = client.get(&["cluster"]).await?;
    out::thing(output, &view)
}

/// `tepui cluster init DIR`
///
/// # Errors
/// When the folder cannot be set up.
pub(crate) fn init(dir: &std::path::Path) -> Result<(), CliError> {
    let layout = Layout::open(dir)?;
    let cluster = setup::init(&layout)?;
    out::line(format_args!("authority  {}", cluster.ca.display()))?;
    out::line(format_args!("token      {}", cluster.token_file.display()))?;
    out::note(format_args!(
        "next: tepui cluster identity master NAME --dir {} --host ADDRESS --out FILE",
        layout.root.display()
    ));
    Ok(())
}

/// `tepui cluster identity ROLE NAME`
///
/// # Errors
/// When there is no authority, the name is not allowed, or the file is there already.
pub(crate) fn make_identity(
    role: Role,
    name: &str,
    dir: &std::path::Path,
    host: &[String],
    file: &std::path::Path,
) -> Result<(), CliError> {
    let layout = Layout { root: dir.to_owned() };
    if !layout.ca().exists() {
        return Err(CliError::usage(format!("there is no authority in `{}`", dir.display()))
            .hint("make one: `tepui cluster init DIR`"));
    }
    if file.exists() {
        return Err(CliError::usage(format!("`{}` is there already", file.display()))
            .hint("name another file with `--out`"));
    }
    let role = match role {
        Role::Agent => PeerRole::Agent,
        Role::Master => PeerRole::Master,
    };
    if let Some(bad) = host.iter().find(|host| !is_host(host)) {
        let words = format!("`{}` is neither a name nor an address", bad.escape_debug());
        return Err(CliError::usage(words));
    }
    identity(&authority(&layout)?, role, name, host, file)?;
    out::line(file.display())
}

/// A name as DNS has it, or an address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_fine)
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_label);
    is_name || text.parse::<std::net::IpAddr>().is_ok()
}
