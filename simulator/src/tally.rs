//! What happened, counted: offers, tasks, turns, and who used how much when.
//!
//! Reads the entries that a leader commits and the turns that it sends; changes nothing. Its one surprise: it counts for
//! itself what the leader's ledger counts as well, so that a report does not depend on how the ledger is built.

use crate::scenario::Scenario;
use std::collections::{BTreeMap, VecDeque};
use tepui_master_core::entry::Turn;
use tepui_master_core::ledger::held_back;
use tepui_master_core::{Entry, EntryKind};
use tepui_proto::api::FrameworkPhase;
use tepui_proto::events::Event;
use tepui_proto::{
    Bundle, Call, FrameworkId, OfferId, Reason, Resources, Role, TaskKey, TaskState, TaskStatus,
    Timestamp,
};

/// Countable amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Thousandths of a core.
    pub(crate) cpu_milli: u64,
    /// Bytes.
    pub(crate) memory_bytes: u64,
    /// Bytes.
    pub(crate) disk_bytes: u64,
}

impl Amounts {
    /// What is countable of these.
    pub(crate) fn of(resources: &Resources) -> Self {
        Self {
            cpu_milli: resources.cpu_milli,
            memory_bytes: resources.memory_bytes,
            disk_bytes: resources.disk_bytes,
        }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.cpu_milli = self.cpu_milli.saturating_add(more.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(more.memory_bytes);
        self.disk_bytes = self.disk_bytes.saturating_add(more.disk_bytes);
    }

    pub(crate) fn remove(&mut self, less: Self) {
        self.cpu_milli = self.cpu_milli.saturating_sub(less.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(less.memory_bytes);
        self.disk_bytes = self.disk_bytes.saturating_sub(less.disk_bytes);
    }

    /// The largest part of a whole, in thousandths, rounded.
    pub(crate) fn dominant_milli(self, whole: Self) -> u64 {
        let part = |amount: u64, whole: u64| milli_of(amount, whole).unwrap_or_default();
        part(self.cpu_milli, whole.cpu_milli)
            .max(part(self.memory_bytes, whole.memory_bytes))
            .max(part(self.disk_bytes, whole.disk_bytes))
    }
}

/// What an agent can offer: all but what is held back for schedulers.
fn offerable(resources: &Bundle) -> Amounts {
    let plain = resources.plain();
    let mut sum = Amounts::of(&plain.saturating_sub(&held_back(plain)));
    resources.pools().for_each(|(_, more)| sum.add(Amounts::of(more)));
    sum
}

/// A part of a whole in thousandths, rounded; none of nothing.
pub(crate) fn milli_of(part: u64, whole: u64) -> Option<u64> {
    let (part, whole) = (u128::from(part), u128::from(whole));
    let rounded = (part * 1_000 + whole / 2).checked_div(whole)?;
    Some(u64::try_from(rounded).unwrap_or(u64::MAX))
}

/// What came of the frameworks of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) launched: u64,
    pub(crate) running: u64,
    pub(crate) finished: u64,
    pub(crate) failed: u64,
    pub(crate) killed: u64,
    /// Stopped to serve a guarantee.
    pub(crate) preempted: u64,
    pub(crate) lost: u64,
    /// Never launched: the task was not valid, or the offer was gone.
    pub(crate) refused: u64,
    /// From arrival to the first run, in milliseconds.
    pub(crate) waits: Vec<u64>,
    pub(crate) offers_made: u64,
    pub(crate) offers_used: u64,
    pub(crate) offers_declined: u64,
    pub(crate) offers_expired: u64,
    pub(crate) offers_withdrawn: u64,
    pub(crate) turns: u64,
    pub(crate) fuel: u64,
    pub(crate) failures: u64,
    pub(crate) ended: u64,
    pub(crate) ended_at: Option<u64>,
}

/// A framework that the leader has accepted.
#[derive(Clone, Debug)]
struct Known {
    group: usize,
    open: BTreeMap<OfferId, OpenOffer>,
    roles: Vec<usize>,
    /// For a scheduler whose arrivals nobody knows: units that it wants, and since when.
    wanted: VecDeque<(u64, u64)>,
    wanted_units: u64,
}

#[derive(Clone, Copy, Debug)]
struct OpenOffer {
    role: usize,
    held: Amounts,
    expires: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct LiveTask {
    role: usize,
    group: usize,
    held: Amounts,
    runs: bool,
}

/// What one role holds now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoleNow {
    /// By its tasks.
    pub(crate) used: Amounts,
    /// By offers that its frameworks were told of.
    pub(crate) offered: Amounts,
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// All roles, in order.
    pub(crate) roles: Vec<Role>,
    role_at: BTreeMap<Role, usize>,
    pub(crate) now: Vec<RoleNow>,
    pub(crate) groups: Vec<Group>,
    frameworks: BTreeMap<FrameworkId, Known>,
    tasks: BTreeMap<TaskKey, LiveTask>,
    /// What agents that are here can offer.
    pub(crate) capacity: Amounts,
    pub(crate) agents: u64,
    /// Lines about what went wrong, each once, with how often.
    pub(crate) problems: BTreeMap<String, u64>,
}

/// Lines about what went wrong beyond which no new one is kept.
const PROBLEMS: usize = 50;

/// What an answer says of offers and wants, kept until it is committed.
#[derive(Debug, Default)]
pub(crate) struct Said {
    answered: Vec<OfferId>,
    wanted: Option<u64>,
}

impl Said {
    /// What these calls say.
    pub(crate) fn of(calls: &[Call]) -> Self {
        let mut said = Self::default();
        for call in calls {
            match call {
                Call::Accept(acceptance) => said.answered.extend(&acceptance.offers),
                Call::Decline { offers, .. } => said.answered.extend(offers),
                Call::Want(wants) => {
                    let units = wants.iter().flatten().map(|want| u64::from(want.count)).sum();
                    said.wanted = Some(units);
                }
                _ => {}
            }
        }
        said
    }

