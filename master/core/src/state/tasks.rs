//! Tasks: their table and their legal transitions.

use super::State;
use crate::entry::TaskChange;
use crate::ledger::Holder;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
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
    /// What the record of a live one takes.
    pub(crate) fn live_weight(&self) -> Option<usize> {
        self.live.as_ref().map(|live| live.spec.weight())
    }

    /// What the record takes once it has ended.
    pub(crate) fn ended_weight(&self) -> usize {
        self.status.weight() + self.name.len() + self.role.as_str().len()
    }

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
        let (now, bound) = (self.now, self.bounds);
        let Some(framework) = self.frameworks.get_mut(&change.framework) else { return };
        let id = &change.status.task;
        let task = framework.tasks.get(id);
        if task.is_none_or(|task| !task.status.state.may_become(change.status.state)) {
            return;
        }
        let framework = Arc::make_mut(framework);
        self.digest.remove(&framework.mark());
        self.bytes -= framework.weight();
        let Some(task) = framework.tasks.get_mut(id) else { return };
        self.digest.remove(&task.mark(change.framework));
        let agent = task.status.agent.take();
        let before = task.status.state;
        task.status = TaskStatus { at: now, agent, ..change.status.clone() };
        self.digest.add(&task.mark(change.framework));
        let ended_weight = task.ended_weight();
        if change.status.state.is_final() {
            framework.live_bytes -= task.live_weight().unwrap_or_default();
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
            framework.live_used = framework.live_used.minus_scalars(&task.resources);
            framework.keep_outputs(outputs, self.bounds.kept_outputs);
        }
        framework.count(Some(before), change.status.state);
        framework.wait_update(id, bound);
        self.bytes += framework.weight();
        self.digest.add(&framework.mark());
        if change.status.state.is_final() {
            self.forget_pooled(&TaskKey { framework: change.framework, task: id.clone() });
            self.retain_ended(change.framework, id.clone(), ended_weight);
        }
    }

    /// Remembers an ended task, and forgets beyond the bounds: the oldest of its framework, and of all together the oldest
    /// of whoever keeps the most, so that no number of others' tasks pushes out those of a framework that has few.
    pub(super) fn retain_ended(&mut self, framework: FrameworkId, task: TaskId, weight: usize) {
        let Some(record) = self.frameworks.get_mut(&framework).map(Arc::make_mut) else { return };
        self.bytes -= record.weight();
        record.ended_bytes += weight;
        record.ended.push_back(task);
        self.bytes += record.weight();
        let kept = record.ended.len();
        self.count_retained(framework, kept - 1, kept);
        while let Some(record) = self.frameworks.get(&framework)
            && (record.ended.len() > self.bounds.ended_tasks
                || record.ended_bytes > self.bounds.ended_task_bytes)
            && record.ended.len() > 1
            && self.forget_oldest(framework)
        {}
        while self.retained > self.bounds.ended_tasks_all
            && let Some((_, most)) = self.retainers.last().copied()
            && self.forget_oldest(most)
        {}
    }

    /// Forgets the task of a framework that ended first; false if there is none.
    fn forget_oldest(&mut self, id: FrameworkId) -> bool {
        let Some(record) = self.frameworks.get_mut(&id).map(Arc::make_mut) else { return false };
        let before = record.weight();
        let Some(oldest) = record.ended.pop_front() else { return false };
        let kept = record.ended.len();
        if let Some(task) = record.tasks.remove(&oldest) {
            record.ended_bytes -= task.ended_weight();
            self.digest.remove(&task.mark(id));
        }
        self.bytes = self.bytes - before + record.weight();
        self.count_retained(id, kept + 1, kept);
        true
    }

    /// A framework that kept so many ended tasks keeps so many now.
    pub(super) fn count_retained(&mut self, id: FrameworkId, before: usize, now: usize) {
        self.retained = self.retained - before + now;
        self.retainers.remove(&(before, id));
        if now > 0 {
            self.retainers.insert((now, id));
        }
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
