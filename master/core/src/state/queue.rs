//! Events that wait for a committed turn: updates, messages, timers, refusals, each with a sequence number.
//!
//! Each class of them is counted, in entries and bytes, so that the leader can refuse what would lead to too many.

use super::{Bounds, Framework, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

    /// What it takes in memory and in a turn, about.
    pub fn weight(&self) -> usize {
        let text = match self {
            Self::Update(status) => status.weight(),
            Self::Message(message) => message.task.as_str().len() + message.data.len(),
            Self::Timer(name) => name.len(),
            Self::Refusal(refusal) => refusal.code.len() + refusal.message.len(),
        };
        text + EVENT_BYTES
    }

    fn class(&self) -> Class {
        match self {
            // A task that never got to an agent is its scheduler's own doing.
            Self::Update(status) if status.agent.is_none() => Class::Refusals,
            Self::Update(_) => Class::Updates,
            Self::Message(_) => Class::Messages,
            Self::Timer(_) => Class::Timers,
            Self::Refusal(_) => Class::Refusals,
        }
    }
}

/// What an event takes beside its text.
pub(crate) const EVENT_BYTES: usize = 256;

/// Who makes events, and so what bounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// What became of tasks that were launched: bounded by the tasks there are.
    Updates,
    /// What tasks say: dropped beyond a bound.
    Messages,
    /// Timers that rang: with those that are set, as many as a framework may have.
    Timers,
    /// What a framework's own calls led to: a turn that could lead to too many is refused.
    Refusals,
}

/// One of each class.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    updates: Count,
    messages: Count,
    timers: Count,
    refusals: Count,
}

impl Counts {
    fn of(&self, class: Class) -> &Count {
        match class {
            Class::Updates => &self.updates,
            Class::Messages => &self.messages,
            Class::Timers => &self.timers,
            Class::Refusals => &self.refusals,
        }
    }

    fn of_mut(&mut self, class: Class) -> &mut Count {
        match class {
            Class::Updates => &mut self.updates,
            Class::Messages => &mut self.messages,
            Class::Timers => &mut self.timers,
            Class::Refusals => &mut self.refusals,
        }
    }

    fn bytes(&self) -> usize {
        self.updates.bytes + self.messages.bytes + self.timers.bytes + self.refusals.bytes
    }
}

/// Entries and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub entries: usize,
    /// How much, about.
    pub bytes: usize,
}

/// Events that wait for one framework, by sequence number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    events: BTreeMap<u64, Waiting>,
    /// Follows from the events.
    #[serde(skip)]
    counts: Counts,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Waiting)> {
        self.events.iter().map(|(seq, event)| (*seq, event))
    }

    /// Those of a class.
    pub fn count(&self, class: Class) -> Count {
        *self.counts.of(class)
    }

    /// Those of a class that are not among these, which a turn has told.
    pub fn untold(&self, class: Class, told: &[u64]) -> usize {
        let of_class =
            |seq: &&u64| self.events.get(seq).is_some_and(|event| event.class() == class);
        self.count(class).entries - told.iter().filter(of_class).count()
    }

    /// Of all classes.
    pub(super) fn bytes(&self) -> usize {
        self.counts.bytes()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// After it was read.
    pub(super) fn recount(&mut self) {
        self.counts = Counts::default();
        for event in self.events.values() {
            let count = self.counts.of_mut(event.class());
            count.entries += 1;
            count.bytes += event.weight();
        }
    }

    fn insert(&mut self, seq: u64, event: Waiting) {
        let count = self.counts.of_mut(event.class());
        count.entries += 1;
        count.bytes += event.weight();
        self.events.insert(seq, event);
    }

    fn remove(&mut self, seq: u64) -> Option<Waiting> {
        let event = self.events.remove(&seq)?;
        let count = self.counts.of_mut(event.class());
        count.entries -= 1;
        count.bytes -= event.weight();
        Some(event)
    }
}

impl Framework {
    /// Puts an event at the end of the queue.
    pub(super) fn wait(&mut self, event: Waiting) {
        self.next_event += 1;
        self.queue.insert(self.next_event, event);
    }

    /// Queues a task's status. A final one always gets in; beyond the bound of the others only a task's latest is kept.
    pub(super) fn wait_update(&mut self, task: &TaskId, bound: Bounds) {
        let Some(record) = self.tasks.get_mut(task) else { return };
        let status = record.status.clone();
        let updates = self.queue.count(Class::Updates);
        let is_full = self.queue.len() >= bound.waiting_updates
            || updates.bytes >= bound.waiting_update_bytes;
        if let Some(seq) = record.queued.filter(|_| is_full) {
            self.queue.remove(seq);
        }
        record.queued = Some(self.next_event + 1);
        self.wait(Waiting::Update(Box::new(status)));
    }

    /// Takes what a committed turn has seen out of the queue.
    pub(super) fn seen(&mut self, seqs: &[u64]) {
        for seq in seqs {
            if let Some(Waiting::Update(status)) = self.queue.remove(*seq)
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
            if framework.set_timer(name, None) {
                framework.wait(Waiting::Timer(name.to_owned()));
            }
        });
    }
}
