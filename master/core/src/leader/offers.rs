//! Open offers: made, answered, taken back. They are the leader's and end with its term.

use super::agents::is_full;
use super::deadlines::Deadline;
use super::{Leader, Violation};
use crate::allocator::{Accepts, Ask, GPUS, Grant, Look, Site};
use crate::ledger::Holder;
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use tepui_proto::calls::Want;
use tepui_proto::roles::AgentMode;
use tepui_proto::{
    AgentId, Bundle, DurationMs, FrameworkId, OfferId, Role, Term, Timestamp, TurnNumber, limits,
};

/// Resources of one agent, held for one framework and role.
#[derive(Clone, Debug)]
pub(super) struct OpenOffer {
    pub(super) framework: FrameworkId,
    pub(super) role: Role,
    pub(super) agent: AgentId,
    pub(super) bundle: Bundle,
    /// The want that it answers, and how many units of it.
    pub(super) want: Option<(u32, u32)>,
    /// Whether it is lent for a while: only revocable tasks may use it.
    pub(super) is_lent: bool,
    pub(super) expires: Timestamp,
    pub(super) made: Timestamp,
    /// Which turn told of it, and when. Until then it may grow.
    pub(super) told: Option<(TurnNumber, Timestamp)>,
}

/// The table of open offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    by_id: BTreeMap<OfferId, OpenOffer>,
    by_agent: BTreeMap<AgentId, BTreeSet<OfferId>>,
    by_framework: BTreeMap<FrameworkId, BTreeSet<OfferId>>,
    made: u64,
}

impl Offers {
    pub(super) fn get(&self, id: OfferId) -> Option<&OpenOffer> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: OfferId) -> Option<&mut OpenOffer> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = OfferId> {
        self.by_id.keys().copied()
    }

    /// Those after one, in order.
    pub(super) fn after(&self, id: OfferId) -> impl Iterator<Item = (OfferId, &OpenOffer)> {
        let after = (Bound::Excluded(id), Bound::Unbounded);
        self.by_id.range(after).map(|(id, offer)| (*id, offer))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (OfferId, &OpenOffer)> {
        self.by_id.iter().map(|(id, offer)| (*id, offer))
    }

    /// One that no other offer has, nor will.
    pub(super) fn next_id(&mut self, term: Term) -> OfferId {
        self.made += 1;
        OfferId::new(term, self.made)
    }

    pub(super) fn of_framework(&self, framework: FrameworkId) -> impl Iterator<Item = OfferId> {
        self.by_framework.get(&framework).into_iter().flatten().copied()
    }

    pub(super) fn of_agent(&self, agent: AgentId) -> impl Iterator<Item = OfferId> {
        self.by_agent.get(&agent).into_iter().flatten().copied()
    }

    fn insert(&mut self, id: OfferId, offer: OpenOffer) {
        self.by_agent.entry(offer.agent).or_default().insert(id);
        self.by_framework.entry(offer.framework).or_default().insert(id);
        self.by_id.insert(id, offer);
    }

    fn remove(&mut self, id: OfferId) -> Option<OpenOffer> {
        let offer = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_agent.get_mut(&offer.agent) {
            ids.remove(&id);
        }
        if let Some(ids) = self.by_framework.get_mut(&offer.framework) {
            ids.remove(&id);
        }
        Some(offer)
    }
}

/// Who wants GPUs takes agents that have some; who names regions takes agents of all of them.
fn accepts(wants: Option<&[Want]>) -> Accepts {
    let mut wants = wants.unwrap_or_default().iter();
    Accepts {
        gpus: wants.clone().any(|want| want.each.custom.contains_key(GPUS)),
        other_regions: wants.any(|want| want.constraints.iter().any(|c| c.attribute == "@region")),
        ..Accepts::NATIVE
    }
}

