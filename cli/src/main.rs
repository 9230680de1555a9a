//! `tepui`: one binary with every verb, and the cluster's own processes.
//!
//! Owns words and exit codes: data goes to standard output, words to standard error. Never keeps state of a cluster.
//! Its one surprise: `tepui dev`, `tepui master`, `tepui agent` and its cells are all this program.

mod agent_verbs;
mod blob;
mod client;
mod cluster;
mod context;
mod dev;
mod error;
mod framework;
mod logs;
mod manifest;
mod out;
mod parts;
mod run;
mod settings;
mod setup;
mod simulate;
mod task;
mod units;
mod upload;

use blob::BlobCommand;
use clap::{Args, Parser, Subcommand, ValueEnum};
use client::Client;
use cluster::ClusterCommand;
use error::CliError;
use framework::FrameworkCommand;
use out::Format;
use parts::{AgentArgs, MasterArgs};
use std::path::PathBuf;
use std::process::ExitCode;
use task::TaskCommand;
use tepui_proto::control::ModuleKind;
use tracing_subscriber::EnvFilter;

/// A cluster whose schedulers and tasks are WebAssembly.
///
/// Exit codes: 0 done, 1 it failed, 2 used wrongly, 3 the cluster cannot be reached; `run` and `dev -- COMMAND` give
/// those of what they ran.
#[derive(Debug, Parser)]
#[command(name = "tepui", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    /// The context file of the cluster; without it the only one that runs here.
    #[arg(long, global = true, env = "TEPUI_CONTEXT", value_name = "FILE")]
    context: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[expect(clippy::large_enum_variant, reason = "there is one, and it lives as long as the program")]
