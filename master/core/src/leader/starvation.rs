//! Starvation cannot last: who sits on offers, or declines them turn after turn, is served after all others for a while.
//!
//! An offer that runs out unanswered is a strike; so is a turn that declines offers, or accepts some for nothing, and
//! launches nothing. With each strike the while doubles; one launch clears all. An offer runs out sooner while
//! somebody waits who could use it. The bound is in `docs/decisions/0011-starvation-cannot-last.md`.

use super::Leader;
use super::deadlines::Deadline;
use super::offers::OpenOffer;
use tepui_proto::{DurationMs, FrameworkId, OfferId, Timestamp, limits};

/// Offers that are looked at in one go, and frameworks that each is held against; the next go takes the next offers.
const LOOKS: usize = 256;

/// What a framework did with an offer instead of using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    /// It let it run out.
    Unanswered,
    /// It kept it while others waited.
    Kept,
    /// It declined it, and launched nothing in that turn.
    Declined,
}

/// Doubled so many times.
fn doubled(span_ms: u64, times: u32) -> u64 {
    span_ms.saturating_mul(1 << times.min(32))
}

impl Leader {
    /// An offer that nobody answered in time leaves no filter behind, but a strike.
    pub(super) fn on_offer_expired(&mut self, now: Timestamp, id: OfferId) {
        let told = self.mind.offers.get(id).filter(|offer| offer.told.is_some());
        if let Some(framework) = told.map(|offer| offer.framework) {
            self.strike(now, framework, Strike::Unanswered);
        }
        self.rescind(id);
    }

    /// Looks at kept offers before long, as long as there are offers.
    pub(super) fn await_kept(&mut self, now: Timestamp) {
        if self.mind.kept_at.is_none() {
            let at = now.after(DurationMs(limits::KEPT_WHILE_OTHERS_WAIT_MS));
            self.mind.kept_at = Some(at);
            self.mind.deadlines.set(at, Deadline::Kept);
        }
    }

    /// Takes back what is kept while somebody waits who is offered nothing and could use it.
    pub(super) fn take_back_kept(&mut self, now: Timestamp) {
        self.mind.kept_at = None;
        let offers = self.mind.offers.after(self.mind.kept_after);
        let kept = offers.filter(|(_, offer)| self.is_kept(now, offer)).map(|(id, _)| id);
        let kept: Vec<OfferId> = kept.take(LOOKS).collect();
        let last = kept.last().copied().filter(|_| kept.len() == LOOKS);
        self.mind.kept_after = last.unwrap_or_default();
        if self.mind.offers.iter().next().is_some() {
            self.await_kept(now);
        }
        if kept.is_empty() {
            return;
        }
        let has_none = |id: &FrameworkId| {
            self.mind.offers.of_framework(*id).next().is_none()
                && self.mind.allocator.is_asking(*id)
        };
        let waiting = self.mind.active.iter().copied().filter(has_none).take(LOOKS);
        let waiting: Vec<FrameworkId> = waiting.collect();
        for id in kept {
            let Some(offer) = self.mind.offers.get(id) else { continue };
            let allocator = &mut self.mind.allocator;
            let could_use =
                |who: &FrameworkId| allocator.would_take(*who, offer.agent, &offer.bundle, now);
            if waiting.iter().any(could_use) {
                // Whoever is too busy to be told of it keeps it from others just the same.
                let framework = offer.framework;
                self.strike(now, framework, Strike::Kept);
                self.rescind(id);
            }
        }
    }

    /// Whether a framework has had an offer for longer than it may while others wait: less, once it has answered the turn
    /// that told it.
    fn is_kept(&self, now: Timestamp, offer: &OpenOffer) -> bool {
        let turns = self.state.frameworks.get(&offer.framework).map(|framework| framework.turns);
        let (since, span) = match offer.told {
            Some((turn, at)) if turns.is_some_and(|turns| turn <= turns) => {
                (at, limits::KEPT_WHILE_OTHERS_WAIT_MS)
            }
            Some((_, at)) => (at, limits::TOLD_WHILE_OTHERS_WAIT_MS),
            None => (offer.made, limits::TOLD_WHILE_OTHERS_WAIT_MS),
        };
        since.after(DurationMs(span)) <= now
    }

    /// Counts a strike, and demotes the framework for as long as its strikes ask for.
    pub(super) fn strike(&mut self, now: Timestamp, id: FrameworkId, strike: Strike) {
        let mind = self.mind.framework(id);
        if mind.struck_at == now {
            return;
        }
        mind.struck_at = now;
        mind.strikes = mind.strikes.saturating_add(1);
        let span = match strike {
            Strike::Unanswered => doubled(limits::OFFER_TIMEOUT_MS, mind.strikes - 1),
            Strike::Kept | Strike::Declined if mind.strikes < limits::DECLINES_FREE => return,
            Strike::Kept | Strike::Declined => {
                doubled(limits::ALLOCATION_INTERVAL_MS, mind.strikes - limits::DECLINES_FREE)
            }
        };
        // However many take turns at it, at least half of the time is left to those who do not.
        let struck = self.mind.frameworks.values().filter(|mind| mind.strikes > 0).count();
        let turns = u64::try_from(struck).unwrap_or(u64::MAX);
        let most = turns.saturating_mul(2 * limits::OFFER_TIMEOUT_MS).max(limits::DEMOTION_MS_MAX);
        let mind = self.mind.framework(id);
        // A strike of the milder kind does not shorten what one of the other has brought.
        let until = now.after(DurationMs(span.min(most))).max(mind.demoted_until);
        mind.demoted_until = until;
        self.mind.allocator.demote(id, until);
    }

    /// Who uses what it is offered is served in its turn.
    pub(super) fn clear_strikes(&mut self, id: FrameworkId) {
        let mind = self.mind.framework(id);
        if std::mem::take(&mut mind.strikes) > 0 {
            mind.demoted_until = Timestamp(0);
            self.mind.allocator.demote(id, Timestamp(0));
        }
    }
}
