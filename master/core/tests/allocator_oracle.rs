//! The allocator gives the same as a second one that is deliberately simple, on random small clusters.

mod oracle;

use oracle::books::{Books, Holding, is_within};
use oracle::cluster::{Cluster, Glance};
use oracle::config::config;
use oracle::served::Served;
use oracle::steps::{Step, Story, story};
use oracle::{cycle, shares, tree};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::roles::Packing;
use tepui_proto::{AgentId, Bundle, FrameworkId, Role};

type Key = (FrameworkId, Role, AgentId, Option<u32>);

/// What was given, by whom it was given to, where, and for which want.
fn given(holdings: &[Holding]) -> Result<BTreeMap<Key, (Bundle, u32)>, TestCaseError> {
    let mut given: BTreeMap<Key, (Bundle, u32)> = BTreeMap::new();
    for holding in holdings {
        let Holding { agent, framework, role, bundle, want, .. } = holding;
        let key = (*framework, role.clone(), *agent, want.map(|(id, _)| id));
        let (sum, units) = given.entry(key).or_default();
        let more = sum.checked_add(bundle);
        *sum = more.ok_or_else(|| TestCaseError::fail(format!("given twice: {holding:?}")))?;
        *units += want.map_or(0, |(_, units)| units);
    }
    Ok(given)
}

/// What was given since there were so many holdings.
fn given_since(
    books: &Books,
    before: usize,
) -> Result<BTreeMap<Key, (Bundle, u32)>, TestCaseError> {
    given(books.holdings.get(before..).unwrap_or_default())
}

/// The real allocator's cluster, and what the simple one counts beside it.
struct Pair {
    cluster: Cluster,
    served: Served,
}

impl Pair {
    /// Both give the same of these agents, and one offer each.
    fn compare(&mut self, glance: &Glance, agents: &[AgentId]) -> TestCaseResult {
        let Self { cluster, served } = self;
        let mut simple = cluster.books.clone();
        let before = simple.holdings.len();
        cycle::allocate(&mut simple, served, agents);
        let grants = cluster.allocate(glance);
        let fast = given_since(&cluster.books, before)?;
        prop_assert_eq!(grants.len(), fast.len(), "an offer is split: {:?}", grants);
        prop_assert_eq!(fast, given_since(&simple, before)?, "given of {:?}", agents);
        Ok(())
    }

    /// Order and shares are what they come to when worked out anew.
    fn compare_order(&mut self) -> TestCaseResult {
        let Cluster { books, ledger, allocator } = &mut self.cluster;
        prop_assert_eq!(allocator.order(ledger, &books.policy), tree::order(books, &self.served));
        let roles: BTreeSet<&Role> = books.clients().map(|(_, role, _)| role).collect();
        for role in &roles {
            let path = role.as_str();
            let is_below = |other: &&&Role| **other != *role && is_within(other, path);
            let share = match roles.iter().find(is_below) {
                None => shares::subtree_share(books, path),
                Some(_) => shares::leaf_share(books, path),
            };
            prop_assert_eq!(allocator.share(ledger, &books.policy, role), Some(share), "{}", role);
        }
        Ok(())
    }

    /// Every look is at one agent, so that the order of agents is no matter.
    fn one_by_one(&mut self, glance: &Glance) -> TestCaseResult {
        for agent in self.agents(glance) {
            self.compare(&Glance::Agents(BTreeSet::from([agent])), &[agent])?;
        }
        let Glance::Cycle = glance else { return Ok(()) };
        // Time goes on by periodic cycles; this one has nothing to look at.
        let Cluster { books, .. } = &self.cluster;
        let is_open = |agent: &AgentId| books.agents.get(agent).is_some_and(|a| a.site.is_open);
        let open: Vec<AgentId> = self.agents(glance).into_iter().filter(is_open).collect();
        for agent in &open {
            self.cluster.allocator.set_open(*agent, false);
        }
        prop_assert_eq!(self.cluster.allocate(glance), vec![]);
        for agent in &open {
            self.cluster.allocator.set_open(*agent, true);
        }
        Ok(())
    }

    /// Looks are at many agents, in the order that roles want them.
    fn all_at_once(&mut self, glance: &Glance) -> TestCaseResult {
        let agents = self.agents(glance);
        self.compare(glance, &agents)
    }

    fn agents(&self, glance: &Glance) -> Vec<AgentId> {
        match glance {
            Glance::Agents(agents) => agents.iter().copied().collect(),
            Glance::Cycle => self.cluster.books.agents.keys().copied().collect(),
        }
    }
}

fn run(story: &Story, look: fn(&mut Pair, &Glance) -> TestCaseResult) -> TestCaseResult {
    let cluster = Cluster::new(story.settings.clone());
    let mut pair = Pair { cluster, served: Served::default() };
    for step in &story.steps {
        let asked = pair.cluster.step(step);
        let asked = asked.map_err(|error| TestCaseError::fail(error.to_string()))?;
        pair.served.follow(&pair.cluster.books);
        if let Some(glance) = asked {
            look(&mut pair, &glance)?;
        }
        pair.compare_order()?;
    }
    Ok(())
}

/// Every role has an order of agents that is not drawn.
fn packed(mut story: Story) -> Story {
    let packing = |at: u8| if at.is_multiple_of(2) { Packing::Pack } else { Packing::Spread };
    let first = [0, 4, 6].map(|at| {
        let packing = Some(packing(at / 2));
        Step::Role(at, tepui_master_core::policy::RolePolicy { packing, ..Default::default() })
    });
    for step in &mut story.steps {
        if let Step::Role(at, policy) = step {
            let is_random = policy.packing == Some(Packing::Random);
            let is_top = [0, 4, 6].contains(at);
            if is_random || (is_top && policy.packing.is_none()) {
                policy.packing = Some(packing(*at));
            }
        }
    }
    story.steps.splice(0..0, first);
    story
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn each_agent_goes_where_a_simple_allocator_puts_it(story in story(30)) {
        run(&story, Pair::one_by_one)?;
    }

    #[test]
    fn cycles_over_many_agents_give_what_a_simple_allocator_gives(story in story(24)) {
        run(&packed(story), Pair::all_at_once)?;
    }
}
