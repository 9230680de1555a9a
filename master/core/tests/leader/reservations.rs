//! Reservations by operators and by schedulers: made of what is free, kept whatever agents and masters do, never stacked
//! over limits.

use crate::stage::{Stage, accept, bundle, cpus, hello, launch, limit, task, whole};
use tepui_master_core::Code;
use tepui_proto::calls::{Operation, Reservation};
use tepui_proto::control::Hello;
use tepui_proto::roles::AgentOperation;
use tepui_proto::{Bundle, FrameworkId, Reason, Resources, TaskKey, TaskState};

fn reservation(role: &str, resources: Resources) -> Reservation {
    Reservation { role: role.into(), resources }
}

fn reserve(role: &str, milli: u64) -> Operation {
    Operation::Reserve(reservation(role, cpus(milli)))
}

fn unreserve(role: &str, milli: u64) -> Operation {
    Operation::Unreserve(reservation(role, cpus(milli)))
}

fn by_operator(role: &str, milli: u64) -> AgentOperation {
    AgentOperation::Reserve(reservation(role, cpus(milli)))
}

fn back_by_operator(role: &str, milli: u64) -> AgentOperation {
    AgentOperation::Unreserve(reservation(role, cpus(milli)))
}

/// CPU of the agent, by kind.
fn cpu(stage: &Stage, agent: &str) -> String {
    let total = stage.total(agent);
    let only = |amount: &Resources| cpus(amount.cpu_milli);
    let kinds: Vec<_> = total.iter().map(|(kind, amount)| (kind.clone(), only(amount))).collect();
    Bundle::try_from(kinds).unwrap().to_string()
}

fn held(stage: &Stage, framework: FrameworkId, id: &str) -> Bundle {
    let key = TaskKey { framework, task: id.into() };
    let task = stage.leader.state().task(&key).unwrap();
    stage.leader.state().held_by(&key, &task.resources)
}

#[test]
fn what_an_operator_reserves_is_offered_to_that_role_and_those_below_alone() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.operate("a", by_operator("web", 3_000)).unwrap();
    assert_eq!(cpu(&stage, "a"), "cpus:1;cpus(web):3");
    let ads = stage.framework("ads", &["ads"]);
    assert_eq!(stage.offered(ads), 1_000);
    let shop = stage.framework("shop", &["web/shop"]);
    assert_eq!(stage.offered(shop), 3_000);
    stage.check_copies();
}

#[test]
fn an_operator_reserves_what_is_offered_and_the_offer_is_taken_back() {
    let (mut stage, ads) = Stage::small(4_000, "ads");
    assert_eq!(stage.offered(ads), 4_000);
    stage.operate("a", by_operator("web", 3_000)).unwrap();
    stage.rest();
    assert_eq!((stage.offered(ads), stage.inbox(ads).rescinded.len()), (1_000, 1));
    stage.operate("a", back_by_operator("web", 3_000)).unwrap();
    stage.pass(1_000);
    assert_eq!(stage.offered(ads), 4_000);
    assert_eq!(cpu(&stage, "a"), "cpus:4");
}

#[test]
fn what_is_used_is_neither_reserved_nor_unreserved_and_no_offer_is_taken_back_for_it() {
    let (mut stage, web) = Stage::small(4_000, "web");
    stage.run(web, vec![task("t", 3_000)]);
    let offers = stage.held(web);
    let not_free = Err(Code::ResourcesNotFree);
    assert_eq!(stage.operate("a", by_operator("web", 1_001)), not_free);
    assert_eq!(stage.operate("a", back_by_operator("web", 1)), not_free, "nothing is reserved");
    assert_eq!(stage.held(web), offers);
    stage.operate("a", by_operator("web", 1_000)).unwrap();
    stage.rest();
    stage.run(web, vec![task("u", 1_000)]);
    assert_eq!(held(&stage, web, "u").pools().count(), 1);
    assert_eq!(stage.operate("a", back_by_operator("web", 1_000)), not_free, "a task has it");
    stage.report("u", TaskState::Finished);
    stage.operate("a", back_by_operator("web", 1_000)).unwrap();
    stage.check_copies();
}

#[test]
fn reservations_that_no_role_could_have_are_refused() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    let long = "x".repeat(1 << 20);
    for bad in ["", "*", "a//b", "/a", "a/..", &long] {
        assert_eq!(stage.operate("a", by_operator(bad, 1)), Err(Code::RoleInvalid), "{bad:.40}");
        let back = stage.operate("a", back_by_operator(bad, 1));
        assert!(back.is_err(), "{bad:.40}");
    }
    assert_eq!(stage.operate("a", by_operator("web", 0)), Err(Code::ResourcesNotFree));
    assert_eq!(stage.operate("a", by_operator("web", 4_001)), Err(Code::ResourcesNotFree));
    assert_eq!(stage.operate("a", by_operator("web", u64::MAX)), Err(Code::ResourcesNotFree));
    assert_eq!(stage.operate("nobody", by_operator("web", 1)), Err(Code::AgentUnknown));
    assert_eq!(cpu(&stage, "a"), "cpus:4");
}

