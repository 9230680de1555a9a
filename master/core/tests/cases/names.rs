//! Names of agents and frameworks in a case, and their numbers in the engine.
//!
//! Numbers rise with the names, since names decide where all else is equal.

use super::step::Case;
use std::collections::BTreeMap;
use tepui_proto::{AgentId, FrameworkId};

/// All that a case ever adds, whether it is there now or not.
pub(crate) struct Names {
    agents: BTreeMap<String, AgentId>,
    frameworks: BTreeMap<String, FrameworkId>,
}

impl Names {
    pub(crate) fn new(case: &Case) -> Self {
        Self {
            agents: case.agents.iter().cloned().zip((1..).map(AgentId)).collect(),
            frameworks: case.frameworks.iter().cloned().zip((1..).map(FrameworkId)).collect(),
        }
    }

    pub(crate) fn agent(&self, name: &str) -> Result<AgentId, String> {
        self.agents.get(name).copied().ok_or_else(|| format!("no agent `{name}`"))
    }

    pub(crate) fn framework(&self, name: &str) -> Result<FrameworkId, String> {
        self.frameworks.get(name).copied().ok_or_else(|| format!("no framework `{name}`"))
    }

    pub(crate) fn of_agent(&self, id: AgentId) -> String {
        let known = self.agents.iter().find(|(_, other)| **other == id);
        known.map_or_else(|| format!("agent number {id}"), |(name, _)| name.clone())
    }

    pub(crate) fn of_framework(&self, id: FrameworkId) -> String {
        let known = self.frameworks.iter().find(|(_, other)| **other == id);
        known.map_or_else(|| format!("framework number {id}"), |(name, _)| name.clone())
    }
}
