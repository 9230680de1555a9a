//! What is shared is shared out: who keeps offers, who fills an agent, and who needs a place for a scheduler.

use crate::stage::{Stage, accept, launch, task, want};
use tepui_proto::{Call, FrameworkId, Reason, TaskState, limits};

#[test]
fn however_many_keep_their_offers_who_waits_is_served_before_two_seconds_are_over() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.agent("b", 4_000);
    stage.agent("c", 4_000);
    let keepers = (0..5).map(|n| stage.framework(&format!("keeper-{n}"), &[&format!("k{n}")]));
    let keepers: Vec<FrameworkId> = keepers.collect();
    stage.pass(1);
    assert_eq!(keepers.iter().map(|id| stage.offered(*id)).sum::<u64>(), 12_000);
    // One that comes later, in a role that stands after all of theirs.
    let needy = stage.framework("needy", &["z"]);
    let since = stage.now.0;
    for round in 0..50 {
        while stage.held(needy).is_empty() {
            stage.pass(50);
            let waited = stage.now.0 - since;
            assert!(waited < 100_000 || round > 0);
            assert!(stage.now.0 < since + (round + 1) * 2_000, "round {round} after {waited} ms");
        }
        let id = format!("t{round}");
        stage.run(needy, vec![task(&id, 100)]);
        stage.report(&id, TaskState::Finished);
    }
}

#[test]
fn an_offer_is_kept_for_its_whole_time_while_nobody_waits_who_could_use_it() {
    let (mut stage, keeper) = Stage::small(4_000, "x");
    let other = stage.framework("other", &["y"]);
    // It wants what no agent has.
    stage.wants(other, want("y", 1, 64_000));
    let held = stage.held(keeper);
    stage.pass(limits::OFFER_TIMEOUT_MS - 10);
    assert_eq!(stage.held(keeper), held);
}

#[test]
fn an_offer_that_is_not_answered_yet_is_taken_back_only_after_a_second() {
    let (mut stage, slow) = Stage::small(4_000, "x");
    let needy = stage.framework("needy", &["z"]);
    for framework in [slow, needy] {
        stage.nothing(framework);
    }
    stage.pass(60_000);
    // The slow one is told of all there is, in a turn that it does not answer.
    stage.say_and_wait(slow);
    let mark = stage.inbox(slow).mark.unwrap();
    stage.answer(slow, mark, vec![Call::Want(None)]);
    stage.settle_at(1);
    assert_eq!(stage.offered(slow), 4_000);
    stage.say_and_wait(needy);
    let mark = stage.inbox(needy).mark.unwrap();
    stage.answer(needy, mark, vec![Call::Want(None)]);
    stage.settle_at(limits::TOLD_WHILE_OTHERS_WAIT_MS - 100);
    assert_eq!(stage.offered(needy), 0, "it is still being thought about");
    stage.settle_at(limits::KEPT_WHILE_OTHERS_WAIT_MS + 100);
    assert_eq!(stage.offered(needy), 4_000);
}

#[test]
fn a_scheduler_gets_a_place_though_everything_is_on_offer() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    let keeper = stage.framework("keeper", &["x"]);
    // Two schedulers fill what is held back; all the rest is on offer.
    let second = stage.framework("second", &["y"]);
    stage.nothing(second);
    stage.pass(20_000);
    assert_eq!(stage.offered(keeper), 1_000);
    let third = stage.framework("third", &["z"]);
    let instance = stage.leader.state().framework(third).unwrap().instance.clone();
    assert!(!instance.expect("it is placed at once").held_back);
    stage.check_copies();
}

#[test]
fn an_agent_that_was_full_is_offered_again_by_the_next_periodic_cycle() {
    let interval = Some(tepui_proto::DurationMs(1_000));
    let settings = tepui_master_core::allocator::Settings { interval, ..Default::default() };
    let mut stage = Stage::with_settings(settings);
    stage.agent("a", 1_000_000);
    let framework = stage.framework("f", &["x"]);
    stage.pass(1_000);
    let mut tasks = 0;
    for _ in 0..2 {
        let held = stage.held(framework);
        let small = (tasks..tasks + limits::AGENT_TASKS / 2).map(|n| {
            let mut spec = task(&format!("t{n}"), 10);
            spec.resources.memory_bytes = 1 << 20;
            launch(spec)
        });
        stage.say(framework, vec![accept(&held, small.collect())]);
        tasks += limits::AGENT_TASKS / 2;
        stage.pass(2_000);
    }
    assert_eq!(stage.offered(framework), 0);
    stage.report("t5", TaskState::Finished);
    stage.pass(2_000);
    assert!(stage.offered(framework) > 0);
}

#[test]
fn whoever_waits_is_seen_among_many_who_ask_for_nothing() {
    let mut stage = Stage::new();
    for n in 0..40 {
        stage.agent(&format!("host-{n}"), 1_000);
    }
    for n in 0..300 {
        let idle = stage.framework(&format!("idle-{n}"), &["a"]);
        stage.nothing(idle);
    }
    let keeper = stage.framework("keeper", &["x"]);
    stage.pass(60_000);
    assert!(stage.offered(keeper) > 10_000, "all that schedulers leave");
    let needy = stage.framework("needy", &["z"]);
    stage.pass(2_000);
    assert!(stage.offered(needy) > 0);
}

#[test]
fn an_agent_with_as_many_tasks_as_it_takes_is_not_offered_until_one_ends() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000_000);
    let framework = stage.framework("f", &["x"]);
    let small = |n: usize| {
        let mut spec = task(&format!("t{n}"), 10);
        spec.resources.memory_bytes = 1 << 20;
        launch(spec)
    };
    let first = stage.held(framework);
    stage.say(framework, vec![accept(&first, (0..600).map(small).collect())]);
    stage.pass(1);
    let second = stage.held(framework);
    stage.say(framework, vec![accept(&second, (600..1_010).map(small).collect())]);
    let full = |task: &str| {
        let key = tepui_proto::TaskKey { framework, task: task.into() };
        let status = &stage.leader.state().task(&key).unwrap().status;
        (status.state, status.reason)
    };
    assert_eq!(full("t999"), (TaskState::Staging, Reason::None));
    assert_eq!(full("t1000"), (TaskState::Dropped, Reason::CellFull));
    stage.pass(20_000);
    assert_eq!(stage.offered(framework), 0, "a full agent is not offered");
    let told = stage.leader.explain_framework(&"acme".into(), "f").unwrap();
    let told = format!("{told:?}");
    assert!(told.contains("\"full\""), "{told}");
    stage.report("t5", TaskState::Finished);
    stage.pass(1_000);
    assert!(stage.offered(framework) > 0, "there is room for one more");
    // Another leader knows it too.
    stage.fail_over(true);
    stage.pass(1_000);
    assert!(stage.offered(framework) > 0);
}
