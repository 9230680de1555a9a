//! The cluster's durable state: what every master agrees on.
//!
//! Owns tenants' frameworks with their durable keys and waiting events, tasks, agents, blobs, modules. Changes
//! only by [`State::apply`], which never refuses: what does not fit the state is passed over, the same way everywhere.
//! Its one surprise: the digest is kept as the state changes, a sum over objects, so comparing it costs nothing.

mod agents;
mod blobs;
mod digest;
mod frameworks;
mod frozen;
mod provisions;
mod queue;
mod tasks;
mod turns;
mod weight;

pub use agents::Agent;
pub use blobs::KeptBlob;
pub use frameworks::{Framework, Instance};
pub use frozen::{Frozen, FrozenError};
pub use provisions::Provision;
pub(crate) use queue::EVENT_BYTES;
pub use queue::{Class, Count, Queue, Waiting};
pub(crate) use tasks::decided;
pub use tasks::{Live, Task};
pub(crate) use weight::{KEY_BYTES, TASK_BYTES, name_weight};

use crate::entry::{self, Entry, EntryKind};
use crate::ledger::{Holder, Ledger};
use crate::policy::Policy;
use digest::StateDigest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tepui_proto::control::ModuleKind;
use tepui_proto::{AgentId, Bundle, Digest, FrameworkId, TaskKey, Tenant, Term, Timestamp, limits};

/// The version of snapshots that this master writes and reads. Nothing was deployed with an earlier one.
const SNAPSHOT_VERSION: u16 = 4;

/// Bounds that `apply` uses; in the state, so that masters of different builds agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Ended tasks kept per framework.
    pub ended_tasks: usize,
    /// Ended tasks kept in all.
    pub ended_tasks_all: usize,
    /// Ended frameworks kept.
    pub ended_frameworks: usize,
    /// Waiting updates of one framework beyond which only a task's latest is kept ...
    pub waiting_updates: usize,
    /// ... and the same in bytes.
    pub waiting_update_bytes: usize,
    /// Records of ended tasks kept per framework, in bytes.
    pub ended_task_bytes: usize,
    /// Counted failures in a row after which a framework is held.
    pub failures_held: u32,
    /// Names of outputs that a framework keeps.
    pub kept_outputs: usize,
    /// How long durable keys of an ended framework are kept, in milliseconds.
    pub ended_state_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            ended_tasks: limits::ENDED_TASKS,
            ended_tasks_all: limits::ENDED_TASKS_ALL,
            ended_frameworks: limits::ENDED_FRAMEWORKS,
            waiting_updates: limits::WAITING_UPDATES,
            waiting_update_bytes: limits::WAITING_UPDATE_BYTES,
            ended_task_bytes: limits::ENDED_TASK_BYTES,
            failures_held: limits::FAILURES_HELD,
            kept_outputs: limits::KEPT_OUTPUTS,
            ended_state_ms: limits::ENDED_STATE_MS,
        }
    }
}

/// A blob that the cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// How many bytes.
    pub size_bytes: u64,
    /// When it was added.
    pub at: Timestamp,
}

/// Why a snapshot could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another version.
    #[error("a snapshot of version {0}; this master reads {SNAPSHOT_VERSION}")]
    Version(u16),
    /// Damaged.
    #[error("a snapshot cannot be read")]
    Body,
}

/// The state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    version: u16,
    pub(crate) term: Term,
    pub(crate) now: Timestamp,
    pub(crate) bounds: Bounds,
    /// Each shared with a snapshot that is being written, until it is changed.
    #[serde(with = "frozen::shared")]
    pub(crate) frameworks: BTreeMap<FrameworkId, Arc<Framework>>,
    /// The newest framework of that name.
    pub(crate) names: BTreeMap<(Tenant, String), FrameworkId>,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) agent_names: BTreeMap<String, AgentId>,
    pub(crate) blobs: BTreeMap<Digest, BlobRecord>,
    pub(crate) modules: BTreeSet<(Digest, ModuleKind)>,
    /// Oldest first.
    pub(crate) ended_frameworks: VecDeque<FrameworkId>,
    pub(crate) last_framework: FrameworkId,
    pub(crate) last_agent: AgentId,
    digest: StateDigest,
    pub(crate) policy: Policy,
    /// What was made of agents; who is not here is as it says itself.
    pub(crate) provisions: BTreeMap<AgentId, Provision>,
    /// What tasks hold that do not hold just what anyone may use.
    pooled: BTreeMap<TaskKey, Bundle>,
    /// What is used follows from tasks and instances; what is offered is the mind's.
    #[serde(skip)]
    pub(crate) ledger: Ledger,
    /// How many ended tasks are kept; follows from the frameworks.
    #[serde(skip)]
    pub(crate) retained: usize,
    /// Who keeps so many of them, the most last; follows from the frameworks.
    #[serde(skip)]
    pub(crate) retainers: BTreeSet<(usize, FrameworkId)>,
    /// What all frameworks take, about; follows from them.
    #[serde(skip)]
    pub(crate) bytes: usize,
}

