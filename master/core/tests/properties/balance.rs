//! Books balance: `total + overdraft = free + offered + used`, and every sum that is kept is what counting anew comes to.

use crate::amounts::{Amounts, NAMES};
use crate::cluster::Cluster;
use crate::plans::ROLES;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tepui_master_core::quantities::Quantities;

fn same(what: &str, sum: &Quantities, counted: Amounts) -> TestCaseResult {
    for (name, counted) in NAMES.iter().zip(counted.0) {
        prop_assert_eq!(sum.of(name), counted, "{} of {}", name, what);
    }
    Ok(())
}

pub(crate) fn check(cluster: &Cluster) -> TestCaseResult {
    let (books, ledger) = (&cluster.books, &cluster.ledger);
    prop_assert_eq!(ledger.unbalanced(), None);
    same("the cluster", ledger.total(), books.total())?;
    same("what is idle", ledger.idle(), books.idle(|_| true))?;
    for agent in books.agents.keys() {
        let free = ledger.agent(*agent).map(|accounts| accounts.offerable.free());
        prop_assert_eq!(free, Some(&books.free(*agent)), "free of {}", agent);
    }
    for path in ROLES {
        let nothing = Quantities::default();
        let sums = ledger.role(path);
        let own = books.held(|held| held.role.as_str() == path);
        same(path, sums.map_or(&nothing, |sums| sums.held()), books.held_within(path))?;
        same(path, sums.map_or(&nothing, |sums| sums.own()), own)?;
        same(path, &ledger.consumed(path), books.consumed(path))?;
        for (framework, sum) in
            sums.into_iter().flat_map(tepui_master_core::ledger::RoleSums::frameworks)
        {
            let is_own = |held: &crate::books::Holding| held.framework == framework;
            same(path, sum, books.held(|held| held.role.as_str() == path && is_own(held)))?;
        }
    }
    Ok(())
}
