//! Preemption: a role below its guarantee gets back what revocable tasks hold, and what roles hold beyond their limits.
//!
//! Only where a want of such a role fits nowhere, what is on offer elsewhere included, and only on one agent at a time:
//! the one where the loss is least (the highest priority that has to go, then how many go). Among tasks the lowest
//! priority goes first, then the newest. They are asked to stop with their grace, then stopped. Its one surprise: a
//! framework that states no wants preempts nobody, since nobody knows what would help it.

use super::deadlines::Deadline;
use super::{Leader, Step};
use crate::allocator::{GPUS, is_at_or_below};
use crate::ledger::paths;
use crate::state::State;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use tepui_proto::calls::Want;
use tepui_proto::{
    AgentId, Bundle, DurationMs, LaunchNumber, PoolKind, Reason, Resources, Role, TaskKey,
    TaskState, limits,
};

/// Agents that are looked at for one want.
const AGENTS: usize = 1_000;

/// A task that could go.
struct Victim {
    key: TaskKey,
    role: Role,
    priority: i32,
    is_revocable: bool,
    launch: LaunchNumber,
    /// What the needy role could use of what it holds.
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
            let agents = self.suiting(&want);
            if self.is_coming(&role, &want, &agents) {
                continue;
            }
            let Some(victims) = self.victims(&role, &want, &agents) else { continue };
            let message = format!("`{role}` is below its guarantee");
            self.move_tasks(step, &victims, TaskState::Killing, Reason::Preempted, &message);
            for key in victims {
                self.send_kill(&key, None, step.fx);
                self.mind.preempted.insert(key);
            }
        }
    }

    /// Whether one unit fits somewhere, or will: where what is on offer comes back, or where tasks are being stopped.
    fn is_coming(&self, role: &Role, want: &Want, agents: &[AgentId]) -> bool {
        let mut coming: BTreeMap<AgentId, Resources> = BTreeMap::new();
        for key in &self.mind.preempted {
            let Some((agent, amount)) = self.given_up(key, role) else { continue };
            let sum = coming.entry(agent).or_default();
            *sum = sum.checked_add(&amount).unwrap_or_default();
        }
        agents.iter().any(|agent| {
            let Some(accounts) = self.state.ledger.agent(*agent) else { return false };
            let room = accounts.offerable.free().checked_add(&accounts.offerable.offered);
            let room = room.map(|room| usable(&room, role)).unwrap_or_default();
            let more = coming.remove(agent).unwrap_or_default();
            fits(&room.checked_add(&more).unwrap_or_default(), want)
        })
    }

    /// What the end of a task makes room for in a role, and where.
    fn given_up(&self, key: &TaskKey, role: &Role) -> Option<(AgentId, Resources)> {
        let task = self.state.task(key)?;
        Some((task.agent?, usable(&self.state.held_by(key, &task.resources), role)))
    }

    /// Agents whose resources this want could be given.
    fn suiting(&self, want: &Want) -> Vec<AgentId> {
        let wants_gpus = want.each.custom.contains_key(GPUS);
        let suits = |agent: &AgentId| {
            let total = self.state.ledger.agent(*agent).map(|accounts| &accounts.offerable.total);
            let has_gpus = |total: &Bundle| total.iter().any(|(_, r)| r.custom.contains_key(GPUS));
            wants_gpus || !total.is_some_and(has_gpus)
        };
        self.mind.allocator.meeting(want).into_iter().filter(suits).collect()
    }

    /// The tasks of one agent whose end makes room for one unit, with the least loss.
    fn victims(&self, role: &Role, want: &Want, agents: &[AgentId]) -> Option<Vec<TaskKey>> {
        let full = self.full_above(role, want);
        let mut best: Option<((i32, usize), Vec<TaskKey>)> = None;
        for agent in agents.iter().take(AGENTS) {
            let Some(found) = self.victims_on(*agent, (role, want), &full) else { continue };
            if best.as_ref().is_none_or(|(loss, _)| found.0 < *loss) {
                best = Some(found);
            }
        }
        best.map(|(_, victims)| victims)
    }

    /// Roles at or above this one whose limits leave no room for a unit: only what their own subtrees give up helps.
    fn full_above<'a>(&self, role: &'a Role, want: &Want) -> Vec<&'a str> {
        let is_full = |path: &&str| {
            let Some(policy) = self.state.policy.role(&Role::from(*path)) else { return false };
            let mut held = self.state.ledger.consumed(path);
            held.add(&want.each);
            held.exceeds(&policy.limit).is_some()
        };
        paths(role.as_str()).filter(is_full).collect()
    }

    fn victims_on(
        &self,
        agent: AgentId,
        needs: (&Role, &Want),
        full: &[&str],
    ) -> Option<((i32, usize), Vec<TaskKey>)> {
        let (role, want) = needs;
        let record = self.state.agents.get(&agent)?;
        let mut room = usable(self.state.ledger.agent(agent)?.offerable.free(), role);
        let mut victims: Vec<Victim> =
            record.launches.values().filter_map(|key| self.victim(key, role, full)).collect();
        victims.sort_by_key(|victim| (victim.priority, Reverse(victim.launch)));
        let mut chosen: Vec<Victim> = Vec::new();
        for victim in victims {
            if fits(&room, want) {
                break;
            }
            if !victim.is_revocable && !self.is_over_limit(&victim.role, &chosen) {
                continue;
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
        if full.iter().any(|path| self.stays_full(path, want, &chosen)) {
            return None;
        }
        let highest = chosen.iter().map(|victim| victim.priority).max()?;
        let count = chosen.len();
        Some(((highest, count), chosen.into_iter().map(|victim| victim.key).collect()))
    }

    /// Whether a limit leaves no room for a unit even without these.
    fn stays_full(&self, path: &str, want: &Want, chosen: &[Victim]) -> bool {
        let Some(policy) = self.state.policy.role(&Role::from(path)) else { return false };
        let mut held = self.state.ledger.consumed(path);
        for victim in chosen {
            held.remove(&victim.resources);
        }
        held.add(&want.each);
        held.exceeds(&policy.limit).is_some()
    }

    /// A task that might be stopped for this role: one that runs, elsewhere, and whose end would help.
    fn victim(&self, key: &TaskKey, role: &Role, full: &[&str]) -> Option<Victim> {
        let task = self.state.task(key)?;
        let spec = &task.live.as_ref()?.spec;
        let runs = matches!(
            task.status.state,
            TaskState::Staging | TaskState::Starting | TaskState::Running
        );
        let of = task.role.as_str();
        let helps = full.iter().all(|path| is_at_or_below(of, path));
        if !runs || !helps || is_at_or_below(of, role.as_str()) {
            return None;
        }
        let (_, resources) = self.given_up(key, role)?;
        if resources.is_empty() {
            return None;
        }
        let (key, launch, role) = (key.clone(), task.launch, task.role.clone());
        let (priority, is_revocable) = (spec.priority, spec.is_revocable());
        Some(Victim { key, role, priority, is_revocable, launch, resources })
    }

    /// Whether a role, or one above it, holds more than its limit even without what is being stopped and these.
    fn is_over_limit(&self, role: &Role, chosen: &[Victim]) -> bool {
        paths(role.as_str()).any(|path| {
            let Some(policy) = self.state.policy.role(&Role::from(path)) else { return false };
            let mut held = self.state.ledger.consumed(path);
            if held.exceeds(&policy.limit).is_none() {
                return false;
            }
            let is_below = |of: &Role| is_at_or_below(of.as_str(), path);
            for victim in chosen.iter().filter(|victim| is_below(&victim.role)) {
                held.remove(&victim.resources);
            }
            for key in &self.mind.preempted {
                let task = self.state.task(key).filter(|task| is_below(&task.role));
                if let Some(task) = task {
                    held.remove(self.state.held_by(key, &task.resources).plain());
                }
            }
            held.exceeds(&policy.limit).is_some()
        })
    }
}

/// What of a bundle a role's units could be cut from.
fn usable(bundle: &Bundle, role: &Role) -> Resources {
    let may_use = |kind: &PoolKind| {
        let is_own = kind.owner().is_none_or(|owner| is_at_or_below(role.as_str(), owner.as_str()));
        is_own && !kind.revocable && !kind.is_whole() && kind.disk.volume.is_none()
    };
    bundle.retained(|kind, _| may_use(kind)).flat().unwrap_or_default()
}

fn fits(room: &Resources, want: &Want) -> bool {
    room.contains(&want.each) && room.ports.count() >= want.port_count
}
