//! The fixture of a `case`: who holds what, a clock that stands still until it is stepped, and what was offered.
//!
//! Owns the rules of the fixture: after which events an allocation runs, and of which agents. Never launches anything:
//! what is offered is held until a case takes it back.

use super::bundles::reserved;
use super::check::{Since, judge};
use super::engine::{Engine, Hold, Place};
use super::holdings::Holdings;
use super::names::Names;
use super::run::Failure;
use super::step::{At, Case, Check, Client, Event, Inverse, Offered, Step, Used, Whose};
use std::collections::{BTreeMap, BTreeSet};
use tepui_master_core::allocator::Grant;
use tepui_proto::{AgentId, Bundle, DurationMs, FrameworkId, Role};

/// One case under way.
pub(crate) struct World {
    engine: Engine,
    interval: DurationMs,
    names: Names,
    places: BTreeMap<AgentId, Place>,
    clients: BTreeMap<FrameworkId, Client>,
    holdings: Holdings,
    unavailable: BTreeSet<AgentId>,
    /// The agents that may be offered; all if there is none.
    whitelist: Option<BTreeSet<String>>,
    since: Since,
}

type Done = Result<(), String>;

/// Runs a case to its end, or to its first failure.
pub(crate) fn run(case: &Case, seed: u64) -> Result<(), Failure> {
    let mut world = World::new(case, seed).map_err(|what| Failure { line: 0, what })?;
    let mut steps = case.steps.as_slice();
    while let Some((first, rest)) = steps.split_first() {
        let fail = |what| Failure { line: first.line, what };
        match &first.it {
            Step::Event(event) => {
                world.event(event).map_err(fail)?;
                world.engine.check().map_err(fail)?;
                steps = rest;
            }
            Step::Rounds { count, expected } => {
                world.rounds(*count, expected).map_err(fail)?;
                steps = rest;
            }
            Step::Check(_) => {
                let is_check = |step: &&At<Step>| matches!(step.it, Step::Check(_));
                let group: Vec<&Check> = steps
                    .iter()
                    .take_while(is_check)
                    .filter_map(|step| match &step.it {
                        Step::Check(check) => Some(check),
                        _ => None,
                    })
                    .collect();
                steps = steps.split_at_checked(group.len()).map_or(&[], |(_, rest)| rest);
                let since = std::mem::take(&mut world.since);
                judge(&group, since, |role| world.engine.share(role)).map_err(fail)?;
            }
        }
    }
    Ok(())
}

impl World {
    fn new(case: &Case, seed: u64) -> Result<Self, String> {
        Ok(Self {
            engine: Engine::new(&case.setup, seed)?,
            interval: case.setup.interval,
            names: Names::new(case),
            places: BTreeMap::new(),
            clients: BTreeMap::new(),
            holdings: Holdings::default(),
            unavailable: BTreeSet::new(),
            whitelist: None,
            since: Since::default(),
        })
    }

    fn event(&mut self, event: &Event) -> Done {
        match event {
            Event::Tick(span) => self.tick(*span),
            Event::Whitelist(names) => {
                self.whitelist = Some(names.clone());
                for (agent, place) in &mut self.places {
                    place.is_open = names.contains(&place.hostname);
                    self.engine.set_open(*agent, place.is_open);
                }
                Ok(())
            }
            Event::Quota { role, guarantee, limit } => {
                self.engine.set_quota(role.clone(), guarantee.clone(), limit.clone());
                Ok(())
            }
            Event::Weight { role, milli } => {
                self.engine.set_weight(role.clone(), *milli);
                Ok(())
            }
            Event::Recover { whose, what, filter } => self.recover(whose, what.as_ref(), *filter),
            Event::RecoverAll => self.holdings.take_back_all(&mut self.engine),
            Event::Convert { whose, from, to } => {
                let hold = self.hold(whose)?;
                self.holdings.convert(&mut self.engine, &hold, from, to)
            }
            Event::ReserveFree { agent, role, what, is_allowed } => {
                self.reserve_free(agent, role, what, *is_allowed)
            }
            _ => self.agent_event(event).unwrap_or_else(|| self.framework_event(event)),
        }
    }