impl Leader {
    /// Looks at what was freed, and at everything if some demand changed. With an interval, at what was freed only when
    /// the next cycle is due.
    pub(super) fn make_offers(&mut self, now: Timestamp) {
        let freed = self.state.ledger.take_freed();
        // What was freed may be a place for another task.
        let allocator = &self.mind.allocator;
        let full: Vec<AgentId> =
            freed.iter().copied().filter(|id| allocator.is_full(*id)).collect();
        self.note_full(full);
        let interval = self.mind.allocator.settings().interval;
        let is_due = interval.is_some_and(|_| now >= self.mind.next_cycle);
        if let Some(interval) = interval.filter(|_| is_due) {
            self.mind.next_cycle = now.after(interval);
            self.mind.deadlines.set(self.mind.next_cycle, Deadline::Cycle);
        } else if interval.is_none() {
            // What a role gives back under a limit, or a guarantee no longer needs, may be had elsewhere.
            self.mind.looks_soon |= !freed.is_empty() && self.state.policy.has_quota();
            self.mind.dirty.extend(freed);
        }
        self.plan_look(now);
        if self.mind.active.is_empty() {
            // Whoever becomes active asks for everything to be looked at.
            self.mind.dirty.clear();
            return;
        }
        self.tell_asks();
        let dirty = std::mem::take(&mut self.mind.dirty);
        let all = std::mem::take(&mut self.mind.all_dirty);
        let (allocator, State { ledger, policy, .. }) = (&mut self.mind.allocator, &mut self.state);
        let grants = if is_due {
            allocator.cycle(ledger, policy, now)
        } else if all {
            self.mind.looked_at = now;
            allocator.allocate(ledger, policy, now, Look::All)
        } else if dirty.is_empty() {
            return;
        } else {
            allocator.allocate(ledger, policy, now, Look::Agents(&dirty))
        };
        for grant in grants {
            self.offer(now, grant);
        }
    }

