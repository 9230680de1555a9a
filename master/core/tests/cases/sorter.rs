//! Runs a `sorter` block: clients that are roles with one framework each, and the order in which they are served.

use super::bundles::named_in;
use super::engine::{Engine, Hold};
use super::run::Failure;
use super::step::{At, Client, Setup, SorterStep};
use std::collections::BTreeMap;
use tepui_proto::{AgentId, Bundle, FrameworkId, Role};

struct Sorter {
    engine: Engine,
    agents: BTreeMap<String, AgentId>,
    clients: BTreeMap<Role, (FrameworkId, Client)>,
    /// Counts clients ever added.
    added: u64,
    held: BTreeMap<Hold, Bundle>,
}

type Done = Result<(), String>;

/// Runs a block to its end, or to its first failure.
pub(crate) fn run(steps: &[At<SorterStep>], seed: u64) -> Result<(), Failure> {
    let engine = Engine::new(&Setup::default(), seed);
    let mut sorter = Sorter {
        engine: engine.map_err(|what| Failure { line: 0, what })?,
        agents: BTreeMap::new(),
        clients: BTreeMap::new(),
        added: 0,
        held: BTreeMap::new(),
    };
    for At { line, it } in steps {
        sorter.step(it).map_err(|what| Failure { line: *line, what })?;
    }
    Ok(())
}

impl Sorter {
    fn step(&mut self, step: &SorterStep) -> Done {
        match step {
            SorterStep::Total { agent, total } => {
                let id = self.agent(agent);
                self.engine.set_total(id, total);
                Ok(())
            }
            SorterStep::Add(roles) => roles.iter().try_for_each(|role| self.add(role)),
            SorterStep::Remove(roles) => roles.iter().try_for_each(|role| self.remove(role)),
            SorterStep::Activate(roles) => {
                roles.iter().try_for_each(|role| self.set_active(role, true))
            }
            SorterStep::Deactivate(roles) => {
                roles.iter().try_for_each(|role| self.set_active(role, false))
            }
            SorterStep::Weight { role, milli } => {
                self.engine.set_weight(role.clone(), *milli);
                Ok(())
            }
            SorterStep::Alloc { client, agent, what } => {
                let hold = self.hold(client, agent)?;
                self.take(&hold, what)?;
                self.engine.count_served(hold.framework, client);
                Ok(())
            }
            SorterStep::Free { client, agent, what } => {
                let hold = self.hold(client, agent)?;
                self.give_back(&hold, what)
            }
            SorterStep::Update { client, agent, from, to } => {
                let hold = self.hold(client, agent)?;
                self.give_back(&hold, from)?;
                self.take(&hold, &named_in(to, from)?)
            }
            SorterStep::Order(expected) => {
                let actual = self.engine.order();
                if actual == *expected {
                    return Ok(());
                }
                Err(format!(
                    "order\n  expected: {}\n  actual:   {}",
                    names(expected),
                    names(&actual)
                ))
            }
        }
    }

    fn add(&mut self, role: &Role) -> Done {
        self.added += 1;
        let client = Client { roles: vec![role.clone()], is_active: true, ..Client::default() };
        let id = FrameworkId(self.added);
        self.engine.set_framework(id, &client);
        match self.clients.insert(role.clone(), (id, client)) {
            None => Ok(()),
            Some(_) => Err(format!("there is a client `{role}` already")),
        }
    }

    fn remove(&mut self, role: &Role) -> Done {
        let (framework, _) = self.clients.remove(role).ok_or_else(|| unknown(role))?;
        let holds: Vec<Hold> =
            self.held.keys().filter(|hold| hold.framework == framework).cloned().collect();
        for hold in holds {
            let all = self.held.get(&hold).cloned().unwrap_or_default();
            self.give_back(&hold, &all)?;
        }
        self.engine.remove_framework(framework);
        Ok(())
    }

    fn set_active(&mut self, role: &Role, is_active: bool) -> Done {
        let (framework, client) = self.clients.get_mut(role).ok_or_else(|| unknown(role))?;
        client.is_active = is_active;
        self.engine.set_framework(*framework, client);
        Ok(())
    }

    fn take(&mut self, hold: &Hold, what: &Bundle) -> Done {
        self.engine.take(hold, what)?;
        let held = self.held.entry(hold.clone()).or_default();
        *held = held.checked_add(what).ok_or("a port or an item twice, or too much")?;
        Ok(())
    }

    fn give_back(&mut self, hold: &Hold, what: &Bundle) -> Done {
        let held = self.held.get_mut(hold).ok_or("it holds nothing there")?;
        let left = held.checked_sub(what);
        let left = left.ok_or_else(|| format!("it does not hold {what} there, but {held}"))?;
        if left.is_empty() {
            self.held.remove(hold);
        } else {
            *held = left;
        }
        self.engine.give_back(hold, what)
    }

    fn hold(&mut self, client: &Role, agent: &str) -> Result<Hold, String> {
        let (framework, _) = *self.clients.get(client).ok_or_else(|| unknown(client))?;
        Ok(Hold { framework, agent: self.agent(agent), role: client.clone() })
    }

    /// An agent of which nothing was said yet has nothing.
    fn agent(&mut self, name: &str) -> AgentId {
        if let Some(id) = self.agents.get(name) {
            return *id;
        }
        let id = AgentId(u32::try_from(self.agents.len()).unwrap_or(u32::MAX)).next();
        self.agents.insert(name.to_owned(), id);
        self.engine.set_total(id, &Bundle::default());
        id
    }
}

fn unknown(client: &Role) -> String {
    format!("no client `{client}`")
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(Role::as_str).collect::<Vec<_>>().join(",")
}
