//! The driver: the one thread that owns the leader and the journal, and the handle that all others hold.
//!
//! Owns the order of everything: inputs are handled in the order in which they came, committed as a batch, and only
//! then answered. Never does what could wait on a peer. Its one surprise: a query sees the state after the batch that
//! it came with, so whoever was answered finds what it did.

mod clock;
mod orders;
mod recovery;
mod snapshots;
#[cfg(test)]
mod tests;
mod turn;

use crate::blobs::Blobs;
use crate::sessions::{Link, Links};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tepui_journal::JournalError;
use tepui_master_core::allocator::Settings;
use tepui_master_core::entry::EntryError;
use tepui_master_core::state::StateError;
use tepui_master_core::{Code, ConnectionId, Input, Leader, Refusal, ReplyBody, Ticket};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Commands that wait for the driver; whoever finds them all taken waits, and its peer with it.
const WAITING: usize = 4_096;

/// Why the driver stopped by itself. Nothing that was acknowledged is lost.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The journal failed. What it holds can only be told by opening it again.
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    /// An entry of the log is not known here: a newer master wrote it, or it is damaged.
    #[error("entry {index} of the log cannot be used")]
    Entry {
        /// Its place in the log.
        index: u64,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// An entry that cannot be written.
    #[error("an entry for the log cannot be written")]
    Encode(#[source] EntryError),
    /// The snapshot cannot be read or made.
    #[error("the snapshot of the state cannot be used")]
    Snapshot(#[source] StateError),
    /// The thread could not be started.
    #[error("the driver's thread could not be started")]
    Thread(#[source] std::io::Error),
    /// The thread is gone and did not say why.
    #[error("the driver ended without a word")]
    Gone,
}

/// The driver has stopped, and with it this master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this master is stopping")]
pub(crate) struct Stopped;

impl From<Stopped> for Refusal {
    fn from(stopped: Stopped) -> Self {
        Self::new(Code::NotLeader, stopped.to_string())
    }
}

pub(crate) use recovery::{Recovery, recover};

pub(crate) type Answer = Result<ReplyBody, Refusal>;
type Query = Box<dyn FnOnce(&View<'_>) + Send>;

/// What the driver can be told.
pub(crate) enum Command {
    /// A fact.
    Input(Input),
    /// A fact whose ticket somebody waits for.
    Ask { ticket: Ticket, input: Input, reply: oneshot::Sender<Answer> },
    /// An agent's first word, and the way to it.
    Connected { connection: ConnectionId, link: Link, input: Input },
    /// A look at the state.
    Query(Query),
    /// No more; the last batch is committed and a snapshot is taken.
    Stop,
}

/// What a query sees.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) leader: &'a Leader,
    pub(crate) links: &'a Links,
    /// Of the last committed entry.
    pub(crate) index: u64,
    pub(crate) stats: Stats,
}

/// What the driver has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) batches: u64,
    pub(crate) inputs: u64,
    pub(crate) entries: u64,
    pub(crate) snapshots: u64,
    /// Whether one is being written.
    pub(crate) is_writing_snapshot: bool,
    /// Time spent in appends, all together.
    pub(crate) append_us: u64,
}

/// A way to the driver. Clones are the same driver.
#[derive(Clone)]
pub(crate) struct Driver {
    commands: mpsc::Sender<Command>,
    tickets: Arc<AtomicU64>,
    changes: watch::Receiver<u64>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// The driver's end; to be awaited once.
pub(crate) type Ended = oneshot::Receiver<Result<(), DriverError>>;

/// Starts the driver on a thread of its own, with what was recovered. To be called within a tokio runtime, which must
/// outlive it.
pub(crate) fn start(
    recovered: Recovery,
    blobs: Blobs,
    allocator: Settings,
) -> Result<(Driver, Ended), DriverError> {
    let (sender, commands) = mpsc::channel(WAITING);
    let (changed, changes) = watch::channel(0);
    let driver = Driver { commands: sender, tickets: Arc::new(AtomicU64::new(1)), changes };
    let turn = turn::Loop::new(
        recovered,
        allocator,
        commands,
        changed,
        orders::Orders::new(driver.clone(), blobs, Handle::current()),
    );
    let (told, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("tepui-driver".to_owned())
        .spawn(move || {
            let end = turn.run();
            if let Err(error) = &end {
                tracing::error!(cause = ?error, "the master stops: {error}");
            }
            // Nobody listens only if the whole process is on its way out.
            drop(told.send(end));
        })
        .map_err(DriverError::Thread)?;
    Ok((driver, ended))
}

impl Driver {
    /// Tells a fact; waits while too many wait.
    pub(crate) async fn tell(&self, input: Input) -> Result<(), Stopped> {
        self.send(Command::Input(input)).await
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_gone| Stopped)
    }

    /// Looks at the state, after all that was told before.
    pub(crate) async fn query<T, F>(&self, look: F) -> Result<T, Stopped>
    where
        T: Send + 'static,
        F: FnOnce(&View<'_>) -> T + Send + 'static,
    {
        let (sender, seen) = oneshot::channel();
        // Whoever asked may have gone.
        self.send(Command::Query(Box::new(move |view: &View<'_>| drop(sender.send(look(view))))))
            .await?;
        seen.await.map_err(|_gone| Stopped)
    }

    /// Looks until it has seen enough, for so long, or until it is `over`; says what it saw last. Looks again only
    /// when something has changed, and not more often than every `pause`.
    #[expect(
        clippy::too_many_arguments,
        reason = "how long, how often, and until what: each caller has its own"
    )]
    pub(crate) async fn wait<T, F>(
        &self,
        limit: Duration,
        pause: Duration,
        over: impl Future<Output = ()>,
        look: F,
        is_enough: impl Fn(&T) -> bool,
    ) -> Result<T, Stopped>
    where
        T: Send + 'static,
        F: FnOnce(&View<'_>) -> T + Clone + Send + 'static,
    {
        let mut changes = self.changes.clone();
        let until = Instant::now() + limit;
        let mut over = std::pin::pin!(over);
        loop {
            changes.borrow_and_update();
            let seen = self.query(look.clone()).await?;
            if is_enough(&seen) {
                return Ok(seen);
            }
            let changed = tokio::select! {
                changed = tokio::time::timeout_at(until, changes.changed()) => changed,
                () = &mut over => return Ok(seen),
            };
            match changed {
                Err(_elapsed) => return Ok(seen),
                Ok(Err(_gone)) => return Err(Stopped),
                // Timers are coarse; who wants no pause gets none.
                Ok(Ok(())) if pause.is_zero() => {}
                Ok(Ok(())) => tokio::time::sleep_until(until.min(Instant::now() + pause)).await,
            }
        }
    }

    /// Tells a fact that is answered, and waits for the answer. If the caller goes, the leader is told.
    pub(crate) async fn ask(&self, limit: Duration, input: impl FnOnce(Ticket) -> Input) -> Answer {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.send(Command::Ask { ticket, input: input(ticket), reply }).await?;
        let mut waiting = Waiting { driver: self, ticket, is_over: false };
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => {
                waiting.is_over = true;
                answer
            }
            Ok(Err(_gone)) => {
                waiting.is_over = true;
                Err(Stopped.into())
            }
            Err(_elapsed) => {
                let message = format!("there was no answer within {} ms", limit.as_millis());
                Err(Refusal::new(Code::RequestTimeout, message))
            }
        }
    }

    /// Tells that nobody waits any more; never waits itself.
    fn abandon(&self, ticket: Ticket) {
        let command = Command::Input(Input::Abandoned(ticket));
        if let Err(TrySendError::Full(command)) = self.commands.try_send(command) {
            let driver = self.clone();
            if let Ok(runtime) = Handle::try_current() {
                drop(runtime.spawn(async move { driver.send(command).await }));
            }
        }
    }
}

/// Someone who waits for an answer; the leader is told if it goes before that.
struct Waiting<'a> {
    driver: &'a Driver,
    ticket: Ticket,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.driver.abandon(self.ticket);
        }
    }
}
