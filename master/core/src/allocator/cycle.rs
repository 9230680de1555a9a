//! One cycle: what is free of some agents is given out, guarantees first, then by fair share.
//!
//! Each agent goes to the lowest share that can take any of it; who takes whole takes all that it may, in the order that
//! stood when the agent came up, and who has stated wants takes a unit at a time while others could take some too.

use super::clients::Clients;
use super::order::Order;
use super::packing::Sequence;
use super::quotas::Quotas;
use super::refusals::Clock;
use super::sites::Sites;
use super::{Allocator, Grant, Look, Settings};
use crate::ledger::Ledger;
use crate::policy::Policy;
use crate::quantities::Quantities;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use tepui_proto::roles::Packing;
use tepui_proto::{AgentId, PoolKind, Timestamp};

/// A cycle that runs.
pub(super) struct Run<'a> {
    pub(super) settings: &'a Settings,
    pub(super) sites: &'a Sites,
    pub(super) clients: &'a mut Clients,
    pub(super) quotas: &'a mut Quotas,
    pub(super) ledger: &'a mut Ledger,
    pub(super) policy: &'a Policy,
    pub(super) clock: Clock,
    /// What is free of agents that are not offered.
    pub(super) closed: Quantities,
    /// Shared volumes that were offered in this cycle, by agent.
    pub(super) shared: BTreeMap<AgentId, BTreeSet<PoolKind>>,
    pub(super) grants: Vec<Grant>,
    /// Grants by agent, where more than one pass may add to them.
    pub(super) by_agent: BTreeMap<AgentId, Vec<usize>>,
    /// Whether guarantees are served.
    pub(super) is_owed_pass: bool,
}

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
            let mut agents = agents.clone();
            while !agents.is_empty() {
                agents = run.pass(&mut self.order, agents, seed, &mut self.looks);
            }
            run.is_owed_pass = false;
        }
        let mut agents = agents;
        while !agents.is_empty() {
            agents = run.pass(&mut self.order, agents, seed.rotate_left(32), &mut self.looks);
        }
        let grants = run.grants;
        for client in self.clients.marks.take_untold() {
            self.clients.count_passed_over(client);
        }
        // All that has moved in this cycle was read as it moved.
        let _read = ledger.take_moved();
        grants
    }

    /// Open agents of which something is free. A look at everything begins all tallies anew.
    fn candidates(&mut self, ledger: &Ledger, look: Look<'_>, now: Timestamp) -> Vec<AgentId> {
        let has_room = |agent: &AgentId| {
            self.sites.has_room(*agent)
                && ledger.agent(*agent).is_some_and(|a| !a.offerable.free().is_empty())
        };
        match look {
            Look::Agents(agents) => agents.iter().copied().filter(has_room).collect(),
            Look::All => {
                let agents: Vec<AgentId> = self.sites.ids().filter(has_room).collect();
                let open = self.sites.len() - self.sites.closed() - self.sites.full();
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
        sum.add_pools(accounts.offerable.free(), PoolKind::is_open);
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
}
