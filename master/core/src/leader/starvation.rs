//! Starvation cannot last: who sits on offers, or declines them turn after turn, is served after all others for a while.
//!
//! An offer that runs out unanswered is a strike; so is a turn that declines offers and launches nothing. With each strike
//! the while doubles; one launch clears all. The bound is in `docs/decisions/0011-starvation-cannot-last.md`.

use super::Leader;
use tepui_proto::{DurationMs, FrameworkId, OfferId, Timestamp, limits};

/// What a framework did with an offer instead of using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    /// It let it run out.
    Unanswered,
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
        let told = self.mind.offers.get(id).filter(|offer| offer.told);
        if let Some(framework) = told.map(|offer| offer.framework) {
            self.strike(now, framework, Strike::Unanswered);
        }
        self.rescind(id);
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
            Strike::Declined if mind.strikes < limits::DECLINES_FREE => return,
            Strike::Declined => {
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
