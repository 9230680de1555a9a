//! Open offers: made, answered, taken back. They are the leader's and end with its term.

use super::deadlines::Deadline;
use super::{Leader, Violation};
use crate::allocator::{self, Grant, Round};
use crate::ledger::Holder;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{AgentId, DurationMs, FrameworkId, OfferId, Resources, Role, Timestamp, limits};

/// Resources of one agent, held for one framework and role.
#[derive(Clone, Debug)]
pub(super) struct OpenOffer {
    pub(super) framework: FrameworkId,
    pub(super) role: Role,
    pub(super) agent: AgentId,
    pub(super) resources: Resources,
    /// The want that it answers, and how many units of it.
    pub(super) want: Option<(u32, u32)>,
    pub(super) expires: Timestamp,
    /// Whether a turn has told of it. Until then it may grow.
    pub(super) told: bool,
}

/// The table of open offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    by_id: BTreeMap<OfferId, OpenOffer>,
    by_agent: BTreeMap<AgentId, BTreeSet<OfferId>>,
    by_framework: BTreeMap<FrameworkId, BTreeSet<OfferId>>,
    /// Units of wants that are on offer.
    units: BTreeMap<(FrameworkId, u32), u32>,
    made: u64,
}

impl Offers {
    pub(super) fn get(&self, id: OfferId) -> Option<&OpenOffer> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: OfferId) -> Option<&mut OpenOffer> {
        self.by_id.get_mut(&id)
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
        self.count(&offer, offer.want.map_or(0, |(_, units)| units), true);
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
        self.count(&offer, offer.want.map_or(0, |(_, units)| units), false);
        Some(offer)
    }

    fn count(&mut self, offer: &OpenOffer, units: u32, more: bool) {
        let Some((want, _)) = offer.want else { return };
        let key = (offer.framework, want);
        let count = self.units.entry(key).or_default();
        *count = if more { count.saturating_add(units) } else { count.saturating_sub(units) };
        if *count == 0 {
            self.units.remove(&key);
        }
    }
}

impl Leader {
    /// Looks at what was freed, and at everything if some demand changed.
    pub(super) fn make_offers(&mut self, now: Timestamp) {
        let freed = self.state.ledger.take_freed();
        self.mind.dirty.extend(freed);
        if self.mind.active.is_empty() {
            // Whoever becomes active asks for everything to be looked at.
            self.mind.dirty.clear();
            return;
        }
        let dirty = std::mem::take(&mut self.mind.dirty);
        let agents: Vec<AgentId> = if std::mem::take(&mut self.mind.all_dirty) {
            self.mind.sessions.keys().copied().collect()
        } else {
            dirty.into_iter().filter(|agent| self.mind.sessions.contains_key(agent)).collect()
        };
        if agents.is_empty() {
            return;
        }
        let round = Round {
            state: &self.state,
            filters: &self.mind.filters,
            active: &self.mind.active,
            offered: &self.mind.offers.units,
            now,
        };
        for grant in allocator::allocate(&round, &agents) {
            self.offer(now, grant);
        }
    }

    /// Makes an offer, or adds to one of the same kind that nobody was told of.
    fn offer(&mut self, now: Timestamp, grant: Grant) {
        let holder = Holder { role: &grant.role, framework: grant.framework };
        if self.state.ledger.offer(grant.agent, holder, &grant.resources).is_err() {
            // The allocator read the same ledger, so this is not reached; not offering is the safe side.
            return;
        }
        self.mind.touched.insert(grant.framework);
        let want = grant.want.map(|(want, _)| want);
        let new_offers = self
            .mind
            .frameworks
            .get(&grant.framework)
            .into_iter()
            .flat_map(|mind| &mind.new_offers);
        let untold = new_offers.copied().find(|id| {
            self.mind.offers.get(*id).is_some_and(|offer| {
                offer.agent == grant.agent
                    && offer.role == grant.role
                    && offer.want.map(|(want, _)| want) == want
            })
        });
        let offers = &mut self.mind.offers;
        if let Some(id) = untold
            && let Some(mut offer) = offers.remove(id)
        {
            offer.resources =
                offer.resources.checked_add(&grant.resources).unwrap_or(offer.resources);
            offer.want = offer
                .want
                .map(|(want, units)| (want, units + grant.want.map_or(0, |(_, more)| more)));
            offers.insert(id, offer);
            return;
        }
        offers.made += 1;
        let id = OfferId::new(self.state.term(), offers.made);
        let expires = now.after(DurationMs(limits::OFFER_TIMEOUT_MS));
        offers.insert(
            id,
            OpenOffer {
                framework: grant.framework,
                role: grant.role,
                agent: grant.agent,
                resources: grant.resources,
                want: grant.want,
                expires,
                told: false,
            },
        );
        self.mind.deadlines.set(expires, Deadline::Offer(id));
        self.mind.framework(grant.framework).new_offers.insert(id);
    }

    /// Takes an offer out of the table; what it held is free. The scheduler is not told.
    pub(super) fn close_offer(&mut self, id: OfferId) -> Option<OpenOffer> {
        let offer = self.mind.offers.remove(id)?;
        self.mind.deadlines.clear(offer.expires, Deadline::Offer(id));
        self.mind.framework(offer.framework).new_offers.remove(&id);
        let holder = Holder { role: &offer.role, framework: offer.framework };
        // It was offered with the same amount.
        let _balanced = self.state.ledger.take_back(offer.agent, holder, &offer.resources);
        Some(offer)
    }

    /// Takes an offer back and tells the scheduler, if it knew. No filter stays.
    pub(super) fn rescind(&mut self, id: OfferId) {
        let Some(offer) = self.close_offer(id) else { return };
        if offer.told {
            self.mind.framework(offer.framework).rescinded.push(id);
            self.mind.touched.insert(offer.framework);
        }
    }

    /// Remembers that a framework does not want this for a while.
    pub(super) fn refuse(
        &mut self,
        now: Timestamp,
        offer: &OpenOffer,
        resources: Resources,
        refuse_for: Option<DurationMs>,
    ) {
        let span = refuse_for.map_or(limits::REFUSE_MS, |span| span.0.min(limits::REFUSE_MS_MAX));
        if span == 0 || resources.is_empty() {
            return;
        }
        let until = now.after(DurationMs(span.max(limits::ALLOCATION_INTERVAL_MS)));
        self.mind.filters.refuse(offer.framework, &offer.role, offer.agent, resources, until);
        self.mind.deadlines.set(until, Deadline::Filter(offer.agent));
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
        let mut sums: BTreeMap<AgentId, Resources> = BTreeMap::new();
        for (id, offer) in &self.mind.offers.by_id {
            let sum = sums.entry(offer.agent).or_default();
            let Some(more) = sum.checked_add(&offer.resources) else {
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
