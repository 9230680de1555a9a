//! Frameworks: what was submitted, where it is in its life, its scheduler's instance, its durable keys.

use super::blobs::KeptBlob;
use super::digest::StateDigest;
use super::weight::name_weight;
use super::{Class, Queue, State, Task};
use crate::entry::{Completed, Submission};
use crate::ledger::Holder;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tepui_proto::api::FrameworkPhase;
use tepui_proto::calls::Want;
use tepui_proto::events::StartCause;
use tepui_proto::{
    AgentId, FrameworkId, Incarnation, Resources, Role, TaskId, TaskState, Tenant, Timestamp,
    TurnNumber, limits,
};

/// A scheduler's instance, where it was placed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Where.
    pub agent: AgentId,
    /// Which.
    pub incarnation: Incarnation,
    /// Why it began.
    pub cause: StartCause,
    /// What it holds.
    pub resources: Resources,
    /// Whether out of what is held back.
    pub held_back: bool,
    /// Whether it has committed a turn. Its first one only says that it started, so that one forgives no failure.
    pub has_begun: bool,
}

/// A framework.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Framework {
    /// As submitted last.
    pub submission: Submission,
    /// Where it is in its life.
    pub phase: FrameworkPhase,
    /// Why, for people.
    pub message: String,
    /// How it wants to have ended; it has once its last task has.
    pub completed: Option<Completed>,
    /// Instances so far.
    pub incarnation: Incarnation,
    /// Why the next instance will begin.
    pub next_cause: StartCause,
    /// The instance that is placed now.
    pub instance: Option<Instance>,
    /// Counted failures since the last committed turn.
    pub failures: u32,
    /// When the last instance ended.
    pub instance_ended_at: Timestamp,
    /// Committed turns.
    pub turns: TurnNumber,
    /// Fuel of committed turns.
    pub fuel: u64,
    /// Durable state.
    pub keys: BTreeMap<String, Vec<u8>>,
    /// Bytes of keys and values.
    pub keys_bytes: usize,
    /// Submitted with it, and put out by its tasks; each name is written once.
    pub blobs: BTreeMap<String, KeptBlob>,
    /// Names that its tasks gave, oldest first.
    pub outputs: VecDeque<String>,
    /// Events that wait.
    pub queue: Queue,
    /// The last sequence number that was given out.
    pub next_event: u64,
    /// When they ring.
    pub timers: BTreeMap<String, Timestamp>,
    /// What it wants; none is anything.
    pub wants: Option<Vec<Want>>,
    /// No offers for these.
    pub suppressed: BTreeSet<Role>,
    /// Live ones, and the newest that ended.
    pub tasks: BTreeMap<TaskId, Task>,
    /// How many live.
    pub live: usize,
    /// Those that ended, oldest first.
    pub ended: VecDeque<TaskId>,
    /// How many are in each state; of the final ones, all that ever were.
    pub counts: BTreeMap<TaskState, u64>,
    /// The sum of what is wanted, suppressed and timed, kept as it changes: it may be large, and most changes of a
    /// framework leave it as it is.
    #[serde(skip)]
    pub(super) demand: StateDigest,
    /// What the records of live tasks take; follows from them.
    #[serde(skip)]
    pub(crate) live_bytes: usize,
    /// What live ones hold in all, their scalars; follows from them.
    #[serde(skip)]
    pub(crate) live_used: Resources,
    /// What the records of ended ones take.
    #[serde(skip)]
    pub(crate) ended_bytes: usize,
    /// What the submission, names of blobs, wants and timers take; follows from them.
    #[serde(skip)]
    pub(super) texts_bytes: usize,
    /// When it was submitted first.
    pub submitted_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Framework {
    /// Whether its scheduler takes turns, or will.
    pub fn is_active(&self) -> bool {
        matches!(self.phase, FrameworkPhase::Submitted | FrameworkPhase::Running)
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.phase == FrameworkPhase::Ended
    }

    /// Who holds the scheduler's resources: the framework, in its first role.
    pub fn holder(&self) -> Option<Holder<'_>> {
        let role = self.submission.roles.first()?;
        Some(Holder { role, framework: self.submission.framework })
    }

    /// Whether it was not told of more refusals yet than one turn tells.
    pub(crate) fn is_behind(&self) -> bool {
        self.queue.count(Class::Refusals).entries > limits::TURN_EVENTS
    }

    /// After it was read: what follows from the rest.
    pub(super) fn recount(&mut self) {
        self.queue.recount();
        self.demand = self.demand_anew();
        self.live_bytes = self.tasks.values().filter_map(Task::live_weight).sum();
        let live = self.tasks.values().filter(|task| task.live.is_some());
        self.live_used =
            live.fold(Resources::default(), |sum, task| sum.plus_scalars(&task.resources));
        self.texts_bytes = self.texts_anew();
        let ended = self.tasks.values().filter(|task| task.live.is_none());
        self.ended_bytes = ended.map(Task::ended_weight).sum();
    }

    fn demand_anew(&self) -> StateDigest {
        let mut sum = StateDigest::of(self.wants.iter().flatten().map(|want| ("want", want)));
        self.suppressed.iter().for_each(|role| sum.add(&("suppressed", role)));
        self.timers.iter().for_each(|timer| sum.add(&("timer", timer)));
        sum
    }

    pub(super) fn set_wants(&mut self, wants: Option<Vec<Want>>) {
        for want in self.wants.iter().flatten() {
            self.demand.remove(&("want", want));
            self.texts_bytes -= want.weight();
        }
        self.wants = wants;
        for want in self.wants.iter().flatten() {
            self.demand.add(&("want", want));
            self.texts_bytes += want.weight();
        }
    }

    /// One unit less of a want is wanted.
    pub(super) fn launched_for(&mut self, id: u32) {
        let mut wants = self.wants.iter_mut().flatten();
        if let Some(want) = wants.find(|want| want.id == id) {
            self.demand.remove(&("want", &*want));
            want.count = want.count.saturating_sub(1);
            self.demand.add(&("want", &*want));
        }
    }

    pub(super) fn set_suppressed(&mut self, roles: BTreeSet<Role>) {
        self.suppressed.iter().for_each(|role| self.demand.remove(&("suppressed", role)));
        self.suppressed = roles;
        self.suppressed.iter().for_each(|role| self.demand.add(&("suppressed", role)));
    }

    /// No time takes the timer away. Says whether there was one.
    pub(super) fn set_timer(&mut self, name: &str, at: Option<Timestamp>) -> bool {
        let before = self.timers.remove_entry(name);
        if let Some((name, at)) = &before {
            self.demand.remove(&("timer", (name, at)));
            self.texts_bytes -= name_weight(name);
        }
        if let Some(at) = at {
            self.demand.add(&("timer", (name, at)));
            self.texts_bytes += name_weight(name);
            self.timers.insert(name.to_owned(), at);
        }
        before.is_some()
    }

    /// Counts a task in another state than before.
    pub(super) fn count(&mut self, from: Option<TaskState>, to: TaskState) {
        if let Some(before) = from.and_then(|from| self.counts.get_mut(&from)) {
            *before = before.saturating_sub(1);
        }
        *self.counts.entry(to).or_default() += 1;
    }

    pub(super) fn mark(&self) -> impl Serialize + '_ {
        let counts =
            (self.failures, self.live as u64, self.blobs.len() as u64, self.queue.len() as u64);
        let life = (self.phase, self.incarnation, self.turns, self.next_event);
        let demand = (self.wants.is_some(), self.demand);
        ("framework", self.submission.framework, life, counts, demand, self.submission.scheduler)
    }

    /// Without what is kept as it changes.
    pub(super) fn digest_all(&self, digest: &mut StateDigest) {
        let id = self.submission.framework;
        if self.demand != self.demand_anew() {
            // So that the sum is another, whatever else is in it.
            digest.add(&("the demand that is kept is not the framework's", id));
        }
        if self.texts_bytes != self.texts_anew() {
            digest.add(&("the weight that is kept is not the framework's", id));
        }
        digest.add(&self.mark());
        self.tasks.values().for_each(|task| digest.add(&task.mark(id)));
        self.keys.iter().for_each(|(key, value)| digest.add(&("key", id, key, value)));
    }

    fn undigest_all(&self, digest: &mut StateDigest) {
        let id = self.submission.framework;
        digest.remove(&self.mark());
        self.tasks.values().for_each(|task| digest.remove(&task.mark(id)));
        self.keys.iter().for_each(|(key, value)| digest.remove(&("key", id, key, value)));
    }
}

