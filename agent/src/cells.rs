//! One cell: a child process for a tenant, and the socket between it and the loop.
//!
//! Owns the child from its start until it is reaped. Never starts it again: the core does. Its one surprise: the socket
//! is listened on by the agent and dialled by the cell, and its file is gone as soon as the cell is there.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tepui_agent_core::Input;
use tepui_proto::Tenant;
use tepui_proto::cell::{CellCommand, CellEvent};
use tepui_transport::{FrameReader, FrameWriter, StreamError};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::rooms::Event;

/// Commands that may wait for a cell; one that takes none for so long is ended.
const COMMANDS: usize = 32 * 1024;
/// Commands in one write.
const WRITE: usize = 256;
/// Events that go to the loop at once.
const READ: usize = 512;
/// How long a cell may take to dial.
const START: Duration = Duration::from_secs(20);
/// How long a cell may take to end by itself once its socket has ended.
const END: Duration = Duration::from_secs(1);

/// Where and how cells are started. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct CellStarter {
    pub(crate) executable: Arc<Path>,
    pub(crate) sockets: Arc<Path>,
    pub(crate) inbox: mpsc::Sender<Event>,
}

/// The way to a cell, and a task that owns it.
pub(crate) fn start(
    starter: CellStarter,
    tenant: Tenant,
    number: u64,
) -> (mpsc::Sender<CellCommand>, impl Future<Output = ()>) {
    let (commands, waiting) = mpsc::channel(COMMANDS);
    let task = async move {
        let message = match live(&starter, &tenant, number, waiting).await {
            Ok(how) => how,
            Err(error) => format!("its cell failed: {error}"),
        };
        tracing::info!(%tenant, message, "cell ended");
        // The loop may have stopped.
        drop(starter.inbox.send(Event::Fact(Input::CellDied { tenant, message })).await);
    };
    (commands, task)
}

/// From start to end. Says how it ended.
async fn live(
    starter: &CellStarter,
    tenant: &Tenant,
    number: u64,
    commands: mpsc::Receiver<CellCommand>,
) -> io::Result<String> {
    let socket = starter.sockets.join(format!("{number}.sock"));
    let listener = UnixListener::bind(&socket)?;
    let mut child = spawn(&starter.executable, &socket)?;
    // Held to the end: waiting for a child closes the input that it has, and a cell may take that for its agent's end.
    let _stdin = child.stdin.take();
    let accepted = tokio::select! {
        accepted = listener.accept() => accepted,
        status = child.wait() => return Ok(format!("its cell ended before it began: {}", status?)),
        () = tokio::time::sleep(START) => Err(io::ErrorKind::TimedOut.into()),
    };
    // Nobody else is to dial it.
    drop(tokio::fs::remove_file(&socket).await);
    drop(listener);
    let (stream, _address) = accepted?;
    tracing::info!(%tenant, pid = child.id(), "cell started");
    // The loop may have stopped.
    drop(starter.inbox.send(Event::Fact(Input::CellStarted(tenant.clone()))).await);
    let talk = talk(stream, tenant, commands, &starter.inbox).await;
    reap(child, talk).await
}

fn spawn(executable: &Path, socket: &Path) -> io::Result<Child> {
    let mut command = Command::new(executable);
    command.arg("cell").arg("--socket").arg(socket);
    // Nothing of the agent's environment is a tenant's business.
    command.env_clear();
    for name in ["TEPUI_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.spawn()
}

/// Frames in both directions, until either ends.
async fn talk(
    stream: UnixStream,
    tenant: &Tenant,
    commands: mpsc::Receiver<CellCommand>,
    inbox: &mpsc::Sender<Event>,
) -> Result<(), StreamError> {
    let (read, write) = stream.into_split();
    tokio::select! {
        read = read_events(FrameReader::new(read), tenant, inbox) => read,
        written = write_commands(FrameWriter::new(write), commands) => written,
    }
}

async fn read_events(
    mut reader: FrameReader<OwnedReadHalf>,
    tenant: &Tenant,
    inbox: &mpsc::Sender<Event>,
) -> Result<(), StreamError> {
    while let Some(first) = reader.read::<CellEvent>().await? {
        let mut events = vec![first];
        while events.len() < READ
            && let Some(event) = reader.pop()?
        {
            events.push(event);
        }
        if inbox.send(Event::CellSaid { tenant: tenant.clone(), events }).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn write_commands(
    mut writer: FrameWriter<OwnedWriteHalf>,
    mut commands: mpsc::Receiver<CellCommand>,
) -> Result<(), StreamError> {
    let mut batch = Vec::with_capacity(WRITE);
    while commands.recv_many(&mut batch, WRITE).await > 0 {
        writer.write_all(&batch).await?;
        batch.clear();
    }
    writer.finish().await
}

/// The socket has ended: so must the child.
async fn reap(mut child: Child, talk: Result<(), StreamError>) -> io::Result<String> {
    let status = match tokio::time::timeout(END, child.wait()).await {
        Ok(status) => status?,
        Err(_late) => {
            child.kill().await?;
            child.wait().await?
        }
    };
    Ok(match talk {
        Ok(()) => format!("its cell ended: {status}"),
        Err(error) => format!("its cell ended: {status}; {error}"),
    })
}
