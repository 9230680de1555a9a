//! What frameworks have refused, for a while: per framework, role, and agent (Mesos: offer filters).

use std::collections::BTreeMap;
use tepui_proto::{AgentId, FrameworkId, Resources, Role, Timestamp};

/// Refusals that stand. Part of the mind: a new leader knows none.
#[derive(Debug, Default)]
pub struct Filters {
    refused: BTreeMap<(FrameworkId, AgentId, Role), Vec<(Resources, Timestamp)>>,
}

impl Filters {
    /// Remembers a refusal until then.
    pub fn refuse(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        resources: Resources,
        until: Timestamp,
    ) {
        let list = self.refused.entry((framework, agent, role.clone())).or_default();
        // A refusal within another that lasts as long says nothing new.
        list.retain(|(old, end)| *end > until || !resources.contains(old));
        list.push((resources, until));
    }

    /// Whether all of `candidate` lies within something refused.
    pub fn is_refused(
        &self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        candidate: &Resources,
        now: Timestamp,
    ) -> bool {
        if self.refused.is_empty() {
            return false;
        }
        let list = self.refused.get(&(framework, agent, role.clone()));
        list.is_some_and(|list| {
            list.iter().any(|(refused, until)| *until > now && refused.contains(candidate))
        })
    }

    /// Forgets what has run out on an agent.
    pub fn expire(&mut self, agent: AgentId, now: Timestamp) {
        self.refused.retain(|(_, at, _), list| {
            if *at == agent {
                list.retain(|(_, until)| *until > now);
            }
            !list.is_empty()
        });
    }

    /// Forgets what a framework refused in these roles.
    pub fn forget(&mut self, framework: FrameworkId, roles: &[Role]) {
        self.refused.retain(|(of, _, role), _| *of != framework || !roles.contains(role));
    }

    /// Forgets all about an agent.
    pub fn forget_agent(&mut self, agent: AgentId) {
        self.refused.retain(|(_, at, _), _| *at != agent);
    }

    /// Forgets all about a framework.
    pub fn forget_framework(&mut self, framework: FrameworkId) {
        self.refused.retain(|(of, _, _), _| *of != framework);
    }
}
