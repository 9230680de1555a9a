//! `tepui dev`: a cluster on loopback, a master and agents as processes of their own.
//!
//! Owns those processes and the state folder. Never takes part in the cluster itself. Its one surprise: a part that dies
//! is started again, on the same ports, since that is what a cluster has to bear.

mod command;
mod part;

use crate::client::Client;
use crate::context::{self, Context, process_start, write_private};
use crate::error::CliError;
use crate::out;
use crate::parts::{Ready, end_of_stdin, machine_cpu_milli, machine_memory_bytes};
use crate::setup::{self, Layout};
use crate::units::{parse_cpus, parse_custom, parse_size};
use clap::Args;
use part::{Part, Running};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tepui_master::setup::Cluster as Made;
use tepui_proto::api::AgentView;
use tepui_transport::PeerRole;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// How long the parts may take to find each other.
const READY_MOST: Duration = Duration::from_secs(30);
/// Between two looks for agents: first, and at the most.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_MOST: Duration = Duration::from_millis(200);
/// What each agent offers at least, so that small machines still show a cluster at work.
const AGENT_CPU_MILLI_LEAST: u64 = 2_000;
const AGENT_MEMORY_BYTES_LEAST: u64 = 1 << 30;

/// `tepui dev`
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// How many agents.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    agents: u32,
    /// Keep the cluster's state here, and go on with what is there; without it the state ends with the cluster.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Cores that each agent offers [default: its part of the machine's, at least 2].
    #[arg(long, value_parser = parse_cpus)]
    cpus: Option<u64>,
    /// Memory that each agent offers [default: its part of the machine's, at least 1GiB].
    #[arg(long, value_parser = parse_size)]
    memory: Option<u64>,
    /// What else each agent offers, such as "gpus:2;licences:{a,b}".
    #[arg(long, value_parser = checked_custom)]
    custom: Option<String>,
    /// A file with settings of the master, as for `tepui master --config`.
    #[arg(long, value_name = "FILE")]
    master_config: Option<PathBuf>,
    /// End when standard input ends.
    #[arg(long, hide = true)]
    with_parent: bool,
    /// A command to run against the cluster; the cluster ends with it, and its exit code is the result.
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// What agents are given as it is written; checked here, where it can still be answered.
fn checked_custom(text: &str) -> Result<String, String> {
    parse_custom(text).map(|_custom| text.to_owned())
}

/// Runs a cluster until Ctrl-C, SIGTERM, or the end of the command.
///
/// # Errors
/// When the cluster does not come up, or the command cannot be started.
pub(crate) async fn dev(args: DevArgs) -> Result<ExitCode, CliError> {
    let temporary = match &args.dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("tepui-dev-").tempdir().map_err(|error| {
            CliError::failed("cannot make a folder for the cluster").because(&error)
        })?),
    };
    let root = args
        .dir
        .as_deref()
        .or_else(|| temporary.as_ref().map(tempfile::TempDir::path))
        .unwrap_or_else(|| Path::new("."));
    let layout = Layout::open(root)?;
    let mut signals = Signals::listen(args.with_parent)?;
    let mut cluster = Cluster { layout, parts: Vec::new(), published: Vec::new() };
    let outcome = tokio::select! {
        started = cluster.start(&args) => started.map(|()| true),
        () = signals.recv() => Ok(false),
    };
    let outcome = match outcome {
        Ok(true) => serve(&cluster, &args, &mut signals).await,
        Ok(false) => Ok(ExitCode::from(command::INTERRUPTED)),
        Err(error) => Err(error),
    };
    cluster.stop().await;
    outcome
}

async fn serve(
    cluster: &Cluster,
    args: &DevArgs,
    signals: &mut Signals,
) -> Result<ExitCode, CliError> {
    if args.command.is_empty() {
        let context = cluster.layout.context();
        out::note(format_args!(
            "the cluster is ready: a master and {} agents; Ctrl-C ends it",
            args.agents
        ));
        out::note("  in another shell:  tepui agent ls");
        out::note(format_args!("  among several:     export TEPUI_CONTEXT={}", context.display()));
        out::note(format_args!("  logs:              {}/*.log", cluster.layout.root.display()));
        signals.recv().await;
        out::note("ending the cluster");
        return Ok(ExitCode::SUCCESS);
    }
    command::run(&args.command, &cluster.layout.context(), args.with_parent, signals).await
}

