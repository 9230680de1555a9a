//! Tasks: what a scheduler asks to be run, and what became of it.

use crate::ids::{Digest, DurationMs, TaskId, Timestamp};
use crate::{Resources, limits};
use serde::{Deserialize, Serialize};

/// How a module is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Runs to its end.
    Command,
    /// Serves until it is killed. Not offered yet: a launch is answered with [`Reason::Unsupported`].
    HttpService,
}

/// Bytes that are put into the sandbox before the task starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// `blob:NAME` or `sha256:HEX`.
    pub source: String,
    /// First byte and length; none is all.
    pub range: Option<(u64, u64)>,
    /// Where, inside the sandbox.
    pub path: String,
}

/// A file of the sandbox that is kept as a blob once the task has finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Where, inside the sandbox.
    pub path: String,
    /// The framework's name for it.
    pub blob: String,
}

/// Bounds beside a task's resources; none takes the default of [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskLimits {
    /// All the fuel that it may ever burn.
    pub fuel: Option<u64>,
    /// From its start to its end.
    pub wall_time: Option<DurationMs>,
    /// Kept of standard output and of standard error, each.
    pub log_bytes: Option<u64>,
}

/// What to do while a task's agent cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnreachable {
    /// Wait until it returns.
    Wait,
    /// End as `lost` after so long; a twin that returns later is stopped.
    LostAfter(DurationMs),
}

/// One run of one module, as its scheduler asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Unique among the framework's live and retained tasks.
    pub id: TaskId,
    /// For people.
    pub name: String,
    /// How the module is run.
    pub workload: Workload,
    /// A name from the framework's bundle, or `sha256:HEX`.
    pub module: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Standard input; none is empty.
    pub stdin: Option<Vec<u8>>,
    /// Taken from the offer.
    pub resources: Resources,
    /// Among the framework's own tasks: lower is preempted first.
    pub priority: i32,
    /// Fetched before the start.
    pub inputs: Vec<Input>,
    /// Kept after the end.
    pub outputs: Vec<Output>,
    /// Bounds.
    pub limits: TaskLimits,
    /// When its agent cannot be reached.
    pub on_unreachable: OnUnreachable,
    /// Between asking to stop and stopping.
    pub kill_grace: Option<DurationMs>,
    /// For people and tools.
    pub labels: Vec<(String, String)>,
    /// Names of what it asked for that version 1 of entries has no field for (mounts, grants, health, revocable). What
    /// this version does not do, it refuses with [`Reason::Unsupported`] rather than run without.
    pub unsupported: Vec<String>,
}

impl TaskSpec {
    /// Stands among `unsupported` if the task may be stopped at any time to serve a guarantee.
    pub const REVOCABLE: &str = "revocable";

    /// Whether the task may be stopped at any time to serve a guarantee.
    pub fn is_revocable(&self) -> bool {
        self.unsupported.iter().any(|name| name == Self::REVOCABLE)
    }

    /// A command with defaults for the rest.
    #[must_use]
    pub fn command(id: &str, module: &str, resources: Resources) -> Self {
        Self {
            id: id.into(),
            name: id.to_owned(),
            workload: Workload::Command,
            module: module.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            resources,
            priority: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            limits: TaskLimits::default(),
            on_unreachable: OnUnreachable::LostAfter(DurationMs(limits::LOST_AFTER_MS)),
            kill_grace: None,
            labels: Vec::new(),
            unsupported: Vec::new(),
        }
    }

