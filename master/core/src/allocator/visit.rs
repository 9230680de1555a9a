//! One agent of a cycle: everyone is asked in order until nothing is left, or until all that asks has been left out.
//!
//! Who takes units is asked again after each; who was left out of this look for good is not. Its one surprise: most are
//! never asked at all, since it is known of them that they refused what is free or want agents of another class.

use super::Grant;
use super::candidate::Free;
use super::clients::Clients;
use super::cycle::Run;
use super::judge::{Judge, LeftOut, Take};
use super::order::{ClientKey, Order};
use super::sites::Site;
use crate::ledger::Holder;
use std::ops::ControlFlow;
use tepui_proto::roles::Packing;
use tepui_proto::{AgentId, Bundle, FrameworkId, Role};

/// One agent that is looked at.
#[expect(
    clippy::struct_excessive_bools,
    reason = "two are of the agent, two are of how far the visit has come"
)]
pub(super) struct Visit<'a> {
    pub(super) agent: AgentId,
    pub(super) site: &'a Site,
    pub(super) class: usize,
    pub(super) has_gpus: bool,
    /// Whether every client takes agents like this one, so that marks tell the first reason there is.
    is_common: bool,
    /// The number of the look.
    pub(super) look: u64,
    /// Whether somebody who spreads has taken a unit: the rest of the agent waits for the next pass.
    is_spread: bool,
    /// Where this visit's grants begin.
    first_grant: usize,
    /// Whether those are served who are served last.
    is_last_call: bool,
}

/// Somebody who has been granted something in a walk over the order.
type Granted = (Role, FrameworkId, ClientKey);

