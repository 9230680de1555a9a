//! Preemption: a role below its guarantee gets back what revocable tasks hold and what others hold over their limits,
//! with the least loss, and never more than it needs.

use crate::stage::{Stage, bundle, guarantee, hello, limit, revocable, task, want, whole};
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::control::Hello;
use tepui_proto::{Call, DurationMs, FrameworkId, PortSet, Reason, TaskSpec, TaskState};

fn with_priority(spec: TaskSpec, priority: i32) -> TaskSpec {
    TaskSpec { priority, kill_grace: Some(DurationMs(7_000)), ..spec }
}

/// Who is being stopped to serve a guarantee.
fn preempted(stage: &Stage) -> Vec<String> {
    let mut killed: Vec<String> = stage.kills.iter().map(|(task, _)| task.clone()).collect();
    killed.sort();
    killed
}

/// `batch` runs these on one agent of so much, and wants no more; `web` is guaranteed so much and wants nothing yet.
fn full(milli: u64, tasks: Vec<TaskSpec>, guaranteed: &str) -> (Stage, FrameworkId, FrameworkId) {
    let (mut stage, batch) = Stage::small(milli, "batch");
    stage.run(batch, tasks);
    stage.nothing(batch);
    let web = stage.framework("web", &["web"]);
    stage.nothing(web);
    stage.roles(vec![guarantee("web", guaranteed)]).unwrap();
    stage.updates(batch);
    (stage, batch, web)
}

fn wants(stage: &mut Stage, framework: FrameworkId, want: Want) {
    stage.wants(framework, want);
    stage.pass(3_000);
}

#[test]
fn a_role_below_its_guarantee_gets_the_room_of_a_revocable_task_and_its_scheduler_is_told_why() {
    let tasks = vec![with_priority(revocable("r", 2_000), 0)];
    let (mut stage, batch, web) = full(2_000, tasks, "cpus:2");
    stage.pass(10_000);
    assert_eq!(stage.kills, [], "nobody of `web` wants anything");
    wants(&mut stage, web, want("web", 1, 1_500));
    assert_eq!(stage.kills, [("r".to_owned(), DurationMs(7_000))], "once, with its own grace");
    assert_eq!(stage.updates(batch), [("r".to_owned(), TaskState::Killing, Reason::Preempted)]);
    stage.report("r", TaskState::Killed);
    stage.pass(1_000);
    assert_eq!(stage.offered(web), 1_500);
    let why = stage.updates(batch);
    assert_eq!(why, [("r".to_owned(), TaskState::Killed, Reason::Preempted)], "at the end as well");
    let key = tepui_proto::TaskKey { framework: batch, task: "r".into() };
    let message = &stage.leader.state().task(&key).unwrap().status.message;
    assert_eq!(message, "`web` is below its guarantee");
    stage.check_copies();
}

#[test]
fn tasks_that_are_not_revocable_and_within_their_role_s_limit_are_never_stopped() {
    let (mut stage, _, web) = full(2_000, vec![task("t", 2_000)], "cpus:2");
    stage.roles(vec![limit("batch", "cpus:3")]).unwrap();
    wants(&mut stage, web, want("web", 1, 1_500));
    assert_eq!(preempted(&stage), [""; 0]);
}

#[test]
fn a_role_without_a_guarantee_or_at_its_guarantee_stops_nobody() {
    let (mut stage, _, web) = full(3_000, vec![revocable("r", 2_000)], "cpus:1");
    let other = stage.framework("other", &["ads"]);
    wants(&mut stage, other, want("ads", 1, 1_500));
    assert_eq!(preempted(&stage), [""; 0], "nothing is promised to `ads`");
    stage.run(web, Vec::new());
    wants(&mut stage, web, want("web", 1, 900));
    stage.run(web, vec![task("w", 900)]);
    // With its scheduler's 0.1 `web` has its guarantee.
    wants(&mut stage, web, want("web", 1, 1_500));
    assert_eq!(preempted(&stage), [""; 0]);
}

