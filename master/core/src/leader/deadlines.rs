//! What happens at which time if nothing else does.

use super::{Leader, Step};
use crate::entry::EntryKind;
use crate::refusal::{Code, Refusal};
use std::collections::BTreeSet;
use tepui_proto::{AgentId, FrameworkId, OfferId, RequestId, TaskKey, Timestamp, TurnNumber};

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
    /// A turn's answer is late.
    Answer(FrameworkId, TurnNumber),
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
        while let Some(deadline) = self.mind.deadlines.pop_due(step.now) {
            match deadline {
                Deadline::Offer(id) => self.on_offer_expired(step.now, id),
                Deadline::Filter(framework, agent) => {
                    self.mind.allocator.expire_refusals(framework, agent, step.now);
                    self.mind.dirty.insert(agent);
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
                Deadline::Answer(framework, number) => {
                    self.on_answer_late(step, framework, number);
                }
                Deadline::AgentReturn(agent) => self.on_agent_missing(step, agent),
                Deadline::AgentSilent(agent) => self.on_agent_silent(step, agent),
                Deadline::Lost(key) => self.on_task_lost(step, &key),
                Deadline::Sweep => self.sweep_blobs(step),
                // Settling looks.
                Deadline::Preempt | Deadline::Cycle | Deadline::Inverse => {}
                Deadline::Look => self.mind.all_dirty = true,
            }
        }
    }

    fn on_timer_due(&mut self, step: &mut Step<'_>, framework: FrameworkId, name: String) {
        let timers = self.state.frameworks.get(&framework).map(|framework| &framework.timers);
        if timers.and_then(|timers| timers.get(&name)).is_some_and(|at| *at <= step.now) {
            self.propose(step, EntryKind::TimerRang { framework, name });
        }
    }
}
