//! The cell as a process: frames in, frames out, a task for each command and each scheduler.
//!
//! Owns the socket, the admission of sandboxes, and who gets which frame. Never waits for a guest. Its one surprise:
//! ended commands leave this table when it is swept, not when they end, so that nothing has to be locked for it.

use crate::cache::{Cache, Slot};
use crate::command::{CommandHost, CommandModule, never_ran, run_command};
use crate::disk::Shared;
use crate::engine::EngineError;
use crate::link::{Outbox, Outgoing, TaskLink};
use crate::load::LoadError;
use crate::process;
use crate::scheduler::{SchedulerHost, SchedulerInstance, SchedulerModule};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tepui_proto::cell::{CellCommand, CellEvent, CommandEnd, RunCommand};
use tepui_proto::frame::{self, Decoder, FrameError};
use tepui_proto::scheduler::{FromScheduler, Open, SchedulerFailure, ToScheduler};
use tepui_proto::{FrameworkId, Incarnation, LaunchNumber, Reason, TaskState, limits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

/// Events that wait to be written.
const OUTBOX: usize = 1_024;
/// Events that leave in one write.
const BATCH: usize = 256;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// Frames that wait for one scheduler: its state, and one turn.
const SCHEDULER_FRAMES: usize = 64;
/// Schedulers that run at once. A turn takes milliseconds.
const SCHEDULER_THREADS: usize = 2;
/// Ended commands that are remembered before a sweep.
const SWEEP: usize = 64;

/// Why a cell ended before its agent let go of it.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// The socket cannot be dialled or read.
    #[error("the socket of the agent failed")]
    Socket(#[from] io::Error),
    /// What came is not a frame.
    #[error("the agent sent what cannot be read")]
    Frame(#[from] FrameError),
    /// There is no sandbox.
    #[error("the cell cannot begin")]
    Engine(#[from] EngineError),
}

/// The whole of the child `tepui cell`: dials the agent's socket and serves it until it ends.
///
/// # Errors
/// If the socket fails, the agent sends what is not a frame, or the pool cannot be had.
pub async fn run_cell(socket: &Path) -> Result<(), CellError> {
    let shared = process::bound_cell();
    let stream = UnixStream::connect(socket).await?;
    // Made by this thread, which does not give way: theirs would never stop to, if one that does made them.
    let schedulers = SchedulerThreads::new()?;
    // As a task: whoever is woken by the socket then reads it too, and runs what it was told; one thread, no hand-over.
    let served = tokio::spawn(serve_with(stream, shared, schedulers)).await;
    served.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

/// Serves one agent until the stream ends; everything that still runs is then dropped.
///
/// # Errors
/// As for [`run_cell`].
pub async fn serve<S>(stream: S) -> Result<(), CellError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    serve_with(stream, Shared::default(), SchedulerThreads::new()?).await
}

/// Threads that run schedulers and nothing else, so that no number of tasks stands before them.
#[derive(Debug)]
struct SchedulerThreads(Option<Runtime>);

impl SchedulerThreads {
    fn new() -> io::Result<Self> {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let threads = threads.worker_threads(SCHEDULER_THREADS).thread_name("schedulers");
        threads.enable_time().build().map(|threads| Self(Some(threads)))
    }
}

impl Drop for SchedulerThreads {
    fn drop(&mut self) {
        // Within a runtime another one can only be left to itself.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

async fn serve_with<S>(
    stream: S,
    shared: Shared,
    schedulers: SchedulerThreads,
) -> Result<(), CellError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = tokio::io::split(stream);
    let (outbox, queue) = mpsc::channel(OUTBOX);
    let mut cell = Cell::new(outbox, shared, schedulers)?;
    let mut writing = JoinSet::new();
    writing.spawn(write_frames(queue, writer));
    let mut decoder = Decoder::default();
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let count = reader.read(&mut bytes).await?;
        if count == 0 {
            return if decoder.is_whole() { Ok(()) } else { Err(FrameError::Cut.into()) };
        }
        decoder.push(bytes.get(..count).unwrap_or_default());
        while let Some(command) = decoder.pop()? {
            cell.on_command(command).await;
        }
    }
}

async fn write_frames(mut queue: mpsc::Receiver<Outgoing>, mut writer: impl AsyncWrite + Unpin) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut bytes = Vec::with_capacity(READ_BYTES);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        for outgoing in batch.drain(..) {
            if let Err(error) = frame::encode_into(&outgoing.into_event(), &mut bytes) {
                tracing::error!(%error, "an event cannot be told");
            }
        }
        // The reader sees the end of the socket too, and ends the cell.
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
        bytes.clear();
        bytes.shrink_to(limits::FRAME_BYTES);
    }
}

/// A hosted scheduler, to those who have frames for it.
#[derive(Debug)]
struct Hosted {
    frames: mpsc::Sender<ToScheduler>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Cell {
    outbox: Outbox,
    commands: Arc<CommandHost>,
    command_modules: Cache<CommandModule>,
    links: BTreeMap<LaunchNumber, Arc<TaskLink>>,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    scheduler_threads: SchedulerThreads,
    /// Made for the first scheduler; most cells never have one.
    schedulers: Option<Arc<SchedulerHost>>,
    scheduler_modules: Cache<SchedulerModule>,
    hosted: BTreeMap<(FrameworkId, Incarnation), Hosted>,
    tasks: JoinSet<()>,
}

impl Cell {
    fn new(
        outbox: Outbox,
        shared: Shared,
        scheduler_threads: SchedulerThreads,
    ) -> Result<Self, CellError> {
        Ok(Self {
            outbox,
            commands: Arc::new(CommandHost::new()?),
            command_modules: Cache::default(),
            links: BTreeMap::new(),
            room: Arc::new(Semaphore::new(shared.sandboxes as usize)),
            shared: Arc::new(shared),
            scheduler_threads,
            schedulers: None,
            scheduler_modules: Cache::default(),
            hosted: BTreeMap::new(),
            tasks: JoinSet::new(),
        })
    }

    async fn on_command(&mut self, command: CellCommand) {
        // Ended tasks; one that panicked has told so itself.
        while self.tasks.try_join_next().is_some() {}
        match command {
            CellCommand::Run(run) => self.on_run(*run).await,
            CellCommand::Kill { launch, grace_ms } => {
                if let Some(link) = self.links.get(&launch) {
                    link.kill(grace_ms);
                }
            }
            CellCommand::Message { launch, data } => {
                if let Some(link) = self.links.get(&launch) {
                    link.message(data);
                }
            }
            CellCommand::MessageStored { launch, number } => {
                if let Some(link) = self.links.get(&launch) {
                    link.message_stored(number);
                }
            }
            CellCommand::OpenScheduler { open, compiled } => {
                self.on_open_scheduler(open, &compiled).await;
            }
            CellCommand::Scheduler { framework, incarnation, frame } => {
                self.on_scheduler_frame(framework, incarnation, frame).await;
            }
            CellCommand::CloseScheduler { framework, incarnation } => {
                if let Some(hosted) = self.hosted.remove(&(framework, incarnation)) {
                    hosted.task.abort();
                }
            }
        }
    }

    async fn on_run(&mut self, mut run: RunCommand) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            let message = format!("the cell holds {} sandboxes already", self.shared.sandboxes);
            let end = never_ran(TaskState::Dropped, Reason::CellFull, message);
            return tell_end(&self.outbox, run.launch, end).await;
        };
        self.sweep();
        let link = TaskLink::new(&mut run, self.outbox.clone(), &self.shared);
        self.links.insert(run.launch, Arc::clone(&link));
        let slot = self.command_modules.slot(&run.compiled);
        self.tasks.spawn(host_command(Arc::clone(&self.commands), slot, run, link, permit));
    }

    fn sweep(&mut self) {
        let live = (self.shared.sandboxes as usize).saturating_sub(self.room.available_permits());
        if self.links.len() > 2 * live + SWEEP {
            self.links.retain(|_, link| Arc::strong_count(link) > 1);
        }
    }

    async fn on_open_scheduler(&mut self, open: Open, compiled: &str) {
        self.hosted.retain(|_, hosted| !hosted.frames.is_closed());
        let key = (open.framework, open.incarnation);
        if self.hosted.len() >= limits::CELL_SCHEDULERS as usize {
            return self
                .refuse_scheduler(key, "the cell has no room for another scheduler".to_owned())
                .await;
        }
        let host = match self.scheduler_host() {
            Ok(host) => host,
            Err(error) => return self.refuse_scheduler(key, error.to_string()).await,
        };
        let slot = self.scheduler_modules.slot(compiled);
        let (frames, queue) = mpsc::channel(SCHEDULER_FRAMES);
        let compiled = PathBuf::from(compiled);
        let hosting = host_scheduler(host, slot, compiled, open, (queue, self.outbox.clone()));
        let task = match &self.scheduler_threads.0 {
            Some(threads) => self.tasks.spawn_on(hosting, threads.handle()),
            None => self.tasks.spawn(hosting),
        };
        if let Some(older) = self.hosted.insert(key, Hosted { frames, task }) {
            older.task.abort();
        }
    }

    fn scheduler_host(&mut self) -> Result<Arc<SchedulerHost>, EngineError> {
        let host = match &self.schedulers {
            Some(host) => host,
            None => self.schedulers.insert(Arc::new(SchedulerHost::new()?)),
        };
        Ok(Arc::clone(host))
    }

    async fn on_scheduler_frame(
        &mut self,
        framework: FrameworkId,
        incarnation: Incarnation,
        frame: ToScheduler,
    ) {
        let key = (framework, incarnation);
        let Some(hosted) = self.hosted.get(&key) else {
            return self.refuse_scheduler(key, "the instance is not here".to_owned()).await;
        };
        match hosted.frames.try_send(frame) {
            // It has failed and told so.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                hosted.task.abort();
                self.hosted.remove(&key);
                self.refuse_scheduler(key, "too many frames wait for the instance".to_owned())
                    .await;
            }
        }
    }

    async fn refuse_scheduler(&self, key: (FrameworkId, Incarnation), message: String) {
        let frame = failed(SchedulerFailure::Agent, message);
        tell_scheduler(&self.outbox, key, frame).await;
    }
}