    /// Plans a look at everything, where something may have become possible that no single agent tells of: soon, and not
    /// more often than once an interval.
    fn plan_look(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.mind.looks_soon) {
            return;
        }
        let due = self.mind.looked_at.after(DurationMs(limits::ALLOCATION_INTERVAL_MS));
        if due <= now {
            self.mind.all_dirty = true;
        } else {
            self.mind.deadlines.set(due, Deadline::Look);
        }
    }

    /// Tells the allocator what frameworks ask for now.
    fn tell_asks(&mut self) {
        for id in std::mem::take(&mut self.mind.asking) {
            let Some(framework) = self.state.frameworks.get(&id) else {
                self.mind.allocator.remove_ask(id);
                continue;
            };
            let ask = Ask {
                roles: framework.submission.roles.clone(),
                suppressed: framework.suppressed.clone(),
                accepts: accepts(framework.wants.as_deref()),
                smallest: BTreeMap::new(),
                wants: framework.wants.clone(),
                is_active: self.mind.active.contains(&id) && !self.mind.resting.contains(&id),
            };
            self.mind.allocator.set_ask(id, &ask);
        }
    }

    /// Agents with as many tasks as they take, or no room for more, are not offered; others are.
    pub(super) fn note_full(&mut self, agents: impl IntoIterator<Item = AgentId>) {
        for id in agents {
            let agent = self.state.agents.get(&id);
            let is_full = agent.is_some_and(|agent| is_full(agent, self.mind.sessions.get(&id)));
            self.mind.allocator.set_full(id, is_full);
        }
    }

    /// Tells the allocator what an agent is like now.
    pub(super) fn tell_site(&mut self, id: AgentId) {
        let Some(agent) = self.state.agents.get(&id) else { return };
        let session = self.mind.sessions.get(&id);
        let is_full = is_full(agent, session);
        let site = Site {
            hostname: agent.hostname.clone(),
            attributes: agent.attributes.clone(),
            domain: agent.domain.clone(),
            is_open: session.is_some() && self.state.mode(id) == AgentMode::Active,
            takes_many_roles: true,
        };
        self.mind.allocator.set_site(id, site);
        self.mind.allocator.set_full(id, is_full);
    }

    /// Forgets all that a framework refused.
    pub(super) fn forget_refusals(&mut self, id: FrameworkId) {
        let roles = self.state.frameworks.get(&id).map(|f| f.submission.roles.clone());
        self.mind.allocator.forget_refusals(id, &roles.unwrap_or_default());
    }

    /// Makes an offer, or adds to one of the same kind that nobody was told of.
    fn offer(&mut self, now: Timestamp, grant: Grant) {
        self.mind.touched.insert(grant.framework);
        let want = grant.want.map(|(want, _)| want);
        let wants = self.state.frameworks.get(&grant.framework).and_then(|f| f.wants.as_ref());
        let mut wants = wants.into_iter().flatten();
        let is_lent = wants.any(|known| Some(known.id) == want && known.revocable);
        // An agent has few offers; a framework may have been given thousands in this very cycle.
        let untold = self.mind.offers.of_agent(grant.agent).find(|id| {
            self.mind.offers.get(*id).is_some_and(|offer| {
                offer.told.is_none()
                    && offer.framework == grant.framework
                    && offer.role == grant.role
                    && offer.want.map(|(want, _)| want) == want
            })
        });
        let offers = &mut self.mind.offers;
        if let Some(id) = untold
            && let Some(mut offer) = offers.remove(id)
        {
            offer.bundle = offer.bundle.checked_add(&grant.bundle).unwrap_or(offer.bundle);
            offer.want = offer
                .want
                .map(|(want, units)| (want, units + grant.want.map_or(0, |(_, more)| more)));
            offers.insert(id, offer);
            return;
        }
        let id = offers.next_id(self.state.term());
        let expires = now.after(DurationMs(limits::OFFER_TIMEOUT_MS));
        offers.insert(
            id,
            OpenOffer {
                framework: grant.framework,
                role: grant.role,
                agent: grant.agent,
                bundle: grant.bundle,
                want: grant.want,
                is_lent,
                expires,
                made: now,
                told: None,
            },
        );
        self.mind.deadlines.set(expires, Deadline::Offer(id));
        self.await_kept(now);
        self.mind.framework(grant.framework).new_offers.insert(id);
    }

    /// Takes an offer out of the table; what it held is free. The scheduler is not told.
    pub(super) fn close_offer(&mut self, id: OfferId) -> Option<OpenOffer> {
        let offer = self.mind.offers.remove(id)?;
        self.mind.deadlines.clear(offer.expires, Deadline::Offer(id));
        self.mind.framework(offer.framework).new_offers.remove(&id);
        let holder = Holder { role: &offer.role, framework: offer.framework };
        // It was offered with the same amount.
        let _balanced = self.state.ledger.take_back(offer.agent, holder, &offer.bundle);
        if let Some((want, units)) = offer.want {
            let (framework, role) = (offer.framework, &offer.role);
            self.mind.allocator.units_returned(framework, role, want, units);
            // Agents that were passed over for these units may serve them now.
            self.mind.looks_soon = true;
        }
        Some(offer)
    }

    /// Takes an offer back and tells the scheduler, if it knew. No filter stays.
    pub(super) fn rescind(&mut self, id: OfferId) {
        let Some(offer) = self.close_offer(id) else { return };
        if offer.told.is_some() {
            self.mind.framework(offer.framework).rescinded.push(id);
            self.mind.touched.insert(offer.framework);
        }
    }

    /// Remembers that a framework does not want this for a while.
    pub(super) fn refuse(
        &mut self,
        now: Timestamp,
        offer: &OpenOffer,
        bundle: Bundle,
        refuse_for: Option<DurationMs>,
    ) {
        let span = refuse_for.map_or(limits::REFUSE_MS, |span| span.0.min(limits::REFUSE_MS_MAX));
        if span == 0 || bundle.is_empty() {
            return;
        }
        let until = now.after(DurationMs(span.max(limits::ALLOCATION_INTERVAL_MS)));
        self.mind.allocator.refuse(offer.framework, &offer.role, offer.agent, bundle, until);
        self.await_filter(offer.framework, offer.agent, until);
    }

    pub(super) fn rescind_framework(&mut self, framework: FrameworkId) {
        for id in self.mind.offers.of_framework(framework).collect::<Vec<_>>() {
            self.rescind(id);
        }
    }

    pub(super) fn rescind_agent(&mut self, agent: AgentId) {
        for id in self.mind.offers.of_agent(agent).collect::<Vec<_>>() {
            self.rescind(id);
        }
    }

    pub(super) fn check_offers(&self) -> Result<(), Violation> {
        let mut sums: BTreeMap<AgentId, Bundle> = BTreeMap::new();
        for (id, offer) in &self.mind.offers.by_id {
            let sum = sums.entry(offer.agent).or_default();
            let Some(more) = sum.checked_add(&offer.bundle) else {
                return Err(Violation(format!("offer {id} holds what another offer holds")));
            };
            *sum = more;
        }
        for (agent, accounts) in self.state.ledger.agents() {
            if accounts.offerable.offered != sums.get(&agent).cloned().unwrap_or_default() {
                return Err(Violation(format!(
                    "offers of agent {agent} do not add up to what is offered"
                )));
            }
        }
        Ok(())
    }
}
