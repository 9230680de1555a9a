//! Shares are fair: nobody is served while one of lower weighted share could take it, and at rest no role could gain without
//! one of lower weighted share losing.

use crate::books::{Books, Holding, path};
use crate::judge::{Pass, Question, Taken, judge};
use crate::{quota, shares};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tepui_master_core::allocator::{Grant, Share};
use tepui_proto::{AgentId, Bundle, FrameworkId, Resources, Role};

/// One framework in one role.
pub(crate) type Client<'a> = (FrameworkId, &'a Role);

/// The share by which a client stands against another: that of its branch where they part.
fn against(books: &Books, one: Client<'_>, other: Client<'_>) -> Share {
    if one.1 == other.1 {
        return shares::framework_share(books, one.1, one.0);
    }
    let (own, other) = (path(one.1), path(other.1));
    let common = own.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let branch = own.get(common).map(|branch| shares::subtree_share(books, branch.as_str()));
    branch.unwrap_or_else(|| shares::leaf_share(books, one.1.as_str()))
}

/// Whoever got nothing of an agent, and stands lower after all that was given of it than somebody did before, could not have
/// had any of what that one got.
pub(crate) fn is_the_order(
    before: &Books,
    after: &Books,
    agent: AgentId,
    grants: &[Grant],
) -> TestCaseResult {
    let is_served =
        |client: Client<'_>| grants.iter().any(|grant| (grant.framework, &grant.role) == client);
    for grant in grants {
        let mut without = after.clone();
        let is_its = |held: &Holding| held.framework == grant.framework && held.role == grant.role;
        let first = before.holdings.len();
        let mut place = 0;
        without.holdings.retain(|held| {
            place += 1;
            place <= first || !is_its(held)
        });
        for (framework, role, _) in before.clients() {
            let has_refused =
                before.refusals.iter().any(|r| r.framework == framework && r.agent == agent);
            let is_apart = is_served((framework, role)) || has_refused;
            if is_apart || before.is_demoted(role, framework) {
                continue;
            }
            let (one, other) = ((framework, role), (grant.framework, &grant.role));
            if against(after, one, other) >= against(before, other, one) {
                continue;
            }
            let question = Question { agent, framework, role, pass: Pass::Fair };
            let missed = judge(&without, question, &Taken::new());
            prop_assert_eq!(missed, None, "{} in {} stood before {:?}", framework, role, grant);
        }
    }
    Ok(())
}

/// All units are of one size, nothing is guaranteed, and every agent is anyone's.
pub(crate) fn is_max_min(books: &Books, unit: &Resources) -> TestCaseResult {
    let unit = Bundle::from(unit.clone());
    let clients: Vec<Client<'_>> = books.clients().map(|(id, role, _)| (id, role)).collect();
    for &one in clients.iter().filter(|client| books.is_asking(client.0, client.1)) {
        for &other in clients.iter().filter(|client| **client != one) {
            let mut without = books.clone();
            let is_its = |held: &&mut Holding| (held.framework, &held.role) == other;
            let Some(held) = without.holdings.iter_mut().find(is_its) else { continue };
            held.bundle = held.bundle.saturating_sub(&unit);
            let has_room = quota::room(&without, one.1).into_iter().zip(unit_amounts(&unit));
            if !has_room.into_iter().all(|(room, need)| room.is_none_or(|room| room >= need)) {
                continue;
            }
            let (own, left) = (against(books, one, other), against(&without, other, one));
            prop_assert!(left <= own, "{:?} has more than {:?}, whatever it loses", other, one);
        }
    }
    Ok(())
}

fn unit_amounts(unit: &Bundle) -> [u128; 4] {
    crate::amounts::Amounts::of(unit.plain()).0
}
