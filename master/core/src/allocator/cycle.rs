//! One cycle: what is free of some agents is given out, guarantees first, then by fair share.
//!
//! Each agent goes to the lowest share that can take any of it; who takes whole takes all that it may, in the order that
//! stood when the agent came up, and who has stated wants takes a unit at a time while others could take some too.

use super::candidate::{self, Allowance, Asker};
use super::clients::{Client, Clients};
use super::explain::Reason;
use super::order::{ClientKey, Order};
use super::packing::Sequence;
use super::quotas::Quotas;
use super::refusals::Clock;
use super::sites::{Site, Sites};
use super::{Allocator, Grant, Look, Settings};
use crate::ledger::{Holder, Ledger};
use crate::policy::Policy;
use crate::quantities::Quantities;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use tepui_proto::roles::Packing;
use tepui_proto::{AgentId, Bundle, FrameworkId, PoolKind, Role, Scalars, Timestamp};

/// What a framework could take of an agent.
enum Take {
    /// All of this.
    Whole(Bundle),
    /// Up to so many units of its want at this place, out of this.
    Units { at: usize, most: u32, from: Bundle },
}

/// A cycle that runs.
struct Run<'a> {
    settings: &'a Settings,
    sites: &'a Sites,
    clients: &'a mut Clients,
    quotas: &'a mut Quotas,
    ledger: &'a mut Ledger,
    policy: &'a Policy,
    clock: Clock,
    /// What is free of agents that are not offered.
    closed: Quantities,
    /// Shared volumes that were offered in this cycle, by agent.
    shared: BTreeMap<AgentId, BTreeSet<PoolKind>>,
    grants: Vec<Grant>,
    /// Grants by agent, where more than one pass may add to them.
    by_agent: BTreeMap<AgentId, Vec<usize>>,
    /// Whether guarantees are served.
    is_owed_pass: bool,
}

/// One agent that is looked at.
struct Visit<'a> {
    agent: AgentId,
    site: &'a Site,
    class: usize,
    has_gpus: bool,
    /// The number of the look.
    look: u64,
    /// Who takes a unit at a time and has had one.
    spent: Vec<ClientKey>,
    /// Where this visit's grants begin.
    first_grant: usize,
    /// Whether those are served who are served last.
    is_last_call: bool,
}

/// Somebody who has been granted something in a walk over the order.
type Granted = (Role, FrameworkId, ClientKey);

impl Allocator {
    /// A periodic cycle over everything.
    pub fn cycle(&mut self, ledger: &mut Ledger, policy: &Policy, now: Timestamp) -> Vec<Grant> {
        let grants = self.allocate(ledger, policy, now, Look::All);
        self.cycles += 1;
        grants
    }

    /// Gives out what is free of these agents. In the ledger it is offered when this returns.
    pub fn allocate(
        &mut self,
        ledger: &mut Ledger,
        policy: &Policy,
        now: Timestamp,
        look: Look<'_>,
    ) -> Vec<Grant> {
        self.catch_up(ledger, policy);
        if self.order.is_empty() {
            return Vec::new();
        }
        let agents = self.candidates(ledger, look, now);
        if agents.is_empty() {
            return Vec::new();
        }
        let clock = self.clock(now);
        self.clients.set_now(now);
        let mut run = Run {
            settings: &self.settings,
            sites: &self.sites,
            clients: &mut self.clients,
            quotas: &mut self.quotas,
            closed: closed(&self.sites, ledger),
            ledger,
            policy,
            clock,
            shared: BTreeMap::new(),
            grants: Vec::new(),
            by_agent: BTreeMap::new(),
            is_owed_pass: false,
        };
        let seed = self.settings.seed ^ self.looks;
        self.seen += agents.len() as u64;
        if run.quotas.is_owing() {
            run.is_owed_pass = true;
            run.pass(&mut self.order, agents.clone(), seed, &mut self.looks);
            run.is_owed_pass = false;
        }
        let mut agents = agents;
        while !agents.is_empty() {
            agents = run.pass(&mut self.order, agents, seed.rotate_left(32), &mut self.looks);
        }
        let grants = run.grants;
        // All that has moved in this cycle was read as it moved.
        let _read = ledger.take_moved();
        grants
    }