#[test]
fn the_least_priority_goes_first_then_the_newest() {
    let tasks = || {
        let spec = |id, priority| with_priority(revocable(id, 500), priority);
        vec![spec("old-1", 1), spec("old-0", 0), spec("new-0", 0), spec("new-1", 1)]
    };
    for (units, victims) in [
        (1, vec!["new-0"]),
        (2, vec!["new-0", "old-0"]),
        (3, vec!["new-0", "new-1", "old-0"]),
        (4, vec!["new-0", "new-1", "old-0", "old-1"]),
    ] {
        let (mut stage, _, web) = full(2_000, tasks(), "cpus:2.1");
        wants(&mut stage, web, want("web", 1, 500 * units));
        assert_eq!(preempted(&stage), victims, "{units} units");
    }
}

#[test]
fn the_fewest_go_where_priorities_are_the_same_and_the_lower_priority_where_they_are_not() {
    // On `a` one task of priority 1 would do, on `b` two of priority 0, on `c` three of them.
    let mut stage = Stage::new();
    let batch = stage.framework("batch", &["batch"]);
    let spec = |id: &str, milli, priority| with_priority(revocable(id, milli), priority);
    let placed = [
        ("a", vec![spec("a1", 1_500, 1)]),
        ("b", vec![spec("b1", 750, 0), spec("b2", 750, 0)]),
        ("c", vec![spec("c1", 500, 0), spec("c2", 500, 0), spec("c3", 500, 0)]),
    ];
    for (agent, tasks) in placed {
        stage.agent(agent, 1_500);
        stage.pass(1_000);
        stage.run_on(batch, agent, tasks);
    }
    stage.nothing(batch);
    let web = stage.framework("web", &["web"]);
    stage.roles(vec![guarantee("web", "cpus:2")]).unwrap();
    wants(&mut stage, web, want("web", 1, 1_500));
    assert_eq!(preempted(&stage), ["b1", "b2"]);
}

#[test]
fn no_more_is_stopped_than_is_needed() {
    // The small one goes first by priority; then the large one alone would do.
    let tasks = vec![
        with_priority(revocable("small", 500), 0),
        with_priority(revocable("large", 1_500), 1),
    ];
    let (mut stage, _, web) = full(2_000, tasks, "cpus:2");
    wants(&mut stage, web, want("web", 1, 1_500));
    assert_eq!(preempted(&stage), ["large"]);
    stage.pass(30_000);
    assert_eq!(preempted(&stage), ["large"], "while it is on its way out");
}

#[test]
fn nobody_is_stopped_where_all_of_them_together_would_not_make_room() {
    let tasks = vec![revocable("r", 500), task("t", 1_500)];
    let (mut stage, _, web) = full(2_000, tasks, "cpus:2");
    wants(&mut stage, web, want("web", 1, 1_000));
    assert_eq!(preempted(&stage), [""; 0]);
}

#[test]
fn nobody_is_stopped_while_the_want_fits_somewhere() {
    let (mut stage, _, web) = full(2_000, vec![revocable("r", 2_000)], "cpus:2");
    stage.agent("b", 2_000);
    wants(&mut stage, web, want("web", 1, 1_500));
    assert_eq!(stage.offered(web), 1_500);
    let declined = stage.held(web);
    // It does not like what it was offered; that is no reason to stop others.
    let refuse_for = Some(DurationMs(60_000));
    stage.say(web, vec![Call::Decline { offers: declined, refuse_for }]);
    stage.pass(30_000);
    assert_eq!(preempted(&stage), [""; 0]);
}

#[test]
fn room_is_made_for_all_that_is_owed_at_once_and_for_no_more() {
    let tasks = || (0..6).map(|n| revocable(&format!("r{n}"), 500)).collect();
    for (count, owed, victims) in [
        // Three units of four are owed, the scheduler's 0.1 being a part of the guarantee.
        (4, "cpus:1.6", vec!["r3", "r4", "r5"]),
        (2, "cpus:1.6", vec!["r4", "r5"]),
        (9, "cpus:9", vec!["r0", "r1", "r2", "r3", "r4", "r5"]),
    ] {
        let (mut stage, _, web) = full(3_000, tasks(), "cpus:0.1");
        stage.force(vec![guarantee("web", owed)]).unwrap();
        stage.wants(web, want("web", count, 500));
        stage.pass(1_000);
        assert_eq!(preempted(&stage), victims, "{count} units wanted, {owed} guaranteed");
        stage.pass(30_000);
        assert_eq!(preempted(&stage), victims, "while they are on their way out");
    }
}

