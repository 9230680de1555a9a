//! What frameworks have refused in their roles, for a while, by agent (Mesos: offer filters).
//!
//! Part of the mind: a new leader knows none. A refusal hides what lies within it: `refused ⊇ candidate`. Where an
//! interval is set, it lasts at least until a periodic cycle has seen it, however short it was asked for (MESOS-4302).
//! They are kept by agent, so that one look at an agent finds all who have refused it.

use super::order::ClientKey;
use slotmap::SecondaryMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tepui_proto::{AgentId, Bundle, Timestamp, limits};

/// The time, and how many periodic cycles have run before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) now: Timestamp,
    pub(super) cycles: u64,
    /// Whether periodic cycles are what time is made of.
    pub(super) is_periodic: bool,
}

#[derive(Debug)]
struct Refusal {
    client: ClientKey,
    /// Many refuse the same of an agent, and then share it.
    bundle: Arc<Bundle>,
    until: Timestamp,
    /// How many cycles had run when it was made.
    made: u64,
}

impl Refusal {
    fn stands(&self, clock: Clock) -> bool {
        clock.now < self.until || (clock.is_periodic && self.made == clock.cycles)
    }
}

/// All that is refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Each list is sorted by client, and never empty.
    by_agent: BTreeMap<AgentId, Vec<Refusal>>,
    /// Agents of which a client has refused something.
    agents: SecondaryMap<ClientKey, BTreeSet<AgentId>>,
}

/// What was refused of an agent that others may refuse as well.
const SHARED: usize = 8;

/// Where those of a client begin.
fn place(list: &[Refusal], client: ClientKey) -> usize {
    list.partition_point(|refusal| refusal.client < client)
}

/// Those of a client.
fn of(list: &[Refusal], client: ClientKey) -> impl Iterator<Item = &Refusal> {
    let rest = list.get(place(list, client)..).unwrap_or_default();
    rest.iter().take_while(move |refusal| refusal.client == client)
}

/// A bundle, and the same one as those have who have refused as much.
fn shared(list: &[Refusal], bundle: Bundle) -> Arc<Bundle> {
    let mut seen: Vec<&Arc<Bundle>> = Vec::with_capacity(SHARED);
    for refusal in list {
        if seen.iter().any(|known| Arc::ptr_eq(known, &refusal.bundle)) {
            continue;
        }
        if *refusal.bundle == bundle {
            return Arc::clone(&refusal.bundle);
        }
        seen.push(&refusal.bundle);
        if seen.len() == SHARED {
            break;
        }
    }
    Arc::new(bundle)
}

impl Refusals {
    /// `made`: how many cycles have run.
    pub(super) fn refuse(
        &mut self,
        client: ClientKey,
        agent: AgentId,
        bundle: Bundle,
        (until, made): (Timestamp, u64),
    ) {
        let list = self.by_agent.entry(agent).or_default();
        let bundle = shared(list, bundle);
        if of(list, client).next().is_some() {
            // A refusal within another that lasts as long says nothing new.
            let says_more = |old: &Refusal| old.until > until || !bundle.contains(&old.bundle);
            list.retain(|old| old.client != client || says_more(old));
            if of(list, client).count() >= limits::FILTERS
                && let Some(first) = of(list, client).map(|old| old.until).min()
            {
                list.retain(|old| old.client != client || old.until > first);
            }
        }
        list.insert(place(list, client), Refusal { client, bundle, until, made });
        if let Some(agents) = self.agents.entry(client) {
            agents.or_default().insert(agent);
        }
    }

    /// Whether all of `candidate` lies within something that the client has refused.
    pub(super) fn hide(
        &self,
        client: ClientKey,
        agent: AgentId,
        candidate: &Bundle,
        clock: Clock,
    ) -> bool {
        let Some(list) = self.by_agent.get(&agent) else { return false };
        of(list, client).any(|refusal| refusal.stands(clock) && refusal.bundle.contains(candidate))
    }

    /// Everybody from whom `candidate` is hidden.
    pub(super) fn hidden(
        &self,
        agent: AgentId,
        candidate: &Bundle,
        clock: Clock,
        mut see: impl FnMut(ClientKey),
    ) {
        // Bundles that were looked at, and whether the candidate lies within them.
        let mut seen: Vec<(&Arc<Bundle>, bool)> = Vec::with_capacity(SHARED);
        for refusal in self.by_agent.get(&agent).into_iter().flatten() {
            let known = seen.iter().find(|(bundle, _)| Arc::ptr_eq(bundle, &refusal.bundle));
            let is_within = known.map_or_else(|| refusal.bundle.contains(candidate), |(_, is)| *is);
            if known.is_none() && seen.len() < SHARED {
                seen.push((&refusal.bundle, is_within));
            }
            if is_within && refusal.stands(clock) {
                see(refusal.client);
            }
        }
    }

    /// Forgets what has run out of what a client refused of an agent; says when the next of it does.
    pub(super) fn expire(
        &mut self,
        client: ClientKey,
        agent: AgentId,
        clock: Clock,
    ) -> Option<Timestamp> {
        self.retain(client, agent, |refusal| refusal.stands(clock));
        let list = self.by_agent.get(&agent)?;
        of(list, client).map(|refusal| refusal.until).min()
    }

    /// Forgets what everybody refused of an agent.
    pub(super) fn forget_agent(&mut self, agent: AgentId) {
        for refusal in self.by_agent.remove(&agent).unwrap_or_default() {
            if let Some(agents) = self.agents.get_mut(refusal.client) {
                agents.remove(&agent);
            }
        }
    }

    /// Forgets all that a client refused.
    pub(super) fn forget(&mut self, client: ClientKey) {
        for agent in self.agents.remove(client).unwrap_or_default() {
            self.retain(client, agent, |_| false);
        }
    }

    fn retain(&mut self, client: ClientKey, agent: AgentId, keep: impl Fn(&Refusal) -> bool) {
        let Some(list) = self.by_agent.get_mut(&agent) else { return };
        list.retain(|refusal| refusal.client != client || keep(refusal));
        if of(list, client).next().is_none()
            && let Some(agents) = self.agents.get_mut(client)
        {
            agents.remove(&agent);
        }
        if list.is_empty() {
            self.by_agent.remove(&agent);
        }
    }
}
