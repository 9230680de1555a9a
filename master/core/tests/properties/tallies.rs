//! The allocator counts what came of each look: an offer, or one reason.
//!
//! To what was counted are added agents that were not looked at for anyone, and those that were given out before.

use crate::books::Books;
use crate::cluster::{Cluster, Glance};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::collections::BTreeSet;
use tepui_master_core::allocator::{Reason, Tally};
use tepui_proto::AgentId;

/// What the last look at everything, and those since then, were at.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    full: u64,
    seen: u64,
}

impl Looked {
    /// What a look will be at.
    pub(crate) fn look(&mut self, books: &Books, glance: &Glance) {
        // Nothing is looked at for nobody.
        if !books.clients().any(|(framework, role, _)| books.is_asking(framework, role)) {
            return;
        }
        let all: BTreeSet<AgentId> = books.agents.keys().copied().collect();
        let (agents, is_cycle) = match glance {
            Glance::Agents(agents) => (agents.intersection(&all).copied().collect(), false),
            Glance::Cycle => (all, true),
        };
        let is_open = |id: &&AgentId| books.agents.get(*id).is_some_and(|agent| agent.site.is_open);
        let open: Vec<&AgentId> = agents.iter().filter(is_open).collect();
        let seen = open.iter().filter(|id| !books.free(***id).is_empty()).count() as u64;
        if is_cycle {
            *self = Self { full: open.len() as u64 - seen, seen: 0 };
        }
        self.seen += seen;
    }

    pub(crate) fn check(&self, cluster: &Cluster) -> TestCaseResult {
        let agents = cluster.books.agents.values();
        let closed = agents.filter(|agent| !agent.site.is_open).count() as u64;
        let books = &cluster.books;
        for (framework, role, _) in books.clients() {
            let tally = cluster.allocator.tally(framework, role);
            prop_assert!(tally.is_some(), "{} in {} has none", framework, role);
            for tally in
                tally.iter().chain(cluster.allocator.want_tallies(framework, role).values())
            {
                self.adds_up(tally, closed)?;
            }
        }
        Ok(())
    }

    fn adds_up(&self, tally: &Tally, closed: u64) -> TestCaseResult {
        let left_out: u64 = tally.reasons().map(|(_, count)| count).sum();
        let missed = self.full + self.seen.saturating_sub(tally.considered);
        if tally.considered == tally.offered + left_out {
            // Who asks for nothing is not told of agents that it was not considered for.
            return Ok(());
        }
        prop_assert_eq!(
            tally.considered + closed + missed,
            tally.offered + left_out,
            "{:?}",
            tally
        );
        prop_assert!(tally.count(Reason::Drained) >= closed, "{:?}", tally);
        prop_assert!(tally.count(Reason::Held) >= missed, "{:?}", tally);
        Ok(())
    }
}