#[test]
fn room_is_made_on_several_agents_at_once_the_least_loss_first() {
    let mut stage = Stage::new();
    let batch = stage.framework("batch", &["batch"]);
    for (agent, priority) in [("a", 2), ("b", 0), ("c", 1)] {
        stage.agent(agent, 1_000);
        stage.pass(1_000);
        stage.run_on(batch, agent, vec![with_priority(revocable(agent, 1_000), priority)]);
    }
    stage.nothing(batch);
    let web = stage.framework("web", &["web"]);
    stage.nothing(web);
    stage.roles(vec![guarantee("web", "cpus:2")]).unwrap();
    stage.wants(web, want("web", 2, 900));
    stage.pass(1_000);
    assert_eq!(preempted(&stage), ["b", "c"]);
}

#[test]
fn a_new_leader_knows_what_is_on_its_way_out() {
    let tasks = vec![revocable("r0", 1_000), revocable("r1", 1_000)];
    let (mut stage, _, web) = full(2_000, tasks, "cpus:2");
    wants(&mut stage, web, want("web", 1, 900));
    assert_eq!(preempted(&stage), ["r1"]);
    for from_snapshot in [true, false] {
        stage.kills.clear();
        stage.fail_over(from_snapshot);
        wants(&mut stage, web, want("web", 1, 900));
        stage.pass(10_000);
        // Who is told again, since it may not have heard.
        assert!(preempted(&stage).iter().all(|task| task == "r1"), "{:?}", stage.kills);
    }
}

#[test]
fn no_more_is_stopped_than_a_limit_above_leaves_room_for() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    let sibling = stage.framework("sibling", &["org/batch"]);
    stage.run(sibling, vec![task("t", 1_000)]);
    stage.nothing(sibling);
    let lent = stage.framework("lent", &["free"]);
    stage.run(lent, (0..5).map(|n| revocable(&format!("r{n}"), 500)).collect());
    stage.nothing(lent);
    let web = stage.framework("web", &["org/web"]);
    stage.nothing(web);
    // Two schedulers' 0.1 and the sibling's 1 leave 1.3 of the limit: two units, of the four that are owed.
    stage.force(vec![limit("org", "cpus:2.5"), guarantee("org", "cpus:2.5")]).unwrap();
    stage.force(vec![guarantee("org/web", "cpus:2.1")]).unwrap();
    stage.wants(web, want("org/web", 9, 500));
    stage.pass(1_000);
    assert_eq!(preempted(&stage), ["r3", "r4"]);
}

#[test]
fn everybody_who_is_owed_something_comes_up_however_many_there_are() {
    let (mut stage, batch) = Stage::small(2_000, "batch");
    stage.run(batch, vec![revocable("r", 2_000)]);
    stage.nothing(batch);
    // Room for schedulers, on agents of another kind.
    let mut other = hello(whole(2_000));
    other.hostname = "other".to_owned();
    for at in 0..12 {
        stage.agent_with(&format!("other-{at}"), other.clone());
    }
    stage.force(vec![guarantee("web", "cpus:900")]).unwrap();
    // Twenty that no agent is large enough for come before the one that can be helped.
    for at in 0..20 {
        let large = stage.framework(&format!("large-{at:02}"), &["web"]);
        stage.wants(large, want("web", 1, 50_000));
    }
    let helped = stage.framework("helped", &["web"]);
    let attribute = "@hostname".to_owned();
    let operand = "host".to_owned();
    let here = Constraint { attribute, comparison: Comparison::Equals, operand };
    let wanted = Want { constraints: vec![here], ..want("web", 1, 1_000) };
    stage.wants(helped, wanted);
    stage.pass(10_000);
    assert_eq!(preempted(&stage), ["r"]);
}

#[test]
fn no_higher_priority_is_stopped_while_a_lower_one_would_do_elsewhere() {
    let mut stage = Stage::new();
    let batch = stage.framework("batch", &["batch"]);
    let spec = |id: &str, priority| with_priority(revocable(id, 500), priority);
    for (agent, tasks) in [
        ("a", vec![spec("a0", 0), spec("a1", 1)]),
        ("b", vec![spec("b0", 0), spec("b1", 0)]),
        ("c", vec![spec("c1", 1), spec("c2", 1)]),
    ] {
        stage.agent(agent, 1_000);
        stage.pass(1_000);
        stage.run_on(batch, agent, tasks);
    }
    stage.nothing(batch);
    let web = stage.framework("web", &["web"]);
    stage.nothing(web);
    stage.roles(vec![guarantee("web", "cpus:1.6")]).unwrap();
    stage.wants(web, want("web", 9, 500));
    stage.pass(1_000);
    assert_eq!(preempted(&stage), ["a0", "b0", "b1"]);
}

