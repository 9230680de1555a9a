//! Agents out of service: nothing new begins there, and what is drained runs nothing.

use tepui_master_core::{Entry, Leader, State};
use tepui_proto::TaskState;
use tepui_proto::roles::AgentMode;

/// Nothing is launched on an agent that is not offered.
pub fn committed(entry: &Entry, state: &State) {
    for launch in entry.kind.turn().into_iter().flat_map(|turn| &turn.launches) {
        let key = tepui_proto::TaskKey {
            framework: entry.kind.turn().map(|turn| turn.framework).unwrap_or_default(),
            task: launch.spec.id.clone(),
        };
        // The state is that after the whole batch, in which the operator may have drained the agent and stopped it.
        let is_staging =
            state.task(&key).is_some_and(|task| task.status.state == TaskState::Staging);
        let mode = state.mode(launch.agent);
        assert!(
            !is_staging || matches!(mode, AgentMode::Active),
            "task {key:?} was launched on agent {}, which is {mode:?}",
            launch.agent
        );
    }
}

/// Looks at all agents, and at the schedulers on them.
pub fn check(leader: &Leader) {
    let state = leader.state();
    for (id, accounts) in state.ledger().agents() {
        let mode = state.mode(id);
        if mode == AgentMode::Active {
            continue;
        }
        assert!(accounts.offerable.offered.is_empty(), "agent {id} is {mode:?} and offered");
        if mode == AgentMode::Inactive {
            continue;
        }
        let mut homes = state.frameworks().filter_map(|(_, f)| f.instance.as_ref());
        assert!(!homes.any(|home| home.agent == id), "agent {id}: {mode:?}, with a scheduler");
        if matches!(mode, AgentMode::Drained | AgentMode::Gone) {
            let runs = state.agent(id).map_or(0, |agent| agent.launches.len());
            assert_eq!(runs, 0, "agent {id} is {mode:?}");
            assert!(accounts.offerable.used.is_empty() && accounts.held_back.used.is_empty());
        }
    }
}