impl State {
    /// A framework by number.
    pub fn framework(&self, id: FrameworkId) -> Option<&Framework> {
        self.frameworks.get(&id).map(Arc::as_ref)
    }

    /// All of them, in order.
    pub fn frameworks(&self) -> impl Iterator<Item = (FrameworkId, &Framework)> {
        self.frameworks.iter().map(|(id, framework)| (*id, &**framework))
    }

    /// The newest framework of that name.
    pub fn framework_named(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> Option<(FrameworkId, &Framework)> {
        let id = *self.names.get(&(tenant.clone(), name.to_owned()))?;
        Some((id, self.frameworks.get(&id)?))
    }

    /// Changes a framework (not its tasks or keys) and keeps the digest.
    pub(super) fn with_framework<T>(
        &mut self,
        id: FrameworkId,
        change: impl FnOnce(&mut Framework) -> T,
    ) -> Option<T> {
        let framework = self.frameworks.get_mut(&id).map(Arc::make_mut)?;
        self.digest.remove(&framework.mark());
        self.bytes -= framework.weight();
        let result = change(framework);
        self.bytes += framework.weight();
        self.digest.add(&framework.mark());
        Some(result)
    }

    pub(super) fn apply_submitted(&mut self, submission: &Submission) {
        let id = submission.framework;
        if self.frameworks.contains_key(&id) {
            return;
        }
        let mut framework = Framework {
            submission: submission.clone(),
            phase: FrameworkPhase::Submitted,
            message: String::new(),
            completed: None,
            incarnation: Incarnation(0),
            next_cause: StartCause::Submitted,
            instance: None,
            failures: 0,
            instance_ended_at: Timestamp(0),
            turns: TurnNumber(0),
            fuel: 0,
            keys: BTreeMap::new(),
            keys_bytes: 0,
            blobs: self.named_blobs(submission),
            outputs: VecDeque::new(),
            queue: Queue::default(),
            next_event: 0,
            timers: BTreeMap::new(),
            wants: None,
            suppressed: BTreeSet::new(),
            tasks: BTreeMap::new(),
            live: 0,
            ended: VecDeque::new(),
            counts: BTreeMap::new(),
            demand: StateDigest::default(),
            live_bytes: 0,
            live_used: Resources::default(),
            ended_bytes: 0,
            texts_bytes: 0,
            submitted_at: self.now,
            ended_at: None,
        };
        framework.texts_bytes = framework.texts_anew();
        self.bytes += framework.weight();
        self.digest.add(&framework.mark());
        self.frameworks.insert(id, Arc::new(framework));
        self.names.insert((submission.tenant.clone(), submission.name.clone()), id);
        self.last_framework = self.last_framework.max(id);
    }

    pub(super) fn apply_upgraded(&mut self, submission: &Submission) {
        let blobs = self.named_blobs(submission);
        self.void_instance(submission.framework);
        self.with_framework(submission.framework, |framework| {
            framework.submission = submission.clone();
            for (name, kept) in blobs {
                framework.blobs.entry(name).or_insert(kept);
            }
            // What is submitted is not forgotten as outputs are.
            let submitted: BTreeSet<&String> =
                submission.blobs.iter().map(|(name, _)| name).collect();
            framework.outputs.retain(|name| !submitted.contains(name));
            framework.texts_bytes = framework.texts_anew();
            framework.next_cause = StartCause::Upgraded;
            framework.failures = 0;
            framework.message = String::new();
            if framework.phase == FrameworkPhase::Held {
                framework.phase = FrameworkPhase::Submitted;
            }
        });
    }

    /// Takes the instance off its agent; nothing is counted.
    pub(super) fn void_instance(&mut self, id: FrameworkId) {
        let now = self.now;
        let known = self.frameworks.get_mut(&id).filter(|known| known.instance.is_some());
        let Some(framework) = known.map(Arc::make_mut) else { return };
        let Some(instance) = framework.instance.take() else { return };
        framework.next_cause = StartCause::NewLeader;
        framework.instance_ended_at = now;
        if let Some(holder) = framework.holder() {
            // It was taken with the same amount.
            let _balanced = self.ledger.give_back(
                instance.agent,
                holder,
                &tepui_proto::Bundle::from(instance.resources.clone()),
                instance.held_back,
            );
        }
    }

    pub(super) fn apply_instance_began(&mut self, id: FrameworkId, instance: Instance) {
        self.void_instance(id);
        if let Some(holder) = self.frameworks.get(&id).and_then(|known| known.holder()) {
            // The leader has seen that the agent has it; an overdraft would be the books', not an error.
            let _balanced = self.ledger.take(
                instance.agent,
                holder,
                &tepui_proto::Bundle::from(instance.resources.clone()),
                instance.held_back,
            );
        }
        self.with_framework(id, |framework| {
            framework.incarnation = framework.incarnation.max(instance.incarnation);
            framework.next_cause = StartCause::Restarted;
            framework.instance = Some(instance);
        });
    }

    pub(super) fn apply_instance_ended(
        &mut self,
        id: FrameworkId,
        incarnation: Incarnation,
        counted: bool,
        message: &str,
    ) {
        let current = self.frameworks.get(&id).and_then(|framework| framework.instance.as_ref());
        if current.is_none_or(|instance| instance.incarnation != incarnation) {
            return;
        }
        self.void_instance(id);
        let failures_held = self.bounds.failures_held;
        self.with_framework(id, |framework| {
            framework.next_cause = if framework.turns == TurnNumber(0) {
                StartCause::Submitted
            } else {
                StartCause::Restarted
            };
            framework.failures += u32::from(counted);
            message.clone_into(&mut framework.message);
            if framework.failures >= failures_held && framework.is_active() {
                framework.phase = FrameworkPhase::Held;
            }
        });
    }

    pub(super) fn apply_moved(&mut self, id: FrameworkId, phase: FrameworkPhase, message: &str) {
        let now = self.now;
        if self.framework(id).is_none_or(Framework::has_ended) {
            return;
        }
        if phase == FrameworkPhase::Ended {
            self.void_instance(id);
        }
        self.with_framework(id, |framework| {
            framework.phase = phase;
            if !message.is_empty() {
                message.clone_into(&mut framework.message);
            }
            if phase == FrameworkPhase::Ended {
                framework.ended_at = Some(now);
                framework.queue.clear();
                for name in framework.timers.keys().cloned().collect::<Vec<_>>() {
                    framework.set_timer(&name, None);
                }
                framework.set_wants(Some(Vec::new()));
            }
        });
        if phase == FrameworkPhase::Ended {
            self.ended_frameworks.push_back(id);
            self.forget_ended_frameworks();
        }
    }

    /// Forgets the oldest ended frameworks beyond the bound, and durable keys of those that ended long ago.
    fn forget_ended_frameworks(&mut self) {
        while self.ended_frameworks.len() > self.bounds.ended_frameworks {
            let Some(id) = self.ended_frameworks.pop_front() else { break };
            let Some(framework) = self.frameworks.remove(&id) else { continue };
            framework.undigest_all(&mut self.digest);
            self.bytes -= framework.weight();
            self.count_retained(id, framework.ended.len(), 0);
            let submission = &framework.submission;
            let name = (submission.tenant.clone(), submission.name.clone());
            if self.names.get(&name) == Some(&id) {
                self.names.remove(&name);
            }
        }
        self.forget_ended_keys();
    }

    /// Ended frameworks whose durable keys are not kept any longer.
    pub(crate) fn ended_with_old_keys(&self, now: Timestamp) -> Vec<FrameworkId> {
        let is_due = |id: &FrameworkId| {
            self.frameworks.get(id).is_some_and(|framework| {
                let ended = framework.ended_at.unwrap_or(now);
                !framework.keys.is_empty() && now.since(ended).0 > self.bounds.ended_state_ms
            })
        };
        self.ended_frameworks.iter().copied().filter(is_due).collect()
    }

    pub(super) fn forget_ended_keys(&mut self) {
        for id in self.ended_with_old_keys(self.now) {
            let Some(framework) = self.frameworks.get_mut(&id).map(Arc::make_mut) else { continue };
            self.bytes -= framework.weight();
            for (key, value) in std::mem::take(&mut framework.keys) {
                self.digest.remove(&("key", id, &key, &value));
            }
            framework.keys_bytes = 0;
            self.bytes += framework.weight();
        }
    }
}