    fn agent_event(&mut self, event: &Event) -> Option<Done> {
        Some(match event {
            Event::Agent { agent, total, used, takes_many_roles } => {
                self.add_agent(agent, total, used, *takes_many_roles)
            }
            Event::UpdateAgent { agent, total } => self.agent(agent).and_then(|id| {
                if self.engine.total(id) != *total {
                    self.engine.set_total(id, total);
                    self.allocate(&BTreeSet::from([id]))?;
                }
                Ok(())
            }),
            Event::AgentAttributes { agent, attributes } => self.agent(agent).and_then(|id| {
                let place = self.places.get_mut(&id).ok_or("no such agent")?;
                place.attributes.clone_from(attributes);
                if self.engine.set_site(id, place) {
                    self.allocate(&BTreeSet::from([id]))?;
                }
                Ok(())
            }),
            Event::Unavailable { agent } => self.agent(agent).and_then(|id| {
                self.engine.set_unavailable(id);
                self.unavailable.insert(id);
                self.allocate(&BTreeSet::from([id]))
            }),
            Event::RemoveAgent { agent } => self.agent(agent).and_then(|id| {
                self.holdings.drop_if(&mut self.engine, |hold| hold.agent == id)?;
                self.engine.remove_agent(id);
                self.unavailable.remove(&id);
                self.places.remove(&id);
                Ok(())
            }),
            _ => return None,
        })
    }

    fn framework_event(&mut self, event: &Event) -> Done {
        match event {
            Event::Framework { framework, client } => self.add_framework(framework, client),
            Event::Smallest { framework, role, amounts } => self.change(framework, |client| {
                client.smallest.insert(role.clone(), amounts.clone());
            }),
            Event::Suppress { framework, role } => {
                let roles = self.roles(framework, role.as_ref())?;
                self.change(framework, |client| client.suppressed.extend(roles))
            }
            Event::Revive { framework, role } => {
                let roles = self.roles(framework, role.as_ref())?;
                self.engine.forget_refusals(self.framework(framework)?, &roles);
                self.change(framework, |client| {
                    client.suppressed.retain(|role| !roles.contains(role));
                })?;
                self.allocate_all()
            }
            Event::Deactivate { framework } => {
                // It may have failed over, so what it refused before says nothing now (Mesos: `deactivateFramework`).
                let roles = self.roles(framework, None)?;
                self.engine.forget_refusals(self.framework(framework)?, &roles);
                self.change(framework, |client| client.is_active = false)
            }
            Event::Activate { framework } => {
                self.change(framework, |client| client.is_active = true)?;
                self.allocate_all()
            }
            Event::RemoveFramework { framework } => {
                let id = self.framework(framework)?;
                self.holdings.drop_if(&mut self.engine, |hold| hold.framework == id)?;
                self.engine.remove_framework(id);
                self.clients.remove(&id);
                Ok(())
            }
            other => Err(format!("the fixture does not know {other:?}")),
        }
    }

    fn add_agent(&mut self, agent: &str, total: &Bundle, used: &[Used], many: bool) -> Done {
        let id = self.names.agent(agent)?;
        let place = Place {
            hostname: agent.to_owned(),
            attributes: Vec::new(),
            is_open: self.whitelist.as_ref().is_none_or(|names| names.contains(agent)),
            takes_many_roles: many,
        };
        if self.places.contains_key(&id) {
            return Err(format!("there is an agent `{agent}` already"));
        }
        self.engine.set_total(id, total);
        self.engine.set_site(id, &place);
        self.places.insert(id, place);
        for Used { framework, role, what } in used {
            let framework = self.names.framework(framework)?;
            let hold = Hold { framework, agent: id, role: role.clone() };
            self.holdings.take(&mut self.engine, &hold, what)?;
            if self.clients.contains_key(&framework) {
                self.engine.count_served(framework, role);
            }
        }
        self.allocate(&BTreeSet::from([id]))
    }

    fn add_framework(&mut self, framework: &str, client: &Client) -> Done {
        let id = self.names.framework(framework)?;
        if self.clients.insert(id, client.clone()).is_some() {
            return Err(format!("there is a framework `{framework}` already"));
        }
        self.engine.set_framework(id, client);
        // What it used before it was known counts from now on.
        for hold in self.holdings.of(id) {
            self.engine.count_served(id, &hold.role);
        }
        if client.is_active { self.allocate_all() } else { Ok(()) }
    }

    fn recover(
        &mut self,
        whose: &Whose,
        what: Option<&Bundle>,
        filter: Option<DurationMs>,
    ) -> Done {
        let hold = self.hold(whose)?;
        let what = match what {
            Some(what) => what.clone(),
            None => self.holdings.all(&hold)?,
        };
        self.holdings.recover(&mut self.engine, &hold, &what)?;
        // Nothing refused, or refused for no time: no filter (Mesos: `recoverResources`).
        if let Some(span) = filter.filter(|span| span.0 > 0 && !what.is_empty()) {
            let span = span.max(self.interval);
            let until = DurationMs(self.engine.now().0.saturating_add(span.0));
            self.engine.refuse(&hold, what, until);
        }
        Ok(())
    }

