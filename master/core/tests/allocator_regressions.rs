//! What the simple allocator and the properties have found, each as small as it gets.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use tepui_master_core::allocator::{Accepts, Allocator, Ask, Grant, Look, Reason, Settings, Site};
use tepui_master_core::ledger::{Holder, Ledger};
use tepui_master_core::policy::{Policy, RolePolicy};
use tepui_proto::calls::Want;
use tepui_proto::roles::Packing;
use tepui_proto::{AgentId, Bundle, FrameworkId, Role, Scalars, Timestamp};

const A: AgentId = AgentId(1);
const F: FrameworkId = FrameworkId(1);
const G: FrameworkId = FrameworkId(2);
const NOW: Timestamp = Timestamp(1);

fn bundle(text: &str) -> Bundle {
    text.parse().unwrap()
}

fn scalars(text: &str) -> Scalars {
    text.parse().unwrap()
}

fn quota(guarantee: &str, limit: &str) -> RolePolicy {
    RolePolicy { guarantee: scalars(guarantee), limit: scalars(limit), ..RolePolicy::default() }
}

fn spread(weight_milli: u64) -> RolePolicy {
    RolePolicy { weight_milli, packing: Some(Packing::Spread), ..RolePolicy::default() }
}

/// So many units of a want, always the same one.
#[expect(clippy::unnecessary_wraps, reason = "what a framework asks for is this or nothing")]
fn want(role: &str, each: &str, count: u32) -> Option<Vec<Want>> {
    let each = bundle(each).plain().clone();
    let (role, constraints) = (Role::from(role), Vec::new());
    Some(vec![Want { id: 7, role, count, each, port_count: 0, revocable: false, constraints }])
}

/// One agent, and whoever asks.
struct Cluster {
    ledger: Ledger,
    policy: Policy,
    allocator: Allocator,
}

impl Cluster {
    fn new(total: &str, roles: &[(&str, RolePolicy)]) -> Self {
        let mut cluster = Self {
            ledger: Ledger::default(),
            policy: Policy::default(),
            allocator: Allocator::new(Settings::default()),
        };
        cluster.ledger.set_offerable(A, &bundle(total));
        cluster.allocator.set_site(A, Site::default());
        for (role, policy) in roles {
            cluster.policy.set(Role::from(*role), policy.clone());
        }
        cluster
    }

    fn ask(&mut self, framework: FrameworkId, role: &str, wants: Option<Vec<Want>>) {
        let ask = Ask {
            roles: vec![role.into()],
            suppressed: BTreeSet::new(),
            accepts: Accepts::NATIVE,
            smallest: BTreeMap::new(),
            wants,
            is_active: true,
        };
        self.allocator.set_ask(framework, &ask);
    }

    fn allocate(&mut self) -> Vec<Grant> {
        self.allocator.allocate(&mut self.ledger, &self.policy, NOW, Look::All)
    }

    /// What each framework is granted by one look at everything, in the notation.
    fn granted(&mut self) -> Vec<(FrameworkId, String)> {
        let grants = self.allocate();
        let mut all: Vec<_> = grants.iter().map(|g| (g.framework, g.bundle.to_string())).collect();
        all.sort();
        all
    }

    /// What the framework was told of its role: how many agents were offered, and each reason.
    fn told(&self, framework: FrameworkId, role: &str) -> (u64, Vec<(Reason, u64)>) {
        let tally = self.allocator.tally(framework, &role.into()).unwrap();
        (tally.offered, tally.reasons().filter(|(_, count)| *count > 0).collect())
    }
}

fn is_granted(framework: FrameworkId, what: &str) -> (FrameworkId, String) {
    (framework, what.to_owned())
}

#[test]
fn a_role_s_own_limit_holds_while_it_serves_the_guarantee_above_it() {
    let roles = [("a", quota("cpus:4", "")), ("a/b", quota("", "cpus:1"))];
    let mut cluster = Cluster::new("cpus:4;mem:64", &roles);
    cluster.ask(F, "a/b", None);
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:1;mem:64")]);
}

#[test]
fn a_limit_above_holds_while_a_guarantee_below_it_is_served() {
    let roles = [("a", quota("cpus:4", "cpus:4")), ("a/b", quota("cpus:2", ""))];
    let mut cluster = Cluster::new("cpus:8", &roles);
    let role = Role::from("a/c");
    let holder = Holder { role: &role, framework: G };
    cluster.ledger.take(A, holder, &bundle("cpus:3"), false).unwrap();
    cluster.ask(F, "a/b", None);
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:1")]);
}

#[test]
fn a_sibling_leaves_room_below_a_common_limit_for_what_is_promised() {
    let roles = [("a", quota("cpus:4", "cpus:4")), ("a/b", quota("cpus:3", ""))];
    let mut cluster = Cluster::new("cpus:16", &roles);
    cluster.ask(G, "a/c", None);
    assert_eq!(cluster.granted(), [is_granted(G, "cpus:1")]);
    cluster.ask(F, "a/b", None);
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:3")]);
}

#[test]
fn a_role_that_spreads_gets_all_of_its_guarantee_at_once() {
    let guaranteed = RolePolicy { guarantee: scalars("cpus:4"), ..spread(1000) };
    let mut cluster = Cluster::new("cpus:4", &[("a", guaranteed)]);
    cluster.ask(F, "a", want("a", "cpus:1", 4));
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:4")]);
    assert_eq!(cluster.granted(), []);
}

