//! Tasks: their table and their legal transitions.

use super::State;
use super::digest::StateDigest;
use crate::entry::TaskChange;
use crate::ledger::Holder;
use serde::{Deserialize, Serialize};
use tepui_proto::control::ModuleKind;
use tepui_proto::{
    AgentId, Bundle, Digest, FrameworkId, LaunchNumber, Resources, Role, TaskId, TaskKey, TaskSpec,
    TaskState, TaskStatus,
};

/// What is kept of a task only while it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Live {
    /// The module.
    pub module: Digest,
    /// What it is.
    pub kind: ModuleKind,
    /// The digests that its inputs name.
    pub inputs: Vec<Digest>,
    /// As the scheduler asked.
    pub spec: TaskSpec,
}

/// A task that lives, or one of the newest that ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// In which role it was launched.
    pub role: Role,
    /// For people.
    pub name: String,
    /// Where; none if it was never launched.
    pub agent: Option<AgentId>,
    /// Its launch there.
    pub launch: LaunchNumber,
    /// What it holds while it lives.
    pub resources: Resources,
    /// As its scheduler was last told.
    pub status: TaskStatus,
    /// None once it has ended.
    pub live: Option<Box<Live>>,
    /// The waiting event with its latest status.
    pub(crate) queued: Option<u64>,
}

impl Task {
    pub(super) fn mark(&self, framework: FrameworkId) -> impl Serialize + '_ {
        let status = (self.status.state, self.status.reason, self.status.exit_code);
        ("task", framework, &self.status.task, status, self.agent, self.launch)
    }
}

impl State {
    /// A task, live or retained.
    pub fn task(&self, key: &TaskKey) -> Option<&Task> {
        self.frameworks.get(&key.framework)?.tasks.get(&key.task)
    }

    /// Changes a task's status if the change is legal, and lets go of what an ended one held.
    pub(super) fn apply_change(&mut self, change: &TaskChange) {
        let (now, bound) = (self.now, self.bounds.waiting_updates);
        let Some(framework) = self.frameworks.get_mut(&change.framework) else { return };
        let id = &change.status.task;
        let task = framework.tasks.get(id);
        if task.is_none_or(|task| !task.status.state.may_become(change.status.state)) {
            return;
        }
        self.digest.remove(&framework.mark());
        let Some(task) = framework.tasks.get_mut(id) else { return };
        self.digest.remove(&task.mark(change.framework));
        let agent = task.status.agent.take();
        task.status = TaskStatus { at: now, agent, ..change.status.clone() };
        self.digest.add(&task.mark(change.framework));
        if change.status.state.is_final() {
            task.live = None;
            if let Some(agent) = task.agent {
                // The launch took the same amount, so it can be given back.
                let holder = Holder { role: &task.role, framework: change.framework };
                let key = TaskKey { framework: change.framework, task: id.clone() };
                let held = self.pooled.get(&key).cloned();
                let held = held.unwrap_or_else(|| Bundle::from(task.resources.clone()));
                let _balanced = self.ledger.give_back(agent, holder, &held, false);
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.launches.remove(&task.launch);
                }
            }
            let outputs = task.status.outputs.clone();
            framework.live -= 1;
            framework.keep_outputs(outputs, self.bounds.kept_outputs);
        }
        framework.wait_update(id, bound);
        self.digest.add(&framework.mark());
        if change.status.state.is_final() {
            self.forget_pooled(&TaskKey { framework: change.framework, task: id.clone() });
            self.retain_ended(change.framework, id.clone());
        }
    }

    /// Remembers an ended task, and forgets the oldest beyond the bounds.
    pub(super) fn retain_ended(&mut self, framework: FrameworkId, task: TaskId) {
        self.ended_tasks.push_back(TaskKey { framework, task: task.clone() });
        if let Some(record) = self.frameworks.get_mut(&framework) {
            record.ended.push_back(task);
            if record.ended.len() > self.bounds.ended_tasks
                && let Some(oldest) = record.ended.pop_front()
            {
                forget(record, framework, &oldest, &mut self.digest);
            }
        }
        // Entries of tasks that their framework has forgotten already are passed over.
        while self.ended_tasks.len() > self.bounds.ended_tasks_all {
            let Some(oldest) = self.ended_tasks.pop_front() else { break };
            if let Some(record) = self.frameworks.get_mut(&oldest.framework)
                && record.ended.front() == Some(&oldest.task)
            {
                record.ended.pop_front();
                forget(record, oldest.framework, &oldest.task, &mut self.digest);
            }
        }
    }
}

fn forget(
    record: &mut super::Framework,
    framework: FrameworkId,
    task: &TaskId,
    digest: &mut StateDigest,
) {
    if let Some(task) = record.tasks.remove(task) {
        digest.remove(&task.mark(framework));
    }
}

/// The status of a task as the leader decides it, on the ground of what is known.
pub(crate) fn decided(
    status: &TaskStatus,
    state: TaskState,
    reason: tepui_proto::Reason,
    message: &str,
) -> TaskStatus {
    TaskStatus { state, reason, message: message.to_owned(), ..status.clone() }
}
