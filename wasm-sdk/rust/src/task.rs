//! Tasks as their scheduler writes them, and how their statuses read.
//!
//! Builders over the contract's own records: every field stays public, so nothing is out of their reach.

use crate::wire::types::Grants;
use crate::{
    Input, Limits, OnUnreachable, Output, Resources, Task, TaskState, TaskStatus, Want, Workload,
};

/// How long a task may be out of sight before it ends as `lost`, unless it says otherwise.
const LOST_AFTER_MS: u64 = 60_000;

impl Task {
    /// A command: a WASI preview 1 module or a `wasi:cli/command` component that runs to its end. `module` is a name
    /// from the framework's bundle or `sha256:HEX`. Its resources are nothing until [`Self::cpu_milli`] and
    /// [`Self::memory_mib`] say otherwise; everything else has the cluster's defaults.
    pub fn command(id: impl Into<String>, module: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            name: id.clone(),
            id,
            workload: Workload::Command,
            module: module.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            resources: Resources::none(),
            revocable: false,
            priority: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            mounts: Vec::new(),
            limits: Limits { fuel: None, wall_time: None, log_bytes: None },
            grants: Grants { connect: Vec::new(), http: Vec::new(), secrets: Vec::new() },
            health: None,
            on_unreachable: OnUnreachable::LostAfter(LOST_AFTER_MS),
            kill_grace: None,
            labels: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Another name for people; it is the identifier otherwise.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// CPU in thousandths of a core.
    #[must_use]
    pub fn cpu_milli(mut self, cpu_milli: u64) -> Self {
        self.resources.cpu_milli = cpu_milli;
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory_mib(self, mib: u64) -> Self {
        self.memory_bytes(mib.saturating_mul(1 << 20))
    }

    /// Memory in bytes.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.resources.memory_bytes = bytes;
        self
    }

    /// Disk in MiB, for its inputs, its outputs, and what it writes besides.
    #[must_use]
    pub fn disk_mib(mut self, mib: u64) -> Self {
        self.resources.disk_bytes = mib.saturating_mul(1 << 20);
        self
    }

    /// CPU in thousandths of a core, and memory in MiB.
    #[must_use]
    pub fn size(self, cpu_milli: u64, memory_mib: u64) -> Self {
        self.cpu_milli(cpu_milli).memory_mib(memory_mib)
    }

    /// All its resources at once.
    #[must_use]
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// A whole blob, as a file at `path` in its sandbox. `source` is `blob:NAME` or `sha256:HEX`.
    #[must_use]
    pub fn input(mut self, source: impl Into<String>, path: impl Into<String>) -> Self {
        self.inputs.push(Input { source: source.into(), range: None, path: path.into() });
        self
    }

    /// `length` bytes of a blob from `first` on, as a file at `path` in its sandbox.
    #[must_use]
    pub fn input_range(
        mut self,
        source: impl Into<String>,
        first: u64,
        length: u64,
        path: impl Into<String>,
    ) -> Self {
        self.inputs.push(Input {
            source: source.into(),
            range: Some((first, length)),
            path: path.into(),
        });
        self
    }

    /// Keeps the file at `path` as the framework's blob of that name once the task has finished.
    #[must_use]
    pub fn output(mut self, path: impl Into<String>, blob: impl Into<String>) -> Self {
        self.outputs.push(Output { path: path.into(), blob: blob.into() });
        self
    }

    /// All the fuel that it may ever burn.
    #[must_use]
    pub fn fuel(mut self, fuel: u64) -> Self {
        self.limits.fuel = Some(fuel);
        self
    }

    /// How long it may run, in milliseconds.
    #[must_use]
    pub fn wall_time_ms(mut self, ms: u64) -> Self {
        self.limits.wall_time = Some(ms);
        self
    }

    /// A label for people and tools.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// About how many bytes it takes in an answer: its text and a flat share for the rest.
    pub fn answer_bytes(&self) -> usize {
        let pairs = |pairs: &[(String, String)]| {
            pairs.iter().map(|(a, b)| a.len() + b.len() + 4).sum::<usize>()
        };
        96 + self.id.len()
            + self.name.len()
            + self.module.len()
            + self.args.iter().map(|arg| arg.len() + 2).sum::<usize>()
            + pairs(&self.env)
            + pairs(&self.labels)
            + pairs(&self.extra)
            + self.stdin.as_ref().map_or(0, Vec::len)
            + self
                .inputs
                .iter()
                .map(|input| input.source.len() + input.path.len() + 24)
                .sum::<usize>()
            + self
                .outputs
                .iter()
                .map(|output| output.path.len() + output.blob.len() + 4)
                .sum::<usize>()
    }
}

impl TaskState {
    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        self >= Self::Finished
    }

    /// The word that people see.
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

impl TaskStatus {
    /// Whether nothing follows.
    pub fn is_final(&self) -> bool {
        self.state.is_final()
    }

    /// Whether it ended by itself with exit code 0.
    pub fn has_finished(&self) -> bool {
        self.state == TaskState::Finished
    }

    /// Why it is in its state, in one line for people: the state, the reason, the exit code, the message.
    pub fn describe(&self) -> String {
        let mut text = self.state.as_str().to_owned();
        if !self.reason.is_empty() && self.reason != "none" {
            text = format!("{text} ({})", self.reason);
        }
        if let Some(code) = self.exit_code {
            text = format!("{text}, exit code {code}");
        }
        if !self.message.is_empty() {
            text = format!("{text}: {}", self.message);
        }
        text
    }
}

impl Want {
    /// So many more tasks of this size, in a role, anywhere. `id` comes back in the offers that answer it.
    pub fn new(id: u32, role: impl Into<String>, count: u32, each: Resources) -> Self {
        let (port_count, revocable, constraints) = (0, false, Vec::new());
        Self { id, role: role.into(), count, each, port_count, revocable, constraints }
    }
}