#[test]
fn roles_that_spread_share_an_agent_by_weight() {
    let mut cluster = Cluster::new("cpus:8", &[("a", spread(3000)), ("b", spread(1000))]);
    cluster.ask(F, "a", want("a", "cpus:1", 8));
    cluster.ask(G, "b", want("b", "cpus:1", 8));
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:6"), is_granted(G, "cpus:2")]);
}

#[test]
fn who_is_served_last_waits_for_those_who_spread() {
    let mut cluster = Cluster::new("cpus:4", &[("a", spread(1000))]);
    cluster.ask(F, "a", want("a", "cpus:1", 4));
    cluster.ask(G, "b", None);
    cluster.allocator.demote(G, Timestamp(1_000));
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:4")]);
}

#[test]
fn units_on_offer_count_though_the_want_was_not_stated_for_a_while() {
    for between in [None, Some(Vec::new())] {
        let mut cluster = Cluster::new("cpus:8", &[]);
        cluster.ask(F, "a", want("a", "cpus:1", 2));
        assert_eq!(cluster.granted(), [is_granted(F, "cpus:2")]);
        cluster.ask(G, "b", None);
        assert_eq!(cluster.granted(), [is_granted(G, "cpus:6")]);
        cluster.ask(F, "a", between);
        cluster.ask(F, "a", want("a", "cpus:1", 2));
        let role = Role::from("b");
        let holder = Holder { role: &role, framework: G };
        cluster.ledger.take_back(A, holder, &bundle("cpus:6")).unwrap();
        cluster.allocator.remove_ask(G);
        assert_eq!(cluster.granted(), [], "two are wanted, and two are on offer");
    }
}

#[test]
fn a_disk_too_large_for_a_guarantee_is_no_reason_to_be_served_first() {
    let mut cluster = Cluster::new("cpus:2;disk{mount}:50", &[("b", quota("disk:40", ""))]);
    let role = Role::from("b");
    let holder = Holder { role: &role, framework: G };
    cluster.ask(F, "a", None);
    cluster.ask(G, "b", None);
    // So that `a` has the lower share.
    cluster.ledger.set_offerable(AgentId(2), &bundle("cpus:1"));
    cluster.ledger.take(AgentId(2), holder, &bundle("cpus:1"), false).unwrap();
    // So that nothing of the disk is left over.
    cluster.policy.set("c".into(), quota("disk:50", ""));
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:2")]);
}

#[test]
fn a_want_of_what_is_not_owed_is_no_reason_to_be_served_first() {
    let mut cluster = Cluster::new("cpus:2;mem:64", &[("b", quota("mem:64", ""))]);
    let role = Role::from("b");
    let holder = Holder { role: &role, framework: G };
    cluster.ledger.set_offerable(AgentId(2), &bundle("cpus:1"));
    cluster.ledger.take(AgentId(2), holder, &bundle("cpus:1"), false).unwrap();
    cluster.ask(F, "a", want("a", "cpus:2", 1));
    cluster.ask(G, "b", want("b", "cpus:2", 1));
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:2")]);
}

#[test]
fn who_came_too_late_was_not_offered_anything() {
    let mut cluster = Cluster::new("cpus:1;mem:64", &[]);
    cluster.ask(F, "a", want("a", "cpus:1", 1));
    cluster.ask(G, "b", want("b", "cpus:1", 1));
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:1")]);
    assert_eq!(cluster.told(F, "a"), (1, vec![]));
    let (offered, _) = cluster.told(G, "b");
    assert_eq!(offered, 0, "nothing was");
    let tallies = cluster.allocator.want_tallies(G, &"b".into());
    assert_eq!(tallies[&7].offered, 0, "nor for its want");
}

#[test]
fn what_serves_a_guarantee_is_counted_as_offered() {
    let mut cluster = Cluster::new("cpus:1", &[("a", quota("cpus:1", ""))]);
    cluster.ask(F, "a", None);
    assert_eq!(cluster.granted(), [is_granted(F, "cpus:1")]);
    assert_eq!(cluster.told(F, "a"), (1, vec![]));
}

#[test]
fn a_want_is_told_the_reason_that_its_framework_is_told() {
    for (total, refused, reason) in [
        ("cpus(b):4", None, Reason::Reserved),
        ("cpus:4", Some("cpus:4"), Reason::Filter),
        ("cpus:0.005", None, Reason::SmallestOffer),
        ("cpus:4;gpus:1", None, Reason::NotAccepted),
    ] {
        let mut cluster = Cluster::new(total, &[]);
        cluster.ask(F, "a", want("a", "cpus:1", 1));
        if let Some(refused) = refused {
            let until = Timestamp(1_000);
            cluster.allocator.refuse(F, &"a".into(), A, bundle(refused), until);
        }
        assert_eq!(cluster.granted(), []);
        assert_eq!(cluster.told(F, "a"), (0, vec![(reason, 1)]), "{total}");
        let tallies = cluster.allocator.want_tallies(F, &"a".into());
        assert_eq!(tallies[&7].count(reason), 1, "{total}: {:?}", tallies[&7]);
    }
}