/// What ends `tepui dev` from outside.
#[derive(Debug)]
pub(crate) struct Signals {
    kinds: [Signal; 3],
    /// Told when the parent is gone; never without one.
    parent_gone: Arc<Notify>,
}

impl Signals {
    fn listen(with_parent: bool) -> Result<Self, CliError> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| CliError::failed("cannot listen to signals").because(&error))
        };
        let kinds =
            [on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?];
        let parent_gone = if with_parent { end_of_stdin() } else { Arc::default() };
        Ok(Self { kinds, parent_gone })
    }

    /// Waits for the next one. May be dropped and called again.
    pub(crate) async fn recv(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.kinds;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            () = self.parent_gone.notified() => {}
        }
    }
}

/// The processes and files of one cluster.
#[derive(Debug)]
struct Cluster {
    layout: Layout,
    /// The master first.
    parts: Vec<Running>,
    /// The context files that were written.
    published: Vec<PathBuf>,
}

impl Cluster {
    async fn start(&mut self, args: &DevArgs) -> Result<(), CliError> {
        let layout = self.layout.clone();
        if Context::read(&layout.context()).is_ok_and(|context| context.is_alive()) {
            let busy =
                CliError::usage(format!("a cluster runs in `{}` already", layout.root.display()));
            return Err(busy.hint("end that one first, or name another folder with `--dir`"));
        }
        let made = setup::init(&layout)?;
        let ready = self.start_master(&made, args.master_config.as_deref()).await?;
        for number in 1..=args.agents {
            let name = format!("agent-{number}");
            setup::identity(&made.authority, PeerRole::Agent, &name, &[], &layout.identity(&name))?;
            let part = agent_part(&layout, &name, ready.quic, args)?;
            self.parts.push(part.start()?);
        }
        let pid = std::process::id();
        let context = Context {
            name: args
                .dir
                .as_ref()
                .map_or_else(|| format!("dev-{pid}"), |_| folder_name(&layout.root)),
            url: ready.url,
            ca: made.ca,
            token: made.token,
            dir: Some(layout.root.clone()),
            pid: Some(pid),
            started: process_start(pid),
        };
        await_agents(&context, args.agents).await?;
        self.publish(&context)
    }

    /// Starts the master, on the ports that it had before if there are any.
    async fn start_master(
        &mut self,
        made: &Made,
        config: Option<&Path>,
    ) -> Result<Ready, CliError> {
        let layout = &self.layout;
        let addresses = made.master.join("addresses");
        let before = std::fs::read_to_string(&addresses)
            .ok()
            .and_then(|text| serde_json::from_str::<Ready>(&text).ok());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (http, quic) = before.map_or((any, any), |ready| (http_of(&ready), ready.quic));
        let part = master_part(layout, made, (http, quic), config)?;
        let mut child = part.spawn_heard()?;
        let ready =
            tokio::time::timeout(READY_MOST, part::first_words(&mut child)).await.unwrap_or(None);
        let Some(ready) = ready else {
            return Err(part.failed_to_start(child).await);
        };
        write_private(&addresses, ready.to_json().as_bytes())?;
        // Whenever it is started again, it has to be where agents look for it.
        let part = master_part(layout, made, (http_of(&ready), ready.quic), config)?;
        self.parts.push(part.keep(child));
        Ok(ready)
    }

    /// Tells other shells where the cluster is.
    fn publish(&mut self, context: &Context) -> Result<(), CliError> {
        context.write(&self.layout.context())?;
        self.published.push(self.layout.context());
        // Without a state folder the cluster is still there for those who name it.
        let Ok(dir) = context::contexts_dir() else { return Ok(()) };
        setup::make_dir(&dir)?;
        context::sweep(&dir);
        let path = dir.join(format!("dev-{}.toml", std::process::id()));
        context.write(&path)?;
        self.published.push(path);
        Ok(())
    }

