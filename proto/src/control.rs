//! Between an agent and a master: the control stream, blob streams, and log streams.
//!
//! The agent opens the control stream (first frame [`AgentStream::Control`]) and one stream per blob. The leader
//! opens one stream per hosted scheduler and one per log that someone reads (first frame [`MasterStream`]).

use crate::events::{AttributeValue, FaultDomain};
use crate::ids::{
    Digest, DurationMs, LaunchNumber, Life, ReportSeq, TaskKey, Tenant, Term, Timestamp,
};
use crate::limits;
use crate::scheduler::Open;
use crate::{PoolKind, Resources, TaskSpec, TaskState, TaskStatus};
use serde::{Deserialize, Serialize};

/// ALPN of agents and masters.
pub const ALPN_AGENT: &[u8] = b"tepui-agent/1";

/// The first frame of a stream that an agent opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentStream {
    /// [`AgentMessage`]s follow; [`MasterMessage`]s come back. One per connection.
    Control,
    /// [`BlobChunk`]s come back.
    Fetch(Digest),
    /// [`BlobChunk`]s follow; a [`StoreAnswer`] comes back.
    Store {
        /// Of which it is an output.
        launch: LaunchNumber,
        /// What they must hash to.
        digest: Digest,
        /// How many bytes.
        size_bytes: u64,
    },
}

/// The first frame of a stream that a leader opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MasterStream {
    /// [`crate::scheduler::ToScheduler`] without its `Open` follows; [`crate::scheduler::FromScheduler`] comes back.
    Scheduler(Open),
    /// [`LogChunk`]s come back.
    Log(LogRequest),
}

/// A piece of a blob. The last one says so; a refusal ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobChunk {
    /// At most [`crate::limits::BLOB_CHUNK_BYTES`].
    Bytes(Vec<u8>),
    /// That was all.
    End,
    /// It cannot be had.
    Missing(String),
}

/// Whether a blob was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreAnswer {
    /// It is on disk.
    Stored,
    /// It is not.
    Refused(String),
}

/// Which of a task's two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A wish to read the logs of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    /// Whose.
    pub launch: LaunchNumber,
    /// Which; both if empty.
    pub streams: Vec<LogStream>,
    /// First byte of each.
    pub offset: u64,
    /// Whether to go on until the task has ended.
    pub follow: bool,
}

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogChunk {
    /// Bytes of one of the logs.
    Bytes {
        /// Which.
        stream: LogStream,
        /// Of the first byte.
        offset: u64,
        /// At most [`crate::limits::BLOB_CHUNK_BYTES`].
        bytes: Vec<u8>,
    },
    /// That was all; the numbers are bytes that the task wrote past its log limit, which were not kept.
    End {
        /// Of standard output and standard error.
        dropped: (u64, u64),
    },
    /// There are no such logs.
    Missing(String),
}

/// A task as its agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Which launch.
    pub launch: LaunchNumber,
    /// Whose task.
    pub key: TaskKey,
    /// The latest state that the agent has written down.
    pub state: TaskState,
}

/// The whole truth about an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its storage.
    pub life: Life,
    /// The highest term that it has obeyed.
    pub term: Term,
    /// Its host.
    pub hostname: String,
    /// Tepui's version.
    pub version: String,
    /// What it has that anyone may use.
    pub resources: Resources,
    /// What it has beside: reserved by its operator, revocable, disks that cannot be split.
    pub pools: Vec<(PoolKind, Resources)>,
    /// What it is like.
    pub attributes: Vec<(String, AttributeValue)>,
    /// Where it stands.
    pub domain: Option<FaultDomain>,
    /// How many tasks it can run at once.
    pub max_tasks: u32,
    /// Whether its disk has room for more of them.
    pub has_room: bool,
    /// The highest launch that it has written down.
    pub launch_mark: LaunchNumber,
    /// Tasks whose end it has not been told is committed; on the wire the first [`crate::limits::HELLO_TASKS`] of them.
    pub tasks: Vec<TaskReport>,
    /// Whether [`AgentMessage::HelloTasks`] follow with the rest.
    pub has_more_tasks: bool,
    /// Reports that wait for an acknowledgement, in order.
    pub reports: Vec<Report>,
}