fn failed(failure: SchedulerFailure, message: String) -> FromScheduler {
    FromScheduler::Failed { mark: None, failure, message, log: Vec::new() }
}

/// If nobody hears it any more, the cell is about to end.
async fn tell_end(outbox: &Outbox, launch: LaunchNumber, end: CommandEnd) {
    let event = CellEvent::Ended { launch, end: Box::new(end) };
    drop(outbox.send(Outgoing::Event(event)).await);
}

/// As for [`tell_end`].
async fn tell_scheduler(
    outbox: &Outbox,
    (framework, incarnation): (FrameworkId, Incarnation),
    frame: FromScheduler,
) {
    let event = CellEvent::Scheduler { framework, incarnation, frame };
    drop(outbox.send(Outgoing::Event(event)).await);
}

/// Tells the end of something whose task panics; a task that is aborted says nothing.
struct IfPanicking<F: FnMut()>(F);

impl<F: FnMut()> Drop for IfPanicking<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

async fn host_command(
    host: Arc<CommandHost>,
    slot: Slot<CommandModule>,
    run: RunCommand,
    link: Arc<TaskLink>,
    permit: OwnedSemaphorePermit,
) {
    let launch = link.launch;
    let guarded = Arc::clone(&link);
    let _guard = IfPanicking(move || {
        let end = never_ran(
            TaskState::Failed,
            Reason::AgentFailed,
            "the cell failed under it".to_owned(),
        );
        let event = CellEvent::Ended { launch, end: Box::new(end) };
        // A full queue here means that the agent has stopped reading; its own timeouts remain.
        drop(guarded.outbox.try_send(Outgoing::Event(event)));
    });
    let (kind, path) = (run.kind, PathBuf::from(&run.compiled));
    let module = match slot.get() {
        Some(module) => Ok(module),
        None => slot.get_or_try_init(|| off_runtime(move || host.load(kind, &path))).await,
    };
    let end = match module {
        Ok(module) => run_command(module, run, &link).await,
        Err(error) => {
            let (state, reason) = error.state_and_reason();
            never_ran(state, reason, crate::outcome::cut(error.to_string()))
        }
    };
    // Before the end is told, so that whoever hears it finds room.
    drop(permit);
    tell_end(&link.outbox, launch, end).await;
}