    /// For a scheduler whose tasks have an arrival of their own.
    pub(crate) fn without_wants(self) -> Self {
        Self { wanted: None, ..self }
    }
}

impl Tally {
    /// Nothing has happened.
    pub(crate) fn new(scenario: &Scenario, roles: Vec<Role>) -> Self {
        let role_at = roles.iter().cloned().enumerate().map(|(at, role)| (role, at)).collect();
        Self {
            now: vec![RoleNow::default(); roles.len()],
            roles,
            role_at,
            groups: vec![Group::default(); scenario.frameworks.len()],
            ..Self::default()
        }
    }

    /// A framework of a kind was accepted.
    pub(crate) fn framework_accepted(&mut self, id: FrameworkId, group: usize, roles: &[Role]) {
        let roles = roles.iter().filter_map(|role| self.role_at.get(role).copied()).collect();
        let known =
            Known { group, open: BTreeMap::new(), roles, wanted: VecDeque::new(), wanted_units: 0 };
        self.frameworks.insert(id, known);
    }

    /// An agent is here.
    pub(crate) fn agent_joined(&mut self, resources: &Bundle) {
        self.agents += 1;
        self.capacity.add(offerable(resources));
    }

    /// An agent is away.
    pub(crate) fn agent_left(&mut self, resources: &Bundle) {
        self.agents = self.agents.saturating_sub(1);
        self.capacity.remove(offerable(resources));
    }

    /// Units that a framework wants and has no task for.
    pub(crate) fn wanted_units(&self, id: FrameworkId) -> u64 {
        self.frameworks.get(&id).map_or(0, |known| known.wanted_units)
    }

    /// The roles of a framework, by their places.
    pub(crate) fn roles_of(&self, id: FrameworkId) -> &[usize] {
        self.frameworks.get(&id).map_or(&[], |known| &known.roles)
    }

