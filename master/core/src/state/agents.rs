//! Agents: who they are, what they have, and which launches they owe an end.

use super::State;
use crate::entry::Joined;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tepui_proto::events::{AgentInfo, AttributeValue, FaultDomain, Unavailability};
use tepui_proto::{
    AgentHandle, AgentId, LaunchNumber, Life, ReportSeq, Resources, TaskKey, Timestamp,
};

/// By how much the numbers of an agent that was forgotten and comes back begin above its mark.
const FORGOTTEN_LAUNCHES: u64 = 1 << 20;

/// An agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    /// From its certificate.
    pub name: String,
    /// Its host, as it says.
    pub hostname: String,
    /// Tepui's version there.
    pub version: String,
    /// Its storage.
    pub life: Life,
    /// All it has.
    pub resources: Resources,
    /// What it is like.
    pub attributes: Vec<(String, AttributeValue)>,
    /// Where it stands.
    pub domain: Option<FaultDomain>,
    /// Whether its tasks can be reached, as frameworks were told.
    pub reachable: bool,
    /// The last launch number that was given out; never given again.
    pub last_launch: LaunchNumber,
    /// Reports up to this one are in the state.
    pub reported: ReportSeq,
    /// Launches that have not ended.
    pub launches: BTreeMap<LaunchNumber, TaskKey>,
    /// When it last said hello.
    pub joined_at: Timestamp,
    /// Since when it is unreachable, if it is.
    pub away_since: Timestamp,
}

impl Agent {
    /// What schedulers are told of it.
    pub fn info(&self, id: AgentId, unavailability: Option<Unavailability>) -> AgentInfo {
        AgentInfo {
            handle: AgentHandle(id.0),
            id: self.name.clone(),
            hostname: self.hostname.clone(),
            domain: self.domain.clone(),
            attributes: self.attributes.clone(),
            unavailability,
        }
    }

    pub(super) fn mark(&self, id: AgentId) -> impl Serialize + '_ {
        let amounts =
            (self.resources.cpu_milli, self.resources.memory_bytes, self.resources.disk_bytes);
        (
            "agent",
            id,
            &self.name,
            self.life,
            amounts,
            self.reachable,
            self.last_launch,
            self.reported,
        )
    }
}

impl State {
    /// An agent that was ever admitted.
    pub fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// The agent of that name.
    pub fn agent_id(&self, name: &str) -> Option<AgentId> {
        self.agent_names.get(name).copied()
    }

    /// Changes an agent and keeps the digest.
    pub(super) fn with_agent(&mut self, id: AgentId, change: impl FnOnce(&mut Agent)) {
        if let Some(agent) = self.agents.get_mut(&id) {
            self.digest.remove(&agent.mark(id));
            change(agent);
            self.digest.add(&agent.mark(id));
        }
    }

    pub(super) fn apply_admitted(&mut self, id: AgentId, name: &str) {
        if self.agents.contains_key(&id) || self.agent_names.contains_key(name) {
            return;
        }
        let agent = Agent {
            name: name.to_owned(),
            hostname: String::new(),
            version: String::new(),
            life: Life(0),
            resources: Resources::default(),
            attributes: Vec::new(),
            domain: None,
            reachable: false,
            last_launch: LaunchNumber(0),
            reported: ReportSeq(0),
            launches: BTreeMap::new(),
            joined_at: self.now,
            away_since: self.now,
        };
        self.digest.add(&agent.mark(id));
        self.agents.insert(id, agent);
        self.agent_names.insert(name.to_owned(), id);
        self.last_agent = self.last_agent.max(id);
    }

    pub(super) fn apply_joined(&mut self, joined: &Joined) {
        let now = self.now;
        self.with_agent(joined.agent, |agent| {
            if agent.life != joined.life {
                // Reports count from the beginning of a life; launches go on, so no number is ever used twice.
                agent.reported = ReportSeq(0);
            }
            agent.life = joined.life;
            agent.resources = joined.resources.clone();
            agent.hostname.clone_from(&joined.hostname);
            agent.version.clone_from(&joined.version);
            agent.attributes.clone_from(&joined.attributes);
            agent.domain.clone_from(&joined.domain);
            // An agent that was forgotten may have fenced launches above its mark.
            let is_new = agent.last_launch == LaunchNumber(0) && joined.launch_mark.0 > 0;
            let gap = if is_new { FORGOTTEN_LAUNCHES } else { 0 };
            let mark = LaunchNumber(joined.launch_mark.0.saturating_add(gap));
            agent.last_launch = agent.last_launch.max(mark);
            agent.reachable = true;
            agent.joined_at = now;
        });
        self.settle_total(joined.agent);
    }

    pub(super) fn apply_unreachable(&mut self, id: AgentId) {
        let now = self.now;
        self.with_agent(id, |agent| {
            agent.reachable = false;
            agent.away_since = now;
        });
    }

    /// Nothing is on it, nothing was made of it, and it has been away for long.
    pub(super) fn apply_forgotten(&mut self, id: AgentId) {
        if self.provisions.contains_key(&id)
            || self.agents.get(&id).is_none_or(|agent| !agent.launches.is_empty())
        {
            return;
        }
        if let Some(agent) = self.agents.remove(&id) {
            self.digest.remove(&agent.mark(id));
            self.agent_names.remove(&agent.name);
            self.ledger.remove_agent(id);
        }
    }

    pub(super) fn apply_reported(&mut self, id: AgentId, through: ReportSeq) {
        self.with_agent(id, |agent| agent.reported = agent.reported.max(through));
    }
}
