//! Entries of the log: facts and decisions, never requests to decide. One frozen shape per version.
//!
//! Applying the same entries to the same state gives the same state, on every master. Golden bytes in the tests hold
//! the shapes of version 1 still.

use crate::policy::RolePolicy;
use serde::{Deserialize, Serialize};
use tepui_proto::api::FrameworkPhase;
use tepui_proto::calls::Want;
use tepui_proto::control::ModuleKind;
use tepui_proto::events::{AttributeValue, FaultDomain, Refusal, StartCause, Unavailability};
use tepui_proto::roles::AgentMode;
use tepui_proto::{
    AgentId, Bundle, Digest, DurationMs, FrameworkId, Incarnation, LaunchNumber, Life, OfferId,
    PoolKind, ReportSeq, Resources, Role, TaskId, TaskKey, TaskSpec, TaskStatus, Tenant, Term,
    Timestamp, TurnNumber,
};

/// The version of entries that this master writes, and the newest that it reads.
///
/// Version 2 has more kinds than version 1; what version 1 had is as it was.
pub const ENTRY_VERSION: u16 = 2;

/// One committed step of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Of the shape of `kind`.
    pub version: u16,
    /// The leader's time; never goes back.
    pub at: Timestamp,
    /// What happened or was decided.
    pub kind: EntryKind,
}

/// Why bytes are not an entry that this master knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A newer master wrote it.
    #[error("an entry of version {0}; this master knows up to {ENTRY_VERSION}")]
    Version(u16),
    /// It is damaged.
    #[error("an entry of the log cannot be read")]
    Body,
}

impl Entry {
    /// As bytes.
    ///
    /// # Errors
    /// [`EntryError::Body`], if the serialiser fails.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        postcard::to_stdvec(self).map_err(|_unreadable| EntryError::Body)
    }

    /// From bytes.
    ///
    /// # Errors
    /// A version that is not known, or a body that cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let (version, _) =
            postcard::take_from_bytes::<u16>(bytes).map_err(|_unreadable| EntryError::Body)?;
        if version == 0 || version > ENTRY_VERSION {
            return Err(EntryError::Version(version));
        }
        match postcard::take_from_bytes(bytes) {
            Ok((entry, [])) => Ok(entry),
            _ => Err(EntryError::Body),
        }
    }
}