    /// Open agents of which something is free. A look at everything begins all tallies anew.
    fn candidates(&mut self, ledger: &Ledger, look: Look<'_>, now: Timestamp) -> Vec<AgentId> {
        let has_room = |agent: &AgentId| {
            let is_open = self.sites.get(*agent).is_some_and(|(site, _)| site.is_open);
            is_open && ledger.agent(*agent).is_some_and(|a| !a.offerable.free().is_empty())
        };
        match look {
            Look::Agents(agents) => agents.iter().copied().filter(has_room).collect(),
            Look::All => {
                let agents: Vec<AgentId> = self.sites.ids().filter(has_room).collect();
                let open = self.sites.len() - self.sites.closed();
                self.full = open.saturating_sub(agents.len()) as u64;
                self.seen = 0;
                for client in self.clients.iter_mut() {
                    client.tally.reset(now);
                    for wanted in client.wants.iter_mut().flatten() {
                        wanted.tally.reset(now);
                    }
                }
                agents
            }
        }
    }
}

/// What is free of agents that are not offered: no headroom for anyone.
fn closed(sites: &Sites, ledger: &Ledger) -> Quantities {
    let mut sum = Quantities::default();
    for accounts in sites.closed_ids().filter_map(|agent| ledger.agent(agent)) {
        let is_open = |kind: &PoolKind| !kind.is_reserved() && !kind.revocable && !kind.is_shared();
        sum.add_pools(accounts.offerable.free(), is_open);
    }
    sum
}

