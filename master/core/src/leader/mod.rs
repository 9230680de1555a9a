//! The leader: one input at a time becomes entries and orders.
//!
//! Owns the state and beside it the mind of its term: sessions, open offers, filters, turns in flight, waiting
//! requests, deadlines. Never does anything by itself: [`Leader::handle`] is told what happened, and once a batch is
//! handled [`Leader::settle`] fires deadlines, places schedulers, allocates, and sends turns.

mod agents;
mod answers;
mod calls;
mod claims;
mod deadlines;
mod launches;
mod meter;
mod mind;
mod offers;
mod operations;
mod places;
mod preempt;
mod reports;
mod requests;
mod resting;
mod roles;
mod schedulers;
mod starvation;
mod submit;
mod sweep;
mod turns;
mod upkeep;

pub(crate) use mind::Mind;

use crate::allocator::Settings;
use crate::effect::{Effect, Effects, ReplyBody};
use crate::entry::{ENTRY_VERSION, Entry, EntryKind, TaskChange};
use crate::input::{Input, Ticket};
use crate::refusal::Refusal;
use crate::state::State;
use tepui_proto::api::FrameworkPhase;
use tepui_proto::{FrameworkId, TaskKey, Term, Timestamp, limits};

/// One step of a batch: when, and what follows.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) now: Timestamp,
    pub(crate) fx: &'a mut Effects,
}

/// The state and the mind of a term.
#[derive(Debug)]
pub struct Leader {
    pub(crate) state: State,
    pub(crate) mind: Mind,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

impl Leader {
    /// A leader of this state. Its first input is [`Input::TermWon`].
    pub fn new(state: State) -> Self {
        Self { state, mind: Mind::default() }
    }

    /// A leader whose allocator works otherwise than by default.
    pub fn with_settings(state: State, settings: Settings) -> Self {
        Self { state, mind: Mind::new(settings) }
    }

    /// Lets frameworks take no more than this of memory, instead of [`limits::ALL_STATE_BYTES`].
    pub fn bound_state(&mut self, bytes: usize) {
        self.mind.state_bytes = bytes;
    }

    /// What is committed, and proposed in the batch that is being handled.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes one fact in. The time never goes back, whatever `now` says.
    pub fn handle(&mut self, now: Timestamp, input: Input, fx: &mut Effects) {
        let step = &mut Step { now: now.max(self.state.now()), fx };
        match input {
            Input::TermWon(term) => self.on_term_won(step, term),
            Input::AgentConnected { connection, name, hello } => {
                self.on_agent_connected(step, connection, &name, &hello);
            }
            Input::AgentDisconnected(connection) => self.on_agent_disconnected(step, connection),
            Input::AgentHeard(connection) => self.on_agent_heard(now, connection),
            Input::AgentRoomChanged { connection, has_room } => {
                self.on_agent_room_changed(step, connection, has_room);
            }
            Input::AgentSaidGoodbye(connection) => self.on_agent_goodbye(step, connection),
            Input::Reported { connection, reports } => {
                self.on_reported(step, connection, &reports);
            }
            Input::ModuleChecked { connection, digest, kind, verdict } => {
                self.on_module_checked(step, connection, (digest, kind), verdict);
            }
            Input::SchedulerSaid { framework, incarnation, frame } => {
                self.on_scheduler_said(step, framework, incarnation, frame);
            }
            Input::SchedulerStreamEnded { framework, incarnation } => {
                self.on_scheduler_stream_ended(step, framework, incarnation);
            }
            Input::FrameworkSubmitted { ticket, tenant, spec, kinds } => {
                self.on_submitted(step, submit::Pending { ticket, tenant, spec, kinds });
            }
            Input::FrameworkStopRequested { ticket, tenant, name } => {
                self.on_stop_requested(step, ticket, &tenant, &name);
            }
            Input::ModuleCheckRequested { ticket, digest, kind } => {
                self.on_check_requested(step, ticket, digest, kind);
            }
            Input::BlobStored { ticket, digest, size_bytes } => {
                if self.state.blobs.contains_key(&digest) {
                    self.renew_blob(step, digest);
                } else {
                    self.propose(step, EntryKind::BlobAdded { digest, size_bytes });
                }
                reply(fx, ticket, Ok(ReplyBody::Done));
            }
            Input::BlobAskedFor(digest) => self.renew_blob(step, digest),
            Input::TaskKillRequested { ticket, tenant, framework, task } => {
                self.on_kill_requested(step, ticket, &tenant, &(framework, task));
            }
            Input::RequestReceived { ticket, tenant, framework, request } => {
                self.on_request(step, ticket, &tenant, &framework, *request);
            }
            Input::RolesChanged { ticket, changes, force } => {
                self.on_roles_changed(step, ticket, &changes, force);
            }
            Input::AgentModeRequested { ticket, agent, mode } => {
                self.on_mode_requested(step, ticket, &agent, mode);
            }
            Input::MaintenanceRequested { ticket, agent, unavailability } => {
                self.on_maintenance_requested(step, ticket, &agent, unavailability);
            }
            Input::OperationRequested { ticket, agent, operation } => {
                self.on_operation_requested(step, ticket, &agent, &operation);
            }
            Input::Abandoned(ticket) => self.on_abandoned(ticket),
        }
    }

