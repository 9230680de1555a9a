//! `tepui`: one binary with every verb, and the cluster's own processes.
//!
//! Owns words and exit codes: data goes to standard output, words to standard error. Never keeps state of a cluster.
//! Its one surprise: `tepui dev`, `tepui master`, `tepui agent` and its cells are all this program.

mod agent;
mod blob;
mod client;
mod cluster;
mod context;
mod dev;
mod error;
mod explain;
mod framework;
mod logs;
mod manifest;
mod out;
mod parts;
mod role;
mod run;
mod settings;
mod setup;
mod simulate;
mod task;
mod units;
mod upload;

use agent::AgentCommand;
use blob::BlobCommand;
use clap::{Args, Parser, Subcommand, ValueEnum};
use client::Client;
use cluster::ClusterCommand;
use error::CliError;
use explain::ExplainCommand;
use framework::FrameworkCommand;
use parts::{AgentArgs, MasterArgs};
use role::RoleCommand;
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
    /// List, show, drain and provision agents; with flags alone: run one.
    Agent(AgentVerb),
    /// List and show roles, and set their weights, guarantees and limits.
    #[command(subcommand)]
    Role(RoleCommand),
    /// Say why a framework, or those in a role, are offered what they are.
    #[command(subcommand)]
    Explain(ExplainCommand),
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
    if matches!(
        cli.verb,
        Verb::Master(_)
            | Verb::Agent(AgentVerb { verb: None, .. })
            | Verb::Cluster(ClusterCommand::Init { .. } | ClusterCommand::Identity { .. })
    ) {
        // Whatever a part of a cluster writes is its owner's alone, by whichever library.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    }
    dispatch(cli).unwrap_or_else(|error| error.report())
}

fn dispatch(cli: Cli) -> Result<ExitCode, CliError> {
    let done = |()| ExitCode::SUCCESS;
    match cli.verb {
        // Before any thread: it bounds its own address space.
        Verb::Compile(args) => {
            tepui_cell::close_inherited();
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
        Verb::Agent(AgentVerb { verb: Some(command), .. }) => agent::agent(client, command).await,
        Verb::Role(command) => role::role(client, command).await,
        Verb::Explain(command) => explain::explain(client, command).await,
        Verb::Blob(command) => blob::blob(client, command).await,
        Verb::Cluster(ClusterCommand::Status { output }) => cluster::show(client, output).await,
        other => Err(CliError::failed(format!("this verb does not speak to a cluster: {other:?}"))),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn cell(socket: &std::path::Path) -> Result<ExitCode, CliError> {
    tepui_cell::close_inherited();
    let ended = runtime(Threads::Tasks)?.block_on(tepui_cell::run_cell(socket));
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
    /// Likewise, and they stand back for others.
    Tasks,
}

fn runtime(threads: Threads) -> Result<tokio::runtime::Runtime, CliError> {
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many | Threads::Tasks => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Threads::Tasks = threads {
        builder.on_thread_start(tepui_cell::give_way);
    }
    if let Threads::Many | Threads::Tasks = threads {
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
    fn operators_verbs_are_read_to_the_letter() {
        for good in [
            "role set acme/web --weight 0.5 --guarantee cpus:2;mem:1024 --limit  --packing pack --force",
            "agent drain a1 --grace 30s --then-gone --wait",
            "agent maintain a1 --start +1h --for 30m",
            "agent maintain a1 --cancel",
            "agent reserve a1 web cpus:1;mem:64",
            "agent volume create a1 v1 --role web --size 1GiB --shared",
            "agent volume destroy a1 v1",
            "explain role acme/web -o json",
        ] {
            let words = std::iter::once("tepui").chain(good.split(' '));
            let read = Cli::try_parse_from(words);
            assert!(read.is_ok(), "{good}: {read:?}");
        }
        for bad in [
            "role set web --weight 0.0001",
            "role set web --limit cpus=1",
            "role set web --packing best",
            "agent drain a1 --grace 30",
            "agent maintain a1",
            "agent maintain a1 --start now --cancel",
            "agent maintain a1 --cancel --for 1h",
            "agent reserve a1 web cpus(web):1x",
            "agent volume create a1 v1 --role web",
            "explain",
        ] {
            let words = std::iter::once("tepui").chain(bad.split(' '));
            let refused = Cli::try_parse_from(words).map(|_read| ()).map_err(|e| e.exit_code());
            assert_eq!(refused, Err(2), "{bad}");
        }
    }

    #[test]
    fn what_stands_after_the_dashes_is_the_programs() {
        let cli =
            Cli::try_parse_from(["tepui", "run", "x.wasm", "--cpus", "0.5", "--", "--cpus", "9"]);
        assert!(matches!(cli.map(|cli| cli.verb), Ok(Verb::Run(_))));
    }
}
