//! The loop over a journal that watches, and fails where it is told to.

mod full;

use super::turn::{Log, Loop};
use super::{Answer, Command, Driver, DriverError, Recovery, orders};
use crate::blobs::Blobs;
use crate::descriptors::Shares;
use crate::room::Room;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tepui_journal::JournalError;
use tepui_master_core::allocator::Settings;
use tepui_master_core::state::Frozen;
use tepui_master_core::{Input, State, Ticket};
use tepui_proto::Digest;
use tokio::runtime::Runtime;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};

/// What somebody waits for: the answers to facts, and what a query saw.
#[derive(Debug, Default)]
struct Waiting {
    answers: Vec<Receiver<Answer>>,
    seen: Vec<Receiver<u64>>,
}

impl Waiting {
    /// How many have been told anything.
    fn told(&mut self) -> usize {
        let answers = self.answers.iter_mut().filter_map(|answer| answer.try_recv().ok()).count();
        answers + self.seen.iter_mut().filter_map(|seen| seen.try_recv().ok()).count()
    }
}

/// A journal in memory. It knows who waits for what it is about to write.
#[derive(Debug)]
struct Watching {
    waiting: Arc<Mutex<Waiting>>,
    records: u64,
    calls: usize,
    fails_at: Option<usize>,
    snapshot: u64,
}

impl Watching {
    fn call(&mut self) -> Result<(), JournalError> {
        self.calls += 1;
        if self.fails_at == Some(self.calls) { Err(JournalError::Poisoned) } else { Ok(()) }
    }
}

impl Log for Watching {
    type Written = u64;

    fn append(&mut self, records: &[Vec<u8>]) -> Result<u64, JournalError> {
        // All that is asked is in this batch, so nobody can have been told before this returns.
        assert_eq!(self.waiting.lock().unwrap().told(), 0, "told before it was written");
        self.call()?;
        self.records += records.len() as u64;
        Ok(self.records)
    }

    fn snapshot_writer(
        &self,
        index: u64,
    ) -> Result<impl FnOnce(&Frozen) -> Result<u64, DriverError> + Send + 'static, JournalError>
    {
        Ok(move |_: &Frozen| Ok(index))
    }

    fn install(&mut self, index: u64) -> Result<(), JournalError> {
        self.call()?;
        self.snapshot = index;
        Ok(())
    }

    fn bytes(_: &u64) -> u64 {
        0
    }

    fn snapshot_index(&self) -> u64 {
        self.snapshot
    }

    fn size_since_snapshot(&self) -> u64 {
        0
    }
}

/// A loop over a journal, and the way to it.
fn driven<L: Log>(runtime: &Runtime, folder: &Path, journal: L) -> (Driver, Loop<L>) {
    let room = Room::without_reserve(folder);
    let shares = Shares { strangers: 1, known: 1, uploads: 1, readers: 1, fetches: 1 };
    let blobs = Blobs::open(&folder.join("blobs"), room, shares).unwrap();
    let (sender, commands) = mpsc::channel(16);
    let (changed, changes) = watch::channel(0);
    let driver = Driver { commands: sender, tickets: Arc::new(AtomicU64::new(1)), changes };
    let recovery = Recovery { state: State::new(), journal, index: 0 };
    let orders = orders::Orders::new(driver.clone(), blobs, runtime.handle().clone());
    let turn = Loop::new(recovery, Settings::default(), commands, changed, orders);
    (driver, turn)
}

/// Runs a loop to its end with three facts, a query, and the order to stop, all in its first batch; says how it ended,
/// who waited, and how often the journal was called.
fn run(fails_at: Option<usize>) -> (Result<(), DriverError>, usize) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let waiting = Arc::new(Mutex::new(Waiting::default()));
    let journal =
        Watching { waiting: Arc::clone(&waiting), records: 0, calls: 0, fails_at, snapshot: 0 };
    let (driver, mut turn) = driven(&runtime, folder.path(), journal);
    for number in 0..3 {
        let ticket = Ticket(driver.tickets.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let input = Input::BlobStored { ticket, digest: Digest([number; 32]), size_bytes: 1 };
        turn.take(Command::Ask { ticket, input, reply });
        waiting.lock().unwrap().answers.push(answer);
    }
    let (see, seen) = oneshot::channel();
    turn.take(Command::Query(Box::new(move |view| see.send(view.index).unwrap())));
    waiting.lock().unwrap().seen.push(seen);
    turn.take(Command::Stop);
    let ended = turn.run();
    let told = waiting.lock().unwrap().told();
    // Nobody waits for ever.
    for answer in &mut waiting.lock().unwrap().answers {
        assert_ne!(answer.try_recv().err(), Some(TryRecvError::Empty));
    }
    (ended, told)
}

#[test]
fn nobody_is_told_anything_before_it_is_written() {
    let (ended, told) = run(None);
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(told, 4);
}

#[test]
fn a_journal_that_fails_ends_the_loop_and_nobody_is_told_that_it_went_well() {
    let (ended, told) = run(Some(1));
    assert!(matches!(ended, Err(DriverError::Journal(JournalError::Poisoned))), "{ended:?}");
    assert_eq!(told, 0);
}

#[test]
fn a_last_snapshot_that_fails_is_an_error() {
    let (ended, told) = run(Some(2));
    assert!(matches!(ended, Err(DriverError::Journal(JournalError::Poisoned))), "{ended:?}");
    assert_eq!(told, 4);
}
