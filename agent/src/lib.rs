//! The agent's shell: the session with a master, cells as children, the module cache, sandbox folders, logs.
//!
//! Owns every file, socket and child process of an agent. Never decides what becomes of a task: `tepui-agent-core` does,
//! and this carries its orders out after writing its records down. Its one surprise: the loop syncs the journal on its
//! own thread, because a sync of some tens of microseconds is shorter than handing the loop over to another one; give the
//! runtime at least two threads.

mod blobs;
mod cache;
mod cells;
mod clock;
mod compiler;
mod config;
mod driver;
mod error;
mod fetch;
mod folders;
mod hosting;
mod janitor;
mod lanes;
mod life;
mod logs;
mod modules;
mod outputs;
mod removal;
mod room;
mod rooms;
mod sandbox;
mod session;
mod transfers;

pub use config::{AgentConfig, AttributeConfig, DomainConfig, ResourcesConfig};
pub use error::AgentError;

/// Runs an agent until `shutdown` comes, then ends its cells and says goodbye.
///
/// # Errors
/// If its folder, identity or journal cannot be used, or a master refuses it for good. A master that cannot be reached
/// is no error: it is tried again.
pub async fn run(
    config: AgentConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    raise_open_files();
    let driver = driver::Driver::open(config)?;
    driver.run(shutdown).await
}

/// How many tasks a cell can run at once: it gets as many open files as this machine grants its agent.
fn max_tasks() -> u32 {
    use rustix::process::{Resource, getrlimit};
    let granted = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    tepui_proto::limits::share_open_files(granted).1
}

/// As many open files as this machine grants, so that its journal and its cells' sockets find theirs.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
