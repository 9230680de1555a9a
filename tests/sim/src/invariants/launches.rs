//! A launch is carried out at most once, whatever dies; and no task runs under one id twice.

use std::collections::BTreeSet;
use tepui_proto::TaskKey;

/// Tasks whose code has begun to run, anywhere, ever.
#[derive(Debug, Default)]
pub struct Launches(BTreeSet<TaskKey>);

impl Launches {
    /// A cell begins to run a task.
    pub fn begun(&mut self, key: &TaskKey) {
        assert!(self.0.insert(key.clone()), "task {key:?} began to run twice");
    }

    /// How many have begun.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
