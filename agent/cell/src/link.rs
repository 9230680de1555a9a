//! What a running command and the cell around it share: its end can be asked for, messages pass, logs grow.
//!
//! One allocation per command. Nothing in here waits while a lock is held.

use crate::disk::{Disk, Shared};
use crate::log::LogFile;
use futures_util::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tepui_proto::LaunchNumber;
use tepui_proto::cell::{CellEvent, RunCommand};
use tepui_proto::control::LogStream;
use tepui_proto::limits;
use tokio::sync::{Notify, mpsc};

/// Where commands and schedulers put what the agent is to be told.
pub type Outbox = mpsc::Sender<Outgoing>;

/// What leaves a cell.
#[derive(Debug)]
pub enum Outgoing {
    /// As it is.
    Event(CellEvent),
    /// A log has grown; its size is read when this is encoded, so that one frame tells all growth until then.
    Grown(Arc<TaskLink>, LogStream),
}

impl Outgoing {
    /// The event to encode.
    pub fn into_event(self) -> CellEvent {
        match self {
            Self::Event(event) => event,
            Self::Grown(link, stream) => {
                CellEvent::Logged { launch: link.launch, stream, size: link.log(stream).announce() }
            }
        }
    }
}

/// The shared part of one command.
#[derive(Debug)]
pub struct TaskLink {
    /// Which.
    pub launch: LaunchNumber,
    pub(crate) outbox: Outbox,
    stdout: LogFile,
    stderr: LogFile,
    pub(crate) disk: Disk,
    /// Whether it waits for work on files that is done for it.
    in_files: AtomicBool,
    begun: Instant,
    /// Microseconds after `begun`; the maximum is never.
    kill_at_us: AtomicU64,
    /// Wakes whoever watches over the command.
    pub(crate) watcher: AtomicWaker,
    inbox: Mutex<VecDeque<Vec<u8>>>,
    /// The highest number of a message that the agent has on disk.
    stored: AtomicU64,
    /// After a change of `inbox` or `stored`.
    pub(crate) changed: Notify,
    /// Whether the agent was told that it runs.
    is_started: AtomicBool,
}

impl TaskLink {
    /// The link of a command that is about to begin.
    pub fn new(run: &mut RunCommand, outbox: Outbox, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            disk: Disk::new(run, shared),
            in_files: AtomicBool::new(false),
            launch: run.launch,
            outbox,
            stdout: LogFile::new(std::mem::take(&mut run.stdout), run.log_bytes),
            stderr: LogFile::new(std::mem::take(&mut run.stderr), run.log_bytes),
            begun: Instant::now(),
            kill_at_us: AtomicU64::new(u64::MAX),
            watcher: AtomicWaker::new(),
            inbox: Mutex::new(VecDeque::new()),
            stored: AtomicU64::new(0),
            changed: Notify::new(),
            is_started: AtomicBool::new(false),
        })
    }

    /// Whether it waits for work on files that is done for it elsewhere.
    pub(crate) fn is_in_files(&self) -> bool {
        self.in_files.load(Ordering::Relaxed)
    }

    /// Tells the agent, once, that its code runs. If the queue is full, the next occasion tells it, or its end does.
    pub(crate) fn tell_started(&self) {
        if !self.is_started.load(Ordering::Relaxed) {
            let event = Outgoing::Event(CellEvent::Started(self.launch));
            self.is_started.store(self.outbox.try_send(event).is_ok(), Ordering::Relaxed);
        }
    }

    /// Asks for its end after so many milliseconds; the earliest wish counts.
    pub fn kill(&self, grace_ms: u64) {
        let elapsed = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let at = elapsed.saturating_add(grace_ms.saturating_mul(1_000)).min(u64::MAX - 1);
        self.kill_at_us.fetch_min(at, Ordering::AcqRel);
        self.watcher.wake();
    }

    /// When it must have ended, if somebody asked for that.
    pub(crate) fn kill_at(&self) -> Option<Instant> {
        match self.kill_at_us.load(Ordering::Acquire) {
            u64::MAX => None,
            us => self.begun.checked_add(Duration::from_micros(us)),
        }
    }

    /// When the link was made.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// A message from its scheduler. Dropped if too many wait: messages to a task may be lost.
    pub fn message(&self, data: Vec<u8>) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.len() < limits::MESSAGES_WAITING {
            inbox.push_back(data);
            drop(inbox);
            self.changed.notify_one();
        }
    }

    pub(crate) fn next_message(&self) -> Option<Vec<u8>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// The agent has that message, and all before it, on disk.
    pub fn message_stored(&self, number: u64) {
        self.stored.fetch_max(number, Ordering::AcqRel);
        self.changed.notify_one();
    }

    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    pub(crate) fn log(&self, stream: LogStream) -> &LogFile {
        match stream {
            LogStream::Stdout => &self.stdout,
            LogStream::Stderr => &self.stderr,
        }
    }
}

/// While it lives, its task works on files: what it then waits for is charged to it as CPU.
#[derive(Debug)]
pub(crate) struct FileWork<'a>(&'a TaskLink);

impl<'a> FileWork<'a> {
    pub(crate) fn begin(link: &'a TaskLink) -> Self {
        link.in_files.store(true, Ordering::Relaxed);
        Self(link)
    }
}

impl Drop for FileWork<'_> {
    fn drop(&mut self) {
        self.0.in_files.store(false, Ordering::Relaxed);
    }
}
