//! Work is conserved: at rest, nothing is left idle that some framework wants, may have, and has not refused.

use crate::books::Books;
use crate::cluster::{Cluster, Glance};
use crate::judge::{Pass, Question, Taken, judge};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tepui_master_core::allocator::Grant;

/// Shared volumes are offered again and again, one copy in each cycle.
fn is_more_than_copies(grant: &Grant) -> bool {
    grant.bundle.iter().any(|(kind, _)| !kind.is_shared())
}

/// Cycles until two in a row have nothing to give: what was refused for one cycle is seen by the second.
pub(crate) fn come_to_rest(cluster: &mut Cluster) -> TestCaseResult {
    let mut idle = 0;
    for _ in 0..60 {
        let gives = cluster.allocate(&Glance::Cycle).iter().any(is_more_than_copies);
        idle = if gives { 0 } else { idle + 1 };
        if idle == 2 {
            return Ok(());
        }
    }
    Err(TestCaseError::fail("it never comes to rest"))
}

pub(crate) fn nothing_is_left_idle(books: &Books) -> TestCaseResult {
    // As if somebody had got a copy of each.
    let shared = books.agents.iter().flat_map(|(id, agent)| {
        let kinds = agent.total.pools().filter(|(kind, _)| kind.is_shared());
        kinds.map(|(kind, _)| (*id, kind.clone()))
    });
    let taken: Taken = shared.collect();
    for agent in books.agents.keys().copied() {
        for (framework, role, _) in books.clients() {
            for pass in [Pass::Owed, Pass::Fair] {
                let left = judge(books, Question { agent, framework, role, pass }, &taken);
                prop_assert_eq!(left, None, "{} in {} on {}, {:?}", framework, role, agent, pass);
            }
        }
    }
    Ok(())
}