/// What happened or was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A master leads. Instances of the term before are void.
    TermBegan(Term),
    /// Bytes are on disk.
    BlobAdded {
        /// Which.
        digest: Digest,
        /// How many.
        size_bytes: u64,
    },
    /// Nothing refers to these any more, and what frameworks that ended long ago wrote down goes with them.
    BlobsForgotten(Vec<Digest>),
    /// An agent compiled and linked a module as this kind.
    ModuleAccepted {
        /// Which.
        digest: Digest,
        /// As what.
        kind: ModuleKind,
    },
    /// A tenant's framework begins.
    FrameworkSubmitted(Box<Submission>),
    /// A name was submitted again: new module, same state, same tasks.
    FrameworkUpgraded(Box<Submission>),
    /// A framework is held, stopping, ended, or running again.
    FrameworkMoved {
        /// Which.
        framework: FrameworkId,
        /// Where to.
        phase: FrameworkPhase,
        /// Why, for people.
        message: String,
    },
    /// A scheduler was placed.
    InstanceBegan {
        /// Whose.
        framework: FrameworkId,
        /// This instance.
        incarnation: Incarnation,
        /// Why.
        cause: StartCause,
        /// Where.
        agent: AgentId,
        /// What it holds there.
        resources: Resources,
        /// Whether it holds them out of what is held back for schedulers.
        held_back: bool,
    },
    /// A scheduler is no more.
    InstanceEnded {
        /// Whose.
        framework: FrameworkId,
        /// This instance.
        incarnation: Incarnation,
        /// Whether it counts as a failure of the tenant's.
        counted: bool,
        /// Why, for people.
        message: String,
    },
    /// An agent's name was seen for the first time.
    AgentAdmitted {
        /// From now on.
        agent: AgentId,
        /// From its certificate.
        name: String,
    },
    /// An agent said hello.
    AgentJoined(Box<Joined>),
    /// An agent's tasks are unreachable.
    AgentUnreachable(AgentId),
    /// Reports of an agent, all up to one.
    Reported {
        /// Whose.
        agent: AgentId,
        /// All up to this one.
        through: ReportSeq,
        /// What they changed.
        changes: Vec<TaskChange>,
        /// What tasks said.
        messages: Vec<(TaskKey, Vec<u8>)>,
    },
    /// The leader decided on states of tasks.
    TasksMoved(Vec<TaskChange>),
    /// A timer ran out.
    TimerRang {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        name: String,
    },
    /// A scheduler's turn.
    TurnCommitted(Box<Turn>),
    /// Roles' settings, as they are from now on. Since version 2, like all that follow.
    RolesSet(Vec<(Role, RolePolicy)>),
    /// What an agent has beside what anyone may use, as it said hello.
    PoolsDeclared {
        /// Which.
        agent: AgentId,
        /// Reserved by its operator, revocable, disks that cannot be split.
        pools: Vec<(PoolKind, Resources)>,
    },
    /// Whether an agent is offered, and what it is on its way to.
    AgentModeSet {
        /// Which.
        agent: AgentId,
        /// From now on.
        mode: AgentMode,
    },
    /// When an agent is to go down for maintenance.
    MaintenanceSet {
        /// Which.
        agent: AgentId,
        /// None: not at all.
        unavailability: Option<Unavailability>,
    },
    /// Something of an agent that was free became something else: reserved, no longer reserved, a volume.
    Converted(Conversion),
    /// A scheduler's turn that converted resources, or launched on what is not anyone's.
    TurnPooled(Box<PooledTurn>),
    /// An agent that was away for long, with nothing on it: as if it had never been.
    AgentForgotten(AgentId),
}

impl EntryKind {
    /// The turn that it commits, of whatever version.
    pub fn turn(&self) -> Option<&Turn> {
        match self {
            Self::TurnCommitted(turn) => Some(turn),
            Self::TurnPooled(pooled) => Some(&pooled.turn),
            _ => None,
        }
    }
}

/// A log that says that the cluster has these blobs, and has accepted some of them as modules.
pub fn of_modules(
    modules: impl IntoIterator<Item = (Digest, Option<ModuleKind>, u64)>,
) -> Vec<Entry> {
    let kinds = modules.into_iter().flat_map(|(digest, kind, size_bytes)| {
        let accepted = kind.map(|kind| EntryKind::ModuleAccepted { digest, kind });
        [EntryKind::BlobAdded { digest, size_bytes }].into_iter().chain(accepted)
    });
    kinds.map(|kind| Entry { version: ENTRY_VERSION, at: Timestamp(0), kind }).collect()
}

/// What became of resources of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// Whose.
    pub agent: AgentId,
    /// This is no more.
    pub from: Bundle,
    /// This is instead.
    pub to: Bundle,
}

/// A turn with what version 1 has no words for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PooledTurn {
    /// The turn.
    pub turn: Turn,
    /// Carried out before its launches, in order, on what its offers held.
    pub conversions: Vec<Conversion>,
    /// What its tasks hold, for those that do not hold just what anyone may use.
    pub held: Vec<(TaskId, Bundle)>,
}

/// A framework as it was submitted, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// A counter.
    pub framework: FrameworkId,
    /// Whose.
    pub tenant: Tenant,
    /// The tenant's name for it.
    pub name: String,
    /// At least one; the first pays for the scheduler.
    pub roles: Vec<Role>,
    /// The component.
    pub scheduler: Digest,
    /// By name.
    pub modules: Vec<(String, Digest)>,
    /// By name.
    pub blobs: Vec<(String, Digest)>,
    /// As the tenant wrote it.
    pub config: Vec<(String, String)>,
    /// Of the scheduler.
    pub cpu_milli: u64,
    /// Of the scheduler.
    pub memory_bytes: u64,
}

