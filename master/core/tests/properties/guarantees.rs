//! A role below its guarantee gets the next resources that fit it.
//!
//! What is checked: take back all that a cycle gave of one agent to roles to which nothing was owed when it began. A role to
//! which something is still owed could not have had any of it: it is not enough for an offer, not what the role's frameworks
//! want or take, or not what is owed.

use crate::books::Books;
use crate::judge::{Pass, Question, Taken, judge};
use crate::quota;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::collections::BTreeSet;
use tepui_master_core::allocator::Grant;
use tepui_proto::AgentId;

pub(crate) fn are_served_first(
    before: &Books,
    after: &Books,
    agents: &BTreeSet<AgentId>,
    grants: &[Grant],
) -> TestCaseResult {
    if quota::required(after).is_none() {
        return Ok(());
    }
    for agent in agents {
        let of_agent = grants.iter().filter(|grant| grant.agent == *agent);
        let (owed, others): (Vec<&Grant>, Vec<&Grant>) =
            of_agent.partition(|grant| !quota::owed(before, &grant.role).is_none());
        if others.is_empty() {
            continue;
        }
        let mut without = after.clone();
        for grant in others {
            let is_it = |held: &crate::books::Holding| {
                held.is_offered
                    && held.agent == *agent
                    && held.bundle == grant.bundle
                    && (held.framework, &held.role, held.want)
                        == (grant.framework, &grant.role, grant.want)
            };
            // What was given last stands last.
            let place = without.holdings.iter().rposition(is_it);
            prop_assert!(place.is_some(), "{:?}", grant);
            place.map(|place| without.holdings.remove(place));
        }
        let shared =
            owed.iter().flat_map(|grant| grant.bundle.pools()).filter(|(k, _)| k.is_shared());
        let taken: Taken = shared.map(|(kind, _)| (*agent, kind.clone())).collect();
        for (framework, role, _) in after.clients() {
            // A refusal of one kind may hide a unit until another has taken that kind.
            let has_refused =
                |r: &&crate::books::Refusal| r.framework == framework && r.agent == *agent;
            if quota::owed(&without, role).is_none()
                || after.refusals.iter().any(|r| has_refused(&r))
            {
                continue;
            }
            let question = Question { agent: *agent, framework, role, pass: Pass::Owed };
            let missed = judge(&without, question, &taken);
            prop_assert_eq!(missed, None, "{} in {} was passed over on {}", framework, role, agent);
        }
    }
    Ok(())
}
