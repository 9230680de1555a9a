//! A random cluster twice: the real ledger and allocator, and the books that are kept beside them.
//!
//! Owns what each step does to both. What an allocation gives is taken over from the real one into the books; whether it was
//! right to give it is for others to say.

use super::books::{Agent, Books, Holding, Refusal, is_within};
use super::plans;
use super::steps::{Change, Step};
use std::collections::{BTreeMap, BTreeSet};
use tepui_master_core::allocator::{Allocator, Ask, Grant, Look, Settings, Site};
use tepui_master_core::ledger::{Holder, Ledger, LedgerError, held_back};
use tepui_master_core::policy::{Policy, RolePolicy};
use tepui_proto::{
    AgentId, Bundle, DurationMs, FrameworkId, PoolKind, Resources, Role, Timestamp, VolumeKind,
};

/// A framework that asks for nothing and holds things.
const STRAY: FrameworkId = FrameworkId(99);

/// What the allocator is asked to look at.
#[derive(Clone, Debug)]
pub(crate) enum Glance {
    Agents(BTreeSet<AgentId>),
    /// Everything, as a periodic cycle.
    Cycle,
}

/// The cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) books: Books,
    pub(crate) ledger: Ledger,
    pub(crate) allocator: Allocator,
}

type Done = Result<(), LedgerError>;

impl Cluster {
    pub(crate) fn new(settings: Settings) -> Self {
        let books = Books {
            settings: settings.clone(),
            policy: Policy::default(),
            agents: BTreeMap::new(),
            asks: BTreeMap::new(),
            holdings: Vec::new(),
            refusals: Vec::new(),
            demoted: BTreeMap::new(),
            now: Timestamp(1_000_000),
            cycles: 0,
        };
        Self { books, ledger: Ledger::default(), allocator: Allocator::new(settings) }
    }

    /// Does a step, but for the look at agents that it may ask for.
    pub(crate) fn step(&mut self, step: &Step) -> Result<Option<Glance>, LedgerError> {
        match step {
            Step::Look(bits) => {
                let agents = (0_u8..8).filter(|at| bits & (1 << at) != 0).map(agent);
                return Ok(Some(Glance::Agents(agents.collect())));
            }
            Step::Cycle => return Ok(Some(Glance::Cycle)),
            Step::Agent(name, stock) => {
                let known = self.books.agents.get(&agent(*name)).map(|known| known.site.clone());
                let site = known.unwrap_or_else(|| plans::Place::default().site(*name));
                self.set_agent(*name, &stock.bundle(), stock.holds_back, site);
            }
            Step::Place(name, place) => self.set_place(*name, place),
            Step::Open(name, is_open) => {
                self.allocator.set_open(agent(*name), *is_open);
                if let Some(known) = self.books.agents.get_mut(&agent(*name)) {
                    known.site.is_open = *is_open;
                }
            }
            Step::AgentGone(name) => self.remove_agent(agent(*name))?,
            Step::Ask(name, plan) => {
                let (id, ask) = (framework(*name), plan.ask());
                let goes = |held: &Holding| held.framework == id && !ask.roles.contains(&held.role);
                self.drop_if(|held| held.is_offered && goes(held))?;
                self.set_ask(id, Some(ask));
            }
            Step::Wants(name, wants) => self.change_ask(framework(*name), |ask| {
                ask.wants = wants.as_deref().map(|wants| plans::numbered(wants, &ask.roles));
            }),
            Step::Active(name, is_active) => {
                self.change_ask(framework(*name), |ask| ask.is_active = *is_active);
            }
            Step::FrameworkGone(name) => {
                self.drop_if(|h| h.framework == framework(*name) && h.is_offered)?;
                self.set_ask(framework(*name), None);
            }
            Step::Role(at, policy) => self.set_role(plans::role(*at), policy),
            Step::Decline(at, refused) => self.decline(*at, *refused)?,
            Step::Launch(at, is_half) => self.launch(*at, *is_half)?,
            Step::Finish(at) => {
                if let Some(at) = self.nth(*at, false) {
                    self.let_go(at)?;
                }
            }
            Step::Stray(name, at) => self.stray(agent(*name), plans::role(*at))?,
            Step::ConvertFree(name, at, change) => self.convert_free(agent(*name), *at, *change)?,
            Step::ConvertOffered(held, at, change) => self.convert_offered(*held, *at, *change)?,
            Step::Revive(name) => {
                let roles = self.books.asks.get(&framework(*name)).map(|ask| ask.roles.clone());
                self.allocator.forget_refusals(framework(*name), &roles.unwrap_or_default());
                self.books.refusals.retain(|refusal| refusal.framework != framework(*name));
            }
            Step::Expire(name) => {
                for id in self.books.agents.keys() {
                    self.allocator.expire_refusals(framework(*name), *id, self.books.now);
                }
            }
            Step::Demote(name, ms) => {
                let until = self.books.now.after(DurationMs((*ms).into()));
                self.allocator.demote(framework(*name), until);
                let roles = self.books.asks.get(&framework(*name)).map(|ask| ask.roles.clone());
                for role in roles.into_iter().flatten() {
                    self.books.demoted.insert((role, framework(*name)), until);
                }
            }
            Step::Wait(ms) => self.books.now = self.books.now.after(DurationMs((*ms).into())),
        }
        Ok(None)
    }