impl Run<'_> {
    /// Looks at each agent once. Returns those of which somebody took a unit and could take another.
    fn pass(
        &mut self,
        order: &mut Order,
        agents: Vec<AgentId>,
        seed: u64,
        looks: &mut u64,
    ) -> Vec<AgentId> {
        let sorts = self.policy.has_packing();
        let mut sequence = Sequence::new(agents, self.ledger, sorts, seed);
        let mut again = Vec::new();
        loop {
            let packing = if sorts { self.next_packing(order) } else { Packing::Random };
            let Some(agent) = sequence.next(packing) else { return again };
            *looks += 1;
            if self.look_at(order, agent, *looks) {
                again.push(agent);
            }
        }
    }

    /// How the role that is served next wants its agents.
    fn next_packing(&self, order: &Order) -> Packing {
        let mut packing = Packing::Random;
        order.walk(self.is_owed_pass, &mut |node, _, _| {
            if let Some(node) = order.node(node) {
                packing = self.policy.packing(node.role.as_str());
            }
            ControlFlow::Break(())
        });
        packing
    }

    /// Gives out one agent. Whether somebody took one unit of it to come again.
    fn look_at(&mut self, order: &mut Order, agent: AgentId, look: u64) -> bool {
        let sites = self.sites;
        let Some((site, class)) = sites.get(agent) else { return false };
        let Some(accounts) = self.ledger.agent(agent) else { return false };
        let has_gpus =
            accounts.offerable.total.iter().any(|(_, amount)| amount.custom.contains_key("gpus"));
        let first_grant = self.grants.len();
        let spent = Vec::new();
        let is_last_call = false;
        let mut visit =
            Visit { agent, site, class, has_gpus, look, spent, first_grant, is_last_call };
        while self.walk(order, &mut visit) {}
        if self.clients.has_demoted() {
            visit.is_last_call = true;
            while self.walk(order, &mut visit) {}
        }
        !visit.spent.is_empty()
    }

    /// Asks everyone in order, until nothing is left or somebody has taken a unit of a want. Whether to ask again.
    fn walk(&mut self, order: &mut Order, visit: &mut Visit<'_>) -> bool {
        let Some(accounts) = self.ledger.agent(visit.agent) else { return false };
        let mut free = accounts.offerable.free().clone();
        let mut granted: Vec<Granted> = Vec::new();
        // Who takes units, and whether somebody else could take some of the agent as well.
        let mut taker: Option<(Granted, usize, u32, Bundle)> = None;
        let mut has_rival = false;
        order.walk(self.is_owed_pass, &mut |node, framework, key| {
            if free.is_empty() {
                return ControlFlow::Break(());
            }
            let Some(node) = order.node(node) else { return ControlFlow::Continue(()) };
            if visit.spent.contains(&key) {
                return ControlFlow::Continue(());
            }
            match (self.judge(visit, &node.role, key, &free), &taker) {
                (Err(_), _) => {}
                (Ok(_), Some(_)) => {
                    has_rival = true;
                    return ControlFlow::Break(());
                }
                (Ok(Take::Whole(bundle)), None) => {
                    let who = (node.role.clone(), framework, key);
                    if self.grant(visit, &who, None, bundle) {
                        granted.push(who);
                    }
                    if let Some(accounts) = self.ledger.agent(visit.agent) {
                        free.clone_from(accounts.offerable.free());
                    }
                }
                (Ok(Take::Units { at, most, from }), None) => {
                    taker = Some(((node.role.clone(), framework, key), at, most, from));
                }
            }
            ControlFlow::Continue(())
        });
        let goes_on = taker.is_some_and(|(who, at, most, from)| {
            let is_spread = self.policy.packing(who.0.as_str()) == Packing::Spread;
            let units = if has_rival || is_spread { 1 } else { most };
            if is_spread {
                visit.spent.push(who.2);
            }
            let has_granted = self.grant_units(visit, &who, at, units, &from);
            granted.push(who);
            has_granted
        });
        for (role, framework, key) in granted {
            order.served(&role, framework, self.ledger, self.policy);
            self.clients.settle(key, &role, order);
            self.quotas.mark_path(role.as_str(), self.ledger, order);
        }
        goes_on
    }

    /// What a client could take of what is free, with the first verdict of each look counted.
    fn judge(
        &mut self,
        visit: &Visit<'_>,
        role: &Role,
        key: ClientKey,
        free: &Bundle,
    ) -> Result<Take, Reason> {
        let Some(client) = self.clients.get_mut(key) else { return Err(Reason::Held) };
        if client.demoted_until > self.clock.now && !visit.is_last_call {
            return Err(Reason::Held);
        }
        let counts = !self.is_owed_pass && client.counted != visit.look;
        let judge = Judge {
            settings: self.settings,
            quotas: self.quotas,
            ledger: self.ledger,
            closed: &self.closed,
            clock: self.clock,
            is_owed_pass: self.is_owed_pass,
            taken: self.shared.get(&visit.agent),
            counts,
        };
        let verdict = judge.judge(visit, role, client, free);
        if counts {
            client.counted = visit.look;
            client.tally.see(verdict.as_ref().err().copied());
        }
        verdict
    }

    fn grant_units(
        &mut self,
        visit: &Visit<'_>,
        who: &Granted,
        at: usize,
        units: u32,
        from: &Bundle,
    ) -> bool {
        let wanted =
            self.clients.get_mut(who.2).and_then(|client| client.wants.as_mut()?.get_mut(at));
        let Some(wanted) = wanted else { return false };
        let Some(bundle) = wanted.cut(from, units) else { return false };
        wanted.offered = wanted.offered.saturating_add(units);
        let want = Some((wanted.want.id, units));
        self.grant(visit, who, want, bundle)
    }

    /// Offers it. False if the ledger does not have it, which is not reached: it was read from there.
    fn grant(
        &mut self,
        visit: &Visit<'_>,
        who: &Granted,
        want: Option<(u32, u32)>,
        bundle: Bundle,
    ) -> bool {
        let (role, framework, _) = who;
        let holder = Holder { role, framework: *framework };
        if self.ledger.offer(visit.agent, holder, &bundle).is_err() {
            return false;
        }
        if !self.quotas.is_empty() {
            self.quotas.refresh(role.as_str(), self.ledger);
        }
        for (kind, _) in bundle.pools().filter(|(kind, _)| kind.is_shared()) {
            self.shared.entry(visit.agent).or_default().insert(kind.clone());
        }
        let same = |grant: &Grant| {
            grant.framework == *framework
                && grant.role == *role
                && grant.want.map(|(id, _)| id) == want.map(|(id, _)| id)
        };
        let earlier = self.by_agent.get(&visit.agent);
        let places = earlier.into_iter().flatten().copied();
        let mut places = places.chain(visit.first_grant..self.grants.len());
        let place = places.find(|at| self.grants.get(*at).is_some_and(same));
        if let Some(grant) = place.and_then(|at| self.grants.get_mut(at))
            && let Some(sum) = grant.bundle.checked_add(&bundle)
        {
            grant.bundle = sum;
            grant.want = grant.want.map(|(id, n)| (id, n + want.map_or(0, |(_, more)| more)));
            return true;
        }
        if self.is_owed_pass || self.policy.has_packing() {
            self.by_agent.entry(visit.agent).or_default().push(self.grants.len());
        }
        let (framework, role, agent) = (*framework, role.clone(), visit.agent);
        self.grants.push(Grant { framework, role, agent, want, bundle });
        true
    }
}

/// What a verdict depends on beside client and agent.
struct Judge<'a> {
    settings: &'a Settings,
    quotas: &'a Quotas,
    ledger: &'a Ledger,
    closed: &'a Quantities,
    clock: Clock,
    is_owed_pass: bool,
    taken: Option<&'a BTreeSet<PoolKind>>,
    /// Whether verdicts on wants are counted.
    counts: bool,
}

