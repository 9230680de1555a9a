//! A cluster as a flat list of who holds what: every sum is worked out anew each time that it is asked for.
//!
//! Owns no rule of who is offered what; what is derived from it stands in `tree`, `quota` and `judge`.

use super::amounts::Amounts;
use std::collections::{BTreeMap, BTreeSet};
use tepui_master_core::allocator::{Ask, Settings, Site};
use tepui_master_core::policy::Policy;
use tepui_proto::calls::Want;
use tepui_proto::{AgentId, Bundle, FrameworkId, PoolKind, Resources, Role, Timestamp};

#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// What of it can be offered.
    pub(crate) total: Bundle,
    /// What is kept for schedulers.
    pub(crate) held_back: Resources,
    pub(crate) site: Site,
}

/// Something that a framework holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) agent: AgentId,
    pub(crate) framework: FrameworkId,
    pub(crate) role: Role,
    pub(crate) bundle: Bundle,
    /// Offered for so many units of this want.
    pub(crate) want: Option<(u32, u32)>,
    /// Offered, or else used.
    pub(crate) is_offered: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) framework: FrameworkId,
    pub(crate) role: Role,
    pub(crate) agent: AgentId,
    pub(crate) bundle: Bundle,
    pub(crate) until: Timestamp,
    /// Cycles that had run.
    pub(crate) made: u64,
}

/// The cluster.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    pub(crate) settings: Settings,
    pub(crate) policy: Policy,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) asks: BTreeMap<FrameworkId, Ask>,
    pub(crate) holdings: Vec<Holding>,
    pub(crate) refusals: Vec<Refusal>,
    /// Who is served after all others until then.
    pub(crate) demoted: BTreeMap<(Role, FrameworkId), Timestamp>,
    pub(crate) now: Timestamp,
    /// Periodic cycles that have run.
    pub(crate) cycles: u64,
}

/// Whether `role` is `above` or below it.
pub(crate) fn is_within(role: &Role, above: &str) -> bool {
    role.as_str() == above || role.as_str().starts_with(&format!("{above}/"))
}

/// A role and those above it, the topmost first.
pub(crate) fn path(role: &Role) -> Vec<Role> {
    let ends = role.as_str().match_indices('/').map(|(at, _)| at);
    let ends = ends.chain([role.as_str().len()]);
    ends.filter_map(|end| role.as_str().get(..end)).map(Role::from).collect()
}

/// Anyone's, and charged to quotas.
pub(crate) fn is_open(kind: &PoolKind) -> bool {
    kind.reserved_for.is_empty() && !kind.revocable && !kind.is_shared()
}

/// The size of one copy of a shared volume.
fn copy_bytes(kind: &PoolKind) -> Option<u64> {
    kind.disk.volume.as_ref().and_then(|volume| volume.shared_bytes)
}

impl Books {
    /// What is neither offered nor used. A shared volume always is.
    pub(crate) fn free(&self, agent: AgentId) -> Bundle {
        let Some(known) = self.agents.get(&agent) else { return Bundle::default() };
        let mut free = known.total.clone();
        for holding in self.holdings.iter().filter(|holding| holding.agent == agent) {
            let own = holding.bundle.retained(|kind, _| !kind.is_shared());
            free = free.saturating_sub(&own);
        }
        free
    }

    /// Sum of some holdings, a shared volume of an agent once.
    pub(crate) fn held(&self, counts: impl Fn(&Holding) -> bool) -> Amounts {
        let mut sum = Amounts::default();
        let mut shared = BTreeSet::new();
        for holding in self.holdings.iter().filter(|holding| counts(holding)) {
            for (kind, amount) in holding.bundle.iter() {
                match copy_bytes(kind) {
                    None => sum = sum.plus(Amounts::of(amount)),
                    Some(bytes) if shared.insert((holding.agent, kind)) => {
                        sum = sum.plus(Amounts::disk(bytes));
                    }
                    Some(_) => {}
                }
            }
        }
        sum
    }