    /// Looks at agents. What is given is offered when this returns.
    pub(crate) fn allocate(&mut self, glance: &Glance) -> Vec<Grant> {
        let (ledger, books) = (&mut self.ledger, &mut self.books);
        let grants = match glance {
            Glance::Agents(agents) => {
                let look = Look::Agents(agents);
                self.allocator.allocate(ledger, &books.policy, books.now, look)
            }
            Glance::Cycle => {
                books.cycles += 1;
                self.allocator.cycle(ledger, &books.policy, books.now)
            }
        };
        for Grant { framework, role, agent, want, bundle } in grants.iter().cloned() {
            books.holdings.push(Holding { agent, framework, role, bundle, want, is_offered: true });
        }
        grants
    }

    pub(crate) fn set_agent(&mut self, name: u8, all: &Bundle, holds_back: bool, site: Site) {
        let id = agent(name);
        let back = if holds_back { held_back(all.plain()) } else { Resources::default() };
        let total = all.with_plain(all.plain().saturating_sub(&back));
        if holds_back {
            self.ledger.set_total(id, all);
        } else {
            self.ledger.set_offerable(id, all);
        }
        self.allocator.set_site(id, site.clone());
        self.books.agents.insert(id, Agent { total, held_back: back, site });
    }

    fn set_place(&mut self, name: u8, place: &plans::Place) {
        let site = place.site(name);
        let Some(known) = self.books.agents.get_mut(&agent(name)) else { return };
        let same = known.site.attributes == site.attributes && known.site.domain == site.domain;
        if !same {
            self.books.refusals.retain(|refusal| refusal.agent != agent(name));
        }
        known.site = site.clone();
        self.allocator.set_site(agent(name), site);
    }

    fn remove_agent(&mut self, id: AgentId) -> Done {
        self.drop_if(|holding| holding.agent == id)?;
        self.books.agents.remove(&id);
        self.books.refusals.retain(|refusal| refusal.agent != id);
        self.allocator.remove_site(id);
        self.ledger.remove_agent(id);
        Ok(())
    }

    pub(crate) fn set_ask(&mut self, id: FrameworkId, ask: Option<Ask>) {
        let roles = ask.as_ref().map(|ask| ask.roles.clone()).unwrap_or_default();
        if let Some(old) = self.books.asks.get_mut(&id) {
            old.roles.retain(|role| roles.contains(role));
        }
        self.books.refusals.retain(|r| r.framework != id || roles.contains(&r.role));
        self.books.demoted.retain(|(role, of), _| *of != id || roles.contains(role));
        if let Some(ask) = ask {
            self.books.asks.insert(id, ask.clone());
            self.allocator.set_ask(id, &ask);
        } else {
            self.books.asks.remove(&id);
            self.allocator.remove_ask(id);
        }
    }

    fn change_ask(&mut self, id: FrameworkId, change: impl FnOnce(&mut Ask)) {
        if let Some(mut ask) = self.books.asks.get(&id).cloned() {
            change(&mut ask);
            self.set_ask(id, Some(ask));
        }
    }

    /// As an operator would, so only if all settings hold together then.
    pub(crate) fn set_role(&mut self, role: Role, settings: &RolePolicy) {
        let mut policy = self.books.policy.clone();
        policy.set(role, settings.clone());
        if policy.check().is_ok() {
            self.books.policy = policy;
            self.allocator.policy_changed();
        }
    }

    /// The place of something that is offered, or used.
    fn nth(&self, at: u8, is_offered: bool) -> Option<usize> {
        let all = self.books.holdings.iter().enumerate();
        let places: Vec<usize> =
            all.filter(|(_, h)| h.is_offered == is_offered).map(|(place, _)| place).collect();
        places.get(usize::from(at) % places.len().max(1)).copied()
    }

    /// What is held there is free again.
    fn let_go(&mut self, place: usize) -> Result<Holding, LedgerError> {
        let held = self.books.holdings.remove(place);
        let holder = Holder { role: &held.role, framework: held.framework };
        if held.is_offered {
            self.ledger.take_back(held.agent, holder, &held.bundle)?;
            if let Some((want, units)) = held.want {
                self.allocator.units_returned(held.framework, &held.role, want, units);
            }
        } else {
            self.ledger.give_back(held.agent, holder, &held.bundle, false)?;
        }
        Ok(held)
    }

    fn drop_if(&mut self, goes: impl Fn(&Holding) -> bool) -> Done {
        while let Some(place) = self.books.holdings.iter().position(&goes) {
            self.let_go(place)?;
        }
        Ok(())
    }

