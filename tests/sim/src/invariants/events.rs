//! A final update is told in a committed turn, once; the order per task is kept.

use std::collections::{BTreeMap, BTreeSet};
use tepui_master_core::{Effect, Entry, State};
use tepui_proto::events::Event;
use tepui_proto::scheduler::ToScheduler;
use tepui_proto::{FrameworkId, TaskId, TaskState};

/// What committed turns have seen.
#[derive(Debug, Default)]
pub struct Events {
    /// The turn that was last sent to each framework: its number and the updates in it.
    sent: BTreeMap<FrameworkId, (u64, Vec<(TaskId, TaskState)>)>,
    finals: BTreeSet<(FrameworkId, TaskId)>,
    launched: BTreeSet<(FrameworkId, TaskId)>,
    /// Tasks that had not ended when their framework said that it is done: nobody is told of their ends.
    cut_short: BTreeSet<(FrameworkId, TaskId)>,
}

impl Events {
    /// A turn leaves the master.
    pub fn ordered(&mut self, order: &Effect) {
        if let Effect::SendTurn {
            framework, turn: ToScheduler::Turn { mark, events, .. }, ..
        } = order
        {
            let update = |event: &Event| match event {
                Event::TaskUpdated(status) => Some((status.task.clone(), status.state)),
                _ => None,
            };
            self.sent
                .insert(*framework, (mark.number.0, events.iter().filter_map(update).collect()));
        }
    }

    /// A turn is committed: what it saw is told.
    pub fn committed(&mut self, entry: &Entry, state: &State) {
        let Some(turn) = entry.kind.turn() else { return };
        let (number, updates) = self.sent.get(&turn.framework).expect("a turn that was never sent");
        assert_eq!(*number, turn.number.0, "a turn other than the one in flight was committed");
        for (task, state) in updates {
            let key = (turn.framework, task.clone());
            assert!(
                !self.finals.contains(&key),
                "task {key:?} was told {state:?} after its final state"
            );
            if state.is_final() {
                self.finals.insert(key);
            }
        }
        self.launched
            .extend(turn.launches.iter().map(|launch| (turn.framework, launch.spec.id.clone())));
        if turn.completed.is_some() {
            let tasks = state.framework(turn.framework).into_iter().flat_map(|f| &f.tasks);
            let live = tasks.filter(|(_, task)| task.live.is_some());
            self.cut_short.extend(live.map(|(id, _)| (turn.framework, id.clone())));
        }
    }

    /// Every launched task's end was told, unless its framework had said before that it is done.
    pub fn at_rest(&self) {
        assert!(self.launched.len() > self.cut_short.len(), "nothing was to be told");
        let mut untold = self.launched.difference(&self.finals);
        let untold = untold.find(|key| !self.cut_short.contains(key));
        assert!(untold.is_none(), "the end of {untold:?} was never told");
    }
}
