//! Who is offered what: hierarchical, weighted dominant-resource fairness, guarantees first (Mesos: `hierarchical.cpp`).
//!
//! Owns what it was told of agents' sites and frameworks' demand, the order of roles and frameworks, and refusals. Holds
//! no resources: the ledger moves them, and its sums are what shares are made of. A part of the leader's mind, so a new
//! leader begins it anew. Its one surprise: it works through agents one by one, and each goes to the lowest share that can
//! take any of it; but where wants are stated, a unit at a time while others compete.

mod candidate;
mod clients;
mod cycle;
pub mod explain;
mod judge;
mod maintenance;
mod marks;
mod order;
mod packing;
mod quotas;
mod refusals;
mod share;
mod sites;
mod visit;
mod wants;

pub(crate) use candidate::is_at_or_below;
pub use clients::{Accepts, Ask};
pub use explain::{Reason, Tally};
pub use maintenance::InverseOffers;
pub use share::Share;
pub(crate) use sites::patterns;
pub use sites::{CheckedPatterns, ConstraintError, Site, check_constraints};
pub(crate) use wants::fitting;

use crate::ledger::{Holder, Ledger};
use crate::policy::Policy;
use clients::{Client, Clients};
use order::Order;
use quotas::Quotas;
use refusals::Clock;
use sites::{ClassChange, Constraints, Patterns, Sites};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use tepui_proto::calls::Want;
use tepui_proto::{AgentId, Bundle, DurationMs, FrameworkId, Role, Scalars, Timestamp, limits};
use wants::Wanted;

/// Agents that have some of these are offered only to who wants some.
pub(crate) const GPUS: &str = "gpus";

/// How the allocator works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The time between periodic cycles, if those are what starts it (as in Mesos). None: releases and demand do.
    pub interval: Option<DurationMs>,
    /// Resources that have no part in shares.
    pub excluded: BTreeSet<String>,
    /// The smallest offer: one of the sets, with all its names.
    pub smallest: Vec<Scalars>,
    /// Of the order of agents.
    pub seed: u64,
    /// The master's region; frameworks see agents of others only if they say so.
    pub region: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let mut cpus = Scalars::default();
        cpus.set(Scalars::CPUS, limits::SMALLEST_CPU_MILLI);
        let mut mem = Scalars::default();
        mem.set(Scalars::MEM, limits::SMALLEST_MEMORY_BYTES);
        Self {
            interval: None,
            excluded: BTreeSet::new(),
            smallest: vec![cpus, mem],
            seed: 0,
            region: None,
        }
    }
}

impl Settings {
    /// Whether an agent stands in another region than the master.
    fn is_elsewhere(&self, site: &Site) -> bool {
        let region = site.domain.as_ref().map(|domain| &domain.region);
        self.region.as_ref().zip(region).is_some_and(|(own, region)| own != region)
    }
}

/// Resources of one agent that are offered to one framework in one role. The ledger has moved them already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// For whom.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Role,
    /// On which agent.
    pub agent: AgentId,
    /// The want that it answers, and how many units of it.
    pub want: Option<(u32, u32)>,
    /// What.
    pub bundle: Bundle,
}

/// What a role that a guarantee is owed to could use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which role.
    pub role: Role,
    /// What one of its frameworks wants.
    pub want: Want,
    /// How many units of it are owed, at least one.
    pub units: u32,
}

/// Which agents a cycle looks at.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// All that are open.
    All,
    /// These, if they are open.
    Agents(&'a BTreeSet<AgentId>),
}

/// The allocator.
#[derive(Debug)]
pub struct Allocator {
    settings: Settings,
    sites: Sites,
    clients: Clients,
    order: Order,
    quotas: Quotas,
    /// Periodic cycles that have run.
    cycles: u64,
    /// Looks at one agent, over all cycles.
    looks: u64,
    has_policy_changed: bool,
    /// Frameworks in roles of which the ledger was not read yet.
    fresh: Vec<(Role, FrameworkId)>,
    /// Of the last look at everything: agents with nothing free, and agents that were looked at.
    full: u64,
    seen: u64,
}

impl Allocator {
    /// One that knows nobody.
    pub fn new(settings: Settings) -> Self {
        Self {
            sites: Sites::default(),
            clients: Clients::default(),
            order: Order::new(settings.excluded.clone()),
            quotas: Quotas::default(),
            cycles: 0,
            looks: 0,
            has_policy_changed: true,
            fresh: Vec::new(),
            full: 0,
            seen: 0,
            settings,
        }
    }

    /// How it works.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins or changes what is known of an agent. If its attributes changed, what was refused of it is forgotten, and
    /// the answer is true.
    pub fn set_site(&mut self, agent: AgentId, site: Site) -> bool {
        let is_known = self.sites.get(agent).is_some();
        match self.sites.set(agent, site) {
            ClassChange::Same => false,
            ClassChange::Moved(gone) => {
                self.forget_class(gone);
                if is_known {
                    self.clients.refusals.forget_agent(agent);
                }
                is_known
            }
        }
    }

