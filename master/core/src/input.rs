//! Facts from outside, in the past tense. The closed list of all that can happen to a leader.

use tepui_proto::api::FrameworkSpec;
use tepui_proto::control::{Hello, ModuleKind, ModuleVerdict, Report};
use tepui_proto::events::{Request, Unavailability};
use tepui_proto::roles::{AgentMode, AgentOperation, RoleChange};
use tepui_proto::scheduler::FromScheduler;
use tepui_proto::{Digest, FrameworkId, Incarnation, Tenant, Term};

/// One connection of one agent; the shell counts them and never uses a number twice in a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A question that the shell waits to have answered with [`crate::Effect::Reply`]. Counted by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// This master leads from now on. The first input of a leader.
    TermWon(Term),
    /// An agent has said hello on a new connection; the name is that of its certificate.
    AgentConnected {
        /// The connection.
        connection: ConnectionId,
        /// From the certificate.
        name: String,
        /// What it said.
        hello: Box<Hello>,
    },
    /// A connection is no more.
    AgentDisconnected(ConnectionId),
    /// Something was heard on a connection that is not an input by itself.
    AgentHeard(ConnectionId),
    /// An agent's disk has room for more tasks again, or has none any more.
    AgentRoomChanged {
        /// Over which connection.
        connection: ConnectionId,
        /// Whether it has.
        has_room: bool,
    },
    /// The operator stopped that agent.
    AgentSaidGoodbye(ConnectionId),
    /// Reports came in.
    Reported {
        /// Over which connection.
        connection: ConnectionId,
        /// In order.
        reports: Vec<Report>,
    },
    /// An agent has compiled a module, or has not.
    ModuleChecked {
        /// Over which connection.
        connection: ConnectionId,
        /// Which module.
        digest: Digest,
        /// As what.
        kind: ModuleKind,
        /// What came of it.
        verdict: ModuleVerdict,
    },
    /// A scheduler's stream brought a frame.
    SchedulerSaid {
        /// Whose.
        framework: FrameworkId,
        /// The instance that the stream was opened for.
        incarnation: Incarnation,
        /// What it said.
        frame: FromScheduler,
    },
    /// A scheduler's stream ended without a word.
    SchedulerStreamEnded {
        /// Whose.
        framework: FrameworkId,
        /// The instance that the stream was opened for.
        incarnation: Incarnation,
    },
    /// A tenant submitted a framework. The shell has looked into each module already.
    FrameworkSubmitted {
        /// Answered with [`crate::ReplyBody::Framework`].
        ticket: Ticket,
        /// Who.
        tenant: Tenant,
        /// What.
        spec: Box<FrameworkSpec>,
        /// What each module of the specification is, by the shell's look at its structure.
        kinds: Vec<(Digest, ModuleKind)>,
    },
    /// A tenant wants a framework stopped. Answered with [`crate::ReplyBody::Done`].
    FrameworkStopRequested {
        /// To be answered.
        ticket: Ticket,
        /// Who.
        tenant: Tenant,
        /// Which.
        name: String,
    },
    /// A tenant wants a module judged. Answered with [`crate::ReplyBody::Done`].
    ModuleCheckRequested {
        /// To be answered.
        ticket: Ticket,
        /// Which.
        digest: Digest,
        /// As what.
        kind: ModuleKind,
    },
    /// A blob is on disk. Answered with [`crate::ReplyBody::Done`].
    BlobStored {
        /// To be answered.
        ticket: Ticket,
        /// Which.
        digest: Digest,
        /// How many bytes.
        size_bytes: u64,
    },
    /// Somebody was told that the cluster has this blob, and may count on it for a while.
    BlobAskedFor(Digest),
    /// A tenant wants a task stopped. Answered with [`crate::ReplyBody::Done`].
    TaskKillRequested {
        /// To be answered.
        ticket: Ticket,
        /// Who.
        tenant: Tenant,
        /// The framework's name.
        framework: String,
        /// The task.
        task: String,
    },
    /// Somebody called a framework's HTTP address. Answered with [`crate::ReplyBody::Response`].
    RequestReceived {
        /// To be answered; becomes the request's id.
        ticket: Ticket,
        /// Who.
        tenant: Tenant,
        /// The framework's name.
        framework: String,
        /// What; its id is overwritten.
        request: Box<Request>,
    },
    /// An operator changes settings of roles, all or nothing. Answered with [`crate::ReplyBody::Done`].
    RolesChanged {
        /// To be answered.
        ticket: Ticket,
        /// Each role at most once.
        changes: Vec<RoleChange>,
        /// Whether limits below what is used, and guarantees beyond what there is, are taken.
        force: bool,
    },
    /// An operator changes whether an agent is offered. Answered with [`crate::ReplyBody::Done`].
    AgentModeRequested {
        /// To be answered.
        ticket: Ticket,
        /// Its name.
        agent: String,
        /// From now on.
        mode: AgentMode,
    },
    /// An operator says when an agent is to go down. Answered with [`crate::ReplyBody::Done`].
    MaintenanceRequested {
        /// To be answered.
        ticket: Ticket,
        /// Its name.
        agent: String,
        /// None: not at all.
        unavailability: Option<Unavailability>,
    },
    /// An operator reserves what is free of an agent, or makes volumes. Answered with [`crate::ReplyBody::Done`].
    OperationRequested {
        /// To be answered.
        ticket: Ticket,
        /// Its name.
        agent: String,
        /// What.
        operation: AgentOperation,
    },
    /// Whoever waited for that ticket has gone.
    Abandoned(Ticket),
}