/// Loads on a thread that may block: a large module takes milliseconds.
async fn off_runtime<T: Send + 'static>(
    load: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.unwrap_or_else(|error| Err(LoadError::File(error.to_string())))
}

async fn host_scheduler(
    host: Arc<SchedulerHost>,
    slot: Slot<SchedulerModule>,
    compiled: PathBuf,
    open: Open,
    (mut frames, outbox): (mpsc::Receiver<ToScheduler>, Outbox),
) {
    let key = (open.framework, open.incarnation);
    let guarded = outbox.clone();
    let _guard = IfPanicking(move || {
        let frame = failed(SchedulerFailure::Agent, "the cell failed under it".to_owned());
        let event = CellEvent::Scheduler { framework: key.0, incarnation: key.1, frame };
        // As for commands.
        drop(guarded.try_send(Outgoing::Event(event)));
    });
    let module = match slot.get_or_try_init(|| off_runtime(move || host.load(&compiled))).await {
        Ok(module) => module,
        Err(error) => {
            let failure = match error {
                LoadError::File(_) => SchedulerFailure::Agent,
                _ => SchedulerFailure::Module,
            };
            return tell_scheduler(&outbox, key, failed(failure, error.to_string())).await;
        }
    };
    let mut pairs = BTreeMap::new();
    let mut instance = None;
    while let Some(frame) = frames.recv().await {
        let answer = match (frame, &mut instance) {
            (ToScheduler::State { pairs: page, last }, None) => {
                pairs.extend(page);
                if last {
                    instance = Some(SchedulerInstance::new(
                        module,
                        open.clone(),
                        std::mem::take(&mut pairs),
                    ));
                }
                continue;
            }
            (ToScheduler::Turn { mark, now, seed, events }, Some(instance)) => {
                instance.turn(mark, now, seed, events).await
            }
            (ToScheduler::Turn { .. }, None) => {
                failed(SchedulerFailure::Agent, "a turn came before its state".to_owned())
            }
            (ToScheduler::State { .. } | ToScheduler::Open(_), _) => {
                failed(SchedulerFailure::Agent, "a frame came out of order".to_owned())
            }
        };
        let is_over = matches!(
            answer,
            FromScheduler::Failed { .. } | FromScheduler::Answer { dropped: true, .. }
        );
        tell_scheduler(&outbox, key, answer).await;
        if is_over {
            return;
        }
    }
}
