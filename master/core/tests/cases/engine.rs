//! All that the fixture asks of the engine: ledger, policy and allocator of one cluster, and its clock.
//!
//! Owns no rule of the fixture. The engine is run with compatible timing, so nothing is offered unless it is asked to.

use super::step::{Capability, Client, Setup};
use super::words::scalars;
use std::collections::BTreeSet;
use tepui_master_core::allocator::{
    Accepts, Allocator, Ask, Grant, InverseOffers, Look, Settings, Share, Site,
};
use tepui_master_core::ledger::{Holder, Ledger};
use tepui_master_core::policy::{Policy, RolePolicy};
use tepui_proto::events::AttributeValue;
use tepui_proto::{AgentId, Bundle, DurationMs, FrameworkId, Role, Scalars, Timestamp};

/// Why the engine refused what a case asks of it.
pub(crate) type Refused = String;

/// Who holds, in which role, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hold {
    pub(crate) framework: FrameworkId,
    pub(crate) agent: AgentId,
    pub(crate) role: Role,
}

impl Hold {
    fn holder(&self) -> Holder<'_> {
        Holder { role: &self.role, framework: self.framework }
    }
}

/// One cluster.
#[derive(Debug)]
pub(crate) struct Engine {
    ledger: Ledger,
    policy: Policy,
    allocator: Allocator,
    inverses: InverseOffers,
    /// Since the case began.
    now: DurationMs,
}

fn refused(error: impl std::fmt::Display) -> Refused {
    error.to_string()
}

impl Engine {
    pub(crate) fn new(setup: &Setup, seed: u64) -> Result<Self, Refused> {
        let settings = Settings {
            interval: Some(setup.interval),
            excluded: setup.excluded.clone(),
            smallest: vec![scalars("cpus:0.01")?, scalars("mem:32")?],
            seed,
            ..Settings::default()
        };
        Ok(Self {
            ledger: Ledger::default(),
            policy: Policy::default(),
            allocator: Allocator::new(settings),
            inverses: InverseOffers::default(),
            now: DurationMs(0),
        })
    }

    pub(crate) fn now(&self) -> DurationMs {
        self.now
    }

    pub(crate) fn set_now(&mut self, now: DurationMs) {
        self.now = now;
    }

    fn time(&self) -> Timestamp {
        Timestamp(0).after(self.now)
    }

    // Agents.

    pub(crate) fn set_total(&mut self, agent: AgentId, total: &Bundle) {
        self.ledger.set_offerable(agent, total);
    }

    pub(crate) fn total(&self, agent: AgentId) -> Bundle {
        self.ledger
            .agent(agent)
            .map(|accounts| accounts.offerable.total.clone())
            .unwrap_or_default()
    }

    /// Returns whether attributes have changed.
    pub(crate) fn set_site(&mut self, agent: AgentId, site: &Place) -> bool {
        let site = Site {
            hostname: site.hostname.clone(),
            attributes: site.attributes.clone(),
            domain: None,
            is_open: site.is_open,
            takes_many_roles: site.takes_many_roles,
        };
        self.allocator.set_site(agent, site)
    }

    pub(crate) fn set_open(&mut self, agent: AgentId, is_open: bool) {
        self.allocator.set_open(agent, is_open);
    }

    /// Nothing of it may be held any more.
    pub(crate) fn remove_agent(&mut self, agent: AgentId) {
        self.inverses.withdraw_agent(agent);
        self.allocator.remove_site(agent);
        self.ledger.remove_agent(agent);
    }

    // Frameworks.

    pub(crate) fn set_framework(&mut self, framework: FrameworkId, client: &Client) {
        let can = |capability| client.capabilities.contains(&capability);
        let ask = Ask {
            roles: client.roles.clone(),
            suppressed: client.suppressed.clone(),
            accepts: Accepts {
                revocable: can(Capability::Revocable),
                shared: can(Capability::Shared),
                gpus: can(Capability::Gpus),
                refined: can(Capability::Refined),
                other_regions: can(Capability::OtherRegions),
                many_roles: can(Capability::ManyRoles),
            },
            smallest: client.smallest.clone(),
            wants: None,
            is_active: client.is_active,
        };
        self.allocator.set_ask(framework, &ask);
    }

    pub(crate) fn remove_framework(&mut self, framework: FrameworkId) {
        self.inverses.forget_framework(framework);
        self.allocator.remove_ask(framework);
    }