impl Hello {
    /// As messages that fit frames each.
    pub fn into_pages(mut self) -> Vec<AgentMessage> {
        let mut rest = self.tasks.split_off(self.tasks.len().min(limits::HELLO_TASKS));
        self.has_more_tasks = !rest.is_empty();
        let mut pages = vec![AgentMessage::Hello(Box::new(self))];
        while !rest.is_empty() {
            let more = rest.split_off(rest.len().min(limits::HELLO_TASKS));
            let tasks = std::mem::replace(&mut rest, more);
            pages.push(AgentMessage::HelloTasks { tasks, has_more: !rest.is_empty() });
        }
        pages
    }
}

/// Something that the agent has written down and repeats until it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Rises with each, per life.
    pub seq: ReportSeq,
    /// Whose launch.
    pub launch: LaunchNumber,
    /// Whose task.
    pub key: TaskKey,
    /// What.
    pub body: ReportBody,
}

/// What is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportBody {
    /// A new state.
    Status(TaskStatus),
    /// A message to the scheduler.
    Message(Vec<u8>),
}

/// What a module is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleKind {
    /// A component that exports `tepui:framework/scheduler`.
    Scheduler,
    /// A WASI preview 1 module with `_start`.
    CommandP1,
    /// A `wasi:cli/command` component.
    CommandP2,
}

/// What came of compiling a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModuleVerdict {
    /// It compiles and links.
    Good {
        /// How long it took.
        compile_ms: u64,
    },
    /// It never will.
    Bad {
        /// Stable.
        code: String,
        /// For people.
        message: String,
    },
    /// This agent could not tell (it could not fetch it, or has no room); another may.
    Unknown(String),
}

/// From an agent, on its control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentMessage {
    /// First.
    Hello(Box<Hello>),
    /// The rest of a hello, a page at a time, before anything else.
    HelloTasks {
        /// Rising by launch.
        tasks: Vec<TaskReport>,
        /// Whether another page follows.
        has_more: bool,
    },
    /// In order.
    Reports(Vec<Report>),
    /// The answer to `CheckModule`.
    ModuleChecked {
        /// Which.
        digest: Digest,
        /// As what.
        kind: ModuleKind,
        /// What came of it.
        verdict: ModuleVerdict,
    },
    /// It is here. Sent when nothing else was for a while.
    Heartbeat,
    /// Its disk has room for more tasks again, or has none any more.
    RoomChanged {
        /// Whether it has.
        has_room: bool,
    },
    /// The operator stops it; its tasks end.
    Goodbye,
}

/// A launch that the leader has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Rises per agent.
    pub number: LaunchNumber,
    /// Whose task.
    pub key: TaskKey,
    /// Its cell is that of this tenant.
    pub tenant: Tenant,
    /// The module.
    pub module: Digest,
    /// What it is.
    pub kind: ModuleKind,
    /// The digests that `spec.inputs` name, in their order.
    pub inputs: Vec<Digest>,
    /// The rest.
    pub spec: TaskSpec,
}

impl Launch {
    /// What it takes on the wire, about, and not less.
    pub fn weight(&self) -> usize {
        // The inputs' digests are counted with their paths.
        self.spec.weight() + self.tenant.0.len() + self.key.task.as_str().len() + 256
    }
}

/// From the leader, on an agent's control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MasterMessage {
    /// The answer to `Hello`. The difference follows as ordinary messages.
    Welcome {
        /// The leader's.
        term: Term,
        /// The leader's clock.
        now: Timestamp,
        /// How often to be heard of at the least.
        heartbeat: DurationMs,
    },
    /// The connection ends; the code says why.
    Refused {
        /// Stable.
        code: String,
        /// For people.
        message: String,
        /// Whether it makes sense to come back.
        retry: bool,
    },
    /// To be written down, then started. Void unless term and life are the agent's.
    Launch {
        /// The leader's.
        term: Term,
        /// The agent's.
        life: Life,
        /// In rising order of number.
        launches: Vec<Launch>,
    },
    /// To be stopped. A launch that is not known is answered with a `lost` report.
    Kill {
        /// The leader's.
        term: Term,
        /// Which.
        launch: LaunchNumber,
        /// Whose.
        key: TaskKey,
        /// How gently.
        grace: DurationMs,
    },
    /// All reports up to this one are committed.
    Acknowledge(ReportSeq),
    /// For a task; may be lost.
    Message {
        /// Which launch.
        launch: LaunchNumber,
        /// What.
        data: Vec<u8>,
    },
    /// To be fetched and compiled; [`AgentMessage::ModuleChecked`] is the answer.
    CheckModule {
        /// Which.
        digest: Digest,
        /// As what.
        kind: ModuleKind,
    },
    /// Tasks whose end is committed: records, logs and sandboxes may go after a while.
    Forget(Vec<LaunchNumber>),
}
