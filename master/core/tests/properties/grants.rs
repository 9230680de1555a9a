//! Grants are sound: out of what is free of open agents, what the role may have, no more than is wanted, only where
//! constraints hold, never what was refused, and never over a limit at any level.

use crate::amounts::{Amounts, bounds};
use crate::books::{Books, is_within};
use crate::units;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tepui_master_core::allocator::Grant;
use tepui_proto::{Bundle, Resources};

/// What was granted was free, of agents that are open.
pub(crate) fn are_free(before: &Books, grants: &[Grant]) -> TestCaseResult {
    for (id, agent) in &before.agents {
        let mut left = before.free(*id);
        for grant in grants.iter().filter(|grant| grant.agent == *id) {
            prop_assert!(agent.site.is_open, "{:?}", grant);
            prop_assert!(!grant.bundle.is_empty(), "{:?}", grant);
            let shared = left.retained(|kind, _| kind.is_shared());
            let own = grant.bundle.retained(|kind, _| !kind.is_shared());
            let given = grant.bundle.retained(|kind, _| kind.is_shared());
            prop_assert!(shared.contains(&given), "{:?}", grant);
            let rest = left.checked_sub(&own);
            prop_assert!(rest.is_some(), "{:?} of {}", grant, left);
            left = rest.unwrap_or_default();
        }
    }
    Ok(())
}

/// What was granted is for the role, and of kinds that the framework takes.
pub(crate) fn are_meant_for_whoever_has_them(before: &Books, grants: &[Grant]) -> TestCaseResult {
    for grant in grants {
        let Some(ask) = before.asks.get(&grant.framework) else {
            return Err(TestCaseError::fail(format!("nobody asked: {grant:?}")));
        };
        prop_assert!(before.is_asking(grant.framework, &grant.role), "{:?}", grant);
        let wants = ask.wants.iter().flatten().find(|want| {
            want.role == grant.role && grant.want.is_some_and(|(id, _)| id == want.id)
        });
        let takes_revocable = ask.accepts.revocable || wants.is_some_and(|want| want.revocable);
        for (kind, _) in grant.bundle.iter() {
            let owner = kind.owner().is_none_or(|owner| is_within(&grant.role, owner.as_str()));
            prop_assert!(owner, "{:?}", grant);
            prop_assert!(takes_revocable || !kind.revocable, "{:?}", grant);
            prop_assert!(ask.accepts.shared || !kind.is_shared(), "{:?}", grant);
            prop_assert!(ask.accepts.refined || kind.reserved_for.len() < 2, "{:?}", grant);
        }
    }
    Ok(())
}

/// Who states wants is granted whole units of them, no more than are left, where their constraints hold.
pub(crate) fn are_wanted(before: &Books, grants: &[Grant]) -> TestCaseResult {
    for grant in grants {
        let ask = before.asks.get(&grant.framework);
        let site = before.agents.get(&grant.agent).map(|agent| &agent.site);
        let (Some(wants), Some(site)) = (ask.and_then(|ask| ask.wants.as_ref()), site) else {
            prop_assert_eq!(grant.want, None);
            continue;
        };
        let Some((id, count)) = grant.want else {
            return Err(TestCaseError::fail(format!("not wanted: {grant:?}")));
        };
        let mut asking = units::asking(before, grant.framework, &grant.role, wants, site);
        let Some((want, _)) = asking.find(|(want, _)| want.id == id) else {
            return Err(TestCaseError::fail(format!("not wanted there: {grant:?}")));
        };
        let scaled = Resources::scaled(&want.each, count).map(|all| Amounts::of(&all));
        let sum =
            grant.bundle.iter().fold(Amounts::default(), |sum, (_, r)| sum.plus(Amounts::of(r)));
        prop_assert_eq!(scaled, Some(sum), "{:?}", grant);
        let ports: u32 = grant.bundle.iter().map(|(_, amount)| amount.ports.count()).sum();
        prop_assert_eq!(ports, want.port_count * count, "{:?}", grant);
    }
    let wants =
        before.asks.iter().flat_map(|(id, ask)| ask.wants.iter().flatten().map(move |w| (*id, w)));
    for (framework, want) in wants {
        let of = |grant: &&Grant| grant.framework == framework && grant.role == want.role;
        let units = grants.iter().filter(of).filter_map(|grant| grant.want);
        let granted: u32 = units.filter(|(id, _)| *id == want.id).map(|(_, units)| units).sum();
        let left = before.units_left(framework, want);
        prop_assert!(granted <= left, "{} units of {:?}, and {} were left", granted, want, left);
    }
    Ok(())
}

/// No grant lies within something that its framework has refused of the agent.
pub(crate) fn were_not_refused(before: &Books, grants: &[Grant]) -> TestCaseResult {
    for grant in grants {
        let Grant { framework, role, agent, bundle, .. } = grant;
        prop_assert!(!before.is_refused(*framework, role, *agent, bundle), "{:?}", grant);
    }
    Ok(())
}

/// One offer per framework, role, agent and want; a shared volume of an agent goes to one of them.
pub(crate) fn are_one_offer_each(grants: &[Grant]) -> TestCaseResult {
    for (at, grant) in grants.iter().enumerate() {
        for other in grants.iter().take(at).filter(|other| other.agent == grant.agent) {
            let want = |grant: &Grant| grant.want.map(|(id, _)| id);
            let same = other.framework == grant.framework && other.role == grant.role;
            prop_assert!(!same || want(other) != want(grant), "{:?} and {:?}", other, grant);
            let shared = |bundle: &Bundle| bundle.retained(|kind, _| kind.is_shared());
            let twice = shared(&grant.bundle);
            let is_twice = twice.pools().any(|(kind, _)| !other.bundle.get(kind).is_empty());
            prop_assert!(!is_twice, "{:?} and {:?}", other, grant);
        }
    }
    Ok(())
}

/// What a role holds has not risen above its limit, at any level; what is above may only fall.
pub(crate) fn keep_limits(before: &Books, after: &Books) -> TestCaseResult {
    for (role, policy) in after.policy.roles() {
        let (was, is) = (before.consumed(role.as_str()), after.consumed(role.as_str()));
        for ((limit, was), is) in bounds(&policy.limit).into_iter().zip(was.0).zip(is.0) {
            let is_kept = is <= was || limit.is_none_or(|limit| is <= limit);
            prop_assert!(is_kept, "`{}` has risen from {} to {} of {:?}", role, was, is, limit);
        }
    }
    Ok(())
}
