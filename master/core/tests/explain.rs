//! What the allocator records of why a framework was not offered an agent is the true reason, for each reason there is.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use tepui_master_core::allocator::{
    Accepts, Allocator, Ask, Grant, Look, Reason, Settings, Site, Tally,
};
use tepui_master_core::ledger::{Holder, Ledger};
use tepui_master_core::policy::{Policy, RolePolicy};
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::events::{AttributeValue, FaultDomain};
use tepui_proto::{AgentId, Bundle, FrameworkId, Role, Scalars, Timestamp};

const F: FrameworkId = FrameworkId(1);
const OTHER: FrameworkId = FrameworkId(2);
const A: AgentId = AgentId(1);

struct Cluster {
    ledger: Ledger,
    policy: Policy,
    allocator: Allocator,
}

fn bundle(text: &str) -> Bundle {
    text.parse().unwrap()
}

fn ask(role: &str) -> Ask {
    Ask {
        roles: vec![role.into()],
        suppressed: BTreeSet::new(),
        accepts: Accepts::NATIVE,
        smallest: BTreeMap::new(),
        wants: None,
        is_active: true,
    }
}

fn want(id: u32, role: &str, each: &str) -> Want {
    let each = bundle(each).plain().clone();
    Want {
        id,
        role: role.into(),
        count: 1,
        each,
        port_count: 0,
        revocable: false,
        constraints: Vec::new(),
    }
}

impl Cluster {
    /// One agent that has this to offer.
    fn new(total: &str) -> Self {
        let settings = Settings { region: Some("here".into()), ..Settings::default() };
        let mut cluster = Self {
            ledger: Ledger::default(),
            policy: Policy::default(),
            allocator: Allocator::new(settings),
        };
        cluster.agent(A, total);
        cluster
    }

    fn agent(&mut self, agent: AgentId, total: &str) {
        self.ledger.set_offerable(agent, &bundle(total));
        self.allocator.set_site(agent, Site::default());
    }

    fn set(&mut self, role: &str, guarantee: &str, limit: &str) {
        let scalars = |text: &str| text.parse::<Scalars>().unwrap();
        let (guarantee, limit) = (scalars(guarantee), scalars(limit));
        let policy = RolePolicy { guarantee, limit, ..RolePolicy::default() };
        self.policy.set(role.into(), policy);
        self.allocator.policy_changed();
    }

    fn ask(&mut self, framework: FrameworkId, ask: &Ask) {
        self.allocator.set_ask(framework, ask);
    }

    fn wants(&mut self, wants: Vec<Want>) {
        self.ask(F, &Ask { wants: Some(wants), ..ask("web") });
    }

    fn take(&mut self, role: &str, framework: FrameworkId, what: &str) {
        let role = Role::from(role);
        let holder = Holder { role: &role, framework };
        self.ledger.take(A, holder, &bundle(what), false).unwrap();
    }

    fn allocate(&mut self) -> Vec<Grant> {
        self.allocator.allocate(&mut self.ledger, &self.policy, Timestamp(1), Look::All)
    }

    /// What came of a look at everything for `F` in `web`, which must not be offered anything.
    fn tally(&mut self) -> Tally {
        let grants = self.allocate();
        assert!(grants.iter().all(|grant| grant.framework != F), "{grants:?}");
        self.allocator.tally(F, &"web".into()).unwrap()
    }

    /// The only reason, which left out so many agents.
    #[track_caller]
    fn is_told(&mut self, reason: Reason, agents: u64) {
        let tally = self.tally();
        assert_eq!(told(&tally), [(reason, agents)]);
        assert_eq!(tally.offered, 0);
    }

    /// As well for the want with this identifier.
    #[track_caller]
    fn want_is_told(&mut self, reason: Reason) {
        self.is_told(reason, 1);
        let tallies = self.allocator.want_tallies(F, &"web".into());
        assert_eq!(
            told(&tallies.get(&7).cloned().unwrap_or_default()),
            [(reason, 1)],
            "of the want"
        );
    }
}