    /// Ends every process, agents first, and takes back what was told to other shells.
    async fn stop(self) {
        for path in &self.published {
            // Somebody may have removed it before.
            let _removed = std::fs::remove_file(path);
        }
        let mut parts = self.parts.into_iter();
        let master = parts.next();
        let agents: Vec<_> = parts.map(Running::ask_to_stop).collect();
        for agent in agents {
            agent.ended().await;
        }
        if let Some(master) = master {
            master.ask_to_stop().ended().await;
        }
    }
}

/// The address in `https://HOST:PORT`.
fn http_of(ready: &Ready) -> SocketAddr {
    let address =
        ready.url.strip_prefix("https://").and_then(|rest| rest.trim_end_matches('/').parse().ok());
    address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn folder_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "dev".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn master_part(
    layout: &Layout,
    made: &Made,
    (http, quic): (SocketAddr, SocketAddr),
    config: Option<&Path>,
) -> Result<Part, CliError> {
    let dir = made.master.clone();
    let mut args: Vec<OsString> = vec![
        "master".into(),
        "--with-parent".into(),
        "--dir".into(),
        dir.clone().into(),
        "--http".into(),
        http.to_string().into(),
        "--quic".into(),
        quic.to_string().into(),
        "--identity".into(),
        made.identity.clone().into(),
        "--token-file".into(),
        made.token_file.clone().into(),
    ];
    if let Some(config) = config {
        args.extend(["--config".into(), config.into()]);
    }
    Part::new("master", args, &dir, layout.part("master.log"))
}

fn agent_part(
    layout: &Layout,
    name: &str,
    master: SocketAddr,
    args: &DevArgs,
) -> Result<Part, CliError> {
    let dir = layout.part(name);
    let agents = u64::from(args.agents);
    let cpus =
        args.cpus.unwrap_or_else(|| (machine_cpu_milli() / agents).max(AGENT_CPU_MILLI_LEAST));
    let memory = args
        .memory
        .unwrap_or_else(|| (machine_memory_bytes() / 4 * 3 / agents).max(AGENT_MEMORY_BYTES_LEAST));
    let mut flags: Vec<OsString> = vec![
        "agent".into(),
        "--with-parent".into(),
        "--name".into(),
        name.into(),
        "--dir".into(),
        dir.clone().into(),
        "--master".into(),
        master.to_string().into(),
        "--identity".into(),
        layout.identity(name).into(),
        "--cpus".into(),
        tepui_proto::resources::Milli(cpus).to_string().into(),
        "--memory".into(),
        memory.to_string().into(),
    ];
    if let Some(custom) = &args.custom {
        flags.extend(["--custom".into(), custom.into()]);
    }
    Part::new(name, flags, &dir, layout.part(&format!("{name}.log")))
}

/// Waits until so many agents are connected.
async fn await_agents(context: &Context, agents: u32) -> Result<(), CliError> {
    let client = Client::new(context)?;
    let bar = out::spinner("starting the cluster");
    let mut pause = LOOK_FIRST;
    let connected = async {
        loop {
            // The master listens already, so an error is one that stays.
            let views: Vec<AgentView> = client.list(&["agents"], &[]).await?;
            let connected = views.iter().filter(|view| view.state == "connected").count();
            if connected >= agents as usize {
                return Ok(());
            }
            bar.set_message(format!("starting the cluster: {connected} of {agents} agents"));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MOST);
        }
    };
    let waited = tokio::time::timeout(READY_MOST, connected).await;
    bar.finish_and_clear();
    waited.unwrap_or_else(|_late| {
        let dir = context.dir.clone().unwrap_or_default();
        let late = CliError::failed(format!(
            "the agents did not connect within {} s",
            READY_MOST.as_secs()
        ));
        Err(late.hint(format!("see {}/agent-*.log", dir.display())))
    })
}
