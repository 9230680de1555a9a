//! Who asks: each framework in each of its roles, with what it accepts, wants, and has refused.

use super::explain::{Reason, Tally};
use super::marks::Marks;
use super::order::{ClientKey, NodeKey, Order};
use super::refusals::Refusals;
use super::sites::Patterns;
use super::wants::Wanted;
use slotmap::SlotMap;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::calls::Want;
use tepui_proto::{FrameworkId, Role, Scalars, Timestamp};

/// Which resources a framework takes (Mesos: capabilities).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for one capability of Mesos'")]
pub struct Accepts {
    /// Resources that may be taken back at any time.
    pub revocable: bool,
    /// Shared volumes.
    pub shared: bool,
    /// Agents with `gpus`.
    pub gpus: bool,
    /// Reservations that were refined.
    pub refined: bool,
    /// Agents of other regions than the master's.
    pub other_regions: bool,
    /// It may be in many roles.
    pub many_roles: bool,
}

impl Accepts {
    /// All that offers can hold, but for what is taken only where it is asked for.
    pub const NATIVE: Self = Self {
        revocable: false,
        shared: true,
        gpus: false,
        refined: true,
        other_regions: false,
        many_roles: true,
    };
}

/// What a framework asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// In these roles.
    pub roles: Vec<Role>,
    /// But for now not in these.
    pub suppressed: BTreeSet<Role>,
    /// What it takes.
    pub accepts: Accepts,
    /// Its own smallest offers, by role: one of the sets, with all its names; no set is anything. An absent role has
    /// the cluster's.
    pub smallest: BTreeMap<Role, Vec<Scalars>>,
    /// What it wants; none is anything, whole.
    pub wants: Option<Vec<Want>>,
    /// Whether it can be offered anything now.
    pub is_active: bool,
}

/// One framework in one role.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) framework: FrameworkId,
    pub(super) node: NodeKey,
    pub(super) accepts: Accepts,
    pub(super) smallest: Option<Vec<Scalars>>,
    /// Those of this role; none is anything, whole.
    pub(super) wants: Option<Vec<Wanted>>,
    pub(super) tally: Tally,
    /// Until then it is served after all others.
    pub(super) demoted_until: Timestamp,
    /// Units on offer of wants that are not stated now.
    parked: BTreeMap<u32, u32>,
    is_suppressed: bool,
    is_active: bool,
}

impl Client {
    fn new(framework: FrameworkId, accepts: Accepts) -> Self {
        Self {
            framework,
            node: NodeKey::default(),
            accepts,
            smallest: None,
            wants: None,
            tally: Tally::default(),
            demoted_until: Timestamp(0),
            parked: BTreeMap::new(),
            is_suppressed: false,
            is_active: false,
        }
    }

    /// Whether it could be offered anything.
    pub(super) fn is_asking(&self) -> bool {
        let wants = self.wants.as_ref();
        self.is_active
            && !self.is_suppressed
            && wants.is_none_or(|wants| wants.iter().any(|wanted| wanted.left() > 0))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: SlotMap<ClientKey, Client>,
    by_framework: BTreeMap<FrameworkId, BTreeMap<Role, ClientKey>>,
    /// Of those whose wants have some.
    patterns: BTreeMap<FrameworkId, Patterns>,
    pub(super) refusals: Refusals,
    pub(super) marks: Marks,
    /// When the last of those that are served last is not any more; zero is long ago.
    demoted_until: Timestamp,
    now: Timestamp,
}

impl Clients {
    pub(super) fn get(&self, key: ClientKey) -> Option<&Client> {
        self.all.get(key)
    }

    pub(super) fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.all.get_mut(key)
    }

    /// A client, and what everybody has refused.
    pub(super) fn with_refusals(&mut self, key: ClientKey) -> Option<(&mut Client, &Refusals)> {
        Some((self.all.get_mut(key)?, &self.refusals))
    }

    pub(super) fn key(&self, framework: FrameworkId, role: &str) -> Option<ClientKey> {
        self.by_framework.get(&framework)?.get(role).copied()
    }

    pub(super) fn find(&self, framework: FrameworkId, role: &str) -> Option<&Client> {
        self.all.get(self.key(framework, role)?)
    }

    pub(super) fn keys_of(&self, framework: FrameworkId) -> impl Iterator<Item = ClientKey> {
        self.by_framework.get(&framework).into_iter().flat_map(BTreeMap::values).copied()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.all.values_mut()
    }