    /// What the record takes in memory and on the wire, about: its text, and each entry of a list.
    pub fn weight(&self) -> usize {
        let entry = |bytes: usize| bytes + limits::ENTRY_BYTES;
        let pairs = self.env.iter().chain(&self.labels);
        let pairs = pairs.map(|(key, value)| entry(key.len()) + entry(value.len()));
        // The digest that its source stands for travels with an input.
        let inputs = self
            .inputs
            .iter()
            .map(|input| entry(input.source.len()) + entry(input.path.len()) + limits::ENTRY_BYTES);
        let outputs =
            self.outputs.iter().map(|output| entry(output.path.len()) + entry(output.blob.len()));
        let texts = self.args.iter().chain(&self.unsupported).map(|text| entry(text.len()));
        let lists: usize = pairs.chain(inputs).chain(outputs).chain(texts).sum();
        let own = self.id.as_str().len() + self.name.len() + self.module.len();
        own + self.stdin.as_ref().map_or(0, Vec::len) + lists + self.resources.weight()
    }

    /// Fuel with the default filled in.
    pub fn fuel(&self) -> u64 {
        self.limits.fuel.unwrap_or(limits::TASK_FUEL)
    }
    /// Wall time with the default filled in.
    pub fn wall_time(&self) -> DurationMs {
        self.limits.wall_time.unwrap_or(DurationMs(limits::TASK_WALL_MS))
    }
    /// Log bytes with the default filled in.
    pub fn log_bytes(&self) -> u64 {
        self.limits.log_bytes.unwrap_or(limits::TASK_LOG_BYTES)
    }
    /// Grace with the default filled in.
    pub fn grace(&self) -> DurationMs {
        self.kill_grace.unwrap_or(DurationMs(limits::KILL_GRACE_MS))
    }
}

/// Where a task is in its life. `Finished` to `Gone` are final and never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Committed, on its way to the agent.
    Staging,
    /// The agent has it on disk and makes its sandbox ready.
    Starting,
    /// Its code runs.
    Running,
    /// Its agent cannot be reached.
    Unreachable,
    /// It was asked to stop.
    Killing,
    /// Ended by itself with exit code 0.
    Finished,
    /// Ended otherwise by its own doing.
    Failed,
    /// Stopped on request.
    Killed,
    /// Never ran: the task was not valid.
    Error,
    /// Never ran: the offer, the agent or the module was not there.
    Dropped,
    /// Nobody knows: its agent or its record is gone.
    Lost,
    /// The operator said that its agent is gone.
    Gone,
}

