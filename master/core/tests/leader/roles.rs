//! Settings of roles: all or nothing, checked against each other, the cluster, and what is used.

use crate::stage::{Stage, change, guarantee, limit, task};
use tepui_master_core::{Code, EntryKind};
use tepui_proto::roles::{Packing, RoleChange};
use tepui_proto::{Role, Scalars, limits};

fn weight(role: &str, weight_milli: u64) -> RoleChange {
    RoleChange { weight_milli: Some(weight_milli), ..change(role) }
}

#[test]
fn changes_are_taken_all_or_none() {
    let (mut stage, _) = Stage::small(4_000, "web");
    let good = limit("web", "cpus:3");
    assert_eq!(
        stage.roles(vec![good.clone(), weight("ads", 0)]),
        Err(Code::WeightInvalid),
        "and the limit is not set either"
    );
    assert_eq!(stage.offered(stage.inboxes.keys().next().copied().unwrap()), 4_000);
    stage.roles(vec![good, weight("ads", 2_000)]).unwrap();
    let policy = stage.leader.state().policy();
    assert_eq!(policy.roles().count(), 2);
    assert_eq!(policy.weight_milli("ads"), 2_000);
}

#[test]
fn what_is_not_named_stays_and_what_is_as_if_absent_is_forgotten() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.roles(vec![weight("web", 2_500), limit("web", "cpus:2;mem:64")]).unwrap();
    stage.roles(vec![guarantee("web", "cpus:1")]).unwrap();
    let packed = RoleChange { packing: Some(Packing::Pack), ..change("web") };
    stage.roles(vec![packed]).unwrap();
    let role = Role::from("web");
    let set = stage.leader.state().policy().role(&role).unwrap().clone();
    assert_eq!((set.weight_milli, set.packing), (2_500, Some(Packing::Pack)));
    assert_eq!(
        (set.limit.to_string().as_str(), set.guarantee.get("cpus")),
        ("cpus:2;mem:64", Some(1_000))
    );
    stage.roles(vec![limit("web", ""), guarantee("web", ""), weight("web", 1_000)]).unwrap();
    let set = stage.leader.state().policy().role(&role).unwrap();
    assert!(set.limit.is_empty() && set.guarantee.is_empty());
    stage.check_copies();
}

#[test]
fn names_of_roles_are_checked() {
    let mut stage = Stage::new();
    let long = "x".repeat(1 << 20);
    for bad in ["", "/", "a//b", "a/", "/a", "a/..", "-a", "a b", "a\u{8}", "*/a", &long] {
        let result = stage.roles(vec![weight(bad, 2_000)]);
        assert_eq!(result, Err(Code::RoleInvalid), "{bad:.40}");
    }
}

#[test]
fn names_of_resources_are_checked() {
    let mut stage = Stage::new();
    for bad in ["", "a\n", &"x".repeat(1 << 20)] {
        let mut scalars = Scalars::default();
        scalars.set(bad, 1);
        let limit = RoleChange { limit: Some(scalars.clone()), ..change("web") };
        let guarantee = RoleChange { guarantee: Some(scalars), ..change("web") };
        for change in [limit, guarantee] {
            assert_eq!(stage.roles(vec![change.clone()]), Err(Code::QuotaInvalid), "{bad:.40}");
            assert_eq!(stage.force(vec![change]), Err(Code::QuotaInvalid), "not by force either");
        }
    }
}

#[test]
fn a_setting_names_so_many_resources_and_no_more() {
    let mut stage = Stage::new();
    let names = |count: usize| {
        let each = (0..count).map(|n| format!("r{n}:1"));
        limit("x", &each.collect::<Vec<_>>().join(";"))
    };
    stage.roles(vec![names(limits::QUOTA_NAMES)]).unwrap();
    assert_eq!(stage.roles(vec![names(limits::QUOTA_NAMES + 1)]), Err(Code::QuotaInvalid));
}

#[test]
fn more_changes_than_bound_are_refused() {
    let mut stage = Stage::new();
    let many = (0..1_001).map(|n| weight(&format!("r{n}"), 2_000)).collect();
    assert_eq!(stage.roles(many), Err(Code::LimitReached));
}

