//! Events that wait for a committed turn: updates, messages, timers, refusals, each with a sequence number.

use super::{Framework, State};
use serde::{Deserialize, Serialize};
use tepui_proto::events::{Event, Message, Refusal};
use tepui_proto::{FrameworkId, TaskId, TaskKey, TaskStatus};

/// An event that waits until a committed turn has seen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// A task's state changed.
    Update(Box<TaskStatus>),
    /// A task says something.
    Message(Message),
    /// A timer ran out.
    Timer(String),
    /// A call was refused.
    Refusal(Refusal),
}

impl Waiting {
    /// As a scheduler is told.
    pub fn to_event(&self) -> Event {
        match self {
            Self::Update(status) => Event::TaskUpdated(status.as_ref().clone()),
            Self::Message(message) => Event::Message(message.clone()),
            Self::Timer(name) => Event::Timer(name.clone()),
            Self::Refusal(refusal) => Event::Refused(refusal.clone()),
        }
    }

    /// The order of kinds within a turn.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Update(_) => 0,
            Self::Message(_) => 1,
            Self::Timer(_) => 2,
            Self::Refusal(_) => 3,
        }
    }
}

impl Framework {
    /// Puts an event at the end of the queue.
    pub(super) fn wait(&mut self, event: Waiting) {
        self.next_event += 1;
        self.queue.insert(self.next_event, event);
    }

    /// Queues a task's status. A final one always gets in; beyond the bound of the others only a task's latest is kept.
    pub(super) fn wait_update(&mut self, task: &TaskId, bound: usize) {
        let Some(record) = self.tasks.get_mut(task) else { return };
        let status = record.status.clone();
        let earlier = record.queued.filter(|_| self.queue.len() >= bound);
        if let Some(seq) = earlier {
            self.queue.remove(&seq);
        }
        record.queued = Some(self.next_event + 1);
        self.wait(Waiting::Update(Box::new(status)));
    }

    /// Takes what a committed turn has seen out of the queue.
    pub(super) fn seen(&mut self, seqs: &[u64]) {
        for seq in seqs {
            if let Some(Waiting::Update(status)) = self.queue.remove(seq)
                && let Some(task) = self.tasks.get_mut(&status.task)
                && task.queued == Some(*seq)
            {
                task.queued = None;
            }
        }
    }
}

impl State {
    pub(super) fn apply_message(&mut self, key: &TaskKey, data: &[u8]) {
        self.with_framework(key.framework, |framework| {
            framework
                .wait(Waiting::Message(Message { task: key.task.clone(), data: data.to_vec() }));
        });
    }

    pub(super) fn apply_timer(&mut self, id: FrameworkId, name: &str) {
        self.with_framework(id, |framework| {
            if framework.timers.remove(name).is_some() {
                framework.wait(Waiting::Timer(name.to_owned()));
            }
        });
    }
}
