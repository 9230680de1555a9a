//! Where schedulers go: the agent with the fewest of them that has room held back, or else room that is free.
//!
//! The agents are put in order once for all schedulers of a batch that wait, since after a change of leaders thousands wait
//! at once. While they are placed room only shrinks, so what no agent had room for, none will have.

use super::Leader;
use crate::ledger::Ledger;
use std::collections::BTreeSet;
use tepui_proto::roles::AgentMode;
use tepui_proto::{AgentId, Resources, limits};

/// Agents that schedulers can be placed on.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By the CPU that is held by schedulers out of what is held back.
    by_load: BTreeSet<(u64, AgentId)>,
    /// What no agent has room for, of what is held back and of what is free.
    misses: [Vec<Resources>; 2],
}

impl Leader {
    /// Those that are here and that no operator has taken out.
    pub(super) fn places(&self) -> Places {
        let here = self.mind.sessions.keys().copied();
        let hosts = |id: &AgentId| self.mind.hosting.get(id).map_or(0, BTreeSet::len);
        let open = here.filter(|id| {
            self.state.mode(*id) == AgentMode::Active
                && hosts(id) < limits::CELL_SCHEDULERS as usize
        });
        Places {
            by_load: open.map(|id| (load(&self.state.ledger, id), id)).collect(),
            ..Places::default()
        }
    }
}

impl Places {
    /// An agent with so much room, and whether that is held back; one to be avoided only where there is no other.
    pub(super) fn find(
        &mut self,
        ledger: &Ledger,
        need: &Resources,
        avoid: &BTreeSet<AgentId>,
    ) -> Option<(AgentId, bool)> {
        if !avoid.is_empty() {
            let others = self.by_load.iter().filter(|(_, id)| !avoid.contains(id)).copied();
            let mut others = Self { by_load: others.collect(), ..Self::default() };
            if let Some(found) = others.find(ledger, need, &BTreeSet::new()) {
                return Some(found);
            }
        }
        let held_back = self.find_in(ledger, need, true).map(|id| (id, true));
        held_back.or_else(|| self.find_in(ledger, need, false).map(|id| (id, false)))
    }

    fn find_in(&mut self, ledger: &Ledger, need: &Resources, held_back: bool) -> Option<AgentId> {
        let [of_held_back, of_free] = &mut self.misses;
        let misses = if held_back { of_held_back } else { of_free };
        if misses.iter().any(|missed| need.contains(missed)) {
            return None;
        }
        let has_room = |(_, id): &&(u64, AgentId)| {
            ledger.agent(*id).is_some_and(|accounts| {
                let account = if held_back { &accounts.held_back } else { &accounts.offerable };
                account.free().plain().contains(need)
            })
        };
        let found = self.by_load.iter().find(has_room).map(|(_, id)| *id);
        if found.is_none() {
            misses.push(need.clone());
        }
        found
    }

    /// Offers of an agent were taken back, so there may be room again.
    pub(super) fn freed(&mut self) {
        self.misses = [Vec::new(), Vec::new()];
    }

    /// An agent with so much room once its offers are taken back.
    pub(super) fn find_offered(&self, ledger: &Ledger, need: &Resources) -> Option<AgentId> {
        let has_room = |(_, id): &&(u64, AgentId)| {
            ledger.agent(*id).is_some_and(|accounts| {
                let unused = &accounts.offerable;
                let unused = unused.free().plain().checked_add(unused.offered.plain());
                unused.is_some_and(|unused| unused.contains(need))
            })
        };
        self.by_load.iter().find(has_room).map(|(_, id)| *id)
    }

    /// A scheduler was placed; until then the agent had this load. One with as many as a cell takes is no place any more.
    pub(super) fn moved(&mut self, ledger: &Ledger, agent: AgentId, before: u64, hosts: usize) {
        self.by_load.remove(&(before, agent));
        if hosts < limits::CELL_SCHEDULERS as usize {
            self.by_load.insert((load(ledger, agent), agent));
        }
    }
}

/// The CPU that schedulers hold of what an agent holds back.
pub(super) fn load(ledger: &Ledger, agent: AgentId) -> u64 {
    ledger.agent(agent).map_or(0, |accounts| accounts.held_back.used.plain().cpu_milli)
}