#[test]
fn weights_are_in_range() {
    let mut stage = Stage::new();
    for bad in [0, 1_000_000_001, u64::MAX] {
        assert_eq!(stage.roles(vec![weight("web", bad)]), Err(Code::WeightInvalid));
        assert_eq!(stage.force(vec![weight("web", bad)]), Err(Code::WeightInvalid));
    }
    stage.roles(vec![weight("web", 1), weight("ads", 1_000_000_000)]).unwrap();
}

#[test]
fn settings_hold_together_at_every_level_of_the_tree() {
    let mut stage = Stage::new();
    stage.agent("a", 100_000);
    stage.roles(vec![limit("a", "cpus:10;mem:100"), guarantee("a", "cpus:8")]).unwrap();
    let bad = [
        ("a guarantee over the role's own limit", guarantee("a", "cpus:11")),
        ("a child's limit over its parent's", limit("a/b", "cpus:11")),
        ("a grandchild's limit over its grandparent's", limit("a/b/c", "mem:101")),
        ("a child's guarantee over its parent's limit", guarantee("a/b", "mem:101")),
        ("a child's guarantee over its parent's", guarantee("a/b", "cpus:9")),
        ("a child's guarantee of what its parent is not promised", guarantee("a/b", "mem:1")),
        ("a guarantee below nobody's", guarantee("x/y", "cpus:1")),
        ("a parent's limit below its own guarantee", limit("a", "cpus:7")),
        ("a sum over the range", guarantee("b", "cpus:18446744073709551")),
    ];
    for (why, change) in bad {
        assert_eq!(stage.roles(vec![change]), Err(Code::QuotaInvalid), "{why}");
    }
    stage.roles(vec![guarantee("a/b", "cpus:5"), limit("a/b", "cpus:6")]).unwrap();
    let siblings = guarantee("a/c", "cpus:4");
    assert_eq!(stage.roles(vec![siblings.clone()]), Err(Code::QuotaInvalid), "5 and 4 of 8");
    assert_eq!(stage.force(vec![siblings]), Err(Code::QuotaInvalid), "nor by force");
    stage.roles(vec![guarantee("a/b", "cpus:4"), guarantee("a/c", "cpus:4")]).unwrap();
    let lowered = guarantee("a", "cpus:7");
    assert_eq!(stage.roles(vec![lowered]), Err(Code::QuotaInvalid), "children are promised 8");
}

#[test]
fn guarantees_beyond_the_cluster_need_force() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    let change = guarantee("web", "cpus:5");
    assert_eq!(stage.roles(vec![change.clone()]), Err(Code::QuotaInvalid));
    stage.roles(vec![guarantee("web", "cpus:3")]).unwrap();
    let together = guarantee("ads", "cpus:2");
    assert_eq!(stage.roles(vec![together]), Err(Code::QuotaInvalid), "3 and 2 of 4.2");
    stage.force(vec![change]).unwrap();
}

#[test]
fn a_limit_below_what_is_used_needs_force_and_kills_nothing() {
    let (mut stage, framework) = Stage::small(4_000, "web/shop");
    stage.run(framework, vec![task("t", 2_000)]);
    // The scheduler's 0.1 count too.
    for role in ["web", "web/shop"] {
        assert_eq!(stage.roles(vec![limit(role, "cpus:2")]), Err(Code::QuotaOverUsed), "{role}");
        stage.roles(vec![limit(role, "cpus:2.1")]).unwrap();
        stage.roles(vec![limit(role, "")]).unwrap();
    }
    assert_eq!(stage.offered(framework), 2_000);
    stage.force(vec![limit("web", "cpus:1")]).unwrap();
    assert_eq!(stage.offered(framework), 0, "what was offered is taken back");
    assert!(stage.kills.is_empty());
    stage.pass(60_000);
    assert_eq!(stage.offered(framework), 0, "and not offered again");
    stage.check_copies();
}

