//! Snapshots, written beside the loop: it goes on while a thread of their own writes the state as it was.

use super::DriverError;
use super::turn::Log;
use std::time::Instant;
use tepui_journal::{Journal, JournalError, WrittenSnapshot};
use tepui_master_core::state::{Frozen, FrozenError};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// Bytes of log after which a snapshot is taken. More if the last snapshot was larger, so that no more is written for
/// snapshots than for the log ...
const SNAPSHOT_BYTES: u64 = 64 << 20;
/// ... but no more than this: what a restart has to play, and what came while the last one was written.
const SNAPSHOT_BYTES_MOST: u64 = 512 << 20;
/// How far the thread stands back behind the loop.
const NICE: i32 = 5;

/// What a thread tells when it is done.
type Outcome<L> = Result<<L as Log>::Written, DriverError>;

/// When to take the next one, and the one that is being taken.
#[derive(Debug)]
pub(super) struct Snapshots<L: Log> {
    /// Bytes of log after which the next is taken.
    due_at: u64,
    running: Option<Running<L>>,
}

#[derive(Debug)]
struct Running<L: Log> {
    index: u64,
    begun: Instant,
    done: oneshot::Receiver<Outcome<L>>,
}

impl<L: Log> Default for Snapshots<L> {
    fn default() -> Self {
        Self { due_at: SNAPSHOT_BYTES, running: None }
    }
}

impl<L: Log> Snapshots<L> {
    /// Whether one is to be begun.
    pub(super) fn is_due(&self, journal: &L) -> bool {
        self.running.is_none() && journal.size_since_snapshot() > self.due_at
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Begins one of the state after this entry.
    pub(super) fn begin(
        &mut self,
        index: u64,
        state: Frozen,
        journal: &L,
    ) -> Result<(), DriverError> {
        let begun = Instant::now();
        let write = match journal.snapshot_writer(index) {
            Ok(write) => write,
            Err(error) => return self.put_off(error.into(), journal),
        };
        let (tell, done) = oneshot::channel();
        let started =
            std::thread::Builder::new().name("tepui-snapshot".to_owned()).spawn(move || {
                if let Err(error) = rustix::process::nice(NICE) {
                    tracing::warn!(%error, "the writer of snapshots cannot be made to stand back");
                }
                // Nobody listens only if the loop has ended with an error.
                drop(tell.send(write(&state)));
            });
        match started {
            Ok(_thread) => self.running = Some(Running { index, begun, done }),
            Err(error) => self.later(journal, 0, &format!("no thread is to be had: {error}")),
        }
        Ok(())
    }

    /// Makes the one that was written the newest, if it is done. True if one was taken.
    pub(super) fn look(&mut self, journal: &mut L) -> Result<bool, DriverError> {
        let Some(running) = &mut self.running else { return Ok(false) };
        match running.done.try_recv() {
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Closed) => Err(DriverError::Gone),
            Ok(outcome) => self.install(outcome, journal),
        }
    }

    /// Waits for the one that is being written.
    pub(super) fn finish(&mut self, journal: &mut L) -> Result<bool, DriverError> {
        let Some(running) = &mut self.running else { return Ok(false) };
        let done = std::mem::replace(&mut running.done, oneshot::channel().1);
        let outcome = done.blocking_recv().map_err(|_gone| DriverError::Gone)?;
        self.install(outcome, journal)
    }

    fn install(&mut self, outcome: Outcome<L>, journal: &mut L) -> Result<bool, DriverError> {
        let running = self.running.take();
        let written = match outcome {
            Ok(written) => written,
            Err(error) => return self.put_off(error, journal).map(|()| false),
        };
        let bytes = L::bytes(&written);
        journal.install(written)?;
        self.due_at = bytes.clamp(SNAPSHOT_BYTES, SNAPSHOT_BYTES_MOST);
        if let Some(Running { index, begun, .. }) = running {
            tracing::info!(index, bytes, took = ?begun.elapsed(), "took a snapshot");
        }
        Ok(true)
    }

    /// Without room there is none for now: all is in the log, and a restart has more to play.
    fn put_off(&mut self, error: DriverError, journal: &L) -> Result<(), DriverError> {
        let DriverError::Journal(error @ JournalError::Full { bytes, .. }) = &error else {
            return Err(error);
        };
        self.later(journal, *bytes, &error.to_string());
        Ok(())
    }

    /// The next try is after as much log again as makes the bytes that were written in vain a small part.
    fn later(&mut self, journal: &L, bytes: u64, why: &str) {
        tracing::error!("no snapshot for now: {why}");
        self.due_at = journal.size_since_snapshot() + (SNAPSHOT_BYTES / 4).max(bytes);
    }
}

impl Log for Journal {
    type Written = WrittenSnapshot;

    fn append(&mut self, records: &[Vec<u8>]) -> Result<u64, JournalError> {
        Self::append(self, records)
    }

    fn snapshot_writer(
        &self,
        index: u64,
    ) -> Result<impl FnOnce(&Frozen) -> Outcome<Self> + Send + 'static, JournalError> {
        let mut writer = self.begin_snapshot(index)?;
        Ok(move |state: &Frozen| match state.write(&mut writer) {
            Ok(()) => Ok(writer.finish()?),
            Err(FrozenError::Write(error)) => Err(writer.abandon(error).into()),
            Err(FrozenError::State(error)) => Err(DriverError::Snapshot(error)),
        })
    }

    fn install(&mut self, written: WrittenSnapshot) -> Result<(), JournalError> {
        self.install_snapshot(&written)
    }

    fn bytes(written: &WrittenSnapshot) -> u64 {
        written.bytes()
    }

    fn snapshot_index(&self) -> u64 {
        Self::snapshot_index(self)
    }

    fn size_since_snapshot(&self) -> u64 {
        Self::size_since_snapshot(self)
    }
}
