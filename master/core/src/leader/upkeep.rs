//! Agents that operators take out of service: inactive, draining, gone; and those that are to go down for maintenance.
//!
//! Draining stops an agent's tasks and waits for their ends; schedulers on it move at once. Its one surprise: the answer
//! to an inverse offer is advice and moves nothing, as in Mesos; who wants an agent empty drains it.

use super::deadlines::Deadline;
use super::{Leader, Step, reply};
use crate::allocator::InverseOffers;
use crate::effect::{Effect, ReplyBody};
use crate::entry::EntryKind;
use crate::input::Ticket;
use crate::refusal::{Code, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::events::{InverseOffer, Unavailability};
use tepui_proto::roles::AgentMode;
use tepui_proto::{
    AgentHandle, AgentId, FrameworkId, OfferId, Reason, TaskKey, TaskState, Timestamp, limits,
};

/// Inverse offers that are out, by identifier and by agent.
#[derive(Debug, Default)]
pub(super) struct Inverse {
    offers: InverseOffers,
    by_id: BTreeMap<OfferId, (FrameworkId, AgentId)>,
}

impl Leader {
    pub(super) fn agent_named(&self, name: &str) -> Result<AgentId, Refusal> {
        let known = self.state.agent_names.get(name).copied();
        known.ok_or_else(|| {
            let name = name.chars().take(64).collect::<String>();
            Refusal::new(Code::AgentUnknown, format!("there is no agent `{}`", name.escape_debug()))
        })
    }

    pub(super) fn on_mode_requested(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        agent: &str,
        mode: AgentMode,
    ) {
        let result = self.agent_named(agent).and_then(|id| {
            check_mode(self.state.mode(id), mode)?;
            Ok(id)
        });
        let answer = result.map(|id| {
            self.set_mode(step, id, mode);
            ReplyBody::Done
        });
        reply(step.fx, ticket, answer);
    }

    fn set_mode(&mut self, step: &mut Step<'_>, id: AgentId, mode: AgentMode) {
        self.propose(step, EntryKind::AgentModeSet { agent: id, mode });
        self.note_upkeep(id);
        self.tell_site(id);
        match mode {
            AgentMode::Active => {
                self.mind.dirty.insert(id);
                self.mind.has_new_place = true;
            }
            AgentMode::Inactive | AgentMode::Drained => self.rescind_agent(id),
            AgentMode::Draining { .. } => {
                self.rescind_agent(id);
                self.lose_hosted(step, id, "its agent is being drained");
                self.stop_tasks(step, id);
                self.end_drain(step, id);
            }
            AgentMode::Gone => {
                self.rescind_agent(id);
                let keys = self.tasks_of(id);
                let message = "the operator says that its agent is gone";
                self.move_tasks(step, &keys, TaskState::Gone, Reason::AgentGone, message);
                if let Some(connection) = self.mind.connection(id) {
                    step.fx.orders.push(Effect::Close { connection, code: "agent-gone" });
                    self.on_agent_disconnected(step, connection);
                }
            }
        }
    }

    /// Remembers whether something is to be done about an agent.
    pub(super) fn note_upkeep(&mut self, id: AgentId) {
        let needs_some = self.state.provision(id).is_some_and(|provision| {
            provision.unavailability.is_some()
                || matches!(provision.mode, AgentMode::Draining { .. })
        });
        if needs_some {
            self.mind.upkeep.insert(id);
        } else {
            self.mind.upkeep.remove(&id);
        }
    }

    fn tasks_of(&self, id: AgentId) -> Vec<TaskKey> {
        let agent = self.state.agents.get(&id);
        agent.into_iter().flat_map(|agent| agent.launches.values().cloned()).collect()
    }

    /// Asks all tasks of an agent to stop, none with more grace than its drain leaves them.
    fn stop_tasks(&mut self, step: &mut Step<'_>, id: AgentId) {
        let keys = self.tasks_of(id);
        let message = "its agent is being drained";
        self.move_tasks(step, &keys, TaskState::Killing, Reason::AgentDraining, message);
        for key in keys {
            self.send_kill(&key, None, step.fx);
        }
    }

    /// An agent whose last task has ended is drained.
    pub(super) fn end_drains(&mut self, step: &mut Step<'_>) {
        for id in self.mind.upkeep.clone() {
            self.end_drain(step, id);
        }
    }

    fn end_drain(&mut self, step: &mut Step<'_>, id: AgentId) {
        let AgentMode::Draining { then_gone, .. } = self.state.mode(id) else { return };
        if self.state.agents.get(&id).is_some_and(|agent| agent.launches.is_empty()) {
            let mode = if then_gone { AgentMode::Gone } else { AgentMode::Drained };
            self.set_mode(step, id, mode);
        }
    }

    pub(super) fn on_maintenance_requested(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        agent: &str,
        unavailability: Option<Unavailability>,
    ) {
        let answer = self.agent_named(agent).map(|id| {
            self.propose(step, EntryKind::MaintenanceSet { agent: id, unavailability });
            self.note_upkeep(id);
            self.withdraw_inverse(id);
            // Schedulers are told of the agent anew with its next offer.
            for mind in self.mind.frameworks.values_mut() {
                if let Some(hosted) = &mut mind.hosted {
                    hosted.told.remove(&id);
                }
            }
            self.mind.dirty.insert(id);
            ReplyBody::Done
        });
        reply(step.fx, ticket, answer);
    }

    /// Asks every framework that holds something of an agent that is to go down to leave it.
    pub(super) fn make_inverse_offers(&mut self, now: Timestamp) {
        let planned = self.mind.upkeep.iter().filter_map(|id| {
            let unavailability = self.state.provision(*id)?.unavailability?;
            Some((*id, unavailability))
        });
        let planned: Vec<_> = planned.collect();
        for (agent, unavailability) in planned {
            let holders = self.holders_of(agent);
            for framework in self.mind.inverse.offers.ask(agent, holders, now) {
                let id = self.mind.offers.next_id(self.state.term());
                self.mind.inverse.by_id.insert(id, (framework, agent));
                let offer = InverseOffer { id, agent: AgentHandle(agent.0), unavailability };
                self.mind.framework(framework).new_inverse.push(offer);
                self.mind.touched.insert(framework);
            }
        }
    }

    /// Frameworks that take turns and hold something of an agent, or are offered something.
    fn holders_of(&self, agent: AgentId) -> BTreeSet<FrameworkId> {
        let offered = self.mind.offers.of_agent(agent);
        let offered =
            offered.filter_map(|id| self.mind.offers.get(id)).map(|offer| offer.framework);
        let used = self.tasks_of(agent).into_iter().map(|key| key.framework);
        let is_active = |id: &FrameworkId| self.mind.active.contains(id);
        used.chain(offered).filter(is_active).collect()
    }

    fn withdraw_inverse(&mut self, agent: AgentId) {
        for framework in self.mind.inverse.offers.withdraw_agent(agent) {
            let gone: Vec<OfferId> = self.mind.inverse.of(framework, Some(agent));
            for id in gone {
                self.mind.inverse.by_id.remove(&id);
                let mind = self.mind.framework(framework);
                let before = mind.new_inverse.len();
                mind.new_inverse.retain(|offer| offer.id != id);
                if mind.new_inverse.len() == before {
                    mind.rescinded.push(id);
                    self.mind.touched.insert(framework);
                }
            }
        }
    }

    /// A scheduler that has ended has answered nothing; the next instance is asked anew.
    pub(super) fn forget_inverse(&mut self, framework: FrameworkId) {
        for id in self.mind.inverse.of(framework, None) {
            self.mind.inverse.by_id.remove(&id);
        }
        self.mind.inverse.offers.forget_framework(framework);
        self.mind.framework(framework).new_inverse.clear();
    }

    /// The answer to an inverse offer. False if it is not out.
    pub(super) fn answer_inverse(
        &mut self,
        framework: FrameworkId,
        id: OfferId,
        refused_until: Option<Timestamp>,
    ) -> bool {
        let Some((of, agent)) = self.mind.inverse.by_id.get(&id).copied() else { return false };
        if of != framework {
            return false;
        }
        self.mind.inverse.by_id.remove(&id);
        if let Some(until) = refused_until {
            self.mind.deadlines.set(until, Deadline::Inverse);
        }
        // Who accepts is not asked again before something changes.
        let until = refused_until.unwrap_or(Timestamp(u64::MAX));
        self.mind.inverse.offers.answered(agent, framework, Some(until))
    }
}

impl Inverse {
    fn of(&self, framework: FrameworkId, agent: Option<AgentId>) -> Vec<OfferId> {
        let is_meant = |(of, at): &(FrameworkId, AgentId)| {
            *of == framework && agent.is_none_or(|agent| agent == *at)
        };
        self.by_id.iter().filter(|(_, key)| is_meant(key)).map(|(id, _)| *id).collect()
    }
}

fn check_mode(from: AgentMode, to: AgentMode) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::new(Code::AgentModeInvalid, message));
    match (from, to) {
        (AgentMode::Gone, _) => refuse("it is gone, and does not come back"),
        (_, AgentMode::Drained) => refuse("an agent is drained once its tasks have ended"),
        (AgentMode::Draining { .. }, AgentMode::Active | AgentMode::Inactive) => {
            refuse("it is being drained; it can be made active once it is drained")
        }
        (_, AgentMode::Draining { grace, .. }) if grace.0 > limits::KILL_GRACE_MS_MAX => {
            refuse("a grace of more than an hour")
        }
        _ => Ok(()),
    }
}