fn told(tally: &Tally) -> Vec<(Reason, u64)> {
    tally.reasons().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn too_little_cpu() {
    let mut cluster = Cluster::new("cpus:1;mem:1024;disk:1024;ports:[1-9]");
    cluster.wants(vec![want(7, "web", "cpus:2;mem:64")]);
    cluster.want_is_told(Reason::NoCpus);
}

#[test]
fn too_little_memory() {
    let mut cluster = Cluster::new("cpus:4;mem:1024;disk:1024;ports:[1-9]");
    cluster.wants(vec![want(7, "web", "cpus:2;mem:1025")]);
    cluster.want_is_told(Reason::NoMemory);
}

#[test]
fn too_little_disk() {
    let mut cluster = Cluster::new("cpus:4;mem:1024;disk:1024");
    cluster.wants(vec![want(7, "web", "cpus:2;mem:64;disk:2048")]);
    cluster.want_is_told(Reason::NoDisk);
}

#[test]
fn too_few_ports_of_any_number_or_of_this_one() {
    let mut cluster = Cluster::new("cpus:4;mem:1024;ports:[1-2]");
    let want = want(7, "web", "cpus:2;mem:64");
    cluster.wants(vec![Want { port_count: 3, ..want.clone() }]);
    cluster.want_is_told(Reason::NoPorts);
    let each = bundle("cpus:2;mem:64;ports:[3-3]").plain().clone();
    cluster.wants(vec![Want { each, ..want }]);
    cluster.want_is_told(Reason::NoPorts);
}

#[test]
fn too_little_of_what_the_operator_named() {
    let mut cluster = Cluster::new("cpus:4;mem:1024;bugs:1;keys:{a,b}");
    for each in ["cpus:1;bugs:2", "cpus:1;birds:1", "cpus:1;keys:{c}"] {
        cluster.wants(vec![want(7, "web", each)]);
        cluster.want_is_told(Reason::NoCustom);
    }
}

#[test]
fn reserved_for_another_role() {
    let mut cluster = Cluster::new("cpus(ads):4;mem(ads):1024");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::Reserved, 1);
    cluster.wants(vec![want(7, "web", "cpus:1")]);
    cluster.is_told(Reason::Reserved, 1);
}

#[test]
fn reserved_for_a_role_below() {
    let mut cluster = Cluster::new("cpus(web/shop):4;mem(web/shop):1024");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::Reserved, 1);
}

#[test]
fn a_limit_that_is_reached() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.take("web", F, "cpus:2;mem:512");
    cluster.set("web", "", "cpus:2;mem:512");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::Quota, 1);
    cluster.wants(vec![want(7, "web", "cpus:1")]);
    cluster.want_is_told(Reason::Quota);
}

#[test]
fn a_limit_of_a_role_above() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.take("web/shop", OTHER, "cpus:2;mem:512");
    cluster.set("web", "", "cpus:2;mem:512");
    cluster.ask(F, &ask("web/blog"));
    let grants = cluster.allocate();
    assert_eq!(grants, []);
    let tally = cluster.allocator.tally(F, &"web/blog".into()).unwrap();
    assert_eq!(told(&tally), [(Reason::Quota, 1)]);
}

#[test]
fn a_limit_that_leaves_less_than_a_unit() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.set("web", "", "cpus:1.5");
    cluster.wants(vec![want(7, "web", "cpus:2")]);
    cluster.want_is_told(Reason::Quota);
}

#[test]
fn a_limit_that_leaves_less_than_the_smallest_offer() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.set("web", "", "cpus:0.005;mem:1");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::Quota, 1);
}

#[test]
fn held_for_another_role_s_guarantee() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.set("ads", "cpus:4;mem:1024", "");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::Headroom, 1);
    cluster.wants(vec![want(7, "web", "cpus:1")]);
    cluster.want_is_told(Reason::Headroom);
}

#[test]
fn a_guarantee_that_leaves_less_than_a_unit() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.set("ads", "cpus:3", "");
    cluster.wants(vec![want(7, "web", "cpus:2")]);
    cluster.want_is_told(Reason::Headroom);
}

#[test]
fn a_guarantee_where_the_role_has_a_limit_of_something_else() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.set("ads", "cpus:4;mem:1024", "");
    cluster.set("web", "", "bugs:0");
    cluster.wants(vec![want(7, "web", "cpus:2")]);
    cluster.want_is_told(Reason::Headroom);
}

#[test]
fn refused_for_a_while() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.ask(F, &ask("web"));
    let (role, all) = (Role::from("web"), bundle("cpus:4;mem:1024"));
    cluster.allocator.refuse(F, &role, A, all, Timestamp(1_000));
    cluster.is_told(Reason::Filter, 1);
    cluster.wants(vec![want(7, "web", "cpus:1")]);
    cluster.is_told(Reason::Filter, 1);
}

#[test]
fn refused_of_what_a_limit_leaves() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.set("web", "", "cpus:2;mem:512");
    cluster.wants(vec![want(7, "web", "cpus:1")]);
    let (role, unit) = (Role::from("web"), bundle("cpus:1"));
    cluster.allocator.refuse(F, &role, A, unit, Timestamp(1_000));
    cluster.want_is_told(Reason::Filter);
}

#[test]
fn constraints_that_the_agent_does_not_meet() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    let rack = ("rack".to_owned(), AttributeValue::Text("r1".to_owned()));
    cluster.allocator.set_site(A, Site { attributes: vec![rack], ..Site::default() });
    let constraint = Constraint {
        attribute: "rack".into(),
        comparison: Comparison::Equals,
        operand: "r2".into(),
    };
    cluster.wants(vec![Want { constraints: vec![constraint], ..want(7, "web", "cpus:1") }]);
    cluster.want_is_told(Reason::Constraint);
}