    /// Forgets an agent.
    pub fn remove_site(&mut self, agent: AgentId) {
        self.sites.set_full(agent, false);
        let gone = self.sites.remove(agent);
        self.forget_class(gone);
        self.clients.refusals.forget_agent(agent);
    }

    fn forget_class(&mut self, class: Option<usize>) {
        let Some(class) = class else { return };
        self.clients.marks.forget_class(class);
        for client in self.clients.iter_mut() {
            for wanted in client.wants.iter_mut().flatten() {
                wanted.constraints.forget_class(class);
            }
        }
    }

    /// Whether an agent is offered at all.
    pub fn set_open(&mut self, agent: AgentId, is_open: bool) {
        self.sites.set_open(agent, is_open);
    }

    /// Whether an agent takes no more tasks, and is not offered for that.
    pub fn set_full(&mut self, agent: AgentId, is_full: bool) {
        self.sites.set_full(agent, is_full);
    }

    /// As it was set last.
    pub fn is_full(&self, agent: AgentId) -> bool {
        self.sites.is_full(agent)
    }

    /// Whether a framework could be offered something in one of its roles.
    pub fn is_asking(&self, framework: FrameworkId) -> bool {
        let mut keys = self.clients.keys_of(framework);
        keys.any(|key| self.clients.get(key).is_some_and(Client::is_asking))
    }

    /// Whether a framework asks for something, has refused none of this, and could use some of it.
    pub fn would_take(
        &mut self,
        framework: FrameworkId,
        agent: AgentId,
        bundle: &Bundle,
        now: Timestamp,
    ) -> bool {
        let clock = self.clock(now);
        let Some((site, class)) = self.sites.get(agent) else { return false };
        for key in self.clients.keys_of(framework).collect::<Vec<_>>() {
            let Some((client, refusals)) = self.clients.with_refusals(key) else { continue };
            if !client.is_asking()
                || client.demoted_until > now
                || refusals.hide(key, agent, bundle, clock)
            {
                continue;
            }
            let Some(wants) = &mut client.wants else { return true };
            let mut asking = wants.iter_mut().filter(|wanted| wanted.left() > 0);
            if asking
                .any(|wanted| wanted.fitting(bundle) > 0 && wanted.constraints.are_met(site, class))
            {
                return true;
            }
        }
        false
    }

    /// Begins or replaces what a framework asks for. What it refused stays refused.
    pub fn set_ask(&mut self, framework: FrameworkId, ask: &Ask) {
        let fresh = self.clients.set(framework, ask, &mut self.order);
        self.fresh.extend(fresh.into_iter().map(|role| (role, framework)));
    }

    /// Forgets a framework.
    pub fn remove_ask(&mut self, framework: FrameworkId) {
        self.clients.remove(framework, &mut self.order);
    }

    /// Remembers that a framework does not want this for a while.
    pub fn refuse(
        &mut self,
        framework: FrameworkId,
        role: &Role,
        agent: AgentId,
        bundle: Bundle,
        until: Timestamp,
    ) {
        if let Some(client) = self.clients.key(framework, role.as_str()) {
            self.clients.refusals.refuse(client, agent, bundle, (until, self.cycles));
        }
    }

    /// Forgets what a framework refused in these roles.
    pub fn forget_refusals(&mut self, framework: FrameworkId, roles: &[Role]) {
        for role in roles {
            if let Some(client) = self.clients.key(framework, role.as_str()) {
                self.clients.refusals.forget(client);
            }
        }
    }

    /// Forgets what has run out of what a framework refused of an agent; says when the next of it does.
    pub fn expire_refusals(
        &mut self,
        framework: FrameworkId,
        agent: AgentId,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let clock = self.clock(now);
        let clients: Vec<_> = self.clients.keys_of(framework).collect();
        let refusals = &mut self.clients.refusals;
        clients.into_iter().filter_map(|client| refusals.expire(client, agent, clock)).min()
    }

    /// Units of a want are no longer on offer: answered, declined, or taken back.
    pub fn units_returned(&mut self, framework: FrameworkId, role: &Role, want: u32, units: u32) {
        self.clients.units_returned((framework, role, want), units, &mut self.order);
    }

    /// Serves a framework after all others until then; a time that is past ends it.
    pub fn demote(&mut self, framework: FrameworkId, until: Timestamp) {
        self.clients.demote(framework, until);
    }

    /// Wants of roles that a guarantee is owed to, one of each framework, in the order in which they are served. Also where
    /// a limit above leaves no room at the moment.
    pub fn needs(&mut self, ledger: &mut Ledger, policy: &Policy) -> Vec<Need> {
        self.catch_up(ledger, policy);
        let mut needs = Vec::new();
        self.order.walk(true, &mut |node, _, key| {
            let wants = self.clients.get(key).and_then(|client| client.wants.as_ref());
            let mut wants = wants.into_iter().flatten();
            let wanted = wants.find(|wanted| wanted.left() > 0 && !wanted.want.revocable);
            if let (Some(node), Some(wanted)) = (self.order.node(node), wanted) {
                let owed = self.quotas.owed(node.role.as_str(), ledger);
                let units = wanted.covering(&owed).min(wanted.left());
                needs.push(Need { role: node.role.clone(), want: wanted.want.clone(), units });
            }
            ControlFlow::Continue(())
        });
        needs
    }

