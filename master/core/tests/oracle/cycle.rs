//! The simple allocator: each agent goes, step by step, to the lowest share that may take any of it.
//!
//! Works out order, shares, quotas and what is free anew before every single question. Quadratic, at least.

use super::amounts::Amounts;
use super::books::{Books, Holding};
use super::judge::{Pass, Question, Take, Taken, judge};
use super::served::Served;
use super::{quota, tree, units};
use tepui_master_core::allocator::Share;
use tepui_proto::roles::Packing;
use tepui_proto::{AgentId, Bundle, FrameworkId, Role};

type Client = (Role, FrameworkId);

/// One cycle under way.
struct Cycle<'a> {
    books: &'a mut Books,
    served: &'a mut Served,
    taken: Taken,
    pass: Pass,
    /// Whether those are served who are served last.
    is_last_call: bool,
}

/// Gives out what is free of these agents. What is given out stands in the books as offered when this returns.
pub(crate) fn allocate(books: &mut Books, served: &mut Served, agents: &[AgentId]) {
    let is_open = |id: &AgentId| books.agents.get(id).is_some_and(|agent| agent.site.is_open);
    let has_room = |id: &&AgentId| is_open(id) && !books.free(**id).is_empty();
    let agents: Vec<AgentId> = agents.iter().filter(has_room).copied().collect();
    let is_owing = !quota::required(books).is_none();
    let mut cycle =
        Cycle { books, served, taken: Taken::new(), pass: Pass::Owed, is_last_call: false };
    if is_owing {
        cycle.passes(&agents);
    }
    cycle.pass = Pass::Fair;
    cycle.passes(&agents);
}

impl Cycle<'_> {
    /// Looks at each agent, and again at those that are to be looked at again.
    fn passes(&mut self, agents: &[AgentId]) {
        let mut agents = agents.to_vec();
        while !agents.is_empty() {
            agents = self.pass(agents);
        }
    }

    fn pass(&mut self, agents: Vec<AgentId>) -> Vec<AgentId> {
        let mut again = Vec::new();
        let rooms = agents.into_iter().map(|agent| (self.room(agent), agent));
        let mut left: Vec<(Share, AgentId)> = rooms.collect();
        left.sort();
        while let Some(agent) = self.next(&mut left) {
            if self.visit(agent) {
                again.push(agent);
            }
        }
        again
    }

    fn room(&self, agent: AgentId) -> Share {
        let free = self.books.free(agent).retained(|kind, _| !kind.is_shared());
        let sum =
            free.iter().fold(Amounts::default(), |sum, (_, more)| sum.plus(Amounts::of(more)));
        let total = self.books.total().quantities();
        Share::dominant(&sum.quantities(), &total, 1000, &std::collections::BTreeSet::new())
    }

    /// The agent that whoever is first would like to see next; none if nobody asks.
    fn next(&self, left: &mut Vec<(Share, AgentId)>) -> Option<AgentId> {
        let (role, _) = self.order().into_iter().next()?;
        if left.is_empty() {
            return None;
        }
        let at = match packing(self.books, &role) {
            Packing::Spread => left.len() - 1,
            Packing::Pack | Packing::Random => 0,
        };
        Some(left.remove(at).1)
    }

    /// Whoever may be given something in this pass.
    fn order(&self) -> Vec<Client> {
        let is_in =
            |role: &Role| self.pass == Pass::Fair || !quota::owed(self.books, role).is_none();
        tree::order(self.books, self.served).into_iter().filter(|(role, _)| is_in(role)).collect()
    }

    /// Gives out one agent, until nobody takes any of it, or a role that spreads has had a unit: the agent is looked at again
    /// in the next pass then.
    fn visit(&mut self, agent: AgentId) -> bool {
        [false, true].into_iter().any(|is_last_call| {
            self.is_last_call = is_last_call;
            self.call(agent)
        })
    }

    /// Asks everyone, and again while somebody takes units.
    fn call(&mut self, agent: AgentId) -> bool {
        loop {
            let mut given: Vec<Client> = Vec::new();
            let mut taker: Option<(Client, u32, u32, Bundle)> = None;
            let mut has_rival = false;
            for client in self.order() {
                let (role, framework) = &client;
                let is_last = self.books.is_demoted(role, *framework);
                if is_last != self.is_last_call {
                    continue;
                }
                let question = Question { agent, framework: *framework, role, pass: self.pass };
                match judge(self.books, question, &self.taken) {
                    None => {}
                    Some(_) if taker.is_some() => {
                        has_rival = true;
                        break;
                    }
                    Some(Take::Whole(bundle)) => {
                        self.give(agent, &client, None, bundle);
                        given.push(client);
                    }
                    Some(Take::Units { want, most, from }) => {
                        taker = Some((client, want, most, from));
                    }
                }
            }
            let goes_on = taker.is_some();
            let mut is_spent = false;
            if let Some((client, want, most, from)) = taker {
                is_spent = packing(self.books, &client.0) == Packing::Spread;
                let count = if has_rival || is_spent { 1 } else { most };
                self.give_units(agent, &client, (want, count), &from);
                given.push(client);
            }
            for (role, framework) in given {
                self.served.count(&role, framework);
            }
            if is_spent || !goes_on {
                return is_spent;
            }
        }
    }

    fn give_units(&mut self, agent: AgentId, client: &Client, units: (u32, u32), from: &Bundle) {
        let ask = self.books.asks.get(&client.1);
        let wants = ask.and_then(|ask| ask.wants.as_ref()).into_iter().flatten();
        let mut own = wants.filter(|want| want.id == units.0 && want.role == client.0);
        let bundle = own.next().and_then(|want| units::cut(want, from, units.1));
        self.give(agent, client, Some(units), bundle.unwrap_or_default());
    }

    fn give(&mut self, agent: AgentId, client: &Client, want: Option<(u32, u32)>, bundle: Bundle) {
        for (kind, _) in bundle.pools().filter(|(kind, _)| kind.is_shared()) {
            self.taken.insert((agent, kind.clone()));
        }
        let (role, framework) = client.clone();
        self.books.holdings.push(Holding {
            agent,
            framework,
            role,
            bundle,
            want,
            is_offered: true,
        });
    }
}

/// A role's packing, or that of the nearest role above it that has one.
fn packing(books: &Books, role: &Role) -> Packing {
    let path = super::books::path(role);
    let own = path.iter().rev().find_map(|above| books.policy.role(above)?.packing);
    own.unwrap_or(Packing::Random)
}
