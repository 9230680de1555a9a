//! What frameworks take of the master's memory, about. Each part is counted as it changes.

use super::Framework;
use tepui_proto::calls::Want;

/// What a task's record takes beside its text.
pub(crate) const TASK_BYTES: usize = 512;
/// What a durable key takes beside its text.
pub(crate) const KEY_BYTES: usize = 64;
/// What a name of a blob or a timer takes, with what it stands for, beside its text.
const NAME_BYTES: usize = 128;

/// What a name takes.
pub(crate) fn name_weight(name: &str) -> usize {
    name.len() + NAME_BYTES
}

impl Framework {
    /// What it takes of the master's memory, about: each part is counted as it changes.
    pub(crate) fn weight(&self) -> usize {
        let tasks = self.live_bytes + self.live * TASK_BYTES + self.ended_bytes;
        let keys = self.keys_bytes + self.keys.len() * KEY_BYTES;
        tasks + self.ended.len() * TASK_BYTES + keys + self.queue.bytes() + self.texts_bytes
    }

    /// What the submission, names of blobs, wants and timers take.
    pub(super) fn texts_anew(&self) -> usize {
        let names = self.blobs.keys().map(|name| name_weight(name));
        let timers = self.timers.keys().map(|name| name_weight(name));
        let wants = self.wants.iter().flatten().map(Want::weight);
        names.chain(timers).chain(wants).sum::<usize>() + self.submission.weight()
    }
}
