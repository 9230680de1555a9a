//! In which order agents come up: as the role that is to be served next wants it.
//!
//! `pack` wants the agent with the least room first (best fit by the dominant share of what is free), `spread` the one
//! with the most, `random` any, in an order that differs from cycle to cycle. Each agent comes up once.

use super::share::Share;
use crate::ledger::Ledger;
use crate::quantities::Quantities;
use std::collections::BTreeSet;
use tepui_proto::AgentId;
use tepui_proto::roles::Packing;

/// Agents that have not come up yet.
#[derive(Debug)]
pub(super) struct Sequence {
    shuffled: Vec<AgentId>,
    /// The least room first; empty unless somebody wants it so.
    sorted: Vec<AgentId>,
    /// Of `sorted`, those before and those from here on have come up.
    front: usize,
    back: usize,
    /// Those that have come up out of turn.
    seen: BTreeSet<AgentId>,
}

impl Sequence {
    pub(super) fn new(mut agents: Vec<AgentId>, ledger: &Ledger, sorts: bool, seed: u64) -> Self {
        let sorted = if sorts { by_room(&agents, ledger) } else { Vec::new() };
        shuffle(&mut agents, seed);
        Self { shuffled: agents, front: 0, back: sorted.len(), sorted, seen: BTreeSet::new() }
    }

    /// The next agent, in this order.
    pub(super) fn next(&mut self, packing: Packing) -> Option<AgentId> {
        if self.sorted.is_empty() {
            return self.shuffled.pop();
        }
        loop {
            let agent = match packing {
                Packing::Random => self.shuffled.pop()?,
                Packing::Pack => {
                    let agent = *self.sorted.get(self.front)?;
                    self.front += 1;
                    agent
                }
                Packing::Spread => {
                    self.back = self.back.checked_sub(1)?;
                    *self.sorted.get(self.back)?
                }
            };
            if self.seen.insert(agent) {
                return Some(agent);
            }
        }
    }
}

fn by_room(agents: &[AgentId], ledger: &Ledger) -> Vec<AgentId> {
    let none = BTreeSet::new();
    let room = |agent: &AgentId| {
        let mut free = Quantities::default();
        if let Some(accounts) = ledger.agent(*agent) {
            free.add_pools(accounts.offerable.free(), |kind| !kind.is_shared());
        }
        (Share::dominant(&free, ledger.total(), 1000, &none), *agent)
    };
    let mut rooms: Vec<(Share, AgentId)> = agents.iter().map(room).collect();
    rooms.sort_unstable();
    rooms.into_iter().map(|(_, agent)| agent).collect()
}

/// Fisher and Yates', with Vigna's `SplitMix64` for chance: the same seed gives the same order.
fn shuffle(agents: &mut [AgentId], seed: u64) {
    let mut state = seed;
    for last in (1..agents.len()).rev() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        // The upper half times the count: even enough, and no division.
        let at = (u128::from(word) * (last as u128 + 1)) >> 64;
        agents.swap(usize::try_from(at).unwrap_or(last), last);
    }
}
