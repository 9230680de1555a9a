//! What a scheduler says: the wire's form of `protocol.call` in `wasm-sdk/wit/scheduler.wit`.

use crate::events::Message;
use crate::ids::{DurationMs, OfferId, RequestId, Role, TaskId};
use crate::{Resources, TaskSpec, limits};
use serde::{Deserialize, Serialize};

/// A step of an acceptance.
#[expect(
    clippy::large_enum_variant,
    reason = "launches are what acceptances are made of; a box each would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Launch a task.
    Launch(TaskSpec),
    /// All or none.
    LaunchGroup(Vec<TaskSpec>),
    /// Reserve what the offers hold for a role.
    Reserve(Reservation),
    /// Undo a reservation.
    Unreserve(Reservation),
    /// Make a volume of reserved disk.
    CreateVolume(NewVolume),
    /// Make reserved disk of a volume again; what was written is lost.
    DestroyVolume(String),
}

/// What is reserved, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// For whom.
    pub role: Role,
    /// What.
    pub resources: Resources,
}

/// A disk that outlives the tasks that write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVolume {
    /// Unique on its agent.
    pub id: String,
    /// Whose.
    pub role: Role,
    /// Its size; that of one copy, if it is shared.
    pub size_bytes: u64,
    /// Whether many tasks may hold it at once.
    pub shared: bool,
}

/// All offers must be of one agent and one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Which.
    pub offers: Vec<OfferId>,
    /// In this order.
    pub operations: Vec<Operation>,
    /// How long not to offer again what is left over.
    pub refuse_for: Option<DurationMs>,
}

/// How a constraint compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// The attribute is there.
    Exists,
    /// It is not.
    Absent,
    /// Its text is the operand.
    Equals,
    /// It is not.
    Differs,
    /// Its text matches the operand, a regular expression.
    Matches,
    /// It does not.
    MatchesNot,
}

/// What an agent must be like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Constraint {
    /// A name, or `@hostname`, `@region`, `@zone`.
    pub attribute: String,
    /// How.
    pub comparison: Comparison,
    /// With what.
    pub operand: String,
}

/// So many more tasks of this size are wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Want {
    /// Comes back in `Offer::want`.
    pub id: u32,
    /// In which role.
    pub role: Role,
    /// How many.
    pub count: u32,
    /// Of this size.
    pub each: Resources,
    /// Ports for each, whichever.
    pub port_count: u32,
    /// For tasks that may be stopped at any time to serve a guarantee: from revocable pools, or from what is held for
    /// guarantees.
    pub revocable: bool,
    /// Where.
    pub constraints: Vec<Constraint>,
}

impl Want {
    /// What it takes in memory, about.
    pub fn weight(&self) -> usize {
        let texts = |constraint: &Constraint| constraint.attribute.len() + constraint.operand.len();
        let constraints = self.constraints.iter().map(|one| texts(one) + 2 * limits::ENTRY_BYTES);
        let entry = 4 * limits::ENTRY_BYTES + self.role.as_str().len();
        entry + self.each.weight() + constraints.sum::<usize>()
    }
}

/// What a scheduler asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Use offers.
    Accept(Acceptance),
    /// Give offers back.
    Decline {
        /// Which.
        offers: Vec<OfferId>,
        /// For how long they should not come again.
        refuse_for: Option<DurationMs>,
    },
    /// State what is wanted; none is anything, empty is nothing.
    Want(Option<Vec<Want>>),
    /// No offers for these roles; empty is all.
    Suppress(Vec<Role>),
    /// Offers again, and filters forgotten; empty is all.
    Revive(Vec<Role>),
    /// Stop a task.
    Kill {
        /// Which.
        task: TaskId,
        /// How gently.
        grace: Option<DurationMs>,
    },
    /// Tell these tasks' states; empty is all.
    Reconcile(Vec<TaskId>),
    /// To a task.
    Send(Message),
    /// Set or move a timer.
    SetTimer {
        /// Its name.
        name: String,
        /// From now.
        after: DurationMs,
    },
    /// Forget a timer.
    CancelTimer(String),
    /// Answer a request.
    Respond(Response),
    /// Write durable state; no value deletes.
    Put {
        /// At most [`crate::limits::KEY_BYTES`].
        key: String,
        /// At most [`crate::limits::VALUE_BYTES`].
        value: Option<Vec<u8>>,
    },
    /// The framework is done.
    Complete(Outcome),
    /// Is going to leave the agents that these inverse offers name.
    AcceptInverse(Vec<OfferId>),
    /// Is not.
    DeclineInverse {
        /// Which.
        offers: Vec<OfferId>,
        /// For how long not to be asked again.
        refuse_for: Option<DurationMs>,
    },
}

/// The answer to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Which request.
    pub id: RequestId,
    /// 200 to 599.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// At most [`crate::limits::HTTP_BODY_BYTES`].
    pub body: Vec<u8>,
}

/// How a framework ended, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether it did what it was for.
    pub success: bool,
    /// For people.
    pub message: String,
    /// Names of blobs that outlive it.
    pub results: Vec<String>,
}