    /// Something that people should know.
    pub(crate) fn problem(&mut self, line: String) {
        if self.problems.len() < PROBLEMS || self.problems.contains_key(&line) {
            *self.problems.entry(line).or_default() += 1;
        }
    }

    /// A turn was sent: what it tells of offers.
    pub(crate) fn told(&mut self, id: FrameworkId, now: Timestamp, events: &[Event]) {
        for event in events {
            match event {
                Event::Offers(offers) => {
                    let Some(known) = self.frameworks.get_mut(&id) else { return };
                    for offer in offers {
                        let place = usize::try_from(offer.role).ok();
                        let role =
                            place.and_then(|at| known.roles.get(at)).copied().unwrap_or_default();
                        let mut held = Amounts::of(&offer.resources);
                        offer.pools.iter().for_each(|(_, more)| held.add(Amounts::of(more)));
                        known
                            .open
                            .insert(offer.id, OpenOffer { role, held, expires: offer.expires });
                        if let Some(role) = self.now.get_mut(role) {
                            role.offered.add(held);
                        }
                        if let Some(group) = self.groups.get_mut(known.group) {
                            group.offers_made += 1;
                        }
                    }
                }
                Event::Rescinded(offers) => {
                    for offer in offers {
                        self.close(id, *offer, |group, open| {
                            if open.expires <= now {
                                group.offers_expired += 1;
                            } else {
                                group.offers_withdrawn += 1;
                            }
                        });
                    }
                }
                _ => {}
            }
        }
    }

    fn close(
        &mut self,
        id: FrameworkId,
        offer: OfferId,
        count: impl FnOnce(&mut Group, &OpenOffer),
    ) {
        let Some(known) = self.frameworks.get_mut(&id) else { return };
        let Some(open) = known.open.remove(&offer) else { return };
        if let Some(role) = self.now.get_mut(open.role) {
            role.offered.remove(open.held);
        }
        if let Some(group) = self.groups.get_mut(known.group) {
            count(group, &open);
        }
    }

    /// An answer was committed: the offers that it names are used or declined, and what is wanted has changed.
    pub(crate) fn answered(&mut self, id: FrameworkId, said: Said, entries: &[Entry], now: u64) {
        let mut turns = entries.iter().filter_map(|entry| entry.kind.turn());
        let Some(turn) = turns.find(|turn| turn.framework == id) else { return };
        for offer in said.answered {
            let used = turn.launches.iter().any(|launch| launch.offer == offer);
            self.close(id, offer, |group, _| {
                if used {
                    group.offers_used += 1;
                } else {
                    group.offers_declined += 1;
                }
            });
        }
        let Some(known) = self.frameworks.get_mut(&id) else { return };
        let Some(group) = self.groups.get_mut(known.group) else { return };
        for _launch in &turn.launches {
            let Some((since, units)) = known.wanted.front_mut() else { break };
            group.waits.push(now.saturating_sub(*since));
            *units -= 1;
            known.wanted_units -= 1;
            if *units == 0 {
                known.wanted.pop_front();
            }
        }
        if let Some(wanted) = said.wanted {
            known.restate(wanted, now);
        }
    }

    /// An entry was committed. Says which task of which framework has begun to run, if one has.
    pub(crate) fn committed(&mut self, entry: &Entry, began: &mut Vec<TaskKey>) {
        if let Some(turn) = entry.kind.turn() {
            return self.turn_committed(turn);
        }
        match &entry.kind {
            EntryKind::Reported { changes, .. } | EntryKind::TasksMoved(changes) => {
                for change in changes {
                    let key =
                        TaskKey { framework: change.framework, task: change.status.task.clone() };
                    self.moved(&key, &change.status, began);
                }
            }
            EntryKind::InstanceEnded { framework, counted, message, .. } => {
                self.instance_ended(*framework, *counted, message);
            }
            EntryKind::FrameworkMoved { framework, phase: FrameworkPhase::Ended, .. } => {
                let group = self.frameworks.get(framework).map(|known| known.group);
                if let Some(group) = group.and_then(|group| self.groups.get_mut(group)) {
                    group.ended += 1;
                    group.ended_at = Some(entry.at.0);
                }
            }
            _ => {}
        }
    }