impl TaskState {
    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        self >= Self::Finished
    }

    /// The legal transitions, as `wit/types.wit` lists them.
    pub fn may_become(self, next: Self) -> bool {
        use TaskState::{Killing, Running, Staging, Starting, Unreachable};
        match (self, next) {
            (from, _) if from.is_final() => false,
            (_, to) if to.is_final() => true,
            (Staging, to) => matches!(to, Starting | Running | Unreachable | Killing),
            (Starting, to) => matches!(to, Running | Unreachable | Killing),
            (Running, to) => matches!(to, Unreachable | Killing),
            (Unreachable, to) => matches!(to, Staging | Starting | Running | Killing),
            // Killing is left only for a final state; all others are final.
            (_, _) => false,
        }
    }

    /// The word that people and guests see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unreachable => "unreachable",
            Self::Killing => "killing",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Error => "error",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
            Self::Gone => "gone",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why a task is in the state that it is in. Each has a stable code and a paragraph in `docs/GUESTS.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Reason { $($(#[$doc])* $name,)* }
        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

reasons! {
    /// Nothing went wrong.
    None = "none",
    /// The program ended with an exit code other than 0.
    ExitedNonzero = "exited-nonzero",
    /// It burnt all its fuel.
    OutOfFuel = "out-of-fuel",
    /// It asked for more memory than its resources hold.
    OutOfMemory = "out-of-memory",
    /// Its recursion is too deep.
    StackExhausted = "stack-exhausted",
    /// It hit `unreachable`, a bad access, a division by zero.
    Trapped = "trapped",
    /// It ran longer than its wall time.
    WallTimeExceeded = "wall-time-exceeded",
    /// More table elements than allowed.
    TooManyTableElements = "too-many-table-elements",
    /// It opened more files or handles than allowed, and then failed.
    TooManyHandles = "too-many-handles",
    /// The module is not Wasm, or of the wrong kind.
    ModuleInvalid = "module-invalid",
    /// The module imports what it may not.
    ModuleImports = "module-imports",
    /// The cluster has no such module.
    ModuleUnknown = "module-unknown",
    /// The module took too long or too much memory to compile.
    ModuleUncompilable = "module-uncompilable",
    /// An input could not be fetched.
    InputUnavailable = "input-unavailable",
    /// An output was not there, or could not be kept.
    OutputUnavailable = "output-unavailable",
    /// A path or a file did not fit the task's disk.
    DiskExceeded = "disk-exceeded",
    /// Its cell died.
    CellDied = "cell-died",
    /// Its agent restarted and has a record of it, but no sandbox.
    AgentRestarted = "agent-restarted",
    /// Its agent began another life: its storage is gone.
    AgentReplaced = "agent-replaced",
    /// Its agent was not heard of for too long.
    AgentUnreachable = "agent-unreachable",
    /// Somebody asked for it.
    KillRequested = "kill-requested",
    /// Its framework ended.
    FrameworkEnded = "framework-ended",
    /// The offer is not held by this framework, or no longer.
    InvalidOffer = "invalid-offer",
    /// It needs more than is left of the offers that it was launched on.
    ExceedsOffer = "exceeds-offer",
    /// Its identifier is taken.
    DuplicateTask = "duplicate-task",
    /// A field is not valid; the message names it.
    InvalidTask = "invalid-task",
    /// Another task of its group could not be launched, or ended.
    GroupFailed = "group-failed",
    /// It asks for what this version does not do.
    Unsupported = "unsupported",
    /// The agent has no room for more sandboxes.
    CellFull = "cell-full",
    /// The agent failed to do its part; the message tells.
    AgentFailed = "agent-failed",
    /// Its agent is being drained.
    AgentDraining = "agent-draining",
    /// The operator says that its agent is gone.
    AgentGone = "agent-gone",
    /// A role below its guarantee needed what it held.
    Preempted = "preempted",
    /// What frameworks take of the master's memory is full, and its framework has its share of it.
    StateFull = "state-full",
}

/// What a task has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Units of fuel.
    pub fuel: u64,
    /// CPU time measured over its slices.
    pub cpu_us: u64,
    /// From start to end.
    pub wall_us: u64,
    /// The most that its memories and tables ever held.
    pub memory_bytes_peak: u64,
    /// In its sandbox folder at the end.
    pub disk_bytes: u64,
    /// Written to its logs, kept or not.
    pub log_bytes: u64,
}

/// Bytes that the cluster keeps for a framework under a name that is written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The framework's name for them.
    pub name: String,
    /// Their SHA-256.
    pub digest: Digest,
    /// How many.
    pub size_bytes: u64,
}

/// The cluster's latest word on a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Whose.
    pub task: TaskId,
    /// Where; none if it never got to an agent.
    pub agent: Option<String>,
    /// Where it is in its life.
    pub state: TaskState,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// Of a program that ended by itself.
    pub exit_code: Option<i32>,
    /// What was kept of it.
    pub outputs: Vec<Blob>,
    /// What it used so far.
    pub usage: Usage,
    /// When the leader wrote it down.
    pub at: Timestamp,
}

impl TaskStatus {
    /// What it takes in memory and in a turn, about.
    pub fn weight(&self) -> usize {
        let outputs = self.outputs.iter().map(|blob| blob.name.len() + 2 * limits::ENTRY_BYTES);
        self.task.as_str().len() + self.message.len() + outputs.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn final_states_are_never_left() {
        use TaskState::*;
        let all = [
            Staging,
            Starting,
            Running,
            Unreachable,
            Killing,
            Finished,
            Failed,
            Killed,
            Error,
            Dropped,
            Lost,
            Gone,
        ];
        for from in all.into_iter().filter(|state| state.is_final()) {
            assert!(all.into_iter().all(|to| !from.may_become(to)));
        }
    }

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        let codes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