    fn reserve_free(&mut self, agent: &str, role: &Role, what: &Bundle, is_allowed: bool) -> Done {
        let id = self.agent(agent)?;
        let to = reserved(what, role)?;
        match (self.engine.convert_free(id, what, &to), is_allowed) {
            (Ok(()), true) | (Err(_), false) => Ok(()),
            (Ok(()), false) => Err("expected `fail`, and it was reserved".to_owned()),
            (Err(error), true) => Err(format!("expected `ok`, and it was refused: {error}")),
        }
    }

    fn tick(&mut self, span: DurationMs) -> Done {
        let end = self.engine.now().0.saturating_add(span.0);
        loop {
            let due = (self.engine.now().0 / self.interval.0 + 1).saturating_mul(self.interval.0);
            if due > end {
                self.engine.set_now(DurationMs(end));
                return Ok(());
            }
            self.engine.set_now(DurationMs(due));
            let grants = self.engine.cycle();
            self.note(grants)?;
            self.note_inverse(&self.places.keys().copied().collect());
        }
    }

    fn rounds(&mut self, count: u64, expected: &BTreeMap<String, u64>) -> Done {
        let mut counts: BTreeMap<String, u64> =
            expected.keys().map(|framework| (framework.clone(), 0)).collect();
        for _ in 0..count {
            self.since = Since::default();
            self.tick(DurationMs(1_000))?;
            self.engine.check()?;
            for framework in self.since.offered_to() {
                *counts.entry(framework.to_owned()).or_default() += 1;
            }
            self.holdings.take_back_all(&mut self.engine)?;
        }
        self.since = Since::default();
        if counts == *expected {
            return Ok(());
        }
        Err(format!("how often each was offered: expected {expected:?}, actual {counts:?}"))
    }

    fn allocate_all(&mut self) -> Done {
        self.allocate(&self.places.keys().copied().collect())
    }

    fn allocate(&mut self, agents: &BTreeSet<AgentId>) -> Done {
        let grants = self.engine.allocate(agents);
        self.note(grants)?;
        self.note_inverse(agents);
        Ok(())
    }

    fn note(&mut self, grants: Vec<Grant>) -> Done {
        for Grant { framework, role, agent, bundle, .. } in grants {
            self.holdings.note_offer(Hold { framework, agent, role: role.clone() }, &bundle)?;
            let (framework, agent) =
                (self.names.of_framework(framework), self.names.of_agent(agent));
            self.since.offers.push(Offered { framework, role, agent, bundle });
        }
        Ok(())
    }

    /// Those who hold something of an unavailable agent are asked, whenever an allocation looks at it.
    fn note_inverse(&mut self, agents: &BTreeSet<AgentId>) {
        for agent in self.unavailable.intersection(agents) {
            let is_active = |id: &FrameworkId| self.clients.get(id).is_some_and(|c| c.is_active);
            let holders = self.holdings.holders(*agent).into_iter().filter(is_active).collect();
            for framework in self.engine.inverse(*agent, holders) {
                let (framework, agent) =
                    (self.names.of_framework(framework), self.names.of_agent(*agent));
                self.since.inverses.push(Inverse { framework, agent });
            }
        }
    }

    fn change(&mut self, framework: &str, change: impl FnOnce(&mut Client)) -> Done {
        let id = self.framework(framework)?;
        let client = self.clients.get_mut(&id).ok_or("no such framework")?;
        change(client);
        self.engine.set_framework(id, client);
        Ok(())
    }

    /// The role, or all of the framework's.
    fn roles(&self, framework: &str, role: Option<&Role>) -> Result<Vec<Role>, String> {
        let client = self.clients.get(&self.framework(framework)?).ok_or("no such framework")?;
        match role {
            None => Ok(client.roles.clone()),
            Some(role) if client.roles.contains(role) => Ok(vec![role.clone()]),
            Some(role) => Err(format!("`{framework}` is not in `{role}`")),
        }
    }

    fn hold(&self, whose: &Whose) -> Result<Hold, String> {
        // A framework may hold something before it is added.
        let framework = self.names.framework(&whose.framework)?;
        Ok(Hold { framework, agent: self.agent(&whose.agent)?, role: whose.role.clone() })
    }

    /// One that is there.
    fn agent(&self, name: &str) -> Result<AgentId, String> {
        let id = self.names.agent(name)?;
        let is_there = self.places.contains_key(&id);
        if is_there { Ok(id) } else { Err(format!("there is no agent `{name}` now")) }
    }

    /// One that is there.
    fn framework(&self, name: &str) -> Result<FrameworkId, String> {
        let id = self.names.framework(name)?;
        let is_there = self.clients.contains_key(&id);
        if is_there { Ok(id) } else { Err(format!("there is no framework `{name}` now")) }
    }
}