#[test]
fn what_is_reserved_counts_against_the_role_s_limit_at_every_level() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.roles(vec![limit("web", "cpus:2"), limit("web/shop", "cpus:1")]).unwrap();
    let over = Err(Code::QuotaOverUsed);
    assert_eq!(stage.operate("a", by_operator("web/shop", 1_001)), over);
    assert_eq!(stage.operate("a", by_operator("web", 2_001)), over);
    stage.operate("a", by_operator("web/shop", 1_000)).unwrap();
    assert_eq!(stage.operate("a", by_operator("web", 1_001)), over, "2.001 in all");
    stage.operate("a", by_operator("web", 1_000)).unwrap();
}

#[test]
fn a_reservation_that_is_refined_counts_once() {
    let mut stage = Stage::new();
    stage.agent("a", 2_000);
    stage.roles(vec![limit("web", "cpus:2")]).unwrap();
    stage.operate("a", by_operator("web", 2_000)).unwrap();
    stage.operate("a", by_operator("web/shop", 1_500)).unwrap();
    assert_eq!(cpu(&stage, "a"), "cpus(web):0.5;cpus(web,web/shop):1.5");
    stage.operate("a", back_by_operator("web/shop", 1_500)).unwrap();
    stage.operate("a", back_by_operator("web", 2_000)).unwrap();
    assert_eq!(cpu(&stage, "a"), "cpus:2");
    assert_eq!(stage.leader.state().provision(stage.agent_id("a")), None, "as if never made");
    stage.check_copies();
}

#[test]
fn what_the_agent_s_operator_reserved_stays_reserved() {
    let mut stage = Stage::new();
    let pools = bundle("cpus(web):2").into();
    stage.agent_with("a", Hello { pools, ..hello(whole(1_000)) });
    assert_eq!(cpu(&stage, "a"), "cpus:1;cpus(web):2");
    let not_free = Err(Code::ResourcesNotFree);
    assert_eq!(stage.operate("a", back_by_operator("web", 1_000)), not_free);
    stage.operate("a", by_operator("web/shop", 2_000)).unwrap();
    stage.operate("a", by_operator("web", 1_000)).unwrap();
    assert_eq!(cpu(&stage, "a"), "cpus(web):1;cpus(web,web/shop):2");
    stage.operate("a", back_by_operator("web/shop", 2_000)).unwrap();
    stage.operate("a", back_by_operator("web", 1_000)).unwrap();
    assert_eq!(cpu(&stage, "a"), "cpus:1;cpus(web):2");
    assert_eq!(stage.operate("a", back_by_operator("web", 1)), not_free);
    stage.check_copies();
}

#[test]
fn a_scheduler_reserves_and_launches_on_it_in_one_acceptance() {
    let (mut stage, web) = Stage::small(4_000, "web");
    stage.accept(web, vec![reserve("web", 2_000), launch(task("t", 3_000))]);
    assert_eq!(stage.refusals(web), [""; 0]);
    assert_eq!(held(&stage, web, "t"), bundle("cpus(web):2;cpus:1;mem:64"));
    assert_eq!(cpu(&stage, "a"), "cpus:2;cpus(web):2");
    assert_eq!(stage.offered(web), 1_000);
    stage.check_copies();
    stage.report("t", TaskState::Finished);
    stage.pass(1_000);
    assert_eq!(stage.offered(web), 4_000);
    stage.accept(web, vec![unreserve("web", 1_500), launch(task("u", 2_000))]);
    assert_eq!(cpu(&stage, "a"), "cpus:3.5;cpus(web):0.5");
    assert_eq!(held(&stage, web, "u"), bundle("cpus(web):0.5;cpus:1.5;mem:64"));
    stage.check_copies();
}

#[test]
fn operations_that_fail_leave_the_rest_of_the_acceptance_alone() {
    let (mut stage, web) = Stage::small(4_000, "web");
    let operations = vec![
        reserve("web", 4_001),
        reserve("ads", 1),
        reserve("we", 1),
        reserve("web/shop//x", 1),
        reserve("*", 1),
        reserve("web", 0),
        unreserve("web", 1),
        launch(task("t", 1_000)),
    ];
    stage.accept(web, operations);
    stage.pass(1);
    let (role, not_free) = ("role-invalid", "resources-not-free");
    assert_eq!(stage.refusals(web), [not_free, role, role, role, role, not_free, not_free]);
    assert_eq!(stage.updates(web), [], "the task is staging");
    assert_eq!(stage.state_of(web, "t"), TaskState::Staging);
    assert_eq!(cpu(&stage, "a"), "cpus:4");
}

#[test]
fn a_scheduler_refines_its_role_s_reservation_and_undoes_that() {
    let (mut stage, web) = Stage::small(4_000, "web");
    stage.accept(web, vec![reserve("web", 4_000), reserve("web/shop", 1_000)]);
    assert_eq!(cpu(&stage, "a"), "cpus(web):3;cpus(web,web/shop):1");
    let shop = stage.framework("shop", &["web/shop"]);
    assert_eq!(stage.offered(shop), 1_000);
    stage.accept(shop, vec![unreserve("web/shop", 1_000)]);
    assert_eq!(stage.refusals(shop), [""; 0]);
    assert_eq!(cpu(&stage, "a"), "cpus(web):4");
    stage.check_copies();
}