    fn decline(&mut self, at: u8, refused: Option<u16>) -> Done {
        let Some(place) = self.nth(at, true) else { return Ok(()) };
        let Holding { agent, framework, role, bundle, .. } = self.let_go(place)?;
        let Some(refused) = refused else { return Ok(()) };
        let until = self.books.now.after(DurationMs(refused.into()));
        self.allocator.refuse(framework, &role, agent, bundle.clone(), until);
        let is_in = |ask: &Ask| ask.roles.contains(&role);
        if self.books.asks.get(&framework).is_some_and(is_in) {
            let made = self.books.cycles;
            self.books.refusals.push(Refusal { framework, role, agent, bundle, until, made });
        }
        Ok(())
    }

    fn launch(&mut self, at: u8, is_half: bool) -> Done {
        let Some(place) = self.nth(at, true) else { return Ok(()) };
        let mut held = self.let_go(place)?;
        let has_shared = held.bundle.iter().any(|(kind, _)| kind.is_shared());
        if is_half && !has_shared {
            held.bundle = half(&held.bundle);
        }
        self.take(Holding { want: None, is_offered: false, ..held })
    }

    fn take(&mut self, held: Holding) -> Done {
        let holder = Holder { role: &held.role, framework: held.framework };
        if !held.bundle.is_empty() {
            self.ledger.take(held.agent, holder, &held.bundle, false)?;
            self.books.holdings.push(held);
        }
        Ok(())
    }

    fn stray(&mut self, id: AgentId, role: Role) -> Done {
        let free = self.books.free(id).retained(|kind, _| !kind.is_shared());
        let (bundle, framework) = (half(&free), STRAY);
        self.take(Holding { agent: id, framework, role, bundle, want: None, is_offered: false })
    }

    fn convert_free(&mut self, id: AgentId, at: u8, change: Change) -> Done {
        let free = self.books.free(id);
        let Some((from, to)) = converted(&free, at, change) else { return Ok(()) };
        self.ledger.convert(id, &from, &to)?;
        self.note_conversion(id, &from, &to);
        Ok(())
    }

    fn convert_offered(&mut self, held: u8, at: u8, change: Change) -> Done {
        let Some(place) = self.nth(held, true) else { return Ok(()) };
        let Some(holding) = self.books.holdings.get_mut(place) else { return Ok(()) };
        let Some((from, to)) = converted(&holding.bundle, at, change) else { return Ok(()) };
        let holder = Holder { role: &holding.role, framework: holding.framework };
        // Not while the agent has less than is out: what is offered is not all there then.
        if self.ledger.convert_offered(holding.agent, holder, &from, &to).is_err() {
            return Ok(());
        }
        let left = holding.bundle.saturating_sub(&from);
        holding.bundle = left.checked_add(&to).ok_or(LedgerError::Short)?;
        let id = holding.agent;
        self.note_conversion(id, &from, &to);
        Ok(())
    }

    fn note_conversion(&mut self, id: AgentId, from: &Bundle, to: &Bundle) {
        if let Some(known) = self.books.agents.get_mut(&id) {
            let total = known.total.saturating_sub(from).checked_add(to);
            known.total = total.unwrap_or_default();
        }
    }
}

pub(crate) fn agent(name: u8) -> AgentId {
    AgentId(u32::from(name) + 1)
}

pub(crate) fn framework(name: u8) -> FrameworkId {
    FrameworkId(u64::from(name) + 1)
}

/// Half of what is countable and can be split.
fn half(bundle: &Bundle) -> Bundle {
    let mut half = Bundle::default();
    for (kind, all) in
        bundle.iter().filter(|(kind, _)| kind.disk == tepui_proto::DiskKind::default())
    {
        let part = Resources {
            cpu_milli: all.cpu_milli / 2,
            memory_bytes: all.memory_bytes / 2,
            disk_bytes: all.disk_bytes / 2,
            ..Resources::default()
        };
        let _fits = half.add_pool(kind.clone(), part);
    }
    half
}

/// One of the pools of a bundle, and what becomes of it.
fn converted(bundle: &Bundle, at: u8, change: Change) -> Option<(Bundle, Bundle)> {
    let pools: Vec<(&PoolKind, &Resources)> =
        bundle.iter().filter(|(kind, _)| !kind.revocable && !kind.is_shared()).collect();
    let (kind, amount) = *pools.get(usize::from(at) % pools.len().max(1))?;
    let mut to = kind.clone();
    let mut amount = amount.clone();
    match change {
        Change::Reserved(at) if !kind.is_reserved() => to.reserved_for = vec![plans::role(at)],
        Change::Unreserved if kind.disk.volume.is_none() => to.reserved_for.pop().map(|_| ())?,
        Change::Refined(at) => {
            let (role, owner) = (plans::role(at), kind.owner()?);
            if role == *owner || !is_within(&role, owner.as_str()) {
                return None;
            }
            to.reserved_for.push(role);
        }
        Change::Volume(at)
            if kind.is_reserved() && kind.disk == tepui_proto::DiskKind::default() =>
        {
            amount = Resources { disk_bytes: amount.disk_bytes, ..Resources::default() };
            to.disk.volume = Some(VolumeKind { id: format!("n{at}"), shared_bytes: None });
        }
        _ => return None,
    }
    (!amount.is_empty()).then(|| (Bundle::of(kind.clone(), amount.clone()), Bundle::of(to, amount)))
}
