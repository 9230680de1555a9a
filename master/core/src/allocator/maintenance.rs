//! Inverse offers: frameworks that hold something of an agent that is to go down are asked to leave it.
//!
//! The answer is advice, and moves nothing (Mesos: `docs/maintenance.md`). One is out per agent and framework at a time.

use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{AgentId, FrameworkId, Timestamp};

/// Which are out, and who does not want to hear of which agent for a while.
#[derive(Debug, Default)]
pub struct InverseOffers {
    out: BTreeSet<(AgentId, FrameworkId)>,
    refused: BTreeMap<(AgentId, FrameworkId), Timestamp>,
}

impl InverseOffers {
    /// Who of the holders is to be asked now. They count as asked.
    pub fn ask(
        &mut self,
        agent: AgentId,
        holders: impl IntoIterator<Item = FrameworkId>,
        now: Timestamp,
    ) -> Vec<FrameworkId> {
        let mut asked = Vec::new();
        for framework in holders {
            let key = (agent, framework);
            let is_refused = self.refused.get(&key).is_some_and(|until| now < *until);
            if !is_refused && self.out.insert(key) {
                self.refused.remove(&key);
                asked.push(framework);
            }
        }
        asked
    }

    /// A framework has answered, and does not want to be asked again before then. False if it was not asked.
    pub fn answered(
        &mut self,
        agent: AgentId,
        framework: FrameworkId,
        refused_until: Option<Timestamp>,
    ) -> bool {
        let was_out = self.out.remove(&(agent, framework));
        if let Some(until) = refused_until.filter(|_| was_out) {
            self.refused.insert((agent, framework), until);
        }
        was_out
    }

    /// Who was asked about an agent and has not answered; they no longer need to.
    pub fn withdraw_agent(&mut self, agent: AgentId) -> Vec<FrameworkId> {
        let range = (agent, FrameworkId(0))..=(agent, FrameworkId(u64::MAX));
        let asked: Vec<FrameworkId> = self.out.range(range).map(|(_, f)| *f).collect();
        self.out.retain(|(of, _)| *of != agent);
        self.refused.retain(|(of, _), _| *of != agent);
        asked
    }

    /// Forgets a framework, or all that it refused if it is to be asked anew.
    pub fn forget_framework(&mut self, framework: FrameworkId) {
        self.out.retain(|(_, of)| *of != framework);
        self.refused.retain(|(_, of), _| *of != framework);
    }
}
