//! Who is offered what: hierarchical, weighted dominant-resource fairness over roles, then over frameworks.
//!
//! Reads the ledger and the state, and says what to offer; moves nothing itself. Looks only at the agents it is given:
//! those of which something was freed, or all where a framework's demand changed. A framework that has stated wants
//! is offered at most those, a unit at a time while others compete; one that has not is offered all that is free.

mod filters;
mod sorter;

pub use filters::Filters;
pub use sorter::{RoleTree, Share};

use crate::state::{Agent, Framework, State};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::events::AttributeValue;
use tepui_proto::{AgentId, FrameworkId, Resources, Role, Timestamp, limits};

/// Resources of one agent for one framework and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// For whom.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Role,
    /// On which agent.
    pub agent: AgentId,
    /// The want that it answers, and how many of it.
    pub want: Option<(u32, u32)>,
    /// What.
    pub resources: Resources,
}

/// Where grants of one framework, role, agent, and want are summed.
type GrantKey = (AgentId, FrameworkId, Role, Option<u32>);

/// What one run looks at.
#[derive(Debug)]
pub struct Round<'a> {
    /// The books and the demand.
    pub state: &'a State,
    /// What was refused.
    pub filters: &'a Filters,
    /// Frameworks whose schedulers take turns.
    pub active: &'a BTreeSet<FrameworkId>,
    /// Units of wants that are on offer already.
    pub offered: &'a BTreeMap<(FrameworkId, u32), u32>,
    /// The time.
    pub now: Timestamp,
}

/// Says what to offer of these agents.
pub fn allocate(round: &Round<'_>, agents: &[AgentId]) -> Vec<Grant> {
    let mut tree = RoleTree::new(round.state, round.active);
    if tree.is_empty() {
        return Vec::new();
    }
    let mut run = Run { round, offered: round.offered.clone(), grants: BTreeMap::new() };
    for agent in agents {
        run.share_out(*agent, &mut tree);
    }
    let grant =
        |((agent, framework, role, want), (units, resources)): (GrantKey, (u32, Resources))| {
            Grant { framework, role, agent, want: want.map(|want| (want, units)), resources }
        };
    run.grants.into_iter().map(grant).collect()
}

struct Run<'a, 'b> {
    round: &'a Round<'b>,
    offered: BTreeMap<(FrameworkId, u32), u32>,
    grants: BTreeMap<GrantKey, (u32, Resources)>,
}

/// What a framework could take of an agent.
enum Take {
    Whole,
    Units { want: u32, each: Resources, port_count: u32, most: u32 },
}

impl Run<'_, '_> {
    /// Gives out what is free of one agent, always to the lowest share that can take any of it.
    fn share_out(&mut self, id: AgentId, tree: &mut RoleTree) {
        let (Some(agent), Some(accounts)) =
            (self.round.state.agents.get(&id), self.round.state.ledger.agent(id))
        else {
            return;
        };
        let mut free = accounts.offerable.free().clone();
        while is_worth_offering(&free) {
            let order = tree.order();
            let mut able = order.iter().filter_map(|(role, framework)| {
                self.take(agent, id, &free, role, *framework)
                    .map(|take| (role.clone(), *framework, take))
            });
            let Some((role, framework, take)) = able.next() else { return };
            let rivals = able.next().is_some();
            drop(able);
            let (want, units, resources) = match take {
                Take::Whole => (None, 0, free.clone()),
                Take::Units { want, each, port_count, most } => {
                    let units = if rivals { 1 } else { most };
                    let Some(resources) = units_of(&free, &each, port_count, units) else { return };
                    *self.offered.entry((framework, want)).or_default() += units;
                    (Some(want), units, resources)
                }
            };
            free = free.saturating_sub(&resources);
            tree.add(&role, framework, &resources);
            let sum = self.grants.entry((id, framework, role, want)).or_default();
            sum.0 += units;
            sum.1 = sum.1.checked_add(&resources).unwrap_or(resources);
        }
    }

    fn take(
        &self,
        agent: &Agent,
        id: AgentId,
        free: &Resources,
        role: &Role,
        framework: FrameworkId,
    ) -> Option<Take> {
        let record = self.round.state.frameworks.get(&framework)?;
        let take = match &record.wants {
            None => Take::Whole,
            Some(wants) => {
                wants.iter().find_map(|want| self.take_want(agent, free, role, framework, want))?
            }
        };
        let candidate = match &take {
            Take::Whole => free.clone(),
            Take::Units { each, port_count, most, .. } => units_of(free, each, *port_count, *most)?,
        };
        let refused =
            self.round.filters.is_refused(framework, role, id, &candidate, self.round.now);
        (!refused).then_some(take)
    }

    fn take_want(
        &self,
        agent: &Agent,
        free: &Resources,
        role: &Role,
        framework: FrameworkId,
        want: &Want,
    ) -> Option<Take> {
        let left = want
            .count
            .saturating_sub(self.offered.get(&(framework, want.id)).copied().unwrap_or(0));
        if want.role != *role
            || left == 0
            || !want.constraints.iter().all(|constraint| holds(agent, constraint))
        {
            return None;
        }
        let ports = free.ports.count().checked_div(want.port_count).unwrap_or(u32::MAX);
        let most = free.times(&want.each, left).min(ports);
        (most > 0).then(|| Take::Units {
            want: want.id,
            each: want.each.clone(),
            port_count: want.port_count,
            most,
        })
    }
}

/// So many units of `each`, with their ports chosen from what is free.
fn units_of(free: &Resources, each: &Resources, port_count: u32, units: u32) -> Option<Resources> {
    let ports = free.ports.lowest(port_count.checked_mul(units)?);
    Some(Resources { ports, ..Resources::scaled(each, units)? })
}

/// The smallest offer (Mesos: `cpus:0.01|mem:32`).
fn is_worth_offering(free: &Resources) -> bool {
    free.cpu_milli >= limits::SMALLEST_CPU_MILLI
        || free.memory_bytes >= limits::SMALLEST_MEMORY_BYTES
}

/// Whether an agent meets a constraint. An attribute that is not text is compared in no way but by being there.
pub fn holds(agent: &Agent, constraint: &Constraint) -> bool {
    let text = |name: &str| match name {
        "@hostname" => Some(agent.hostname.as_str()),
        "@region" => agent.domain.as_ref().map(|domain| domain.region.as_str()),
        "@zone" => agent.domain.as_ref().map(|domain| domain.zone.as_str()),
        _ => agent.attributes.iter().find(|(have, _)| have == name).map(|(_, value)| match value {
            AttributeValue::Text(text) => text.as_str(),
            AttributeValue::Milli(_) | AttributeValue::Ranges(_) => "",
        }),
    };
    let value = text(&constraint.attribute);
    match constraint.comparison {
        Comparison::Exists => value.is_some(),
        Comparison::Absent => value.is_none(),
        Comparison::Equals => value == Some(constraint.operand.as_str()),
        Comparison::Differs => value != Some(constraint.operand.as_str()),
        // Refused at the edge in this version.
        Comparison::Matches | Comparison::MatchesNot => false,
    }
}

/// Whether a framework could be offered anything in a role.
fn wants_offers(framework: &Framework, role: &Role) -> bool {
    let wanted = framework
        .wants
        .as_ref()
        .is_none_or(|wants| wants.iter().any(|want| want.count > 0 && want.role == *role));
    wanted && !framework.suppressed.contains(role)
}
