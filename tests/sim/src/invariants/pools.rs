//! Reserving, unreserving, and making volumes create and destroy nothing: all kinds together are what the agent has, and
//! what is used is what tasks and schedulers hold, kind by kind.

use std::collections::BTreeMap;
use tepui_master_core::Leader;
use tepui_proto::roles::AgentMode;
use tepui_proto::{AgentId, Bundle, TaskKey};

/// Adds up each agent.
pub fn check(leader: &Leader) {
    let state = leader.state();
    let mut used: BTreeMap<AgentId, Bundle> = BTreeMap::new();
    let mut add = |agent, bundle: &Bundle| {
        let sum: &mut Bundle = used.entry(agent).or_default();
        *sum = sum.checked_add(bundle).expect("two tasks do not hold the same");
    };
    for (framework, record) in state.frameworks() {
        for (id, task) in record.tasks.iter().filter(|(_, task)| task.live.is_some()) {
            let key = TaskKey { framework, task: id.clone() };
            if let Some(agent) = task.agent {
                add(agent, &state.held_by(&key, &task.resources));
            }
        }
        if let Some(instance) = record.instance.as_ref().filter(|instance| !instance.held_back) {
            add(instance.agent, &Bundle::from(instance.resources.clone()));
        }
    }
    for (id, accounts) in state.ledger().agents() {
        let sum = used.remove(&id).unwrap_or_default();
        assert_eq!(accounts.offerable.used, sum, "what is used of agent {id}");
        if state.mode(id) == AgentMode::Gone {
            continue;
        }
        let all = accounts.offerable.total.flat();
        let all = all.and_then(|all| all.checked_add(accounts.held_back.total.plain()));
        let own = state.agent(id).map(|agent| agent.resources.clone());
        assert_eq!(all, own, "all kinds of agent {id} together");
    }
}