impl Submission {
    /// What it takes in memory, about.
    pub fn weight(&self) -> usize {
        let named = self.modules.iter().chain(&self.blobs).map(|(name, _)| name.len() + 64);
        let settings = self.config.iter().map(|(key, value)| key.len() + value.len() + 64);
        let roles = self.roles.iter().map(|role| role.as_str().len() + 64);
        named.chain(settings).chain(roles).sum::<usize>() + SUBMISSION_BYTES
    }
}

/// What a framework takes beside the text of its submission.
const SUBMISSION_BYTES: usize = 4 << 10;

/// An agent as it said hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Which.
    pub agent: AgentId,
    /// Its storage.
    pub life: Life,
    /// What it has, all of it.
    pub resources: Resources,
    /// Its host.
    pub hostname: String,
    /// Tepui's version there.
    pub version: String,
    /// What it is like.
    pub attributes: Vec<(String, AttributeValue)>,
    /// Where it stands.
    pub domain: Option<FaultDomain>,
    /// The highest launch that it has written down.
    pub launch_mark: LaunchNumber,
}

/// A task's new state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskChange {
    /// Whose.
    pub framework: FrameworkId,
    /// As the scheduler is told; `at` is the entry's.
    pub status: TaskStatus,
}

/// A launch that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchDecided {
    /// The offer that it was launched on.
    pub offer: OfferId,
    /// Where.
    pub agent: AgentId,
    /// Its number there.
    pub number: LaunchNumber,
    /// In which role.
    pub role: Role,
    /// The want that the offer answered.
    pub want: Option<u32>,
    /// The module.
    pub module: Digest,
    /// What it is.
    pub kind: ModuleKind,
    /// The digests that its inputs name.
    pub inputs: Vec<Digest>,
    /// As the scheduler asked.
    pub spec: TaskSpec,
}

/// A timer's place on the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerChange {
    /// It is to ring then.
    Set(String, Timestamp),
    /// It is forgotten.
    Cancel(String),
}

/// What a framework wants from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Demand {
    /// Offers whole, as they fall.
    Anything,
    /// Offers cut to these.
    Only(Vec<Want>),
}

/// How a framework ended, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// Whether it did what it was for.
    pub success: bool,
    /// In its own words.
    pub message: String,
    /// Names of its blobs that outlive it.
    pub results: Vec<String>,
}

/// All that a turn changes, committed whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Whose.
    pub framework: FrameworkId,
    /// One more than the last.
    pub number: TurnNumber,
    /// What it cost.
    pub fuel: u64,
    /// Waiting events up to this sequence number that the turn has seen.
    pub seen: Vec<u64>,
    /// In order.
    pub launches: Vec<LaunchDecided>,
    /// Tasks that were asked for and never launched, each with its final state.
    pub refused_tasks: Vec<(Role, String, TaskStatus)>,
    /// Calls that were not carried out.
    pub refusals: Vec<Refusal>,
    /// Tasks that are to be stopped, and how gently.
    pub kills: Vec<(TaskId, DurationMs)>,
    /// Tasks whose states are to be told again.
    pub reconciled: Vec<TaskId>,
    /// Durable state; no value deletes.
    pub writes: Vec<(String, Option<Vec<u8>>)>,
    /// Timers.
    pub timers: Vec<TimerChange>,
    /// What is wanted from now on, if the turn said so.
    pub wants: Option<Demand>,
    /// Roles that are suppressed from now on, if the turn changed that.
    pub suppressed: Option<Vec<Role>>,
    /// The framework is done.
    pub completed: Option<Completed>,
}
