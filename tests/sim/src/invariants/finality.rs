//! A final state is never left, and every task that was committed reaches one.

use std::collections::BTreeMap;
use tepui_master_core::{Entry, EntryKind, State};
use tepui_proto::{TaskKey, TaskState};

/// Every committed task and its last state.
#[derive(Debug, Default)]
pub struct Finality(BTreeMap<TaskKey, TaskState>);

impl Finality {
    /// Looks at what was committed, against the state after it.
    pub fn committed(&mut self, entry: &Entry, state: &State) {
        let changes = match &entry.kind {
            kind @ (EntryKind::TurnCommitted(_) | EntryKind::TurnPooled(_)) => {
                let Some(turn) = kind.turn() else { return };
                for launch in &turn.launches {
                    let key = TaskKey { framework: turn.framework, task: launch.spec.id.clone() };
                    assert!(
                        self.0.insert(key, TaskState::Staging).is_none(),
                        "a task was committed twice"
                    );
                }
                return;
            }
            EntryKind::Reported { changes, .. } | EntryKind::TasksMoved(changes) => changes,
            _ => return,
        };
        for change in changes {
            let key = TaskKey { framework: change.framework, task: change.status.task.clone() };
            let Some(now) = state.task(&key).map(|task| task.status.state) else { continue };
            let Some(before) = self.0.insert(key.clone(), now) else { continue };
            assert!(
                !before.is_final() || before == now,
                "task {key:?} left {before:?} for {now:?}"
            );
        }
    }

    /// After the cluster has healed and come to rest.
    pub fn at_rest(&self) {
        if let Some((key, state)) = self.0.iter().find(|(_, state)| !state.is_final()) {
            panic!("task {key:?} was committed and is still {state:?}");
        }
    }

    /// How many tasks were committed.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
