//! The loop: take what waits, handle it, persist once, perform.
//!
//! Owns the leader, the journal and the clock. Never goes on after a journal that failed. Its one surprise: a batch
//! ends early when its entries are many bytes, and what is left of it opens the next.

use super::clock::Clock;
use super::orders::Orders;
use super::recovery::Recovery;
use super::snapshots::Snapshots;
use super::{Command, DriverError, Query, Stats, View};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};
use tepui_journal::JournalError;
use tepui_master_core::allocator::Settings;
use tepui_master_core::state::Frozen;
use tepui_master_core::{Effects, Input, Leader};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// Commands of one batch: what is taken in while the one before is synced.
const BATCH: usize = 1_024;
/// Bytes of entries after which no more commands are handled in a batch; the journal takes eight times as much, and
/// one command and the turns that follow must still fit.
const BATCH_BYTES: usize = 32 << 20;
/// A deadline that has passed is looked at again after this, so that nothing can make the loop spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What the loop needs of a journal: a seam for tests that let it fail, and for what several masters will agree through.
pub(super) trait Log {
    /// A snapshot that is written, and is not yet one.
    type Written: fmt::Debug + Send + 'static;

    /// Writes and syncs a batch; says the index of its last record.
    fn append(&mut self, records: &[Vec<u8>]) -> Result<u64, JournalError>;
    /// What writes the state after this record, on any thread.
    fn snapshot_writer(
        &self,
        index: u64,
    ) -> Result<
        impl FnOnce(&Frozen) -> Result<Self::Written, DriverError> + Send + 'static,
        JournalError,
    >;
    /// Makes it the newest snapshot.
    fn install(&mut self, written: Self::Written) -> Result<(), JournalError>;
    fn bytes(written: &Self::Written) -> u64;
    fn snapshot_index(&self) -> u64;
    fn size_since_snapshot(&self) -> u64;
}

pub(super) struct Loop<L: Log> {
    leader: Leader,
    journal: L,
    index: u64,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    waiting: VecDeque<Command>,
    orders: Orders,
    changed: watch::Sender<u64>,
    stats: Stats,
    snapshots: Snapshots<L>,
}

impl<L: Log> Loop<L> {
    pub(super) fn new(
        recovery: Recovery<L>,
        allocator: Settings,
        commands: mpsc::Receiver<Command>,
        changed: watch::Sender<u64>,
        orders: Orders,
    ) -> Self {
        let Recovery { state, journal, index } = recovery;
        let clock = Clock::new(state.now());
        let term = state.term().next();
        let waiting = VecDeque::from([Command::Input(Input::TermWon(term))]);
        let leader = Leader::with_settings(state, allocator);
        Self {
            leader,
            journal,
            index,
            clock,
            commands,
            waiting,
            orders,
            changed,
            stats: Stats::default(),
            snapshots: Snapshots::default(),
        }
    }

    /// As if this had been received.
    #[cfg(test)]
    pub(super) fn take(&mut self, command: Command) {
        self.waiting.push_back(command);
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) -> Result<(), DriverError> {
        let runtime = self.orders.runtime().clone();
        let mut goes_on = true;
        while goes_on {
            goes_on = self.step()? && (!self.waiting.is_empty() || self.gather(&runtime));
        }
        self.orders.close_all();
        self.snapshots.finish(&mut self.journal)?;
        self.begin_snapshot()?;
        self.snapshots.finish(&mut self.journal)?;
        Ok(())
    }

    /// Waits for the first command or the next deadline, and takes what waits. False if nobody can send any more, which
    /// a master that is dropped unasked never gets to see: the orders hold a handle too.
    fn gather(&mut self, runtime: &Handle) -> bool {
        let wait = match self.leader.next_deadline() {
            _ if self.orders.has_backlog() => Some(Duration::ZERO),
            Some(deadline) => {
                Some(Duration::from_millis(deadline.since(self.clock.read()).0).max(SHORTEST_WAIT))
            }
            None => None,
        };
        let mut taken = Vec::with_capacity(BATCH);
        let commands = &mut self.commands;
        let is_open = runtime.block_on(async {
            let receive = commands.recv_many(&mut taken, BATCH);
            match wait {
                // Out of time: a deadline has passed.
                Some(wait) => {
                    tokio::time::timeout(wait, receive).await.map_or(true, |count| count > 0)
                }
                None => receive.await > 0,
            }
        });
        self.waiting.extend(taken);
        is_open
    }

    /// One batch. False if it was the last.
    fn step(&mut self) -> Result<bool, DriverError> {
        let now = self.clock.read();
        let mut goes_on = true;
        let mut effects = Effects::default();
        let mut records = Vec::new();
        let mut queries = Vec::new();
        let mut bytes = 0;
        for input in self.orders.take_backlog() {
            self.handle(input, &mut effects);
        }
        while let Some(command) = self.waiting.pop_front() {
            match command {
                Command::Query(query) => queries.push(query),
                Command::Stop => goes_on = false,
                Command::Input(input) => self.handle(input, &mut effects),
                Command::Ask { ticket, input, reply } => {
                    self.orders.expect(ticket, reply);
                    self.handle(input, &mut effects);
                }
                Command::Connected { connection, link, input } => {
                    self.orders.links_mut().insert(connection, link);
                    self.handle(input, &mut effects);
                }
            }
            bytes += encode(&mut effects, &mut records)?;
            if bytes > BATCH_BYTES {
                break;
            }
        }
        self.leader.settle(now, &mut effects);
        encode(&mut effects, &mut records)?;
        self.commit(&records)?;
        let has_changed = !records.is_empty() || !effects.orders.is_empty();
        self.orders.perform(effects.orders);
        if has_changed {
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
        self.stats.snapshots += u64::from(self.snapshots.look(&mut self.journal)?);
        if self.snapshots.is_due(&self.journal) {
            self.begin_snapshot()?;
        }
        self.stats.is_writing_snapshot = self.snapshots.is_running();
        self.answer(queries);
        Ok(goes_on)
    }

    fn handle(&mut self, input: Input, effects: &mut Effects) {
        self.stats.inputs += 1;
        self.orders.observe(&input);
        self.leader.handle(self.clock.last(), input, effects);
    }

    fn commit(&mut self, records: &[Vec<u8>]) -> Result<(), DriverError> {
        self.stats.batches += 1;
        if records.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        self.index = self.journal.append(records)?;
        let spent = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stats.append_us = self.stats.append_us.saturating_add(spent);
        self.stats.entries += records.len() as u64;
        Ok(())
    }

    fn answer(&self, queries: Vec<Query>) {
        let view = View {
            leader: &self.leader,
            links: self.orders.links(),
            index: self.index,
            stats: self.stats,
        };
        for query in queries {
            query(&view);
        }
    }

    fn begin_snapshot(&mut self) -> Result<(), DriverError> {
        if self.index <= self.journal.snapshot_index() {
            return Ok(());
        }
        self.snapshots.begin(self.index, self.leader.state().freeze(), &self.journal)
    }
}

/// Moves entries into records; says how many bytes.
fn encode(effects: &mut Effects, records: &mut Vec<Vec<u8>>) -> Result<usize, DriverError> {
    let mut bytes = 0;
    for entry in effects.entries.drain(..) {
        let record = entry.encode().map_err(DriverError::Encode)?;
        bytes += record.len();
        records.push(record);
    }
    Ok(bytes)
}
