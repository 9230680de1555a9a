//! What operators ask of the leader, and masters that take over from each other.

use super::Stage;
use tepui_master_core::{Code, Entry, Input, Leader, State, Ticket};
use tepui_proto::roles::{AgentMode, AgentOperation, RoleChange};
use tepui_proto::{Bundle, DurationMs};

impl Stage {
    // Operators.

    /// Asks, and says whether it was done, or the refusal's code. What is refused changes nothing.
    fn ask(&mut self, ticket: Ticket, input: Input) -> Result<(), Code> {
        let before = (self.leader.state().digest(), self.log.len());
        self.input(input);
        let result = self.replies.remove(&ticket).expect("an answer");
        let after = (self.leader.state().digest(), self.log.len());
        self.rest();
        if let Err(refusal) = &result {
            assert_eq!(after, before, "{refusal}");
            assert!(refusal.message.len() < 1_000, "a message of a length that can be read");
        }
        result.map_err(|refusal| refusal.code)
    }

    pub(crate) fn roles(&mut self, changes: Vec<RoleChange>) -> Result<(), Code> {
        let ticket = self.ticket();
        self.ask(ticket, Input::RolesChanged { ticket, changes, force: false })
    }

    pub(crate) fn force(&mut self, changes: Vec<RoleChange>) -> Result<(), Code> {
        let ticket = self.ticket();
        self.ask(ticket, Input::RolesChanged { ticket, changes, force: true })
    }

    pub(crate) fn mode(&mut self, agent: &str, mode: AgentMode) -> Result<(), Code> {
        let (ticket, agent) = (self.ticket(), agent.to_owned());
        self.ask(ticket, Input::AgentModeRequested { ticket, agent, mode })
    }

    pub(crate) fn drain(&mut self, agent: &str, grace_ms: u64) -> Result<(), Code> {
        let grace = DurationMs(grace_ms);
        self.mode(agent, AgentMode::Draining { grace, then_gone: false })
    }

    pub(crate) fn maintenance(
        &mut self,
        agent: &str,
        unavailability: Option<tepui_proto::events::Unavailability>,
    ) -> Result<(), Code> {
        let (ticket, agent) = (self.ticket(), agent.to_owned());
        self.ask(ticket, Input::MaintenanceRequested { ticket, agent, unavailability })
    }

    pub(crate) fn operate(&mut self, agent: &str, operation: AgentOperation) -> Result<(), Code> {
        let (ticket, agent) = (self.ticket(), agent.to_owned());
        self.ask(ticket, Input::OperationRequested { ticket, agent, operation })
    }

    /// What of an agent could be offered, in the notation.
    pub(crate) fn total(&self, agent: &str) -> Bundle {
        let ledger = self.leader.state().ledger();
        ledger.agent(self.agent_id(agent)).unwrap().offerable.total.clone()
    }

    // Masters.

    /// Another master leads, from the snapshot or from the log. Agents say hello anew.
    pub(crate) fn fail_over(&mut self, from_snapshot: bool) {
        let state = if from_snapshot { self.restored() } else { self.replayed() };
        let term = state.term().next();
        self.leader = Leader::new(state);
        self.inboxes.clear();
        self.input(Input::TermWon(term));
        for name in self.connections.keys().cloned().collect::<Vec<_>>() {
            let id = self.agent_id(&name);
            let resources = self.leader.state().agent(id).unwrap().resources.clone();
            self.return_of(&name, resources);
        }
        self.rest();
    }

    /// The log, applied to an empty state.
    pub(crate) fn replayed(&self) -> State {
        let mut state = State::new();
        for entry in &self.log {
            state.apply(&Entry::decode(&entry.encode().unwrap()).unwrap());
        }
        state
    }

    /// The state, written and read.
    pub(crate) fn restored(&self) -> State {
        State::decode(&self.leader.state().encode().unwrap()).unwrap()
    }

    /// A master that replays the log and one that reads the snapshot have the same state and the same books.
    pub(crate) fn check_copies(&self) {
        let own = self.leader.state();
        for copy in [self.replayed(), self.restored()] {
            assert_eq!((copy.digest(), copy.recount_digest()), (own.digest(), own.digest()));
            for (id, accounts) in own.ledger().agents() {
                let other = copy.ledger().agent(id).unwrap();
                assert_eq!(other.offerable.total, accounts.offerable.total);
                assert_eq!(other.offerable.used, accounts.offerable.used);
                assert_eq!(other.held_back, accounts.held_back);
            }
            Leader::new(copy).check().unwrap();
        }
    }
}
