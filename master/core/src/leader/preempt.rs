//! Preemption: a role below its guarantee gets back what revocable tasks hold, and what roles hold beyond their limits.
//!
//! Only where a want of such a role fits nowhere, and only on one agent at a time: the one where the loss is least (the
//! highest priority that has to go, then how many go). Among tasks the lowest priority goes first, then the newest. They
//! are asked to stop with their grace, then stopped. Its one surprise: a framework that states no wants preempts nobody,
//! since nobody knows what would help it.

use super::deadlines::Deadline;
use super::{Leader, Step};
use crate::allocator::is_at_or_below;
use crate::state::State;
use std::collections::BTreeMap;
use tepui_proto::calls::Want;
use tepui_proto::{
    AgentId, DurationMs, LaunchNumber, Reason, Resources, Role, TaskKey, TaskState, limits,
};

/// Agents that are looked at for one want.
const AGENTS: usize = 1_000;

/// A task that could go.
struct Victim {
    key: TaskKey,
    priority: i32,
    launch: LaunchNumber,
    resources: Resources,
}

impl Leader {
    /// Stops what has to make room for guarantees.
    pub(super) fn preempt(&mut self, step: &mut Step<'_>) {
        self.mind
            .preempted
            .retain(|key| self.state.task(key).is_some_and(|task| task.live.is_some()));
        let State { ledger, policy, .. } = &mut self.state;
        if !policy.has_guarantee() || step.now < self.mind.preempt_at {
            return;
        }
        let needs = self.mind.allocator.needs(ledger, policy);
        if needs.is_empty() {
            return;
        }
        // Looking at many agents for each want is not done with every batch.
        self.mind.preempt_at = step.now.after(DurationMs(limits::ALLOCATION_INTERVAL_MS));
        self.mind.deadlines.set(self.mind.preempt_at, Deadline::Preempt);
        for (role, want) in needs {
            if self.is_coming(&want) {
                continue;
            }
            let Some(victims) = self.victims(&role, &want) else { continue };
            let message = format!("`{role}` is below its guarantee");
            self.move_tasks(step, &victims, TaskState::Killing, Reason::Preempted, &message);
            for key in victims {
                self.send_kill(&key, None, step.fx);
                self.mind.preempted.insert(key);
            }
        }
    }

    /// Whether what is being stopped already makes room for one unit.
    fn is_coming(&self, want: &Want) -> bool {
        let mut coming: BTreeMap<AgentId, Resources> = BTreeMap::new();
        for key in &self.mind.preempted {
            let Some(task) = self.state.task(key) else { continue };
            let Some(agent) = task.agent else { continue };
            let sum = coming.entry(agent).or_insert_with(|| self.free(agent));
            *sum = sum.checked_add(&task.resources).unwrap_or_default();
        }
        coming.values().any(|room| room.contains(&want.each))
    }

    fn free(&self, agent: AgentId) -> Resources {
        let accounts = self.state.ledger.agent(agent);
        accounts.map(|accounts| accounts.offerable.free().plain().clone()).unwrap_or_default()
    }

    /// The tasks of one agent whose end makes room for one unit, with the least loss.
    fn victims(&self, role: &Role, want: &Want) -> Option<Vec<TaskKey>> {
        let mut best: Option<((i32, usize), Vec<TaskKey>)> = None;
        for agent in self.mind.allocator.meeting(want).into_iter().take(AGENTS) {
            let Some(found) = self.victims_on(agent, role, want) else { continue };
            if best.as_ref().is_none_or(|(loss, _)| found.0 < *loss) {
                best = Some(found);
            }
        }
        best.map(|(_, victims)| victims)
    }

    fn victims_on(
        &self,
        agent: AgentId,
        role: &Role,
        want: &Want,
    ) -> Option<((i32, usize), Vec<TaskKey>)> {
        let record = self.state.agents.get(&agent)?;
        let mut room = self.free(agent);
        let mut victims: Vec<Victim> =
            record.launches.values().filter_map(|key| self.victim(key, role)).collect();
        victims.sort_by_key(|victim| (victim.priority, std::cmp::Reverse(victim.launch)));
        let mut chosen: Vec<Victim> = Vec::new();
        for victim in victims {
            if fits(&room, want) {
                break;
            }
            room = room.checked_add(&victim.resources)?;
            chosen.push(victim);
        }
        if chosen.is_empty() || !fits(&room, want) {
            return None;
        }
        // Who turns out not to be needed stays.
        for at in (0..chosen.len()).rev() {
            let Some(victim) = chosen.get(at) else { continue };
            let without = room.saturating_sub(&victim.resources);
            if fits(&without, want) {
                room = without;
                chosen.remove(at);
            }
        }
        let highest = chosen.iter().map(|victim| victim.priority).max()?;
        let count = chosen.len();
        Some(((highest, count), chosen.into_iter().map(|victim| victim.key).collect()))
    }

    /// A task that may be stopped for this role: revocable, or of a role beyond its limit.
    fn victim(&self, key: &TaskKey, role: &Role) -> Option<Victim> {
        let task = self.state.task(key)?;
        let spec = &task.live.as_ref()?.spec;
        let runs = matches!(
            task.status.state,
            TaskState::Staging | TaskState::Starting | TaskState::Running
        );
        if !runs || is_at_or_below(task.role.as_str(), role.as_str()) {
            return None;
        }
        if !spec.is_revocable() && !self.is_over_limit(&task.role) {
            return None;
        }
        let key = key.clone();
        let (launch, resources) = (task.launch, task.resources.clone());
        Some(Victim { key, priority: spec.priority, launch, resources })
    }

    /// Whether a role, or one above it, holds more than its limit.
    fn is_over_limit(&self, role: &Role) -> bool {
        crate::ledger::paths(role.as_str()).any(|path| {
            let Some(policy) = self.state.policy.role(&Role::from(path)) else { return false };
            self.state.ledger.consumed(path).exceeds(&policy.limit).is_some()
        })
    }
}

fn fits(room: &Resources, want: &Want) -> bool {
    room.contains(&want.each) && room.ports.count() >= want.port_count
}