#[test]
fn a_limit_above_that_is_reached_exactly_keeps_nobody_from_his_guarantee() {
    // Of `org`, which is at its limit, `org/batch` holds more than it may.
    let mut stage = Stage::new();
    stage.agent("a", 2_000);
    let batch = stage.framework("batch", &["org/batch"]);
    stage.run(batch, (0..3).map(|n| task(&format!("t{n}"), 600)).collect());
    stage.nothing(batch);
    let web = stage.framework("web", &["org/web"]);
    stage.nothing(web);
    // 1.8 of tasks, and 0.1 of each scheduler.
    stage.roles(vec![limit("org", "cpus:2")]).unwrap();
    stage.roles(vec![guarantee("org", "cpus:2"), guarantee("org/web", "cpus:1")]).unwrap();
    wants(&mut stage, web, want("org/web", 1, 500));
    assert_eq!(stage.leader.state().ledger().consumed("org").of("cpus"), 2_000);
    assert_eq!(preempted(&stage), [""; 0], "`org/batch` may have what it has");
    stage.force(vec![limit("org/batch", "cpus:1.4")]).unwrap();
    stage.pass(3_000);
    assert_eq!(preempted(&stage), ["t2"]);
}

#[test]
fn tasks_of_the_role_s_own_subtree_stay() {
    let (mut stage, shop) = Stage::small(2_000, "web/shop");
    stage.run(shop, vec![revocable("r", 2_000)]);
    stage.nothing(shop);
    let web = stage.framework("web", &["web"]);
    stage.roles(vec![guarantee("web", "cpus:3")]).err();
    stage.force(vec![guarantee("web", "cpus:3")]).unwrap();
    wants(&mut stage, web, want("web", 1, 1_500));
    assert_eq!(preempted(&stage), [""; 0]);
}

#[test]
fn what_is_over_a_limit_that_was_lowered_is_given_back_and_no_more_than_that() {
    let tasks = (0..4).map(|n| task(&format!("t{n}"), 500)).collect();
    let (mut stage, _, web) = full(2_000, tasks, "cpus:2");
    // With the scheduler's 0.1 the role holds 2.1: 0.6 over, two tasks of which the second is over in part.
    stage.force(vec![limit("batch", "cpus:1.5")]).unwrap();
    wants(&mut stage, web, want("web", 1, 2_000));
    assert_eq!(preempted(&stage), [""; 0], "four would have to go, and two are within the limit");
    wants(&mut stage, web, want("web", 1, 1_000));
    assert_eq!(preempted(&stage), ["t2", "t3"], "the newest");
    wants(&mut stage, web, want("web", 3, 1_000));
    stage.pass(10_000);
    assert_eq!(preempted(&stage), ["t2", "t3"]);
    stage.report("t2", TaskState::Killed);
    stage.report("t3", TaskState::Killed);
    stage.pass(10_000);
    assert_eq!(preempted(&stage), ["t2", "t3"], "the role is within its limit now");
}

#[test]
fn what_an_ancestor_s_limit_forbids_is_over_too() {
    let (mut stage, batch) = Stage::small(2_000, "org/batch");
    stage.run(batch, vec![task("t", 2_000)]);
    stage.nothing(batch);
    let web = stage.framework("web", &["web"]);
    stage.roles(vec![guarantee("web", "cpus:1")]).unwrap();
    stage.force(vec![limit("org", "cpus:1")]).unwrap();
    wants(&mut stage, web, want("web", 1, 500));
    assert_eq!(preempted(&stage), ["t"]);
}