    /// Begins or replaces what a framework asks for. Refusals stay, and units that are on offer. Returns the roles that
    /// it was not in before.
    pub(super) fn set(
        &mut self,
        framework: FrameworkId,
        ask: &Ask,
        order: &mut Order,
    ) -> Vec<Role> {
        let mut fresh = Vec::new();
        let before = self.patterns.remove(&framework).unwrap_or_default();
        let mut patterns = Patterns::default();
        let known = self.by_framework.entry(framework).or_default();
        let gone: Vec<Role> =
            known.keys().filter(|role| !ask.roles.contains(role)).cloned().collect();
        for role in gone {
            if let Some(key) = known.remove(&role) {
                self.all.remove(key);
                self.refusals.forget(key);
                self.marks.remove(key);
                order.remove(&role, framework);
            }
        }
        for role in &ask.roles {
            let key = if let Some(key) = known.get(role) {
                *key
            } else {
                let key = self.all.insert(Client::new(framework, ask.accepts));
                self.marks.insert(key);
                let node = order.add(role, framework, key);
                if let Some(client) = self.all.get_mut(key) {
                    client.node = node;
                }
                known.insert(role.clone(), key);
                fresh.push(role.clone());
                key
            };
            let Some(client) = self.all.get_mut(key) else { continue };
            client.accepts = ask.accepts;
            client.smallest = ask.smallest.get(role).cloned();
            client.set_wants(ask.wants.as_deref(), role, (&mut patterns, &before));
            self.marks.reset(key);
            client.is_suppressed = ask.suppressed.contains(role);
            client.is_active = ask.is_active;
            order.set_active(role, framework, client.is_asking());
        }
        if !patterns.is_empty() {
            self.patterns.insert(framework, patterns);
        }
        fresh
    }

    pub(super) fn remove(&mut self, framework: FrameworkId, order: &mut Order) {
        self.patterns.remove(&framework);
        for (role, key) in self.by_framework.remove(&framework).unwrap_or_default() {
            self.all.remove(key);
            self.refusals.forget(key);
            self.marks.remove(key);
            order.remove(&role, framework);
        }
    }

    /// Units of a want are not on offer any more.
    pub(super) fn units_returned(
        &mut self,
        (framework, role, want): (FrameworkId, &Role, u32),
        units: u32,
        order: &mut Order,
    ) {
        let Some(key) = self.key(framework, role.as_str()) else { return };
        let Some(client) = self.all.get_mut(key) else { return };
        let wants = client.wants.as_mut().into_iter().flatten();
        for wanted in wants.filter(|wanted| wanted.want.id == want) {
            wanted.offered = wanted.offered.saturating_sub(units);
        }
        if let Some(offered) = client.parked.get_mut(&want) {
            *offered = offered.saturating_sub(units);
        }
        self.marks.reset(key);
        order.set_active(role, framework, client.is_asking());
    }

    /// Tells a client's tally, and those of its wants, of the looks in which it was passed over.
    pub(super) fn count_passed_over(&mut self, key: ClientKey) {
        let Some(passed) = self.marks.take(key) else { return };
        let Some(client) = self.all.get_mut(key) else { return };
        client.tally.pass_over(Reason::Filter, passed.by_refusal.into());
        client.tally.pass_over(Reason::Constraint, passed.by_constraint.into());
        for wanted in client.wants.iter_mut().flatten().filter(|wanted| wanted.left() > 0) {
            wanted.tally.pass_over(Reason::Filter, passed.by_refusal.into());
            wanted.tally.pass_over(Reason::Constraint, passed.by_constraint.into());
        }
    }

    /// Counts what came of a look.
    pub(super) fn tell(&mut self, key: ClientKey, reason: Option<Reason>) {
        if let Some(client) = self.all.get_mut(key) {
            client.tally.see(reason);
        }
    }

    /// Serves a framework after all others until then.
    pub(super) fn demote(&mut self, framework: FrameworkId, until: Timestamp) {
        self.demoted_until = self.demoted_until.max(until);
        for key in self.keys_of(framework).collect::<Vec<_>>() {
            if let Some(client) = self.all.get_mut(key) {
                client.demoted_until = until;
            }
        }
    }

    /// The time of the cycle that begins.
    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Whether a client is served after all others.
    pub(super) fn is_demoted(&self, key: ClientKey) -> bool {
        self.has_demoted()
            && self.all.get(key).is_some_and(|client| client.demoted_until > self.now)
    }

    /// Whether somebody may be served last.
    pub(super) fn has_demoted(&self) -> bool {
        self.demoted_until > self.now
    }

    /// Takes frameworks whose wants are all on offer out of the order.
    pub(super) fn settle(&mut self, key: ClientKey, role: &Role, order: &mut Order) {
        if let Some(client) = self.all.get(key) {
            order.set_active(role, client.framework, client.is_asking());
        }
    }
}

impl Client {
    fn set_wants(
        &mut self,
        wants: Option<&[Want]>,
        role: &Role,
        (patterns, known_patterns): (&mut Patterns, &Patterns),
    ) {
        let mut before = self.wants.take().unwrap_or_default();
        for old in before.iter().filter(|old| old.offered > 0) {
            self.parked.insert(old.want.id, old.offered);
        }
        let Some(wants) = wants else { return };
        let own = wants.iter().filter(|want| want.role == *role);
        let wanted = own.map(|want| {
            let known = before.iter().position(|old| old.want.id == want.id);
            let offered = self.parked.remove(&want.id).unwrap_or(0);
            let Some(at) = known else {
                return Wanted::new(want, offered, (patterns, known_patterns));
            };
            let old = before.swap_remove(at);
            // The same but for its count: what is known of it stays.
            if (Want { count: want.count, ..old.want.clone() }) == *want {
                patterns.keep(&want.constraints, known_patterns);
                return Wanted { want: want.clone(), ..old };
            }
            Wanted::new(want, old.offered, (patterns, known_patterns))
        });
        self.wants = Some(wanted.collect());
    }
}
