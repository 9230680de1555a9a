//! The stream of one hosted scheduler: the leader opens it, tells everything, then sends a turn at a time.
//!
//! The leader writes [`ToScheduler`]: `Open`, state pages until `last`, then turns. The agent writes
//! [`FromScheduler`]. The end of the stream, from either side, is the end of that instance.

use crate::ids::{Digest, FrameworkId, Incarnation, Tenant, Term, Timestamp, TurnNumber};
use crate::{Call, Event};
use serde::{Deserialize, Serialize};

/// Which turn of which instance under which leader. An answer counts only if all parts are the expected ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnMark {
    /// The leader's.
    pub term: Term,
    /// The instance.
    pub incarnation: Incarnation,
    /// One more than the last committed turn.
    pub number: TurnNumber,
}

/// Everything that an agent needs to host a scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Whose scheduler.
    pub framework: FrameworkId,
    /// Its cell is that of this tenant.
    pub tenant: Tenant,
    /// For logs.
    pub name: String,
    /// The leader's.
    pub term: Term,
    /// This instance.
    pub incarnation: Incarnation,
    /// The component.
    pub module: Digest,
    /// Memory of the instance.
    pub memory_bytes: u64,
    /// Fuel of a turn.
    pub turn_fuel: u64,
    /// Wall time of a turn, in milliseconds.
    pub turn_wall_ms: u64,
}

/// From the leader to the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToScheduler {
    /// First.
    Open(Open),
    /// Then the durable state, a page at a time, at least one.
    State {
        /// Keys and values.
        pairs: Vec<(String, Vec<u8>)>,
        /// Whether it is the last page.
        last: bool,
    },
    /// Then turns. A turn with number n + 1 says that turn n was committed.
    Turn {
        /// Which.
        mark: TurnMark,
        /// The guest's only clock.
        now: Timestamp,
        /// The guest's only chance: a hash of framework, incarnation and turn.
        seed: u64,
        /// At most [`crate::limits::TURN_EVENTS`].
        events: Vec<Event>,
    },
}

/// What a turn cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TurnUsage {
    /// Units.
    pub fuel: u64,
    /// Measured.
    pub cpu_us: u64,
    /// The instance's memory after the turn.
    pub memory_bytes: u64,
}

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Everything.
    Trace,
    /// For its author.
    Debug,
    /// For its tenant.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}

/// Why an instance ended or never began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchedulerFailure {
    /// It trapped.
    Trapped,
    /// It burnt the fuel of a turn.
    OutOfFuel,
    /// It asked for more memory than it has.
    OutOfMemory,
    /// Its recursion is too deep.
    StackExhausted,
    /// It ran over the wall time of a turn.
    TooSlow,
    /// Its answer is larger than [`crate::limits::ANSWER_BYTES`] or holds more than [`crate::limits::CALLS`].
    AnswerTooLarge,
    /// Its module could not be fetched, compiled, or linked.
    Module,
    /// Its cell died.
    CellDied,
    /// The agent failed, or cannot host another one.
    Agent,
}

impl SchedulerFailure {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Trapped => "trapped",
            Self::OutOfFuel => "out-of-fuel",
            Self::OutOfMemory => "out-of-memory",
            Self::StackExhausted => "stack-exhausted",
            Self::TooSlow => "turn-too-slow",
            Self::AnswerTooLarge => "answer-too-large",
            Self::Module => "module-invalid",
            Self::CellDied => "cell-died",
            Self::Agent => "agent-failed",
        }
    }
    /// Whether it is the tenant's own doing, so that a run of them holds the framework.
    pub fn is_tenants(self) -> bool {
        !matches!(self, Self::CellDied | Self::Agent)
    }
}

/// From the instance to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromScheduler {
    /// The answer to a turn.
    Answer {
        /// Which.
        mark: TurnMark,
        /// In order.
        calls: Vec<Call>,
        /// What it cost.
        usage: TurnUsage,
        /// What it logged; cut at [`crate::limits::TURN_LOG_BYTES`].
        log: Vec<(Level, String)>,
        /// Whether the instance was dropped after this turn (its memory past three quarters), so that the next
        /// turn needs a new incarnation.
        dropped: bool,
    },
    /// The instance is no more. Nothing follows.
    Failed {
        /// During which turn, if any.
        mark: Option<TurnMark>,
        /// Why.
        failure: SchedulerFailure,
        /// For people.
        message: String,
        /// What it logged in the turn that failed.
        log: Vec<(Level, String)>,
    },
}