#[test]
fn nobody_is_stopped_for_a_role_that_a_limit_above_keeps_from_its_guarantee() {
    // `org` has 0.3 left under its limit, the rest being what `org/batch` holds; what `other` holds would not help `org/web`.
    let mut stage = Stage::new();
    stage.agent("a", 1_500);
    let batch = stage.framework("batch", &["org/batch"]);
    stage.run(batch, vec![revocable("r", 1_500)]);
    stage.nothing(batch);
    let other = stage.framework("other", &["other"]);
    stage.agent("b", 2_000);
    stage.pass(1_000);
    stage.run_on(other, "b", vec![with_priority(revocable("o", 2_000), -1)]);
    stage.nothing(other);
    let web = stage.framework("web", &["org/web"]);
    stage.nothing(web);
    let org = [guarantee("org", "cpus:2"), limit("org", "cpus:2"), guarantee("org/web", "cpus:1")];
    stage.roles(org.to_vec()).unwrap();
    wants(&mut stage, web, want("org/web", 1, 800));
    stage.pass(10_000);
    assert_eq!(preempted(&stage), ["r"], "its sibling's, which makes room under the limit too");
}

#[test]
fn tasks_whose_end_makes_no_room_for_the_want_stay() {
    // `o` runs on what the agent may take back at any time, which a want that is not revocable cannot have.
    let mut stage = Stage::new();
    let pools = bundle("cpus{rev}:2").into();
    stage.agent_with("a", Hello { pools, ..hello(whole(2_000)) });
    let batch = stage.framework("batch", &["batch"]);
    let lent = Want { revocable: true, ..want("batch", 1, 2_000) };
    stage.wants(batch, lent);
    stage.run(batch, vec![with_priority(revocable("o", 2_000), -1)]);
    let lent = Want { revocable: true, ..want("batch", 1, 1_000) };
    stage.wants(batch, lent);
    stage.run(batch, vec![revocable("r", 1_000)]);
    stage.nothing(batch);
    let key = |id: &str| tepui_proto::TaskKey { framework: batch, task: id.into() };
    let state = stage.leader.state();
    let of = |id: &str| state.held_by(&key(id), &state.task(&key(id)).unwrap().resources);
    assert_eq!((of("o"), of("r")), (bundle("cpus{rev}:2;mem:64"), bundle("cpus:1;mem:64")));
    let web = stage.framework("web", &["web"]);
    stage.roles(vec![guarantee("web", "cpus:2")]).unwrap();
    wants(&mut stage, web, want("web", 1, 2_000));
    assert_eq!(preempted(&stage), ["r"]);
}

#[test]
fn ports_are_made_room_for_too() {
    let mut stage = Stage::new();
    let ports: PortSet = bundle("ports:[1-2]").plain().ports.clone();
    let mut resources = whole(2_000);
    resources.ports = ports.clone();
    stage.agent_with("a", hello(resources));
    let batch = stage.framework("batch", &["batch"]);
    let mut spec = revocable("r", 500);
    spec.resources.ports = ports;
    stage.run(batch, vec![spec, revocable("s", 500)]);
    stage.nothing(batch);
    let web = stage.framework("web", &["web"]);
    stage.roles(vec![guarantee("web", "cpus:2")]).unwrap();
    wants(&mut stage, web, Want { port_count: 1, ..want("web", 1, 500) });
    assert_eq!(preempted(&stage), ["r"], "it has the ports");
    stage.report("r", TaskState::Killed);
    stage.pass(1_000);
    assert_eq!(stage.offer(web).resources.ports.count(), 1);
}

#[test]
fn what_a_guarantee_holds_is_lent_to_revocable_tasks_alone_and_comes_back() {
    let (mut stage, batch) = Stage::small(2_000, "batch");
    let web = stage.framework("web", &["web"]);
    stage.nothing(web);
    stage.roles(vec![guarantee("web", "cpus:2.1")]).unwrap();
    stage.wants(batch, want("batch", 2, 1_000));
    stage.pass(2_000);
    assert_eq!(stage.offered(batch), 0, "it is held for `web`");
    let lent = Want { revocable: true, ..want("batch", 2, 1_000) };
    stage.wants(batch, lent);
    stage.pass(2_000);
    assert_eq!(stage.offered(batch), 2_000);
    stage.run(batch, vec![task("kept", 1_000), revocable("r", 1_000)]);
    stage.pass(1);
    let refused = ("kept".to_owned(), TaskState::Error, Reason::InvalidTask);
    assert_eq!(stage.updates(batch), [refused], "only revocable tasks may use it");
    stage.nothing(batch);
    wants(&mut stage, web, want("web", 1, 2_000));
    assert_eq!(preempted(&stage), ["r"]);
}