impl Run<'_> {
    /// Gives out one agent. Whether somebody took one unit of it to come again.
    pub(super) fn look_at(&mut self, order: &mut Order, agent: AgentId, look: u64) -> bool {
        let sites = self.sites;
        let Some((site, class)) = sites.get(agent) else { return false };
        let Some(accounts) = self.ledger.agent(agent) else { return false };
        let has_gpus = accounts
            .offerable
            .total
            .iter()
            .any(|(_, amount)| amount.custom.contains_key(super::GPUS));
        let mut visit = Visit {
            agent,
            site,
            class,
            has_gpus,
            is_common: !has_gpus && site.takes_many_roles && !self.settings.is_elsewhere(site),
            look,
            is_spread: false,
            first_grant: self.grants.len(),
            is_last_call: false,
        };
        let free = accounts.offerable.free();
        if visit.is_common && free.is_plain() {
            let Clients { refusals, marks, .. } = &mut *self.clients;
            refusals.hidden(agent, free, self.clock, |client| marks.hide(client, look));
        }
        while self.walk(order, &mut visit) {}
        if self.clients.has_demoted() && !visit.is_spread {
            visit.is_last_call = true;
            while self.walk(order, &mut visit) {}
        }
        visit.is_spread
    }

    /// Asks everyone in order, until nothing is left or somebody has taken a unit of a want. Whether to ask again.
    fn walk(&mut self, order: &mut Order, visit: &mut Visit<'_>) -> bool {
        let Some(accounts) = self.ledger.agent(visit.agent) else { return false };
        let mut free = Free::of(accounts.offerable.free());
        let mut granted: Vec<Granted> = Vec::new();
        // Who takes units, and whether somebody else could take some of the agent as well.
        let mut taker: Option<(Granted, usize, u32, Bundle)> = None;
        let mut has_rival = false;
        order.walk(self.is_owed_pass, &mut |node, framework, key| {
            if free.bundle().is_empty() {
                return ControlFlow::Break(());
            }
            if self.passes_over(visit, key) {
                return ControlFlow::Continue(());
            }
            let Some(node) = order.node(node) else { return ControlFlow::Continue(()) };
            match (self.judge(visit, &node.role, key, &free), &taker) {
                (None, _) => {}
                (Some(_), Some(_)) => {
                    has_rival = true;
                    return ControlFlow::Break(());
                }
                (Some(Take::Whole(bundle)), None) => {
                    let who = (node.role.clone(), framework, key);
                    if self.grant(visit, &who, None, bundle) {
                        granted.push(who);
                    }
                    if let Some(accounts) = self.ledger.agent(visit.agent) {
                        free = Free::of(accounts.offerable.free());
                    }
                }
                (Some(Take::Units { at, most, from }), None) => {
                    taker = Some(((node.role.clone(), framework, key), at, most, from));
                }
            }
            ControlFlow::Continue(())
        });
        let goes_on = taker.is_some_and(|(who, at, most, from)| {
            let is_spread = self.policy.packing(who.0.as_str()) == Packing::Spread;
            let units = if has_rival || is_spread { 1 } else { most };
            let has_granted = self.grant_units(visit, &who, at, units, &from);
            visit.is_spread = is_spread && has_granted;
            granted.push(who);
            has_granted && !is_spread
        });
        for (role, framework, key) in granted {
            order.served(&role, framework, self.ledger, self.policy);
            self.clients.settle(key, &role, order);
            self.quotas.mark_path(role.as_str(), self.ledger, order);
        }
        goes_on
    }

    /// Whether a client is left out of this look, or of this walk, without being asked.
    fn passes_over(&mut self, visit: &Visit<'_>, key: ClientKey) -> bool {
        // Who is served last is asked when all others have been, and then alone.
        if visit.is_last_call != self.clients.is_demoted(key) {
            return true;
        }
        let class = visit.is_common.then_some(visit.class);
        self.clients.marks.passes_over(key, visit.look, class, !self.is_owed_pass)
    }

    /// What a client takes of what is free, if anything, with the first verdict of each look counted.
    fn judge(
        &mut self,
        visit: &Visit<'_>,
        role: &Role,
        key: ClientKey,
        free: &Free,
    ) -> Option<Take> {
        let counts = !self.is_owed_pass && !self.has_served(visit, key);
        let (client, refusals) = self.clients.with_refusals(key)?;
        let judge = Judge {
            settings: self.settings,
            quotas: self.quotas,
            ledger: self.ledger,
            refusals,
            closed: &self.closed,
            clock: self.clock,
            is_owed_pass: self.is_owed_pass,
            taken: self.shared.get(&visit.agent),
            counts,
        };
        let verdict = judge.judge(visit, role, (key, client), free);
        match verdict {
            Ok(take) => Some(take),
            Err(LeftOut { reason, stands }) => {
                if counts && self.clients.marks.counts(key, visit.look) {
                    self.clients.tell(key, Some(reason));
                }
                self.clients.marks.leave_out(key, visit.look, visit.class, stands);
                None
            }
        }
    }

    /// Whether a client has been granted something of the agent in an earlier pass, and counted with it.
    fn has_served(&self, visit: &Visit<'_>, key: ClientKey) -> bool {
        let earlier = self.by_agent.get(&visit.agent).into_iter().flatten();
        let mut earlier = earlier.filter_map(|at| self.grants.get(*at));
        earlier.any(|grant| self.clients.key(grant.framework, grant.role.as_str()) == Some(key))
    }

    fn grant_units(
        &mut self,
        visit: &Visit<'_>,
        who: &Granted,
        at: usize,
        units: u32,
        from: &Bundle,
    ) -> bool {
        // Which of its wants asked in looks that are not counted yet is known only until one has got its last unit.
        self.clients.count_passed_over(who.2);
        let wanted =
            self.clients.get_mut(who.2).and_then(|client| client.wants.as_mut()?.get_mut(at));
        let Some(wanted) = wanted else { return false };
        let Some(bundle) = wanted.cut(from, units) else { return false };
        wanted.offered = wanted.offered.saturating_add(units);
        wanted.see(visit.look, None);
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
        let (role, framework, key) = who;
        let holder = Holder { role, framework: *framework };
        if self.ledger.offer(visit.agent, holder, &bundle).is_err() {
            return false;
        }
        if !self.has_served(visit, *key) && self.clients.marks.counts(*key, visit.look) {
            self.clients.tell(*key, None);
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
