//! The two closed enums of the seam: facts in, orders out.

use tepui_proto::cell::{CellCommand, CellEvent};
use tepui_proto::control::{
    AgentMessage, Launch, LogStream, MasterMessage, ModuleKind, ModuleVerdict, Report, ReportBody,
};
use tepui_proto::scheduler::{FromScheduler, Open, SchedulerFailure, ToScheduler};
use tepui_proto::tasks::{Blob, Output};
use tepui_proto::{Digest, FrameworkId, Incarnation, LaunchNumber, Reason, Tenant};

use crate::book::Record;

/// What the shell made for a task before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The compiled module.
    pub compiled: String,
    /// The sandbox folder; none if the task needs none.
    pub sandbox: Option<String>,
    /// Where standard output goes.
    pub stdout: String,
    /// Where standard error goes.
    pub stderr: String,
}

/// Why the shell could not do its part for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The stable reason.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A control stream to a master is open.
    MasterConnected,
    /// It is gone, and with it every stream of its connection.
    MasterDisconnected,
    /// A master said something on the control stream.
    MasterSaid(MasterMessage),
    /// A tenant's cell is there and takes commands.
    CellStarted(Tenant),
    /// A tenant's cell ended, or never came up.
    CellDied {
        /// Whose.
        tenant: Tenant,
        /// How, for people.
        message: String,
    },
    /// A cell said something.
    CellSaid {
        /// Whose cell.
        tenant: Tenant,
        /// What.
        event: CellEvent,
    },
    /// The answer to [`Effect::Prepare`].
    TaskPrepared {
        /// Which.
        launch: LaunchNumber,
        /// The paths, or why there are none.
        result: Result<Prepared, Refused>,
    },
    /// The answer to [`Effect::StoreOutputs`].
    OutputsStored {
        /// Whose.
        launch: LaunchNumber,
        /// The blobs in the order of the outputs, or why not.
        result: Result<Vec<Blob>, Refused>,
    },
    /// The answer to [`Effect::CheckModule`].
    ModuleChecked {
        /// Which.
        digest: Digest,
        /// As what.
        kind: ModuleKind,
        /// What came of it.
        verdict: ModuleVerdict,
    },
    /// The disk has room for more tasks again, or has none any more.
    RoomChanged {
        /// Whether it has.
        has_room: bool,
    },
    /// The leader opened a stream for a scheduler.
    SchedulerOpened(Open),
    /// The answer to [`Effect::PrepareScheduler`].
    SchedulerPrepared {
        /// Whose.
        framework: FrameworkId,
        /// Which instance.
        incarnation: Incarnation,
        /// The compiled component, or why there is none.
        result: Result<String, (SchedulerFailure, String)>,
    },
    /// The leader said something on a scheduler's stream.
    SchedulerFrame {
        /// Whose.
        framework: FrameworkId,
        /// Which instance.
        incarnation: Incarnation,
        /// What.
        frame: ToScheduler,
    },
    /// A scheduler's stream has ended from the other side, or broke.
    SchedulerStreamEnded {
        /// Whose.
        framework: FrameworkId,
        /// Which instance.
        incarnation: Incarnation,
    },
    /// Time went by.
    Tick,
}

/// What the shell is to do, after the records of the batch are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// On the control stream.
    SendToMaster(AgentMessage),
    /// The master on the other side is not to be obeyed: hang up, and try another.
    CloseSession {
        /// Stable.
        code: &'static str,
    },
    /// Start the tenant's cell. Commands for it may follow at once; they wait for it.
    StartCell(Tenant),
    /// To a cell that was started.
    ToCell {
        /// Whose.
        tenant: Tenant,
        /// What.
        command: CellCommand,
    },
    /// Fetch and compile the module, make the sandbox, fetch the inputs.
    Prepare(Box<Launch>),
    /// Keep these files of a task's sandbox as blobs.
    StoreOutputs {
        /// Whose.
        launch: LaunchNumber,
        /// Whose that is.
        framework: FrameworkId,
        /// Which.
        outputs: Vec<Output>,
    },
    /// Fetch and compile a module, and tell whether it went well.
    CheckModule {
        /// Which.
        digest: Digest,
        /// As what.
        kind: ModuleKind,
    },
    /// Fetch and compile a scheduler's component.
    PrepareScheduler(Box<Open>),
    /// Begin to read frames from a scheduler's stream: its cell has been told of it.
    ReadSchedulerStream {
        /// Whose.
        framework: FrameworkId,
        /// Which instance.
        incarnation: Incarnation,
    },
    /// To the leader, on a scheduler's stream.
    ToSchedulerStream {
        /// Whose.
        framework: FrameworkId,
        /// Which instance.
        incarnation: Incarnation,
        /// What.
        frame: FromScheduler,
    },
    /// End a scheduler's stream, after what was written to it.
    CloseSchedulerStream {
        /// Whose.
        framework: FrameworkId,
        /// Which instance.
        incarnation: Incarnation,
    },
    /// Wake those who follow this log.
    LogGrew {
        /// Whose.
        launch: LaunchNumber,
        /// Which.
        stream: LogStream,
        /// Its size.
        size: u64,
    },
    /// Nothing more is written to the logs of this task.
    EndLogs {
        /// Whose.
        launch: LaunchNumber,
        /// Bytes that were not kept, of standard output and standard error.
        dropped: (u64, u64),
    },
    /// The sandbox folder may go, if there is one.
    RemoveSandbox(LaunchNumber),
    /// The log files may go.
    RemoveLogs(LaunchNumber),
}

/// What came of one or more inputs: records to be written down first, then orders to be carried out.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// In order; one sync for all of them.
    pub records: Vec<Record>,
    /// In order.
    pub orders: Vec<Effect>,
    /// The place in `orders` of a frame of reports that still has room, and about how many bytes it has.
    open: Option<(usize, usize)>,
}

/// About how large a frame of reports may grow: well below a frame's limit, whatever one more report adds.
pub(crate) const REPORTS_BYTES: usize = 1 << 20;

/// About how many bytes a report takes on the wire; never less than it does by more than its few text fields.
pub(crate) fn report_bytes(report: &Report) -> usize {
    128 + match &report.body {
        ReportBody::Message(data) => data.len(),
        ReportBody::Status(status) => {
            status.message.len()
                + status.outputs.iter().map(|blob| 64 + blob.name.len()).sum::<usize>()
        }
    }
}

impl Effects {
    /// Whether a record is among them that must be on disk before the orders are carried out. The others may wait for
    /// the next sync: when they are lost, the master says the same again.
    pub fn needs_sync(&self) -> bool {
        self.records.iter().any(Record::needs_sync)
    }

    /// Empties both lists for the next batch and keeps their room.
    pub fn clear(&mut self) {
        self.records.clear();
        self.orders.clear();
        self.open = None;
    }

    pub(crate) fn order(&mut self, order: Effect) {
        self.orders.push(order);
    }

    /// Adds a report to the frame of reports of this batch, or begins one.
    pub(crate) fn report(&mut self, report: Report) {
        let bytes = report_bytes(&report);
        if let Some((at, used)) = &mut self.open
            && *used + bytes <= REPORTS_BYTES
            && let Some(Effect::SendToMaster(AgentMessage::Reports(reports))) =
                self.orders.get_mut(*at)
        {
            *used += bytes;
            reports.push(report);
            return;
        }
        self.open = Some((self.orders.len(), bytes));
        self.orders.push(Effect::SendToMaster(AgentMessage::Reports(vec![report])));
    }
}