    /// What a role and those below it hold.
    pub(crate) fn held_within(&self, path: &str) -> Amounts {
        self.held(|holding| is_within(&holding.role, path))
    }

    /// What counts against a role's quota: all that is reserved for it or below, and what is held there of the rest.
    pub(crate) fn consumed(&self, path: &str) -> Amounts {
        let mut sum = Amounts::default();
        for (kind, amount) in self.agents.values().flat_map(|agent| agent.total.iter()) {
            if kind.reserved_for.last().is_some_and(|owner| is_within(owner, path)) {
                sum = sum.plus(copy_bytes(kind).map_or_else(|| Amounts::of(amount), Amounts::disk));
            }
        }
        for holding in self.holdings.iter().filter(|holding| is_within(&holding.role, path)) {
            for (_, amount) in holding.bundle.iter().filter(|(kind, _)| is_open(kind)) {
                sum = sum.plus(Amounts::of(amount));
            }
        }
        sum
    }

    /// All that the cluster has.
    pub(crate) fn total(&self) -> Amounts {
        let mut sum = Amounts::default();
        for agent in self.agents.values() {
            sum = sum.plus(Amounts::of(&agent.held_back));
            for (_, amount) in agent.total.iter() {
                sum = sum.plus(Amounts::of(amount));
            }
        }
        sum
    }

    /// What anyone could be offered of the agents that `counts` names.
    pub(crate) fn idle(&self, counts: impl Fn(&Site) -> bool) -> Amounts {
        let mut sum = Amounts::default();
        for (id, _) in self.agents.iter().filter(|(_, agent)| counts(&agent.site)) {
            for (_, amount) in self.free(*id).iter().filter(|(kind, _)| is_open(kind)) {
                sum = sum.plus(Amounts::of(amount));
            }
        }
        sum
    }

    /// All frameworks in all their roles.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (FrameworkId, &Role, &Ask)> {
        self.asks.iter().flat_map(|(id, ask)| ask.roles.iter().map(move |role| (*id, role, ask)))
    }

    /// Units of a want that are on offer.
    pub(crate) fn units_out(&self, framework: FrameworkId, role: &Role, want: u32) -> u32 {
        let offered = self.holdings.iter().filter(|holding| {
            holding.is_offered && holding.framework == framework && holding.role == *role
        });
        offered.filter_map(|h| h.want).filter(|(id, _)| *id == want).map(|(_, units)| units).sum()
    }

    /// Units that are wanted and not on offer.
    pub(crate) fn units_left(&self, framework: FrameworkId, want: &Want) -> u32 {
        want.count.saturating_sub(self.units_out(framework, &want.role, want.id))
    }

    /// Whether a framework is to be offered anything in a role.
    pub(crate) fn is_asking(&self, framework: FrameworkId, role: &Role) -> bool {
        let Some(ask) = self.asks.get(&framework) else { return false };
        let mut wants = ask.wants.iter().flatten().filter(|want| want.role == *role);
        ask.is_active
            && ask.roles.contains(role)
            && !ask.suppressed.contains(role)
            && (ask.wants.is_none() || wants.any(|want| self.units_left(framework, want) > 0))
    }

    pub(crate) fn is_demoted(&self, role: &Role, framework: FrameworkId) -> bool {
        self.demoted.get(&(role.clone(), framework)).is_some_and(|until| self.now < *until)
    }

    /// Whether one refusal that stands covers all of this.
    pub(crate) fn is_refused(
        &self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        bundle: &Bundle,
    ) -> bool {
        let is_unseen = |made: u64| self.settings.interval.is_some() && made == self.cycles;
        self.refusals.iter().any(|refusal| {
            refusal.framework == framework
                && refusal.role == *role
                && refusal.agent == agent
                && (self.now < refusal.until || is_unseen(refusal.made))
                && refusal.bundle.contains(bundle)
        })
    }
}