    /// Ends a batch: what is due is done, what is free is offered, and schedulers that have events get a turn.
    pub fn settle(&mut self, now: Timestamp, fx: &mut Effects) {
        let step = &mut Step { now: now.max(self.state.now()), fx };
        self.fire_deadlines(step);
        self.stop_tasks_of_frameworks(step);
        self.end_frameworks(step);
        self.end_drains(step);
        self.place_schedulers(step);
        self.make_offers(step.now);
        self.preempt(step);
        self.make_inverse_offers(step.now);
        self.send_turns(step);
    }

    /// When [`Leader::settle`] is next due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.mind.deadlines.first()
    }

    /// The time of the last entry, which is that of this batch or shortly before.
    pub(crate) fn now(&self) -> Timestamp {
        self.state.now()
    }

    /// How many deadlines are set.
    pub fn deadlines(&self) -> usize {
        self.mind.deadlines.len()
    }

    /// Every invariant of the state and the mind.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self) -> Result<(), Violation> {
        if let Some(agent) = self.state.ledger.unbalanced() {
            return Err(Violation(format!("the books of agent {agent} do not balance")));
        }
        self.check_offers()?;
        self.check_tasks()?;
        if self.state.digest() != self.state.recount_digest() {
            return Err(Violation("the digest is not that of the state".to_owned()));
        }
        Ok(())
    }

    fn check_tasks(&self) -> Result<(), Violation> {
        for (id, framework) in &self.state.frameworks {
            let live = framework.tasks.values().filter(|task| task.live.is_some()).count();
            if live != framework.live {
                return Err(Violation(format!(
                    "framework {id} counts {} live tasks and has {live}",
                    framework.live
                )));
            }
            for (task_id, task) in &framework.tasks {
                if task.live.is_none() != task.status.state.is_final() {
                    return Err(Violation(format!(
                        "task {id}/{task_id} is {:?} and holds otherwise",
                        task.status.state
                    )));
                }
            }
        }
        for (id, agent) in &self.state.agents {
            if let Some((launch, key)) = agent
                .launches
                .iter()
                .find(|(_, key)| self.state.task(key).is_none_or(|t| t.live.is_none()))
            {
                return Err(Violation(format!(
                    "agent {id} owes the end of launch {launch}, {key:?}, which has ended"
                )));
            }
        }
        Ok(())
    }

    /// Proposes an entry: it is in the state at once, and in the log when the batch is.
    pub(crate) fn propose(&mut self, step: &mut Step<'_>, kind: EntryKind) {
        let entry = Entry { version: ENTRY_VERSION, at: step.now, kind };
        self.state.apply(&entry);
        self.mark_touched(&entry.kind);
        step.fx.entries.push(entry);
    }

    /// Remembers which frameworks have something to be told.
    fn mark_touched(&mut self, kind: &EntryKind) {
        let touched = &mut self.mind.touched;
        let mut mark = |changes: &[TaskChange]| {
            touched.extend(changes.iter().map(|change| change.framework));
        };
        match kind {
            EntryKind::Reported { changes, messages, .. } => {
                mark(changes);
                touched.extend(messages.iter().map(|(key, _)| key.framework));
            }
            EntryKind::TasksMoved(changes) => mark(changes),
            EntryKind::TimerRang { framework, .. } => {
                touched.insert(*framework);
            }
            EntryKind::TurnCommitted(turn) => {
                touched.insert(turn.framework);
            }
            EntryKind::TurnPooled(pooled) => {
                touched.insert(pooled.turn.framework);
            }
            // Whoever proposes these tells the frameworks that they matter to.
            EntryKind::TermBegan(_)
            | EntryKind::BlobAdded { .. }
            | EntryKind::BlobsForgotten(_)
            | EntryKind::ModuleAccepted { .. }
            | EntryKind::FrameworkSubmitted(_)
            | EntryKind::FrameworkUpgraded(_)
            | EntryKind::FrameworkMoved { .. }
            | EntryKind::InstanceBegan { .. }
            | EntryKind::InstanceEnded { .. }
            | EntryKind::AgentAdmitted { .. }
            | EntryKind::AgentJoined(_)
            | EntryKind::AgentUnreachable(_)
            | EntryKind::AgentForgotten(_)
            | EntryKind::RolesSet(_)
            | EntryKind::PoolsDeclared { .. }
            | EntryKind::AgentModeSet { .. }
            | EntryKind::MaintenanceSet { .. }
            | EntryKind::Converted(_) => {}
        }
    }

    fn on_term_won(&mut self, step: &mut Step<'_>, term: Term) {
        self.mind = Mind::new(self.mind.allocator.settings().clone());
        self.propose(step, EntryKind::TermBegan(term));
        for id in self.state.provisions.keys().copied().collect::<Vec<_>>() {
            self.note_upkeep(id);
        }
        let frameworks: Vec<FrameworkId> = self.state.frameworks.keys().copied().collect();
        for id in frameworks {
            self.adopt_framework(step.now, id);
        }
        let away = self.state.agents.values().filter(|agent| !agent.reachable);
        let unreachable: Vec<TaskKey> =
            away.flat_map(|agent| agent.launches.values().cloned()).collect();
        self.plan_losses(&unreachable);
        self.recall_preempted();
        self.mind.deadlines.set(step.now.after(sweep::EVERY), deadlines::Deadline::Sweep);
        let reachable = self.state.agents.iter().filter(|(_, agent)| agent.reachable);
        for id in reachable.map(|(id, _)| *id).collect::<Vec<_>>() {
            // Until it says hello, or does not.
            self.mind.deadlines.set(
                step.now.after(mind::RETURN_AFTER_FAILOVER),
                deadlines::Deadline::AgentReturn(id),
            );
        }
    }

    /// What the state has forgotten, the mind forgets too.
    fn forget_frameworks(&mut self) {
        let known = &self.state.frameworks;
        if self.mind.frameworks.len() > known.len() {
            self.mind.frameworks.retain(|id, _| known.contains_key(id));
        }
    }

    /// Frameworks whose last task has ended are over.
    fn end_frameworks(&mut self, step: &mut Step<'_>) {
        let stopping: Vec<FrameworkId> = self.mind.stopping.iter().copied().collect();
        for id in stopping {
            let Some(framework) = self.state.frameworks.get(&id) else { continue };
            if framework.phase == FrameworkPhase::Stopping && framework.live == 0 {
                let message = String::new();
                self.clear_deadlines(id);
                self.propose(
                    step,
                    EntryKind::FrameworkMoved {
                        framework: id,
                        phase: FrameworkPhase::Ended,
                        message,
                    },
                );
                self.note(step.now, id, "ended", "it has ended");
                self.mind.stopping.remove(&id);
                self.mind.allocator.remove_ask(id);
                self.forget_frameworks();
            }
        }
    }
}

/// Cuts a text that is told to people and schedulers to what is kept of one.
pub(crate) fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(limits::TEXT_BYTES));
}

/// Answers a ticket.
pub(crate) fn reply(fx: &mut Effects, ticket: Ticket, result: Result<ReplyBody, Refusal>) {
    fx.orders.push(Effect::Reply { ticket, result });
}
