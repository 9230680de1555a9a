//! Between an agent and one of its cells, over the cell's Unix socket (the cell dials it and says nothing first).
//!
//! The end of the socket, from either side, is the end of the cell.

use crate::control::{LogStream, ModuleKind};
use crate::ids::{FrameworkId, Incarnation, LaunchNumber};
use crate::scheduler::{FromScheduler, Open, ToScheduler};
use crate::tasks::{Reason, TaskState, Usage};
use serde::{Deserialize, Serialize};

/// Everything that a cell needs to run a command. Paths are on the agent's machine, made by the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCommand {
    /// The task, to the agent.
    pub launch: LaunchNumber,
    /// `framework/task`, for `whoami` and for logs.
    pub task: String,
    /// The framework's number, for `whoami`.
    pub framework: FrameworkId,
    /// The agent's name, for `whoami`.
    pub agent: String,
    /// The compiled module, made on this machine.
    pub compiled: String,
    /// What it is.
    pub kind: ModuleKind,
    /// Arguments; the first is the program's name.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// The folder that the guest sees as `.` and `/`; none if it has no disk, inputs or outputs.
    pub sandbox: Option<String>,
    /// Standard output goes here; made when the first byte comes.
    pub stdout: String,
    /// Standard error goes here; made when the first byte comes.
    pub stderr: String,
    /// Kept of each.
    pub log_bytes: u64,
    /// The share of a core.
    pub cpu_milli: u64,
    /// All memories and tables together.
    pub memory_bytes: u64,
    /// The sandbox folder's size at the end.
    pub disk_bytes: u64,
    /// All it may ever burn.
    pub fuel: u64,
    /// From start to end.
    pub wall_ms: u64,
}

/// To a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CellCommand {
    /// Run a command.
    Run(Box<RunCommand>),
    /// End a command after so many milliseconds, if it has not ended by itself. Guests are not told: WASI has no signals.
    Kill {
        /// Which.
        launch: LaunchNumber,
        /// How gently.
        grace_ms: u64,
    },
    /// A message from its scheduler.
    Message {
        /// For which.
        launch: LaunchNumber,
        /// What.
        data: Vec<u8>,
    },
    /// The agent has that message on disk.
    MessageStored {
        /// Whose.
        launch: LaunchNumber,
        /// The number in [`CellEvent::Message`].
        number: u64,
    },
    /// Host a scheduler. State pages and turns follow.
    OpenScheduler {
        /// What the leader said.
        open: Open,
        /// The compiled component, made on this machine.
        compiled: String,
    },
    /// A frame of the leader's.
    Scheduler {
        /// For which.
        framework: FrameworkId,
        /// For which instance.
        incarnation: Incarnation,
        /// Never an `Open`.
        frame: ToScheduler,
    },
    /// End that instance.
    CloseScheduler {
        /// Which.
        framework: FrameworkId,
        /// Which instance.
        incarnation: Incarnation,
    },
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandEnd {
    /// `Finished`, `Failed`, `Killed`, or `Error`.
    pub state: TaskState,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// If it ended by itself.
    pub exit_code: Option<i32>,
    /// What it used.
    pub usage: Usage,
    /// Bytes written past the log limit, of standard output and standard error.
    pub log_dropped: (u64, u64),
}

/// From a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CellEvent {
    /// Its code runs. Not said of a command that ends before it first waits, logs, or sends a message: its end says it all.
    Started(LaunchNumber),
    /// Its code has ended.
    Ended {
        /// Which.
        launch: LaunchNumber,
        /// How.
        end: Box<CommandEnd>,
    },
    /// A log file has grown. Not sent for each write: while one is on its way, further growth is part of it.
    Logged {
        /// Whose.
        launch: LaunchNumber,
        /// Which.
        stream: LogStream,
        /// Its size.
        size: u64,
    },
    /// A message for its scheduler; the guest waits for [`CellCommand::MessageStored`].
    Message {
        /// Whose.
        launch: LaunchNumber,
        /// Rises per launch.
        number: u64,
        /// What.
        data: Vec<u8>,
    },
    /// A frame for the leader.
    Scheduler {
        /// From which.
        framework: FrameworkId,
        /// From which instance.
        incarnation: Incarnation,
        /// What.
        frame: FromScheduler,
    },
}
