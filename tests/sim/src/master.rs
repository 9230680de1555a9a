//! The master's shell in the simulation: a log that survives, a leader that may not.

use tepui_master_core::{Effect, Effects, Entry, Input, Leader, State};
use tepui_proto::Timestamp;

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
}

impl Master {
    /// A master with an empty log.
    pub fn new() -> Self {
        Self { leader: None, log: Vec::new() }
    }

    /// The state that the log adds up to.
    pub fn replay(&self) -> State {
        let mut state = State::new();
        for bytes in &self.log {
            state.apply(&Entry::decode(bytes).expect("the log holds entries"));
        }
        state
    }

    /// Starts a leader of the next term.
    pub fn start(&mut self, now: u64) -> (Vec<Entry>, Vec<Effect>) {
        let state = self.replay();
        let term = state.term().next();
        self.leader = Some(Leader::new(state));
        self.step(now, Some(Input::TermWon(term)), None)
    }

    /// Handles one input (or only what is due), commits, and says what is to be performed.
    pub fn step(
        &mut self,
        now: u64,
        input: Option<Input>,
        crash: Option<Crash>,
    ) -> (Vec<Entry>, Vec<Effect>) {
        let Some(leader) = self.leader.as_mut() else { return (Vec::new(), Vec::new()) };
        let mut fx = Effects::default();
        if let Some(input) = input {
            leader.handle(Timestamp(now), input, &mut fx);
        }
        leader.settle(Timestamp(now), &mut fx);
        if crash.is_some() {
            self.leader = None;
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

impl Default for Master {
    fn default() -> Self {
        Self::new()
    }
}