impl Judge<'_> {
    fn judge(
        &self,
        visit: &Visit<'_>,
        role: &Role,
        client: &mut Client,
        free: &Bundle,
    ) -> Result<Take, Reason> {
        self.check_accepts(visit, role, client)?;
        // What is refused hides all that lies within it, whatever of it there is to offer.
        if free.is_plain() && client.refusals.hide(visit.agent, free, self.clock) {
            return Err(Reason::Filter);
        }
        if let Some(wants) = &mut client.wants {
            let mut asking = wants.iter_mut().filter(|wanted| wanted.left() > 0);
            let meets = asking.any(|wanted| wanted.constraints.are_met(visit.site, visit.class));
            if !meets {
                self.see_all(client, Reason::Constraint);
                return Err(Reason::Constraint);
            }
        }
        let none = BTreeSet::new();
        let taken = self.taken.unwrap_or(&none);
        let revocable = client.wants.iter().flatten().any(|wanted| wanted.want.revocable);
        let accepts =
            super::Accepts { revocable: client.accepts.revocable || revocable, ..client.accepts };
        let available = candidate::available(free, Asker { role, accepts, taken })?;
        let smallest = client.smallest.as_ref().unwrap_or(&self.settings.smallest);
        if !candidate::is_worth_offering(&available, smallest) {
            return Err(Reason::SmallestOffer);
        }
        let allowance = self.allowance(role);
        if client.wants.is_some() {
            return self.judge_wants(visit, role, client, available, &allowance);
        }
        let whole = candidate::candidate(available, role, &allowance)?;
        if !candidate::is_worth_offering(&whole, smallest) {
            // It was worth offering before quotas were asked.
            return Err(allowance.reason());
        }
        if client.refusals.hide(visit.agent, &whole, self.clock) {
            return Err(Reason::Filter);
        }
        Ok(Take::Whole(whole))
    }

    fn check_accepts(&self, visit: &Visit<'_>, role: &Role, client: &Client) -> Result<(), Reason> {
        let accepts = client.accepts;
        let too_old =
            !visit.site.takes_many_roles && (accepts.many_roles || role.as_str().contains('/'));
        let elsewhere = match (&self.settings.region, &visit.site.domain) {
            (Some(own), Some(domain)) => domain.region != *own && !accepts.other_regions,
            _ => false,
        };
        if too_old || elsewhere || (visit.has_gpus && !accepts.gpus) {
            return Err(Reason::NotAccepted);
        }
        Ok(())
    }

    fn allowance(&self, role: &Role) -> Allowance {
        if self.quotas.is_empty() {
            return Allowance::default();
        }
        let mut idle = self.ledger.idle().clone();
        idle.remove_all(self.closed);
        Allowance {
            owed: self.is_owed_pass.then(|| self.quotas.owed(role.as_str(), self.ledger)),
            room: self.quotas.room(role.as_str(), self.ledger),
            surplus: self.quotas.surplus(&idle),
        }
    }

    /// The first want of which at least one unit can be had here.
    fn judge_wants(
        &self,
        visit: &Visit<'_>,
        role: &Role,
        client: &mut Client,
        available: Bundle,
        allowance: &Allowance,
    ) -> Result<Take, Reason> {
        let cut = candidate::candidate(available.clone(), role, allowance);
        // Revocable units may be lent of what is held for guarantees: preemption gets it back.
        let lent =
            Allowance { owed: None, room: allowance.room.clone(), surplus: Scalars::default() };
        let mut why = Reason::Held;
        let (refusals, wants) = (&client.refusals, client.wants.iter_mut().flatten());
        for (at, wanted) in wants.enumerate().filter(|(_, wanted)| wanted.left() > 0) {
            if wanted.want.revocable && self.is_owed_pass {
                continue;
            }
            let lends = wanted.want.revocable && !allowance.surplus.is_empty();
            let lent = lends.then(|| candidate::candidate(available.clone(), role, &lent));
            let cut = lent.as_ref().unwrap_or(&cut);
            let verdict = if !wanted.constraints.are_met(visit.site, visit.class) {
                Err(Reason::Constraint)
            } else if wanted.fitting(&available) == 0 {
                Err(wanted.missing(&available))
            } else {
                cut.as_ref().map_err(|reason| *reason).and_then(|from| {
                    let most = wanted.fitting(from);
                    let one = if most > 0 { wanted.cut(from, 1) } else { None };
                    let one = one.ok_or_else(|| allowance.reason())?;
                    // Who has refused one unit is not asked about two.
                    let is_hidden = refusals.hide(visit.agent, &one, self.clock);
                    if is_hidden { Err(Reason::Filter) } else { Ok((most, from.clone())) }
                })
            };
            if self.counts {
                wanted.tally.see(verdict.as_ref().err().copied());
            }
            match verdict {
                Ok((most, from)) => return Ok(Take::Units { at, most, from }),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }

    fn see_all(&self, client: &mut Client, reason: Reason) {
        if self.counts {
            for wanted in client.wants.iter_mut().flatten().filter(|wanted| wanted.left() > 0) {
                wanted.tally.see(Some(reason));
            }
        }
    }
}