    /// Open agents that meet a want's constraints.
    pub fn meeting(&self, want: &Want) -> Vec<AgentId> {
        let mut constraints =
            Constraints::new(&want.constraints, &mut Patterns::default(), &Patterns::default());
        let meets = |agent: &AgentId| {
            let site = self.sites.get(*agent);
            site.is_some_and(|(site, class)| site.is_open && constraints.are_met(site, class))
        };
        self.sites.ids().filter(meets).collect()
    }

    /// Weights, quotas or packing have changed.
    pub fn policy_changed(&mut self) {
        self.has_policy_changed = true;
    }

    /// Counts an allocation that was not a grant.
    pub fn served(&mut self, holder: Holder<'_>, ledger: &Ledger, policy: &Policy) {
        self.order.served(holder.role, holder.framework, ledger, policy);
    }

    /// Roles and frameworks in the order in which they are to be served.
    pub fn order(&mut self, ledger: &mut Ledger, policy: &Policy) -> Vec<(Role, FrameworkId)> {
        self.catch_up(ledger, policy);
        let mut order = Vec::new();
        self.order.walk(false, &mut |node, framework, _| {
            order.extend(self.order.node(node).map(|node| (node.role.clone(), framework)));
            ControlFlow::Continue(())
        });
        order
    }

    /// The weighted dominant share by which a role's own frameworks are served; none if it has none.
    pub fn share(&mut self, ledger: &mut Ledger, policy: &Policy, role: &Role) -> Option<Share> {
        self.catch_up(ledger, policy);
        self.order.share(role.as_str())
    }

    /// Reads what has moved since the last cycle.
    fn catch_up(&mut self, ledger: &mut Ledger, policy: &Policy) {
        let policy_changed = std::mem::take(&mut self.has_policy_changed);
        self.order.refresh_all(ledger, policy, policy_changed);
        let fresh = std::mem::take(&mut self.fresh);
        for (role, framework) in &fresh {
            self.order.refresh(role, Some(*framework), ledger, policy);
        }
        let moved = ledger.take_moved();
        for (role, frameworks) in &moved {
            self.order.refresh(role, None, ledger, policy);
            for framework in frameworks {
                self.order.refresh(role, Some(*framework), ledger, policy);
            }
        }
        if policy_changed {
            self.quotas = Quotas::new(policy, ledger);
            self.order.clear_owed();
        }
        if self.quotas.is_empty() {
            return;
        }
        for role in moved.keys() {
            self.quotas.refresh(role.as_str(), ledger);
            self.quotas.mark_path(role.as_str(), ledger, &mut self.order);
        }
        if policy_changed || !fresh.is_empty() {
            self.quotas.mark(ledger, &mut self.order);
        }
    }

    fn clock(&self, now: Timestamp) -> Clock {
        Clock { now, cycles: self.cycles, is_periodic: self.settings.interval.is_some() }
    }

    /// What came of the looks of a framework in a role; none if it is not in it.
    pub fn tally(&self, framework: FrameworkId, role: &Role) -> Option<Tally> {
        let client = self.clients.find(framework, role.as_str())?;
        // Who asks for nothing is left out of nothing.
        Some(if client.is_asking() { self.completed(&client.tally) } else { client.tally.clone() })
    }

    /// What came of the looks for each want of a framework in a role.
    pub fn want_tallies(&self, framework: FrameworkId, role: &Role) -> BTreeMap<u32, Tally> {
        let client = self.clients.find(framework, role.as_str());
        let is_asking = client.is_some_and(Client::is_asking);
        let wants = client.and_then(|client| client.wants.as_ref()).into_iter().flatten();
        let told = |wanted: &Wanted| {
            let asks = is_asking && wanted.left() > 0;
            if asks { self.completed(&wanted.tally) } else { wanted.tally.clone() }
        };
        wants.map(|wanted| (wanted.want.id, told(wanted))).collect()
    }

    /// Until when a framework is served after all others; a time that is past is no matter.
    pub fn served_last_until(&self, framework: FrameworkId, role: &Role) -> Timestamp {
        let client = self.clients.find(framework, role.as_str());
        client.map_or(Timestamp(0), |client| client.demoted_until)
    }

    /// With the agents that were not looked at for anyone, or were given out before it was this one's turn.
    fn completed(&self, tally: &Tally) -> Tally {
        let mut tally = tally.clone();
        tally.add(Reason::Drained, u64::try_from(self.sites.closed()).unwrap_or(u64::MAX));
        tally.add(Reason::Full, u64::try_from(self.sites.full()).unwrap_or(u64::MAX));
        tally.add(Reason::Held, self.full + self.seen.saturating_sub(tally.considered));
        tally
    }

    /// How many agents are known.
    pub fn agents(&self) -> usize {
        self.sites.len()
    }
}
