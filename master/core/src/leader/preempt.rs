//! Preemption: a role below its guarantee gets back what revocable tasks hold, and what roles hold beyond their limits.
//!
//! Only for units of a want that fit nowhere, what is on offer elsewhere included, up to what is owed, and first on the
//! agents where the loss is least (the highest priority that has to go, then how many go). Among tasks the lowest
//! priority goes first, then the newest. They are asked to stop with their grace, then stopped. Its one surprise: a
//! framework that states no wants preempts nobody, since nobody knows what would help it.

use super::deadlines::Deadline;
use super::{Leader, Step};
use crate::allocator::{GPUS, Need, fitting, is_at_or_below};
use crate::ledger::paths;
use crate::state::State;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::calls::Want;
use tepui_proto::{
    AgentId, Bundle, DurationMs, LaunchNumber, PoolKind, Reason, Resources, Role, Scalars, TaskKey,
    TaskState, TaskStatus, limits,
};

/// Agents that are looked at for one want.
const AGENTS: usize = 1_000;

/// Needs that are looked at each time: each may take a look at every agent.
const NEEDS: usize = 8;
/// Units that room is made for at once.
const UNITS: u32 = 100;

/// What it costs to make room: the highest priority that has to go, then how many go.
type Loss = (i32, usize);

/// What is being made room for, by agent.
type Coming = BTreeMap<AgentId, Resources>;

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
        // Whose turn it was not this time comes first the next time.
        let count = needs.len();
        let first = if count > NEEDS { self.mind.preempt_next % count } else { 0 };
        self.mind.preempt_next = first + NEEDS;
        let mut served = BTreeSet::new();
        for need in needs.into_iter().cycle().skip(first).take(count.min(NEEDS)) {
            // What others of the role are owed is the same; once there is room for one of them it is looked at again.
            let most = if served.insert(top(&need.role)) { need.units.min(UNITS) } else { 1 };
            self.make_room(step, &need, most);
        }
    }

    /// Remembers which tasks an earlier leader has stopped to serve a guarantee.
    pub(super) fn recall_preempted(&mut self) {
        if !self.state.policy.has_guarantee() {
            return;
        }
        for (id, framework) in &self.state.frameworks {
            let is_going = |status: &TaskStatus| {
                status.state == TaskState::Killing && status.reason == Reason::Preempted
            };
            let going = framework.tasks.iter().filter(|(_, task)| is_going(&task.status));
            let keys = going.map(|(task, _)| TaskKey { framework: *id, task: task.clone() });
            self.mind.preempted.extend(keys);
        }
    }

    /// Stops tasks until so many units have room, or will, what is on offer elsewhere included.
    fn make_room(&mut self, step: &mut Step<'_>, need: &Need, units: u32) {
        let agents = self.suiting(&need.want);
        let full = self.full_above(need);
        // Under a limit that leaves no room one unit has to come before it is known what another takes.
        let units = if full.is_empty() { units.min(self.room_above(need)) } else { 1 };
        let mut coming = self.coming(&need.role);
        let mut lacking = units;
        for agent in &agents {
            lacking = lacking.saturating_sub(self.fitting_in_time(*agent, need, coming.get(agent)));
            if lacking == 0 {
                return;
            }
        }
        let loss = |leader: &Self, agent, coming: &Coming| {
            let (loss, _) = leader.victims_on(agent, need, &full, coming.get(&agent))?;
            Some((loss, agent))
        };
        let looked_at = agents.into_iter().take(AGENTS);
        let mut losses: BTreeSet<(Loss, AgentId)> =
            looked_at.filter_map(|agent| loss(self, agent, &coming)).collect();
        while lacking > 0
            && let Some((least, agent)) = losses.pop_first()
        {
            // What was stopped elsewhere may have brought a role within its limit.
            let victims = self.victims_on(agent, need, &full, coming.get(&agent));
            let Some((now, victims)) = victims else { continue };
            if now > least {
                losses.insert((now, agent));
                continue;
            }
            lacking -= 1;
            self.stop_for(step, need, &victims);
            for key in &victims {
                self.add_coming(&mut coming, key, &need.role);
            }
            losses.extend(loss(self, agent, &coming));
        }
    }

    fn stop_for(&mut self, step: &mut Step<'_>, need: &Need, victims: &[TaskKey]) {
        let message = format!("`{}` is below its guarantee", need.role);
        self.move_tasks(step, victims, TaskState::Killing, Reason::Preempted, &message);
        for key in victims {
            self.send_kill(key, None, step.fx);
            self.mind.preempted.insert(key.clone());
        }
    }

    /// What tasks that are being stopped make room for in a role, by agent.
    fn coming(&self, role: &Role) -> Coming {
        let mut coming = Coming::new();
        for key in &self.mind.preempted {
            self.add_coming(&mut coming, key, role);
        }
        coming
    }

    fn add_coming(&self, coming: &mut Coming, key: &TaskKey, role: &Role) {
        let Some((agent, amount)) = self.given_up(key, role) else { return };
        let sum = coming.entry(agent).or_default();
        *sum = sum.checked_add(&amount).unwrap_or_default();
    }

    /// Units that fit on an agent once what is on offer and what is being stopped has come back.
    fn fitting_in_time(&self, agent: AgentId, need: &Need, coming: Option<&Resources>) -> u32 {
        let Some(accounts) = self.state.ledger.agent(agent) else { return 0 };
        let account = &accounts.offerable;
        let each = need.want.each.cpu_milli;
        if account.total.is_plain() && coming.is_none() {
            // Most agents of a full cluster; nothing is added up for them.
            let cpus = account.free().plain().cpu_milli + account.offered.plain().cpu_milli;
            if cpus < each {
                return 0;
            }
        }
        let room = account.free().checked_add(&account.offered);
        let room = usable(&room.unwrap_or_default(), &need.role);
        let room = match coming {
            Some(coming) => room.checked_add(coming).unwrap_or_default(),
            None => room,
        };
        fitting(&room, &need.want, need.units)
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

    /// Roles at or above this one whose limits leave no room for a unit: only what their own subtrees give up helps.
    fn full_above<'a>(&self, need: &'a Need) -> Vec<&'a str> {
        let is_full = |path: &&str| {
            let Some(policy) = self.state.policy.role(&Role::from(*path)) else { return false };
            let mut held = self.state.ledger.consumed(path);
            held.add(&need.want.each);
            held.exceeds(&policy.limit).is_some()
        };
        paths(need.role.as_str()).filter(is_full).collect()
    }

    /// Units for which the limits of the role and of those above it leave room.
    fn room_above(&self, need: &Need) -> u32 {
        let each = Scalars::of(&need.want.each);
        let room = |path: &str| {
            let policy = self.state.policy.role(&Role::from(path))?;
            let left = self.state.ledger.consumed(path).left_to(&policy.limit);
            let units = left.iter().filter_map(|(name, left)| left.checked_div(each.get(name)?));
            units.min()
        };
        let units = paths(need.role.as_str()).filter_map(room).min();
        units.and_then(|units| u32::try_from(units).ok()).unwrap_or(u32::MAX)
    }

    /// The tasks of an agent whose end makes room for one unit more, with the least loss.
    fn victims_on(
        &self,
        agent: AgentId,
        need: &Need,
        full: &[&str],
        coming: Option<&Resources>,
    ) -> Option<(Loss, Vec<TaskKey>)> {
        let Need { role, want, .. } = need;
        let record = self.state.agents.get(&agent)?;
        let mut room = usable(self.state.ledger.agent(agent)?.offerable.free(), role);
        if let Some(coming) = coming {
            room = room.checked_add(coming)?;
        }
        let enough = fitting(&room, want, u32::MAX - 1) + 1;
        let fits = |room: &Resources| fitting(room, want, enough) == enough;
        let mut victims: Vec<Victim> =
            record.launches.values().filter_map(|key| self.victim(key, role, full)).collect();
        victims.sort_by_key(|victim| (victim.priority, Reverse(victim.launch)));
        let mut chosen: Vec<Victim> = Vec::new();
        for victim in victims {
            if fits(&room) {
                break;
            }
            if !victim.is_revocable && !self.is_over_limit(&victim.role, &chosen) {
                continue;
            }
            room = room.checked_add(&victim.resources)?;
            chosen.push(victim);
        }
        if chosen.is_empty() || !fits(&room) {
            return None;
        }
        // Who turns out not to be needed stays.
        for at in (0..chosen.len()).rev() {
            let Some(victim) = chosen.get(at) else { continue };
            let without = room.saturating_sub(&victim.resources);
            if fits(&without) {
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

/// The role's topmost ancestor, or itself.
fn top(role: &Role) -> Role {
    Role::from(paths(role.as_str()).next().unwrap_or_default())
}
