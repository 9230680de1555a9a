//! Agents as people see them: what they have, who holds it, and whether they are offered.

use super::page;
use crate::leader::Leader;
use crate::ledger::held_back;
use crate::state::Framework;
use std::ops::Bound;
use tepui_proto::api::{AgentView, MaintenanceSpec, Page};
use tepui_proto::roles::AgentMode;
use tepui_proto::{AgentId, Bundle, FrameworkId, LaunchNumber, Resources};

impl Leader {
    /// Agents by name, after this one.
    pub fn agent_views(&self, after: Option<&str>, limit: usize) -> Page<AgentView> {
        let start = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.to_owned()));
        let names = self.state.agent_names.range((start, Bound::Unbounded));
        page(names.filter_map(|(_, id)| self.agent_view_of(*id)), limit, |view| view.id.clone())
    }

    /// An agent.
    pub fn agent_view(&self, name: &str) -> Option<AgentView> {
        self.agent_view_of(*self.state.agent_names.get(name)?)
    }

    /// Whose task an agent runs, or has run and not yet told the end of, by this launch number.
    pub fn launched_for(&self, agent: &str, launch: LaunchNumber) -> Option<FrameworkId> {
        let agent = self.state.agents.get(self.state.agent_names.get(agent)?)?;
        agent.launches.get(&launch).map(|key| key.framework)
    }

    fn agent_view_of(&self, id: AgentId) -> Option<AgentView> {
        let agent = self.state.agents.get(&id)?;
        let accounts = self.state.ledger.agent(id)?;
        let state = match (self.is_connected(id), agent.reachable) {
            (true, _) => "connected",
            (false, true) => "away",
            (false, false) => "unreachable",
        };
        let on_it = |framework: &Framework| {
            framework.instance.as_ref().is_some_and(|instance| instance.agent == id)
        };
        let frameworks = self.state.frameworks.values();
        let (max_tasks, has_room) = self.capacity_of(id).unzip();
        let unavailability = self.state.provision(id).and_then(|known| known.unavailability);
        Some(AgentView {
            id: agent.name.clone(),
            hostname: agent.hostname.clone(),
            state: state.to_owned(),
            total: flat(&accounts.offerable.total).plus_scalars(&held_back(&agent.resources)),
            held_back: held_back(&agent.resources),
            free: flat(accounts.offerable.free()),
            offered: flat(&accounts.offerable.offered),
            used: flat(&accounts.offerable.used).plus_scalars(&flat(&accounts.held_back.used)),
            tasks: agent.launches.len() as u64,
            max_tasks: max_tasks.map(|most| most as u64),
            has_room,
            schedulers: frameworks.filter(|framework| on_it(framework)).count() as u64,
            version: agent.version.clone(),
            mode: mode_name(self.state.mode(id)).to_owned(),
            unavailability: unavailability.map(|planned| MaintenanceSpec {
                start: planned.start.0,
                length_ms: planned.length.map(|length| length.0),
            }),
            pools: pools(&accounts.offerable.total),
            free_pools: pools(accounts.offerable.free()),
        })
    }
}

fn mode_name(mode: AgentMode) -> &'static str {
    match mode {
        AgentMode::Active => "active",
        AgentMode::Inactive => "inactive",
        AgentMode::Draining { .. } => "draining",
        AgentMode::Drained => "drained",
        AgentMode::Gone => "gone",
    }
}

/// All but what anyone may use.
fn pools(bundle: &Bundle) -> String {
    bundle.with_plain(Resources::default()).to_string()
}

/// All kinds together; a sum over the range shows as nothing, which the checks at hello keep from happening.
fn flat(bundle: &Bundle) -> Resources {
    bundle.flat().unwrap_or_default()
}
