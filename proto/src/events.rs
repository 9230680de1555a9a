//! What a scheduler is told: the wire's form of `protocol.event` in `wasm-sdk/wit/scheduler.wit`.

use crate::ids::{
    AgentHandle, DurationMs, FrameworkId, OfferId, RequestId, Role, TaskId, Timestamp, TurnNumber,
};
use crate::tasks::Blob;
use crate::{PoolKind, Resources, TaskStatus};
use serde::{Deserialize, Serialize};

/// Why an instance begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartCause {
    /// The framework was submitted.
    Submitted,
    /// Scheduler, cell or agent was lost, or a turn was not committed.
    Restarted,
    /// Another master leads: earlier offers and requests are void.
    NewLeader,
    /// The tenant submitted a new version.
    Upgraded,
}

/// The first event of every instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Why.
    pub cause: StartCause,
    /// Who it is.
    pub framework: FrameworkId,
    /// `Offer::role` counts in this list.
    pub roles: Vec<Role>,
    /// Settings as the tenant wrote them.
    pub config: Vec<(String, String)>,
    /// Submitted with it, and put out by its tasks since.
    pub blobs: Vec<Blob>,
}

/// An attribute of an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttributeValue {
    /// Text.
    Text(String),
    /// A number in thousandths.
    Milli(i64),
    /// Inclusive ranges.
    Ranges(Vec<(u64, u64)>),
}

/// Region and zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultDomain {
    /// Fails rarely.
    pub region: String,
    /// Fails sometimes.
    pub zone: String,
}

/// When an agent is to go down for maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unavailability {
    /// From when on.
    pub start: Timestamp,
    /// For how long; none is until further notice.
    pub length: Option<DurationMs>,
}

/// Asks a framework to leave an agent. The answer is advice, and moves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InverseOffer {
    /// Never that of another offer.
    pub id: OfferId,
    /// Which agent.
    pub agent: AgentHandle,
    /// Why.
    pub unavailability: Unavailability,
}

/// Told before the first offer of an agent, and again when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// What offers call it within this incarnation.
    pub handle: AgentHandle,
    /// Its name.
    pub id: String,
    /// Its host.
    pub hostname: String,
    /// Where it stands.
    pub domain: Option<FaultDomain>,
    /// By name.
    pub attributes: Vec<(String, AttributeValue)>,
    /// When it is to go down, if it is.
    pub unavailability: Option<Unavailability>,
}

/// Resources of one agent, held for this framework and one role until answered or expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Never that of another offer.
    pub id: OfferId,
    /// Where.
    pub agent: AgentHandle,
    /// An index into `Start::roles`.
    pub role: u32,
    /// The want that it answers.
    pub want: Option<u32>,
    /// What of it anyone may use.
    pub resources: Resources,
    /// The rest: reserved, revocable, volumes, disks that cannot be split.
    pub pools: Vec<(PoolKind, Resources)>,
    /// When it is taken back.
    pub expires: Timestamp,
}

/// A request to the framework's own HTTP address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// To be named in the response.
    pub id: RequestId,
    /// `GET`, `POST`, ...
    pub method: String,
    /// With the query, from `/`.
    pub path: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    /// At most [`crate::limits::HTTP_BODY_BYTES`].
    pub body: Vec<u8>,
}

/// A call that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The turn that made the call.
    pub turn: TurnNumber,
    /// Its place in that turn's answer.
    pub index: u32,
    /// Stable.
    pub code: String,
    /// For people.
    pub message: String,
}

/// A message from a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// From or to whom.
    pub task: TaskId,
    /// At most [`crate::limits::MESSAGE_BYTES`].
    pub data: Vec<u8>,
}

/// What happened. Within a turn the cases stand in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// First of every instance.
    Started(Start),
    /// Every task that is not final, a page at a time.
    Tasks {
        /// This page.
        tasks: Vec<TaskStatus>,
        /// Whether it is the last.
        last: bool,
    },
    /// A task's state changed.
    TaskUpdated(TaskStatus),
    /// A task says something.
    Message(Message),
    /// A timer ran out.
    Timer(String),
    /// A call was refused.
    Refused(Refusal),
    /// An agent that was offered or used is lost.
    AgentLost(String),
    /// Agents that offers name.
    Agents(Vec<AgentInfo>),
    /// Offers that were taken back.
    Rescinded(Vec<OfferId>),
    /// Agents that are to be left.
    InverseOffers(Vec<InverseOffer>),
    /// New offers.
    Offers(Vec<Offer>),
    /// An HTTP request.
    Request(Request),
}