#[test]
fn each_want_is_told_its_own_reason() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    let constraint = Constraint {
        attribute: "@hostname".into(),
        comparison: Comparison::Equals,
        operand: "elsewhere".into(),
    };
    let elsewhere = Want { constraints: vec![constraint], ..want(1, "web", "cpus:1") };
    let (large, wide) = (want(2, "web", "cpus:5"), want(3, "web", "mem:2048"));
    cluster.wants(vec![elsewhere, large, wide]);
    cluster.tally();
    let tallies = cluster.allocator.want_tallies(F, &"web".into());
    let told: Vec<_> = tallies.values().map(told).collect();
    assert_eq!(told, [[(Reason::Constraint, 1)], [(Reason::NoCpus, 1)], [(Reason::NoMemory, 1)]]);
}

#[test]
fn less_than_the_smallest_offer() {
    let mut cluster = Cluster::new("cpus:0.009;mem:31");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::SmallestOffer, 1);
    let mut all = Scalars::default();
    all.set(Scalars::CPUS, 5_000);
    let smallest = BTreeMap::from([("web".into(), vec![all])]);
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.ask(F, &Ask { smallest, ..ask("web") });
    cluster.is_told(Reason::SmallestOffer, 1);
}

#[test]
fn kinds_that_the_framework_does_not_take() {
    let mut cluster = Cluster::new("cpus{rev}:4;mem{rev}:1024");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::NotAccepted, 1);
    let mut cluster = Cluster::new("cpus:4;mem:1024;gpus:1");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::NotAccepted, 1);
    let mut cluster = Cluster::new("disk(web){shared:s:size=64}:1");
    let no_shared = Accepts { shared: false, ..Accepts::NATIVE };
    cluster.ask(F, &Ask { accepts: no_shared, ..ask("web") });
    cluster.is_told(Reason::NotAccepted, 1);
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    let domain = Some(FaultDomain { region: "there".into(), zone: "z".into() });
    cluster.allocator.set_site(A, Site { domain, ..Site::default() });
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::NotAccepted, 1);
}

#[test]
fn all_of_it_is_used() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.take("ads", OTHER, "cpus:4;mem:1024");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::Held, 1);
}

#[test]
fn a_framework_with_a_lower_share_has_taken_it() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.agent(AgentId(2), "cpus:4;mem:1024");
    cluster.take("web", F, "cpus:1;mem:64");
    cluster.ask(F, &ask("web"));
    cluster.ask(OTHER, &ask("ads"));
    let grants = cluster.allocate();
    let own = grants.iter().filter(|grant| grant.framework == F).count() as u64;
    let tally = cluster.allocator.tally(F, &"web".into()).unwrap();
    assert_eq!((own, tally.offered), (1, 1));
    assert_eq!(told(&tally), [(Reason::Held, 1)]);
}

#[test]
fn as_many_tasks_as_it_takes() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.ask(F, &ask("web"));
    cluster.allocator.set_full(A, true);
    cluster.is_told(Reason::Full, 1);
}

#[test]
fn drained_deactivated_or_away() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.allocator.set_open(A, false);
    cluster.agent(AgentId(2), "cpus(ads):4");
    cluster.ask(F, &ask("web"));
    let tally = cluster.tally();
    assert_eq!(told(&tally), [(Reason::Reserved, 1), (Reason::Drained, 1)]);
    assert_eq!(tally.considered, 1);
}

#[test]
fn who_asks_for_nothing_is_not_told_that_others_took_it() {
    let mut cluster = Cluster::new("cpus:4;mem:1024");
    cluster.ask(OTHER, &ask("ads"));
    let suppressed = BTreeSet::from([Role::from("web")]);
    cluster.ask(F, &Ask { suppressed, ..ask("web") });
    assert_eq!(told(&cluster.tally()), []);
    cluster.ask(F, &Ask { is_active: false, ..ask("web") });
    assert_eq!(told(&cluster.tally()), []);
    cluster.wants(Vec::new());
    assert_eq!(told(&cluster.tally()), []);
}

#[test]
fn a_look_at_everything_begins_the_count_anew_and_looks_at_single_agents_add_to_it() {
    let mut cluster = Cluster::new("cpus(ads):4");
    cluster.ask(F, &ask("web"));
    cluster.is_told(Reason::Reserved, 1);
    let freed = BTreeSet::from([A]);
    for _ in 0..2 {
        let (ledger, look) = (&mut cluster.ledger, Look::Agents(&freed));
        cluster.allocator.allocate(ledger, &cluster.policy, Timestamp(2), look);
    }
    let tally = cluster.allocator.tally(F, &"web".into()).unwrap();
    assert_eq!((tally.since, told(&tally)), (Timestamp(1), vec![(Reason::Reserved, 3)]));
    cluster.is_told(Reason::Reserved, 1);
}

#[test]
fn every_reason_has_a_code_of_its_own() {
    let codes: BTreeSet<&str> = Reason::ALL.into_iter().map(Reason::code).collect();
    assert_eq!(codes.len(), 15);
}

#[test]
fn a_framework_that_is_not_in_the_role_has_no_tally() {
    let mut cluster = Cluster::new("cpus:4");
    cluster.ask(F, &ask("web"));
    assert!(cluster.allocator.tally(F, &"ads".into()).is_none());
    assert!(cluster.allocator.tally(OTHER, &"web".into()).is_none());
    assert!(cluster.allocator.want_tallies(OTHER, &"web".into()).is_empty());
}