impl State {
    /// An empty cluster.
    pub fn new() -> Self {
        Self { version: SNAPSHOT_VERSION, ..Self::default() }
    }

    /// A cluster that has these blobs, and has accepted some of them as modules: what simulations begin with.
    pub fn with_modules(
        modules: impl IntoIterator<Item = (Digest, Option<ModuleKind>, u64)>,
    ) -> Self {
        let mut state = Self::new();
        for entry in &entry::of_modules(modules) {
            state.apply(entry);
        }
        state
    }

    /// From a snapshot. Offers that were out are free again.
    ///
    /// # Errors
    /// Another version, or damage.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (version, _) =
            postcard::take_from_bytes::<u16>(bytes).map_err(|_unreadable| StateError::Body)?;
        if version != SNAPSHOT_VERSION {
            return Err(StateError::Version(version));
        }
        let mut state: Self =
            postcard::from_bytes(bytes).map_err(|_unreadable| StateError::Body)?;
        state.frameworks.values_mut().map(Arc::make_mut).for_each(Framework::recount);
        state.retainers = state.counted_retainers();
        state.retained = state.retainers.iter().map(|(kept, _)| kept).sum();
        state.bytes = state.frameworks.values().map(|framework| framework.weight()).sum();
        state.rebuild_ledger().ok_or(StateError::Body)?;
        Ok(state)
    }

    /// As a snapshot.
    ///
    /// # Errors
    /// [`StateError::Body`], if the serialiser fails.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        postcard::to_stdvec(self).map_err(|_unreadable| StateError::Body)
    }

    /// A sum over all objects. Masters at the same index have the same one.
    pub fn digest(&self) -> u128 {
        self.digest.sum()
    }

    /// The last term that began.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The time of the last entry.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Who holds what of each agent.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What operators set for roles.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn counted_retainers(&self) -> BTreeSet<(usize, FrameworkId)> {
        let ended = self.frameworks.iter().map(|(id, framework)| (framework.ended.len(), *id));
        ended.filter(|(kept, _)| *kept > 0).collect()
    }

    fn rebuild_ledger(&mut self) -> Option<()> {
        self.ledger = Ledger::default();
        for id in self.agents.keys().copied().collect::<Vec<_>>() {
            self.settle_total(id);
        }
        let mut ledger = std::mem::take(&mut self.ledger);
        for framework in self.frameworks.values() {
            for (id, task) in framework.tasks.iter().filter(|(_, task)| task.live.is_some()) {
                if let Some(agent) = task.agent {
                    let holder =
                        Holder { role: &task.role, framework: framework.submission.framework };
                    let key = TaskKey { framework: holder.framework, task: id.clone() };
                    let held = self.held_by(&key, &task.resources);
                    ledger.take(agent, holder, &held, false).ok()?;
                }
            }
            if let (Some(instance), Some(holder)) = (&framework.instance, framework.holder()) {
                ledger
                    .take(
                        instance.agent,
                        holder,
                        &Bundle::from(instance.resources.clone()),
                        instance.held_back,
                    )
                    .ok()?;
            }
        }
        self.ledger = ledger;
        Some(())
    }

    /// Takes one committed step.
    pub fn apply(&mut self, entry: &Entry) {
        self.now = self.now.max(entry.at);
        match &entry.kind {
            EntryKind::TermBegan(term) => self.apply_term(*term),
            EntryKind::BlobAdded { digest, size_bytes } => {
                let record = BlobRecord { size_bytes: *size_bytes, at: self.now };
                if self.blobs.insert(*digest, record).is_none() {
                    self.digest.add(&("blob", digest, size_bytes));
                }
            }
            EntryKind::BlobsForgotten(digests) => self.forget_blobs(digests),
            EntryKind::ModuleAccepted { digest, kind } => {
                if self.modules.insert((*digest, *kind)) {
                    self.digest.add(&("module", digest, kind));
                }
            }
            EntryKind::FrameworkSubmitted(submission) => self.apply_submitted(submission),
            EntryKind::FrameworkUpgraded(submission) => self.apply_upgraded(submission),
            EntryKind::FrameworkMoved { framework, phase, message } => {
                self.apply_moved(*framework, *phase, message);
            }
            EntryKind::InstanceBegan {
                framework,
                incarnation,
                cause,
                agent,
                resources,
                held_back,
            } => {
                let instance = Instance {
                    agent: *agent,
                    incarnation: *incarnation,
                    cause: *cause,
                    resources: resources.clone(),
                    held_back: *held_back,
                    has_begun: false,
                };
                self.apply_instance_began(*framework, instance);
            }
            EntryKind::InstanceEnded { framework, incarnation, counted, message } => {
                self.apply_instance_ended(*framework, *incarnation, *counted, message);
            }
            EntryKind::AgentAdmitted { agent, name } => self.apply_admitted(*agent, name),
            EntryKind::AgentJoined(joined) => self.apply_joined(joined),
            EntryKind::AgentUnreachable(agent) => self.apply_unreachable(*agent),
            EntryKind::AgentForgotten(agent) => self.apply_forgotten(*agent),
            EntryKind::Reported { agent, through, changes, messages } => {
                self.apply_reported(*agent, *through);
                for change in changes {
                    self.apply_change(change);
                }
                for (key, data) in messages {
                    self.apply_message(key, data);
                }
            }
            EntryKind::TasksMoved(changes) => {
                for change in changes {
                    self.apply_change(change);
                }
            }
            EntryKind::TimerRang { framework, name } => self.apply_timer(*framework, name),
            EntryKind::TurnCommitted(turn) => self.apply_turn(turn),
            EntryKind::RolesSet(_)
            | EntryKind::PoolsDeclared { .. }
            | EntryKind::AgentModeSet { .. }
            | EntryKind::MaintenanceSet { .. }
            | EntryKind::Converted(_) => self.apply_provision(&entry.kind),
            EntryKind::TurnPooled(pooled) => self.apply_pooled_turn(pooled),
        }
    }

    /// What operators have set, and what has become of agents' resources.
    fn apply_provision(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::RolesSet(roles) => self.apply_roles(roles),
            EntryKind::PoolsDeclared { agent, pools } => self.apply_pools(*agent, pools),
            EntryKind::AgentModeSet { agent, mode } => self.apply_mode(*agent, *mode),
            EntryKind::MaintenanceSet { agent, unavailability } => {
                self.apply_maintenance(*agent, *unavailability);
            }
            EntryKind::Converted(conversion) => self.apply_conversion(conversion),
            _ => {}
        }
    }

    fn forget_blobs(&mut self, digests: &[Digest]) {
        for digest in digests {
            if let Some(record) = self.blobs.remove(digest) {
                self.digest.remove(&("blob", digest, &record.size_bytes));
            }
            self.forget_modules(*digest);
        }
        self.forget_ended_keys();
    }

    fn forget_modules(&mut self, digest: Digest) {
        let kinds: Vec<ModuleKind> =
            self.modules.iter().filter(|(d, _)| *d == digest).map(|(_, kind)| *kind).collect();
        for kind in kinds {
            self.modules.remove(&(digest, kind));
            self.digest.remove(&("module", &digest, &kind));
        }
    }

    fn apply_term(&mut self, term: Term) {
        if term <= self.term {
            return;
        }
        if self.term != Term(0) {
            self.digest.remove(&("term", &self.term));
        }
        self.term = term;
        self.digest.add(&("term", &self.term));
        let ids: Vec<FrameworkId> = self.frameworks.keys().copied().collect();
        for id in ids {
            self.void_instance(id);
        }
    }

    /// The digest, summed anew: what the kept one must equal.
    pub fn recount_digest(&self) -> u128 {
        let mut fresh = StateDigest::default();
        if self.term != Term(0) {
            fresh.add(&("term", &self.term));
        }
        for (digest, record) in &self.blobs {
            fresh.add(&("blob", digest, &record.size_bytes));
        }
        for (digest, kind) in &self.modules {
            fresh.add(&("module", digest, kind));
        }
        for framework in self.frameworks.values() {
            framework.digest_all(&mut fresh);
        }
        if self.bytes != self.frameworks.values().map(|framework| framework.weight()).sum::<usize>()
        {
            // As for the demand of a framework.
            fresh.add(&"the sum of what frameworks take is not kept");
        }
        let retained = self.retainers.iter().map(|(kept, _)| kept).sum::<usize>();
        if self.retainers != self.counted_retainers() || self.retained != retained {
            fresh.add(&"the numbers of ended tasks are not kept");
        }
        for (id, agent) in &self.agents {
            fresh.add(&agent.mark(*id));
        }
        self.digest_provisions(&mut fresh);
        fresh.sum()
    }
}