    pub(crate) fn refuse(&mut self, hold: &Hold, what: Bundle, until: DurationMs) {
        let until = Timestamp(0).after(until);
        self.allocator.refuse(hold.framework, &hold.role, hold.agent, what, until);
    }

    pub(crate) fn forget_refusals(&mut self, framework: FrameworkId, roles: &[Role]) {
        self.allocator.forget_refusals(framework, roles);
    }

    /// Counts one more allocation.
    pub(crate) fn count_served(&mut self, framework: FrameworkId, role: &Role) {
        self.allocator.served(Holder { role, framework }, &self.ledger, &self.policy);
    }

    // Roles.

    pub(crate) fn set_quota(&mut self, role: Role, guarantee: Scalars, limit: Scalars) {
        let old = self.policy.role(&role).cloned().unwrap_or_default();
        self.policy.set(role, RolePolicy { guarantee, limit, ..old });
        self.allocator.policy_changed();
    }

    pub(crate) fn set_weight(&mut self, role: Role, weight_milli: u64) {
        let old = self.policy.role(&role).cloned().unwrap_or_default();
        self.policy.set(role, RolePolicy { weight_milli, ..old });
        self.allocator.policy_changed();
    }

    pub(crate) fn share(&mut self, role: &Role) -> Option<Share> {
        self.allocator.share(&mut self.ledger, &self.policy, role)
    }

    /// The clients in the order in which they are to be served.
    pub(crate) fn order(&mut self) -> Vec<Role> {
        let order = self.allocator.order(&mut self.ledger, &self.policy);
        order.into_iter().map(|(role, _)| role).collect()
    }

    // Resources.

    pub(crate) fn take(&mut self, hold: &Hold, what: &Bundle) -> Result<(), Refused> {
        self.ledger.take(hold.agent, hold.holder(), what, false).map_err(refused)
    }

    pub(crate) fn give_back(&mut self, hold: &Hold, used: &Bundle) -> Result<(), Refused> {
        self.ledger.give_back(hold.agent, hold.holder(), used, false).map_err(refused)
    }

    pub(crate) fn take_back(&mut self, hold: &Hold, offered: &Bundle) -> Result<(), Refused> {
        self.ledger.take_back(hold.agent, hold.holder(), offered).map_err(refused)
    }

    pub(crate) fn convert_offered(
        &mut self,
        hold: &Hold,
        from: &Bundle,
        to: &Bundle,
    ) -> Result<(), Refused> {
        self.ledger.convert_offered(hold.agent, hold.holder(), from, to).map_err(refused)
    }

    pub(crate) fn convert_used(
        &mut self,
        hold: &Hold,
        from: &Bundle,
        to: &Bundle,
    ) -> Result<(), Refused> {
        self.give_back(hold, from)?;
        self.ledger.convert(hold.agent, from, to).map_err(refused)?;
        self.take(hold, to)
    }

    pub(crate) fn convert_free(
        &mut self,
        agent: AgentId,
        from: &Bundle,
        to: &Bundle,
    ) -> Result<(), Refused> {
        self.ledger.convert(agent, from, to).map_err(refused)
    }

    /// Whether the books balance.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        match self.ledger.unbalanced() {
            None => Ok(()),
            Some(agent) => Err(format!("the ledger does not balance for agent number {agent}")),
        }
    }

    // Offers.

    /// Offers what is free of these agents, as after an event.
    pub(crate) fn allocate(&mut self, agents: &BTreeSet<AgentId>) -> Vec<Grant> {
        let now = self.time();
        self.allocator.allocate(&mut self.ledger, &self.policy, now, Look::Agents(agents))
    }

    /// A periodic cycle.
    pub(crate) fn cycle(&mut self) -> Vec<Grant> {
        let now = self.time();
        self.allocator.cycle(&mut self.ledger, &self.policy, now)
    }

    /// An agent is to go down: its holders are to be asked, even those that have been asked before.
    pub(crate) fn set_unavailable(&mut self, agent: AgentId) {
        self.inverses.withdraw_agent(agent);
    }

    /// Which holders to ask to leave an agent.
    pub(crate) fn inverse(
        &mut self,
        agent: AgentId,
        holders: BTreeSet<FrameworkId>,
    ) -> Vec<FrameworkId> {
        self.inverses.ask(agent, holders, self.time())
    }
}

/// What an agent is like, beside its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) hostname: String,
    pub(crate) attributes: Vec<(String, AttributeValue)>,
    pub(crate) is_open: bool,
    pub(crate) takes_many_roles: bool,
}
