//! What operators and schedulers have made of agents: modes, maintenance, reservations, volumes; and which tasks hold
//! more than what anyone may use.
//!
//! Changes only by entries. Its one surprise: reservations and volumes are kept as a difference to what the agent says it
//! has, so an agent that says hello with other resources keeps them.

use super::State;
use crate::entry::{Conversion, PooledTurn};
use crate::ledger::held_back;
use crate::policy::RolePolicy;
use serde::{Deserialize, Serialize};
use tepui_proto::events::Unavailability;
use tepui_proto::roles::AgentMode;
use tepui_proto::{AgentId, Bundle, PoolKind, Resources, Role, TaskKey};

/// What was made of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provision {
    /// Whether it is offered.
    pub mode: AgentMode,
    /// When it is to go down.
    pub unavailability: Option<Unavailability>,
    /// What it has beside what anyone may use, as it says itself.
    pub declared: Bundle,
    /// Of all it says it has, what was made into something else ...
    pub taken: Bundle,
    /// ... and what that is: reservations, volumes.
    pub made: Bundle,
}

/// What is in both.
fn common(a: &Bundle, b: &Bundle) -> Bundle {
    a.saturating_sub(&a.saturating_sub(b))
}

/// What was made of an agent that has shrunk below it: what it lacks is missing first of what can be split, and a volume
/// is there whole or not at all.
fn without(made: &Bundle, lacking: Resources) -> Bundle {
    if lacking.is_empty() {
        return made.clone();
    }
    let mut left = Bundle::default();
    let mut lacking = lacking;
    let is_one = |kind: &PoolKind| kind.is_whole() || kind.disk.volume.is_some();
    let (ones, others): (Vec<_>, Vec<_>) = made.iter().partition(|(kind, _)| is_one(kind));
    for (kind, amount) in others.into_iter().chain(ones) {
        let part = amount.saturating_sub(&lacking);
        lacking = lacking.saturating_sub(amount);
        if part == *amount || !is_one(kind) {
            // Kinds are told apart, so nothing is there twice.
            let _added = left.add_pool(kind.clone(), part);
        }
    }
    left
}

impl State {
    /// What was made of an agent, if anything was.
    pub fn provision(&self, agent: AgentId) -> Option<&Provision> {
        self.provisions.get(&agent)
    }

    /// Whether an agent is offered at all, as far as operators are concerned.
    pub fn mode(&self, agent: AgentId) -> AgentMode {
        self.provisions.get(&agent).map(|provision| provision.mode).unwrap_or_default()
    }

    /// What a task holds.
    pub fn held_by(&self, key: &TaskKey, resources: &Resources) -> Bundle {
        self.pooled.get(key).cloned().unwrap_or_else(|| Bundle::from(resources.clone()))
    }

    /// Tells the ledger what an agent has, after all that was made of it. What is gone has nothing.
    pub(super) fn settle_total(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get(&id) else { return };
        if self.mode(id) == AgentMode::Gone {
            return self.ledger.set_agent(id, Bundle::default(), Resources::default());
        }
        let back = held_back(&agent.resources);
        let all = Bundle::from(agent.resources.saturating_sub(&back));
        let total = match self.provisions.get(&id) {
            None => all,
            Some(provision) => {
                let own = all.checked_add(&provision.declared).unwrap_or(all);
                let left = own.saturating_sub(&provision.taken);
                let lacking = provision.taken.saturating_sub(&own).flat().unwrap_or_default();
                let made = without(&provision.made, lacking);
                left.checked_add(&made).unwrap_or(left)
            }
        };
        self.ledger.set_agent(id, total, back);
    }

    fn with_provision(&mut self, id: AgentId, change: impl FnOnce(&mut Provision)) {
        let mut provision = self.provisions.remove(&id).unwrap_or_default();
        if provision != Provision::default() {
            self.digest.remove(&("provision", id, &provision));
        }
        change(&mut provision);
        if provision != Provision::default() {
            self.digest.add(&("provision", id, &provision));
            self.provisions.insert(id, provision);
        }
    }

    pub(super) fn apply_roles(&mut self, roles: &[(Role, RolePolicy)]) {
        for (role, policy) in roles {
            if let Some(old) = self.policy.role(role) {
                self.digest.remove(&("role", role, old));
            }
            self.policy.set(role.clone(), policy.clone());
            if let Some(new) = self.policy.role(role) {
                self.digest.add(&("role", role, new));
            }
        }
    }

    pub(super) fn apply_pools(&mut self, id: AgentId, pools: &[(PoolKind, Resources)]) {
        let declared = Bundle::try_from(pools.to_vec()).unwrap_or_default();
        self.with_provision(id, |provision| provision.declared = declared);
        self.settle_total(id);
    }

    pub(super) fn apply_mode(&mut self, id: AgentId, mode: AgentMode) {
        self.with_provision(id, |provision| provision.mode = mode);
        self.settle_total(id);
    }

    pub(super) fn apply_maintenance(&mut self, id: AgentId, when: Option<Unavailability>) {
        self.with_provision(id, |provision| provision.unavailability = when);
    }

    pub(super) fn apply_conversion(&mut self, conversion: &Conversion) {
        let Conversion { agent, from, to } = conversion;
        self.with_provision(*agent, |provision| {
            let undone = common(from, &provision.made);
            let restored = common(to, &provision.taken);
            let (more_taken, more_made) =
                (from.saturating_sub(&undone), to.saturating_sub(&restored));
            let sum = |a: Bundle, b: &Bundle| a.checked_add(b).unwrap_or(a);
            provision.made = sum(provision.made.saturating_sub(&undone), &more_made);
            provision.taken = sum(provision.taken.saturating_sub(&restored), &more_taken);
        });
        self.settle_total(*agent);
    }

    pub(super) fn apply_pooled_turn(&mut self, pooled: &PooledTurn) {
        for conversion in &pooled.conversions {
            self.apply_conversion(conversion);
        }
        for (task, bundle) in &pooled.held {
            let key = TaskKey { framework: pooled.turn.framework, task: task.clone() };
            self.digest.add(&("pooled", &key, bundle));
            self.pooled.insert(key, bundle.clone());
        }
        self.apply_turn(&pooled.turn);
    }

    /// A task that has ended holds nothing.
    pub(super) fn forget_pooled(&mut self, key: &TaskKey) {
        if let Some(bundle) = self.pooled.remove(key) {
            self.digest.remove(&("pooled", key, &bundle));
        }
    }

    pub(super) fn digest_provisions(&self, fresh: &mut super::digest::StateDigest) {
        for (role, policy) in self.policy.roles() {
            fresh.add(&("role", role, policy));
        }
        for (id, provision) in &self.provisions {
            fresh.add(&("provision", id, provision));
        }
        for (key, bundle) in &self.pooled {
            fresh.add(&("pooled", key, bundle));
        }
    }
}