#[test]
fn a_limit_that_offers_alone_exceed_takes_them_back_without_force() {
    let (mut stage, framework) = Stage::small(4_000, "web");
    assert_eq!(stage.offered(framework), 4_000);
    stage.roles(vec![limit("web", "cpus:2.1")]).unwrap();
    assert_eq!(stage.inbox(framework).rescinded.len(), 1);
    assert_eq!(stage.offered(framework), 2_000, "offered anew, up to the limit");
    let old = stage.inbox(framework).rescinded[0];
    stage.say(
        framework,
        vec![crate::stage::accept(&[old], vec![crate::stage::launch(task("t", 3_000))])],
    );
    let update = stage.updates(framework).pop().unwrap();
    assert_eq!(update.2, tepui_proto::Reason::InvalidOffer, "the old offer is no more");
}

#[test]
fn weights_that_change_take_back_all_offers() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.agent("b", 4_000);
    let (web, ads) = (stage.framework("web", &["web"]), stage.framework("ads", &["ads"]));
    let before = stage.held(web).len() + stage.held(ads).len();
    stage.roles(vec![weight("ads", 3_000)]).unwrap();
    let rescinded = stage.inbox(web).rescinded.len() + stage.inbox(ads).rescinded.len();
    assert_eq!(rescinded, before);
    assert_eq!(stage.offered(web) + stage.offered(ads), 8_000, "and all is offered anew");
}

#[test]
fn weights_that_change_again_and_again_take_back_offers_once_a_second() {
    let (mut stage, framework) = Stage::small(4_000, "web");
    let mut times = 0;
    let mut change = |stage: &mut Stage, weight_milli| {
        stage.inboxes.get_mut(&framework).unwrap().rescinded.clear();
        stage.roles(vec![weight("ads", weight_milli)]).unwrap();
        times += usize::from(!stage.inbox(framework).rescinded.is_empty());
        times
    };
    assert_eq!(change(&mut stage, 2_000), 1, "the first at once");
    for n in 1..100 {
        stage.now.0 += 5;
        assert_eq!(change(&mut stage, 2_000 + n), 1);
    }
    // The last one is not forgotten.
    stage.inboxes.get_mut(&framework).unwrap().rescinded.clear();
    stage.pass(limits::SHARE_ANEW_MS);
    assert_eq!(stage.inbox(framework).rescinded.len(), 1);
    // What is so already is no change.
    let before = stage.log.len();
    stage.pass(2 * limits::SHARE_ANEW_MS);
    assert_eq!(change(&mut stage, 2_099), 1);
    let written = &stage.log[before..];
    assert!(!written.iter().any(|entry| matches!(entry.kind, EntryKind::RolesSet(_))));
    assert_eq!(change(&mut stage, 3_000), 2);
}

#[test]
fn settings_of_all_roles_are_bounded_together() {
    let mut stage = Stage::new();
    let mut set = 0;
    let refused = loop {
        let role = |n| weight(&format!("{}/{n}", "r".repeat(100)), 2_000);
        if let Err(code) = stage.roles((set..set + 1_000).map(role).collect()) {
            break code;
        }
        set += 1_000;
    };
    assert_eq!(refused, Code::LimitReached);
    assert!((5_000..50_000).contains(&set), "{set}");
    // What takes no more is taken, and what takes less makes room.
    let (first, last) = (format!("{}/0", "r".repeat(100)), format!("{}/{set}", "r".repeat(100)));
    stage.roles(vec![weight(&first, 3_000)]).unwrap();
    let gone = (0..1_000).map(|n| weight(&format!("{}/{n}", "r".repeat(100)), 1_000));
    stage.roles(gone.collect()).unwrap();
    stage.roles(vec![weight(&last, 2_000)]).unwrap();
}

#[test]
fn settings_outlive_masters() {
    let (mut stage, framework) = Stage::small(4_000, "web/shop");
    stage.roles(vec![limit("web", "cpus:2.1"), weight("web", 4_000)]).unwrap();
    stage.check_copies();
    for from_snapshot in [false, true] {
        stage.fail_over(from_snapshot);
        assert_eq!(stage.leader.state().policy().weight_milli("web"), 4_000);
        assert_eq!(stage.offered(framework), 2_000);
    }
}
