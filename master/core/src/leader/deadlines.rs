//! What happens at which time if nothing else does.

use super::{Leader, Step};
use crate::entry::EntryKind;
use crate::refusal::{Code, Refusal};
use std::collections::BTreeSet;
use tepui_proto::control::ModuleKind;
use tepui_proto::{
    AgentId, Digest, FrameworkId, Incarnation, OfferId, RequestId, TaskKey, Timestamp, TurnNumber,
    limits,
};

/// Tasks that change their state in one batch before what else is due waits for the next.
const MOVED: usize = 20 * limits::MOVES;

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    /// An offer stands no longer.
    Offer(OfferId),
    /// A refusal stands no longer.
    Filter(FrameworkId, AgentId),
    /// A timer rings.
    Timer(FrameworkId, String),
    /// A request has waited long enough.
    Request(RequestId),
    /// A scheduler may be placed again.
    Restart(FrameworkId),
    /// A scheduler that made the leader work has rested.
    Rested(FrameworkId),
    /// A turn's answer is late.
    Answer(FrameworkId, Incarnation, TurnNumber),
    /// An agent that is away should be back.
    AgentReturn(AgentId),
    /// An agent should have been heard of.
    AgentSilent(AgentId),
    /// An unreachable task is lost.
    Lost(TaskKey),
    /// Blobs that nothing refers to may go.
    Sweep,
    /// The next periodic cycle.
    Cycle,
    /// Everything is to be looked at.
    Look,
    /// Who declined an inverse offer may be asked again.
    Inverse,
    /// Guarantees that are still owed are looked at again.
    Preempt,
    /// An agent's verdict on a module is late.
    Check(Digest, ModuleKind, AgentId),
    /// Offers that are kept while others wait are taken back.
    Kept,
    /// All offers are taken back, since shares have changed.
    ShareAnew,
    /// There is more to be done than one batch was to do.
    GoOn,
}

/// All deadlines, in order. Those that have lost their point are found out when they fire.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Timestamp, Deadline)>);

impl Deadlines {
    pub(super) fn set(&mut self, at: Timestamp, what: Deadline) {
        self.0.insert((at, what));
    }

    pub(super) fn clear(&mut self, at: Timestamp, what: Deadline) {
        self.0.remove(&(at, what));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Timestamp) -> Option<Deadline> {
        if self.first()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, what)| what)
    }
}

impl Leader {
    pub(super) fn fire_deadlines(&mut self, step: &mut Step<'_>) {
        self.mind.moved = 0;
        while let Some(deadline) = self.mind.deadlines.pop_due(step.now) {
            match deadline {
                Deadline::Offer(id) => self.on_offer_expired(step.now, id),
                Deadline::Filter(framework, agent) => {
                    self.on_filter_over(step.now, framework, agent);
                }
                Deadline::Timer(framework, name) => self.on_timer_due(step, framework, name),
                Deadline::Request(id) => {
                    self.refuse_request(
                        id,
                        &Refusal::new(Code::RequestTimeout, "the framework gave no answer in time"),
                        step.fx,
                    );
                }
                Deadline::Restart(framework) => {
                    self.mind.unplaced.insert(framework);
                }
                Deadline::Rested(framework) => self.on_rested(framework),
                Deadline::Answer(framework, incarnation, number) => {
                    self.on_answer_late(step, framework, (incarnation, number));
                }
                Deadline::AgentReturn(agent) => self.on_agent_missing(step, agent),
                Deadline::AgentSilent(agent) => self.on_agent_silent(step, agent),
                Deadline::Lost(key) => self.on_task_lost(step, &key),
                Deadline::Sweep => self.sweep_blobs(step),
                // Settling looks.
                Deadline::Preempt | Deadline::Cycle | Deadline::Inverse | Deadline::GoOn => {}
                Deadline::Check(digest, kind, agent) => {
                    self.on_check_late(step, (digest, kind), agent);
                }
                Deadline::Kept => self.take_back_kept(step.now),
                Deadline::ShareAnew => self.share_anew(step.now),
                Deadline::Look => self.mind.all_dirty = true,
            }
            if self.mind.moved > MOVED {
                // One batch has to fit the journal: the rest is due in the next.
                return self.mind.deadlines.set(step.now, Deadline::GoOn);
            }
        }
    }

    /// Forgets the deadlines of a framework that is over.
    pub(super) fn clear_deadlines(&mut self, id: FrameworkId) {
        let timers = self.state.frameworks.get(&id).map(|framework| framework.timers.clone());
        for (name, at) in timers.unwrap_or_default() {
            self.mind.deadlines.clear(at, Deadline::Timer(id, name));
        }
        let filters = self.mind.filters.range((id, AgentId(0))..=(id, AgentId(u32::MAX)));
        for (key, until) in filters.map(|(key, until)| (*key, *until)).collect::<Vec<_>>() {
            self.mind.filters.remove(&key);
            self.mind.deadlines.clear(until, Deadline::Filter(id, key.1));
        }
    }

    /// The first refusal of an agent by a framework has run out; the deadline of the next is set.
    fn on_filter_over(&mut self, now: Timestamp, framework: FrameworkId, agent: AgentId) {
        self.mind.filters.remove(&(framework, agent));
        let next = self.mind.allocator.expire_refusals(framework, agent, now);
        if let Some(next) = next.filter(|next| *next > now) {
            self.await_filter(framework, agent, next);
        }
        self.mind.dirty.insert(agent);
    }

    /// One deadline for all refusals of an agent by a framework: that of the first which runs out.
    pub(super) fn await_filter(
        &mut self,
        framework: FrameworkId,
        agent: AgentId,
        until: Timestamp,
    ) {
        let deadline = Deadline::Filter(framework, agent);
        match self.mind.filters.get(&(framework, agent)) {
            Some(first) if *first <= until => return,
            Some(first) => self.mind.deadlines.clear(*first, deadline.clone()),
            None => {}
        }
        self.mind.filters.insert((framework, agent), until);
        self.mind.deadlines.set(until, deadline);
    }

    fn on_timer_due(&mut self, step: &mut Step<'_>, framework: FrameworkId, name: String) {
        let timers = self.state.frameworks.get(&framework).map(|framework| &framework.timers);
        if timers.and_then(|timers| timers.get(&name)).is_some_and(|at| *at <= step.now) {
            self.propose(step, EntryKind::TimerRang { framework, name });
        }
    }
}
