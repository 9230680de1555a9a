//! The master's shell in the simulation: a log that survives, a leader that may not.

use crate::world::{SCHEDULER, TASK};
use tepui_master_core::entry::of_modules;
use tepui_master_core::state::Frozen;
use tepui_master_core::{Effect, Effects, Entry, Input, Leader, State};
use tepui_proto::Timestamp;
use tepui_proto::control::ModuleKind;

/// Where a crash falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// What the batch proposed is lost.
    BeforeCommit,
    /// It is committed, and no order was performed.
    AfterCommit,
}

/// The master.
#[derive(Debug)]
pub struct Master {
    /// While the process lives.
    pub leader: Option<Leader>,
    /// What is committed, as bytes.
    pub log: Vec<Vec<u8>>,
    /// The newest snapshot, and how many records it holds.
    snapshot: Option<(usize, Vec<u8>)>,
    /// One that is on its way: the state as it was, and after how many records.
    writing: Option<(usize, Frozen)>,
}

impl Master {
    /// A master with an empty log.
    pub fn new() -> Self {
        let modules = [(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        let entries = of_modules(modules.map(|(digest, kind)| (digest, Some(kind), 1)));
        let log = entries.iter().map(|entry| entry.encode().expect("an entry")).collect();
        Self { leader: None, log, snapshot: None, writing: None }
    }

    /// The state that the first so many records of the log add up to.
    pub fn replay(&self, records: usize) -> State {
        apply(State::new(), &self.log[..records])
    }

    /// The state that a restart finds: the newest snapshot, and the records after it.
    pub fn recovered(&self) -> State {
        let Some((records, bytes)) = &self.snapshot else { return self.replay(self.log.len()) };
        let state = State::decode(bytes).expect("a snapshot that was written can be read");
        apply(state, &self.log[*records..])
    }

    /// Begins a snapshot of what is committed, or ends the one that was begun before, which knows nothing of what came
    /// since.
    pub fn take_snapshot(&mut self) {
        let Some(leader) = &self.leader else { return };
        match self.writing.take() {
            None => self.writing = Some((self.log.len(), leader.state().freeze())),
            Some((records, state)) => {
                let mut bytes = Vec::new();
                state.write(&mut bytes).expect("a state can be written");
                self.snapshot = Some((records, bytes));
            }
        }
    }

    /// Starts a leader of the next term.
    pub fn start(&mut self, now: u64) -> (Vec<Entry>, Vec<Effect>) {
        let state = self.recovered();
        let term = state.term().next();
        self.leader = Some(Leader::new(state));
        self.step(now, vec![Input::TermWon(term)], None)
    }

    /// Handles a batch of inputs (none: only what is due), commits, and says what is to be performed.
    pub fn step(
        &mut self,
        now: u64,
        inputs: Vec<Input>,
        crash: Option<Crash>,
    ) -> (Vec<Entry>, Vec<Effect>) {
        let Some(leader) = self.leader.as_mut() else { return (Vec::new(), Vec::new()) };
        let mut fx = Effects::default();
        for input in inputs {
            leader.handle(Timestamp(now), input, &mut fx);
        }
        leader.settle(Timestamp(now), &mut fx);
        if crash.is_some() {
            self.leader = None;
            self.writing = None;
        }
        if crash == Some(Crash::BeforeCommit) {
            return (Vec::new(), Vec::new());
        }
        self.log.extend(
            fx.entries.iter().map(|entry| entry.encode().expect("an entry can be encoded")),
        );
        let orders = if crash.is_some() { Vec::new() } else { fx.orders };
        (fx.entries, orders)
    }
}

fn apply(mut state: State, records: &[Vec<u8>]) -> State {
    for bytes in records {
        state.apply(&Entry::decode(bytes).expect("the log holds entries"));
    }
    state
}

impl Default for Master {
    fn default() -> Self {
        Self::new()
    }
}
