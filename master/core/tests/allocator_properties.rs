//! What holds of the ledger and the allocator in any small cluster, whatever happens to it: invariants of the design, one per
//! file of `properties`.

#[path = "oracle/amounts.rs"]
mod amounts;
#[path = "oracle/books.rs"]
mod books;
#[path = "oracle/cluster.rs"]
mod cluster;
#[path = "oracle/config.rs"]
mod config;
#[path = "oracle/judge.rs"]
mod judge;
#[path = "oracle/plans.rs"]
mod plans;
mod properties;
#[path = "oracle/quota.rs"]
mod quota;
#[path = "oracle/shares.rs"]
mod shares;
#[path = "oracle/steps.rs"]
mod steps;
#[path = "oracle/units.rs"]
mod units;

use books::Books;
use cluster::{Cluster, Glance};
use config::config;
use properties::even::{Even, even};
use properties::tallies::Looked;
use properties::{balance, fairness, grants, guarantees, rest};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::collections::BTreeSet;
use steps::{Step, Story, story};
use tepui_master_core::allocator::Grant;
use tepui_proto::AgentId;

/// Steps of a story at most, after it is set up.
const STEPS: usize = 20;

/// A look at agents: how the books were before it, what it was at, and what it gave.
struct Look<'a> {
    before: &'a Books,
    glance: &'a Glance,
    grants: &'a [Grant],
}

fn step(cluster: &mut Cluster, step: &Step) -> Result<Option<Glance>, TestCaseError> {
    cluster.step(step).map_err(|error| TestCaseError::fail(error.to_string()))
}

/// Runs a story, and checks each look at agents.
fn each_look(
    story: &Story,
    mut check: impl FnMut(&Cluster, &Look<'_>) -> TestCaseResult,
) -> Result<Cluster, TestCaseError> {
    let mut cluster = Cluster::new(story.settings.clone());
    for next in &story.steps {
        let Some(glance) = step(&mut cluster, next)? else { continue };
        let before = cluster.books.clone();
        let grants = cluster.allocate(&glance);
        check(&cluster, &Look { before: &before, glance: &glance, grants: &grants })?;
    }
    Ok(cluster)
}

/// What a look is at.
fn agents(look: &Look<'_>) -> BTreeSet<AgentId> {
    match look.glance {
        Glance::Agents(agents) => agents.clone(),
        Glance::Cycle => look.before.agents.keys().copied().collect(),
    }
}

proptest! {
    #![proptest_config(config(10_000))]

    #[test]
    fn books_balance_whatever_happens(story in story(STEPS)) {
        let mut cluster = Cluster::new(story.settings.clone());
        for next in &story.steps {
            if let Some(glance) = step(&mut cluster, next)? {
                cluster.allocate(&glance);
            }
            balance::check(&cluster)?;
        }
    }

    #[test]
    fn grants_are_free_and_wanted_and_not_refused(story in story(STEPS)) {
        each_look(&story, |_, look| {
            grants::are_free(look.before, look.grants)?;
            grants::are_meant_for_whoever_has_them(look.before, look.grants)?;
            grants::are_wanted(look.before, look.grants)?;
            grants::were_not_refused(look.before, look.grants)?;
            grants::are_one_offer_each(look.grants)
        })?;
    }

    #[test]
    fn no_grant_raises_a_role_above_its_limit(story in story(STEPS)) {
        each_look(&story, |cluster, look| grants::keep_limits(look.before, &cluster.books))?;
    }

    #[test]
    fn a_role_below_its_guarantee_gets_the_next_resources_that_fit_it(story in story(STEPS)) {
        each_look(&story, |cluster, look| {
            guarantees::are_served_first(look.before, &cluster.books, &agents(look), look.grants)
        })?;
    }

    #[test]
    fn nothing_is_left_idle_that_some_framework_wants(story in story(STEPS)) {
        let mut cluster = each_look(&story, |_, _| Ok(()))?;
        rest::come_to_rest(&mut cluster)?;
        rest::nothing_is_left_idle(&cluster.books)?;
    }

    #[test]
    fn nobody_is_served_while_a_lower_share_could_take_it(story in story(STEPS)) {
        let mut cluster = Cluster::new(story.settings.clone());
        for next in &story.steps {
            if step(&mut cluster, next)?.is_none() {
                continue;
            }
            for agent in cluster.books.agents.keys().copied().collect::<Vec<_>>() {
                let before = cluster.books.clone();
                let grants = cluster.allocate(&Glance::Agents(BTreeSet::from([agent])));
                if quota::required(&before).is_none() {
                    fairness::is_the_order(&before, &cluster.books, agent, &grants)?;
                }
            }
        }
    }

    #[test]
    fn at_rest_no_role_could_gain_without_one_of_lower_share_losing(even in even()) {
        let Even { mut cluster, unit } = even.start();
        rest::come_to_rest(&mut cluster)?;
        fairness::is_max_min(&cluster.books, &unit)?;
        rest::nothing_is_left_idle(&cluster.books)?;
    }

    #[test]
    fn what_the_allocator_counts_adds_up(story in story(STEPS)) {
        let mut looked = Looked::default();
        each_look(&story, |cluster, look| {
            looked.look(look.before, look.glance);
            looked.check(cluster)
        })?;
    }
}