#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a cluster on this machine: a master and agents as processes of their own.
    Dev(dev::DevArgs),
    /// Run one module, once or many times.
    Run(Box<run::RunArgs>),
    /// Submit, list, show, follow and stop frameworks.
    #[command(subcommand)]
    Framework(FrameworkCommand),
    /// List, show, read and kill tasks.
    #[command(subcommand)]
    Task(TaskCommand),
    /// List and show agents; with flags alone: run one.
    Agent(AgentVerb),
    /// List roles.
    #[command(subcommand)]
    Role(RoleCommand),
    /// Upload, fetch and list blobs.
    #[command(subcommand)]
    Blob(BlobCommand),
    /// Set up real machines; look at the whole.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Run a scenario in virtual time: the real leader, virtual agents, your own scheduler.
    Simulate(simulate::SimulateArgs),
    /// Run a master.
    Master(Box<MasterArgs>),
    /// A process of one tenant's sandboxes; agents start it.
    #[command(hide = true)]
    Cell {
        /// The agent's Unix socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Compile one module; agents start it.
    #[command(hide = true)]
    Compile(CompileArgs),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct AgentVerb {
    #[command(subcommand)]
    verb: Option<AgentCommand>,
    #[command(flatten)]
    run: AgentArgs,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
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
    Show {
        /// Its name.
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

#[derive(Debug, Subcommand)]
enum RoleCommand {
    /// List roles.
    Ls {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

#[derive(Debug, Args)]
struct CompileArgs {
    /// What it is.
    #[arg(long)]
    kind: CompileKind,
    /// WebAssembly.
    #[arg(long = "in")]
    input: PathBuf,
    /// Code for this machine.
    #[arg(long = "out")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompileKind {
    Scheduler,
    CommandP1,
    CommandP2,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and clap knows where they go.
            let _printed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    start_tracing(&cli.verb);
    dispatch(cli).unwrap_or_else(|error| error.report())
}

fn dispatch(cli: Cli) -> Result<ExitCode, CliError> {
    let done = |()| ExitCode::SUCCESS;
    match cli.verb {
        // Before any thread: it bounds its own address space.
        Verb::Compile(args) => {
            Ok(tepui_cell::compile_main(kind(args.kind), &args.input, &args.output))
        }
        Verb::Cell { socket } => cell(&socket),
        Verb::Master(args) => runtime(Threads::Many)?.block_on(parts::master(*args)).map(done),
        Verb::Agent(AgentVerb { verb: None, run }) => {
            runtime(Threads::Many)?.block_on(parts::agent(run)).map(done)
        }
        Verb::Simulate(args) => simulate::run(args).map(done),
        Verb::Dev(args) => runtime(Threads::One)?.block_on(dev::dev(args)),
        Verb::Cluster(ClusterCommand::Init { dir }) => cluster::init(&dir).map(done),
        Verb::Cluster(ClusterCommand::Identity { role, name, dir, out, host }) => {
            cluster::make_identity(role, &name, &dir, &host, &out).map(done)
        }
        verb => {
            let client = Client::new(&context::find(cli.context.as_deref())?)?;
            runtime(Threads::One)?.block_on(Box::pin(ask(&client, verb)))
        }
    }
}

/// Verbs that speak to a cluster.
async fn ask(client: &Client, verb: Verb) -> Result<ExitCode, CliError> {
    match verb {
        Verb::Run(args) => return run::run(client, *args).await,
        Verb::Framework(command) => framework::framework(client, command).await,
        Verb::Task(command) => task::task(client, command).await,
        Verb::Agent(AgentVerb { verb: Some(AgentCommand::Ls { free, output }), .. }) => {
            agent_verbs::list_agents(client, free, output).await
        }
        Verb::Agent(AgentVerb { verb: Some(AgentCommand::Show { id, output }), .. }) => {
            agent_verbs::show_agent(client, &id, output).await
        }
        Verb::Role(RoleCommand::Ls { output }) => agent_verbs::list_roles(client, output).await,
        Verb::Blob(command) => blob::blob(client, command).await,
        Verb::Cluster(ClusterCommand::Status { output }) => {
            agent_verbs::show_cluster(client, output).await
        }
        other => Err(CliError::failed(format!("this verb does not speak to a cluster: {other:?}"))),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn cell(socket: &std::path::Path) -> Result<ExitCode, CliError> {
    let ended = runtime(Threads::Many)?.block_on(tepui_cell::run_cell(socket));
    ended
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| CliError::failed("the cell ended").because(&error))
}

fn kind(kind: CompileKind) -> ModuleKind {
    match kind {
        CompileKind::Scheduler => ModuleKind::Scheduler,
        CompileKind::CommandP1 => ModuleKind::CommandP1,
        CompileKind::CommandP2 => ModuleKind::CommandP2,
    }
}

#[derive(Clone, Copy, Debug)]
enum Threads {
    /// A verb waits more than it works, and starts sooner so.
    One,
    /// The cluster's own processes.
    Many,
}

fn runtime(threads: Threads) -> Result<tokio::runtime::Runtime, CliError> {
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Threads::Many = threads {
        // An agent's loop syncs its journal on the thread that it is on; another one has to be there.
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        builder.worker_threads(cores.max(2));
    }
    builder
        .enable_all()
        .build()
        .map_err(|error| CliError::failed("cannot start the runtime").because(&error))
}

/// Words of the parts go to standard error; `TEPUI_LOG` says how many.
fn start_tracing(verb: &Verb) {
    let is_part = matches!(
        verb,
        Verb::Master(_) | Verb::Cell { .. } | Verb::Agent(AgentVerb { verb: None, .. })
    );
    let filter = std::env::var("TEPUI_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(if is_part { "info" } else { "warn" }));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(out::stderr_is_terminal())
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_verbs_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn agent_means_the_verb_or_the_process() {
        let verb = |words: &[&str]| Cli::try_parse_from(words).map(|cli| cli.verb);
        assert!(matches!(
            verb(&["tepui", "agent", "ls"]),
            Ok(Verb::Agent(AgentVerb { verb: Some(_), .. }))
        ));
        assert!(matches!(
            verb(&["tepui", "agent", "--name", "a"]),
            Ok(Verb::Agent(AgentVerb { verb: None, .. }))
        ));
    }

    #[test]
    fn what_stands_after_the_dashes_is_the_programs() {
        let cli =
            Cli::try_parse_from(["tepui", "run", "x.wasm", "--cpus", "0.5", "--", "--cpus", "9"]);
        assert!(matches!(cli.map(|cli| cli.verb), Ok(Verb::Run(_))));
    }
}