#[test]
fn a_scheduler_does_not_undo_what_is_reserved_for_a_role_above_its_own() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.operate("a", by_operator("web", 4_000)).unwrap();
    let shop = stage.framework("shop", &["web/shop"]);
    assert_eq!(stage.offered(shop), 4_000, "it may use it");
    stage.accept(shop, vec![unreserve("web", 1_000)]);
    stage.pass(1);
    assert_eq!(stage.refusals(shop), ["role-invalid"]);
    assert_eq!(cpu(&stage, "a"), "cpus(web):4");
}

#[test]
fn a_scheduler_s_reservation_stays_within_the_limits_of_the_role_below() {
    let (mut stage, web) = Stage::small(4_000, "web");
    stage.roles(vec![limit("web/shop", "cpus:1")]).unwrap();
    stage.accept(web, vec![reserve("web/shop", 800), reserve("web/shop", 201)]);
    stage.pass(1);
    assert_eq!(stage.refusals(web), ["quota-over-used"]);
    stage.accept(web, vec![reserve("web/shop", 200)]);
    assert_eq!(cpu(&stage, "a"), "cpus:3;cpus(web/shop):1");
    // The same for what is reserved for a role above already.
    stage.accept(web, vec![reserve("web", 1_000), reserve("web/shop", 1)]);
    stage.pass(1);
    assert_eq!(stage.refusals(web), ["quota-over-used"]);
}

#[test]
fn a_refined_reservation_and_what_is_launched_beside_it_stay_within_the_limit() {
    let mut stage = Stage::new();
    stage.agent("a", 2_000);
    stage.operate("a", by_operator("web", 1_000)).unwrap();
    stage.roles(vec![limit("web/shop", "cpus:1")]).unwrap();
    let shop = stage.framework("shop", &["web/shop"]);
    // 0.1 is its scheduler's.
    assert_eq!(stage.offered(shop), 1_900);
    stage.accept(shop, vec![reserve("web/shop", 1_000), launch(task("t", 1_900))]);
    let consumed = stage.leader.state().ledger().consumed("web/shop").cpu_milli;
    assert!(consumed <= 1_000, "{consumed} of 1000");
}

#[test]
fn an_acceptance_of_several_offers_converts_what_they_hold_together() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.operate("a", by_operator("web", 1_000)).unwrap();
    let web = stage.framework("web", &["web"]);
    stage.run(web, vec![task("t", 1_500)]);
    stage.report("t", TaskState::Finished);
    stage.pass(2_000);
    let offers = stage.held(web);
    stage.say(web, vec![accept(&offers, vec![reserve("web", 3_000), launch(task("u", 4_000))])]);
    assert_eq!(held(&stage, web, "u"), bundle("cpus(web):4;mem:64"));
    assert_eq!(stage.updates(web).iter().filter(|u| u.2 != Reason::None).count(), 0);
}

#[test]
fn an_agent_that_says_hello_with_other_resources_keeps_its_reservations() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.operate("a", by_operator("web", 2_000)).unwrap();
    stage.return_of("a", whole(10_000));
    assert_eq!(cpu(&stage, "a"), "cpus:8;cpus(web):2");
    stage.return_of("a", whole(3_000));
    assert_eq!(cpu(&stage, "a"), "cpus:1;cpus(web):2");
    stage.check_copies();
}

#[test]
fn an_agent_that_has_shrunk_below_its_reservations_is_not_offered_beyond_what_it_has() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.operate("a", by_operator("web", 2_000)).unwrap();
    let web = stage.framework("web", &["web"]);
    stage.return_of("a", whole(1_000));
    stage.pass(1_000);
    assert_eq!(stage.offered(web), 1_000, "it has no more");
    stage.return_of("a", whole(4_000));
    stage.pass(1_000);
    assert_eq!(cpu(&stage, "a"), "cpus:2;cpus(web):2", "the reservation is what it was");
    stage.check_copies();
}

#[test]
fn reservations_outlive_masters_and_tasks_on_them_hold_what_they_held() {
    let (mut stage, web) = Stage::small(4_000, "web");
    stage.accept(web, vec![reserve("web", 2_000), launch(task("t", 1_000))]);
    for from_snapshot in [false, true] {
        stage.fail_over(from_snapshot);
        assert_eq!(cpu(&stage, "a"), "cpus:2;cpus(web):2");
        assert_eq!(held(&stage, web, "t"), bundle("cpus(web):1;mem:64"));
        assert_eq!(stage.offered(web), 3_000);
        stage.check_copies();
    }
    stage.report("t", TaskState::Finished);
    stage.check_copies();
    let accounts = stage.leader.state().ledger().agent(stage.agent_id("a")).unwrap();
    assert!(accounts.offerable.used.is_empty());
}
