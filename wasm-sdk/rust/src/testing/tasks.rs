//! Tasks of the fake cluster: they run nothing, and end when the test says so.

use super::FakeCluster;
use crate::{Blob, Event, Task, TaskState, TaskStatus, Usage};

/// A task that was launched.
#[derive(Clone, Debug)]
pub struct FakeTask {
    /// As its scheduler wrote it.
    pub spec: Task,
    /// The agent that holds it.
    pub agent: String,
    /// The latest word on it.
    pub status: TaskStatus,
}

impl FakeTask {
    /// Where it is in its life.
    pub fn state(&self) -> TaskState {
        self.status.state
    }
}

/// A blob's entry. The digest only looks like one: it is a function of the bytes, but no SHA-256.
pub(super) fn blob_of(name: &str, bytes: &[u8]) -> Blob {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Blob {
        name: name.to_owned(),
        digest: format!("sha256:{hash:064x}"),
        size_bytes: bytes.len() as u64,
    }
}

/// A status with nothing in it but a state and why.
pub(super) fn status(task: &str, state: TaskState, reason: &str, at: u64) -> TaskStatus {
    TaskStatus {
        task: task.to_owned(),
        agent: None,
        state,
        reason: reason.to_owned(),
        message: String::new(),
        exit_code: None,
        healthy: None,
        endpoint: None,
        outputs: Vec::new(),
        usage: Usage {
            fuel: 0,
            cpu_us: 0,
            wall_us: 0,
            memory_bytes_peak: 0,
            disk_bytes: 0,
            log_bytes: 0,
        },
        at,
        extra: Vec::new(),
    }
}

impl FakeCluster {
    /// A task ends well. Each of its outputs becomes an empty blob.
    pub fn finish_task(&mut self, id: &str) -> &mut Self {
        self.finish_task_with(id, &[])
    }

    /// A task ends well, having written these files: paths and bytes. Outputs without a file become empty blobs.
    ///
    /// # Panics
    /// If there is no such task, it has ended, or a blob of that name exists.
    pub fn finish_task_with(&mut self, id: &str, files: &[(&str, Vec<u8>)]) -> &mut Self {
        let Some(spec) = self.spec_of(id) else { panic!("no task `{id}` was launched") };
        let mut kept = Vec::new();
        for output in spec.outputs.clone() {
            let written = files.iter().find(|(path, _)| *path == output.path);
            let bytes = written.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
            kept.push(blob_of(&output.blob, &bytes));
            let before = self.blobs.insert(output.blob.clone(), bytes);
            assert!(before.is_none(), "the blob `{}` is written twice", output.blob);
        }
        if let Some(task) = self.tasks.get_mut(id) {
            task.status.outputs = kept;
        }
        self.end_task(id, TaskState::Finished, "none", Some(0));
        self
    }

    /// Ends every live task well.
    pub fn finish_all(&mut self) -> &mut Self {
        let live: Vec<String> = self.live().into_iter().map(str::to_owned).collect();
        for id in live {
            self.finish_task(&id);
        }
        self
    }

    /// A task ends with an exit code that is not 0.
    pub fn fail_task(&mut self, id: &str) -> &mut Self {
        self.end_task(id, TaskState::Failed, "exited-nonzero", Some(1));
        self
    }

    /// A task ends in any final state, with a reason's code.
    ///
    /// # Panics
    /// If there is no such task, or it has ended already.
    pub fn end_task(
        &mut self,
        id: &str,
        state: TaskState,
        reason: &str,
        exit_code: Option<i32>,
    ) -> &mut Self {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(id) else { panic!("no task `{id}` was launched") };
        assert!(!task.status.is_final(), "the task `{id}` has ended already");
        assert!(state.is_final(), "{state:?} is not an end");
        task.status.state = state;
        reason.clone_into(&mut task.status.reason);
        task.status.exit_code = exit_code;
        task.status.at = now;
        let (status, agent, resources) =
            (task.status.clone(), task.agent.clone(), task.spec.resources.clone());
        self.waiting.push(Event::TaskUpdated(status));
        if let Some(agent) = self.agents.get_mut(&agent) {
            agent.free = agent.free.plus(&resources);
            agent.refused_until = 0;
        }
        self
    }

    pub(super) fn live_on(&self, agent: &str) -> Vec<String> {
        let live =
            self.tasks.iter().filter(|(_, task)| task.agent == agent && !task.status.is_final());
        live.map(|(id, _)| id.clone()).collect()
    }

    /// A task that never came to be.
    pub(super) fn refuse_task(&mut self, spec: &Task, state: TaskState, reason: &str) {
        let status = status(&spec.id, state, reason, self.now);
        self.refusals.push(format!("{reason}: {}", spec.id));
        self.waiting.push(Event::TaskUpdated(status));
    }

    pub(super) fn begin_task(&mut self, spec: Task, agent: &str) {
        let mut status = status(&spec.id, TaskState::Staging, "none", self.now);
        status.agent = Some(agent.to_owned());
        self.launched.push(spec.id.clone());
        let mut running = status;
        running.state = TaskState::Running;
        self.waiting.push(Event::TaskUpdated(running.clone()));
        self.tasks
            .insert(spec.id.clone(), FakeTask { spec, agent: agent.to_owned(), status: running });
    }
}
