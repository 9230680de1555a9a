//! Who made the leader work waits for it: for a while such a scheduler is given no turn and no offers.

use super::Leader;
use super::deadlines::Deadline;
use tepui_proto::{DurationMs, FrameworkId, OfferId, Timestamp, limits};

impl Leader {
    /// After an answer for which regular expressions were compiled (the more agents there are to hold them against, the
    /// more they cost), or that led to many refusals: others had to wait for it. Who does so again and again waits as much
    /// longer as there are frameworks that do the same, so that together they take a small part of the leader's time.
    pub(super) fn rest(
        &mut self,
        now: Timestamp,
        id: FrameworkId,
        (compiled, refused): (usize, usize),
    ) {
        let agents = self.state.agents.len() as u64;
        let each = limits::PATTERN_REST_MS + agents / limits::PATTERN_REST_AGENTS;
        let refused = if refused > limits::TURN_EVENTS { refused } else { 0 };
        let work = each * compiled as u64 + refused as u64 / limits::REFUSALS_PER_REST_MS;
        if work == 0 || !self.mind.resting.insert(id) {
            return;
        }
        let others = self.mind.resting.len() as u64;
        let mind = self.mind.framework(id);
        let is_again = mind.rested.is_some_and(|at| now.since(at).0 < limits::REST_FORGOTTEN_MS);
        let rest = work * if is_again { others } else { 1 };
        let rest = rest.min(limits::REST_MS_MAX);
        let until = now.after(DurationMs(rest));
        mind.rested = Some(until);
        let untold: Vec<OfferId> = mind.new_offers.iter().copied().collect();
        self.mind.deadlines.set(until, Deadline::Rested(id));
        self.mind.asking.insert(id);
        if rest > limits::KEPT_WHILE_OTHERS_WAIT_MS {
            // It could not answer what it holds.
            self.rescind_framework(id);
            let message = format!(
                "no turns and no offers for {rest} ms: its answer had {compiled} new regular expressions, and led to \
                 {refused} refusals"
            );
            self.note(now, id, "resting", &message);
        }
        // What it cannot be told of is for others.
        for offer in untold {
            self.rescind(offer);
        }
    }

    /// Whether it is given no turns and no offers for now.
    pub(crate) fn is_resting(&self, id: FrameworkId) -> bool {
        self.mind.resting.contains(&id)
    }

    pub(super) fn on_rested(&mut self, id: FrameworkId) {
        self.mind.resting.remove(&id);
        self.mind.touched.insert(id);
        self.mind.asking.insert(id);
        self.mind.all_dirty = true;
    }
}