    fn turn_committed(&mut self, turn: &Turn) {
        let Some(known) = self.frameworks.get(&turn.framework) else { return };
        let group = known.group;
        for launch in &turn.launches {
            let Some(role) = self.role_at.get(&launch.role).copied() else { continue };
            let held = Amounts::of(&launch.spec.resources);
            let key = TaskKey { framework: turn.framework, task: launch.spec.id.clone() };
            self.tasks.insert(key, LiveTask { role, group, held, runs: false });
            if let Some(role) = self.now.get_mut(role) {
                role.used.add(held);
            }
        }
        let Some(counts) = self.groups.get_mut(group) else { return };
        counts.turns += 1;
        counts.fuel = counts.fuel.saturating_add(turn.fuel);
        counts.launched += turn.launches.len() as u64;
        counts.refused += turn.refused_tasks.len() as u64;
        for (_, _, status) in &turn.refused_tasks {
            self.problem(format!(
                "a task was refused: {}: {}",
                status.reason.code(),
                status.message
            ));
        }
        for refusal in &turn.refusals {
            self.problem(format!("a call was refused: {}: {}", refusal.code, refusal.message));
        }
    }

    fn instance_ended(&mut self, id: FrameworkId, counted: bool, message: &str) {
        let Some(known) = self.frameworks.get(&id) else { return };
        let (group, open) = (known.group, known.open.keys().copied().collect::<Vec<_>>());
        for offer in open {
            self.close(id, offer, |group, _| group.offers_withdrawn += 1);
        }
        if counted && let Some(group) = self.groups.get_mut(group) {
            group.failures += 1;
            self.problem(format!("a scheduler failed: {message}"));
        }
    }

    fn moved(&mut self, key: &TaskKey, status: &TaskStatus, began: &mut Vec<TaskKey>) {
        let state = status.state;
        let Some(task) = self.tasks.get_mut(key) else { return };
        let Some(group) = self.groups.get_mut(task.group) else { return };
        let has_run = matches!(state, TaskState::Running | TaskState::Finished);
        if has_run && !task.runs {
            began.push(key.clone());
        }
        match (task.runs, state == TaskState::Running) {
            (false, true) => group.running += 1,
            (true, false) => group.running -= 1,
            _ => {}
        }
        task.runs = state == TaskState::Running;
        if !state.is_final() {
            return;
        }
        match state {
            TaskState::Finished => group.finished += 1,
            TaskState::Killed if status.reason == Reason::Preempted => group.preempted += 1,
            TaskState::Killed => group.killed += 1,
            TaskState::Lost | TaskState::Gone | TaskState::Dropped => group.lost += 1,
            _ => group.failed += 1,
        }
        if let Some(role) = self.now.get_mut(task.role) {
            role.used.remove(task.held);
        }
        self.tasks.remove(key);
    }

    /// Offers of a kind that are open.
    pub(crate) fn open_offers(&self, group: usize) -> u64 {
        let of_group = self.frameworks.values().filter(|known| known.group == group);
        of_group.map(|known| known.open.len() as u64).sum()
    }
}

impl Known {
    /// More is wanted from now on, or the newest wants are taken back.
    fn restate(&mut self, units: u64, now: u64) {
        if units > self.wanted_units {
            self.wanted.push_back((now, units - self.wanted_units));
        }
        let mut excess = self.wanted_units.saturating_sub(units);
        while excess > 0 {
            let Some((_, newest)) = self.wanted.back_mut() else { break };
            let less = excess.min(*newest);
            *newest -= less;
            excess -= less;
            if *newest == 0 {
                self.wanted.pop_back();
            }
        }
        self.wanted_units = units;
    }
}
