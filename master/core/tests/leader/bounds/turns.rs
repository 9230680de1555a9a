//! What one answer may come to.

use super::refused_whole;
use crate::stage::{Stage, accept, hello, launch, task, want, whole};
use tepui_master_core::state::Class;
use tepui_proto::calls::{Acceptance, Comparison, Constraint, Operation, Reservation, Want};
use tepui_proto::{Call, DurationMs, OfferId, Reason, Resources, TaskKey, TaskState, limits};

fn bytes_of_log(stage: &Stage, from: usize) -> usize {
    stage.log[from..].iter().map(|entry| entry.encode().unwrap().len()).sum()
}

fn kill(n: usize) -> Call {
    Call::Kill { task: format!("nobody-{n}").as_str().into(), grace: None }
}

#[test]
fn all_tasks_are_told_again_in_pages_and_nothing_of_it_is_written_down() {
    let (mut stage, framework) = Stage::small(200_000, "x");
    stage.run(framework, (0..130).map(|n| task(&format!("t{n:03}"), 1_000)).collect());
    let before = stage.log.len();
    stage.say(framework, vec![Call::Reconcile(Vec::new()); limits::CALLS - 1]);
    assert_eq!(refused_whole(&stage, framework), None);
    let told: Vec<_> = stage.inbox(framework).tasks.iter().map(|t| t.task.0.clone()).collect();
    assert_eq!(told, (0..130).map(|n| format!("t{n:03}")).collect::<Vec<_>>());
    assert!(bytes_of_log(&stage, before) < 1_000, "{}", bytes_of_log(&stage, before));
}

#[test]
fn a_task_that_is_killed_many_times_in_a_turn_is_killed_once_with_the_shortest_grace() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    stage.run(framework, vec![task("t", 1_000)]);
    let kill = |ms| Call::Kill { task: "t".into(), grace: Some(DurationMs(ms)) };
    stage.say(framework, (0..4_000).map(|n| kill(10_000 - n)).collect());
    assert_eq!(stage.kills, [("t".to_owned(), DurationMs(6_001))]);
    stage.say(framework, vec![Call::Kill { task: "t".into(), grace: Some(DurationMs(u64::MAX)) }]);
    assert_eq!(stage.kills.last().unwrap().1, DurationMs(limits::KILL_GRACE_MS_MAX));
}

#[test]
fn a_task_that_is_killed_in_the_turn_that_launches_it_is_launched_and_killed() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let offer = stage.held(framework)[0];
    let kill = Call::Kill { task: "t".into(), grace: None };
    stage.say(framework, vec![accept(&[offer], vec![launch(task("t", 1_000))]), kill]);
    assert_eq!(stage.refusals(framework), Vec::<String>::new());
    assert!(stage.launches.contains_key("t"));
    assert_eq!(stage.kills.len(), 1);
    let state = |stage: &Stage| {
        let key = TaskKey { framework, task: "t".into() };
        stage.leader.state().task(&key).unwrap().status.state
    };
    assert_eq!(state(&stage), TaskState::Killing);
    stage.report("t", TaskState::Killed);
    assert_eq!(state(&stage), TaskState::Killed);
    stage.check_copies();
}

#[test]
fn a_task_that_is_killed_before_its_agent_heard_of_it_is_killed_and_not_lost() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let offer = stage.held(framework)[0];
    let kill = Call::Kill { task: "t".into(), grace: None };
    stage.say(framework, vec![accept(&[offer], vec![launch(task("t", 1_000))]), kill]);
    // Neither the launch nor the kill has come to it.
    stage.launches.clear();
    stage.agent_with("a", hello(whole(10_000)));
    let key = TaskKey { framework, task: "t".into() };
    let status = stage.leader.state().task(&key).unwrap().status.clone();
    assert_eq!((status.state, status.reason), (TaskState::Killed, Reason::KillRequested));
    assert!(stage.launches.is_empty(), "nor is it launched now");
}

#[test]
fn who_was_not_told_of_many_refusals_is_told_of_nothing_else_that_could_lead_to_more() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    stage.say_and_wait(framework);
    let mark = stage.inbox(framework).mark.unwrap();
    let before = stage.held(framework).len();
    stage.answer(framework, mark, (0..2_500).map(kill).collect());
    stage.agent("b", 1_000);
    let mut turns = 0;
    while stage.leader.state().framework(framework).unwrap().queue.count(Class::Refusals).entries
        > limits::TURN_EVENTS + 512
    {
        assert_eq!(stage.held(framework).len(), before, "no offer while it is behind");
        let mark = stage.next_turn_of(framework);
        stage.answer(framework, mark, Vec::new());
        turns += 1;
    }
    assert!(turns > 5, "{turns}");
    stage.rest();
    assert_eq!(stage.held(framework).len(), before + 1, "and then it is offered");
}

#[test]
fn refusals_that_wait_are_bounded_and_the_turn_that_could_exceed_it_is_refused_whole() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let mut turns = 0;
    while refused_whole(&stage, framework).is_none() {
        let mark = stage.turn_of(framework);
        stage.answer(framework, mark, (0..4_000).map(kill).collect());
        turns += 1;
        let queue = &stage.leader.state().framework(framework).unwrap().queue;
        let waiting = queue.count(Class::Refusals);
        assert!(waiting.entries <= limits::WAITING_REFUSALS, "{waiting:?}");
        assert!(waiting.bytes <= limits::WAITING_REFUSALS * (limits::TEXT_BYTES + 512));
        assert!(turns < 10, "it was never refused");
    }
    let why = refused_whole(&stage, framework).unwrap();
    assert!(why.contains("refusals, waiting to be told"), "{why}");
    // It is the tenant's failure, and counted.
    assert_eq!(stage.leader.state().framework(framework).unwrap().failures, 1);
}

#[test]
fn many_offers_that_are_not_held_are_refused_in_one_event() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let bogus = |count: u64| (0..count).map(|n| OfferId::new(tepui_proto::Term(9), n)).collect();
    stage.say(framework, vec![Call::Decline { offers: bogus(10_000), refuse_for: None }]);
    let told = &stage.inbox(framework).refusals;
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("9999 more"), "{}", told[0].message);
    let inverse = Call::DeclineInverse { offers: bogus(10_000), refuse_for: None };
    stage.say(framework, vec![inverse]);
    assert_eq!(stage.refusals(framework), ["invalid-offer", "invalid-offer"]);
    // More than can be looked up in a turn.
    stage.say(framework, vec![Call::Decline { offers: bogus(120_000), refuse_for: None }]);
    let why = refused_whole(&stage, framework).unwrap();
    assert!(why.contains("120000 names"), "{why}");
}

#[test]
fn texts_that_schedulers_are_told_are_cut_to_what_fits_a_turn() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let long = "\u{1}".repeat(900_000);
    let mut spec = task("t", 1_000);
    spec.resources.disk_bytes = 1;
    spec.inputs.push(tepui_proto::tasks::Input {
        source: "blob:x".to_owned(),
        range: None,
        path: long.clone(),
    });
    stage.run(framework, vec![spec]);
    let key = TaskKey { framework, task: "t".into() };
    let status = stage.leader.state().task(&key).unwrap().status.clone();
    assert_eq!((status.state, status.reason), (TaskState::Error, Reason::InvalidTask));
    assert!(status.message.len() <= limits::TEXT_BYTES);
    assert_eq!(stage.updates(framework).len(), 1, "it was told");
    stage.say(framework, vec![Call::Kill { task: long.as_str().into(), grace: None }]);
    let told = &stage.inbox(framework).refusals;
    assert!(told.len() == 1 && told[0].message.len() <= limits::TEXT_BYTES);
}

#[test]
fn inputs_that_stand_in_each_other_s_place_are_refused_as_the_task_s_fault() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let with = |id: &str, paths: &[&str]| {
        let mut spec = task(id, 100);
        spec.resources.disk_bytes = 1 << 20;
        let input = |path: &&str| tepui_proto::tasks::Input {
            source: tepui_proto::Digest([2; 32]).to_string(),
            range: None,
            path: (*path).to_owned(),
        };
        spec.inputs = paths.iter().map(input).collect();
        spec
    };
    let bad = [with("twice", &["a", "x/y", "a"]), with("below", &["x/y/z", "a", "x"])];
    stage.run(framework, bad.into());
    for (id, word) in [("twice", "two inputs at `a`"), ("below", "`x/y/z` is below another")] {
        let key = TaskKey { framework, task: id.into() };
        let status = &stage.leader.state().task(&key).unwrap().status;
        assert_eq!((status.state, status.reason), (TaskState::Error, Reason::InvalidTask));
        assert!(status.message.contains(word), "{}", status.message);
    }
}

#[test]
fn entries_of_a_task_s_record_count_beside_their_text() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let mut empty = task("empty", 1_000);
    empty.args = vec![String::new(); 80_000];
    let mut items = task("items", 1_000);
    let set = (0..10_000).map(|n| n.to_string()).collect();
    items.resources.custom.insert("x".to_owned(), tepui_proto::resources::Custom::Items(set));
    stage.run(framework, vec![empty, items]);
    for id in ["empty", "items"] {
        let key = TaskKey { framework, task: id.into() };
        let status = &stage.leader.state().task(&key).unwrap().status;
        assert_eq!((status.state, status.reason), (TaskState::Error, Reason::InvalidTask));
        assert!(status.message.contains("a record of"), "{}", status.message);
    }
}

fn matching(id: u32, pattern: &str) -> Want {
    let constraint = Constraint {
        attribute: "@hostname".to_owned(),
        comparison: Comparison::Matches,
        operand: pattern.to_owned(),
    };
    Want { id, constraints: vec![constraint; 3], ..want("x", 1, 100) }
}

#[test]
fn different_regular_expressions_of_an_answer_are_few_and_each_is_small() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    // One pattern in many wants is one pattern.
    let same = (0..600).map(|id| matching(id, "h.*t")).collect();
    stage.say(framework, vec![Call::Want(Some(same))]);
    stage.pass(limits::PATTERN_REST_MS);
    assert_eq!(stage.refusals(framework), Vec::<String>::new());
    assert_eq!(
        stage.leader.state().framework(framework).unwrap().wants.as_ref().unwrap().len(),
        600
    );
    for (pattern, word) in [("x".repeat(300), "300 bytes"), ("(a{90}){90}".to_owned(), "size")] {
        stage.say(framework, vec![Call::Want(Some(vec![matching(1, &pattern)]))]);
        stage.pass(limits::PATTERN_REST_MS);
        let told = stage.inbox(framework).refusals.last().unwrap().clone();
        assert_eq!(told.code, "constraint-invalid");
        assert!(told.message.contains(word), "{}", told.message);
    }
    let many = (0..=32).map(|id| matching(id, &format!("h{id}"))).collect();
    stage.say(framework, vec![Call::Want(Some(many))]);
    let why = refused_whole(&stage, framework).unwrap();
    assert!(why.contains("33 different regular expressions"), "{why}");
}

#[test]
fn what_was_reserved_in_a_turn_can_be_unreserved_in_it_and_not_twice() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let of = |milli| Reservation { role: "x".into(), resources: Resources::cpu_memory(milli, 0) };
    let operations = vec![
        Operation::Reserve(of(3_000)),
        Operation::Unreserve(of(1_000)),
        Operation::Unreserve(of(2_000)),
        Operation::Unreserve(of(1_000)),
    ];
    stage.accept(framework, operations);
    assert_eq!(stage.refusals(framework), ["resources-not-free"]);
    stage.check_copies();
}

#[test]
fn a_timer_that_is_set_again_has_one_deadline() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let set = |ms| Call::SetTimer { name: "watchdog".to_owned(), after: DurationMs(ms) };
    stage.say(framework, vec![set(86_400_000)]);
    let before = stage.leader.deadlines();
    for n in 0..50 {
        stage.say(framework, (0..1_000).map(|m| set(86_400_000 + n * 1_000 + m)).collect());
    }
    // Each request that made a turn has one of its own, for a while.
    stage.pass(limits::REQUEST_TIMEOUT_MS + 1);
    assert!(stage.leader.deadlines() <= before + 4, "{} deadlines", stage.leader.deadlines());
    stage.say(framework, vec![set(5_000)]);
    stage.pass(5_001);
    assert_eq!(stage.inbox(framework).timers, ["watchdog"]);
    stage.say(framework, vec![set(1_000), Call::CancelTimer("watchdog".to_owned())]);
    stage.pass(60_000);
    assert_eq!(stage.inbox(framework).timers, ["watchdog"], "it was cancelled");
}

#[test]
fn timers_that_rang_and_are_not_told_count_as_timers() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let set = |n: usize| Call::SetTimer { name: format!("t{n}"), after: DurationMs(1) };
    stage.say_and_wait(framework);
    let mark = stage.inbox(framework).mark.unwrap();
    stage.answer(framework, mark, (0..limits::TIMERS).map(set).collect());
    stage.settle_at(2);
    let rang = stage.leader.state().framework(framework).unwrap().queue.count(Class::Timers);
    assert_eq!(rang.entries, limits::TIMERS);
    // A turn has seen some of them; those that wait and as many new ones are too many.
    let mark = stage.inbox(framework).mark.unwrap_or_else(|| {
        stage.say_and_wait(framework);
        stage.inbox(framework).mark.unwrap()
    });
    stage.answer(framework, mark, (0..limits::TIMERS).map(|n| set(10_000 + n)).collect());
    let why = refused_whole(&stage, framework).unwrap();
    assert!(why.contains("timers, set or waiting to be told"), "{why}");
}

#[test]
fn a_scheduler_that_sets_all_its_many_timers_again_as_they_ring_is_wronged_by_nothing() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let set = |name: &str| Call::SetTimer { name: name.to_owned(), after: DurationMs(1_000) };
    let names: Vec<String> = (0..limits::TIMERS).map(|n| format!("t{n}")).collect();
    stage.say(framework, names.iter().map(|name| set(name)).collect());
    let mut rang = 0;
    for _ in 0..40 {
        stage.settle_at(250);
        while stage.inbox(framework).mark.is_some() {
            let told = stage.take_timers(framework);
            rang += told.len();
            let mark = stage.inbox(framework).mark.unwrap();
            stage.answer(framework, mark, told.iter().map(|name| set(name)).collect());
            assert_eq!(refused_whole(&stage, framework), None);
        }
    }
    assert!(rang > 5 * limits::TIMERS, "{rang} rang");
}

#[test]
fn nothing_of_a_framework_that_has_ended_stays_to_be_done() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.pass(1_000);
    let before = stage.leader.deadlines();
    let framework = stage.framework("f", &["x"]);
    let offers = stage.held(framework);
    let timer = Call::SetTimer { name: "t".to_owned(), after: DurationMs(1_000_000_000) };
    let decline = Call::Decline { offers, refuse_for: Some(DurationMs(1_000_000_000)) };
    stage.say(framework, vec![timer, decline]);
    let (ticket, tenant) = (stage.ticket(), tepui_proto::Tenant::from("acme"));
    let name = "f".to_owned();
    stage.input(tepui_master_core::Input::FrameworkStopRequested { ticket, tenant, name });
    stage.pass(limits::REQUEST_TIMEOUT_MS + 1);
    assert!(stage.leader.deadlines() <= before, "{} deadlines", stage.leader.deadlines());
}

#[test]
fn refused_offers_leave_one_deadline_for_an_agent() {
    let (mut stage, framework) = Stage::small(100_000, "x");
    let before = stage.leader.deadlines();
    for n in 0..200 {
        let offers = stage.held(framework);
        let refuse_for = Some(DurationMs(1_000_000_000 + n));
        stage.say(framework, vec![Call::Decline { offers, refuse_for }]);
        // So that it is offered again, and refuses something else.
        stage.say(framework, vec![Call::Revive(Vec::new())]);
    }
    stage.pass(limits::REQUEST_TIMEOUT_MS + 1);
    assert!(stage.leader.deadlines() <= before + 4, "{} deadlines", stage.leader.deadlines());
}

#[test]
fn of_two_refusals_of_an_agent_each_runs_out_in_its_time() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    let framework = stage.framework("f", &["x", "y"]);
    let decline = |stage: &mut Stage, ms| {
        let offers = stage.held(framework);
        assert!(!offers.is_empty());
        stage.say(framework, vec![Call::Decline { offers, refuse_for: Some(DurationMs(ms)) }]);
    };
    decline(&mut stage, 100_000);
    decline(&mut stage, 2_000);
    assert_eq!(stage.offered(framework), 0);
    stage.pass(2_100);
    assert_eq!(stage.offered(framework), 4_000, "the short one is over");
    decline(&mut stage, 200_000);
    stage.pass(90_000);
    assert_eq!(stage.offered(framework), 0);
    stage.pass(10_000);
    assert_eq!(stage.offered(framework), 4_000, "and then the long one");
}

#[test]
fn keys_are_bounded_in_number_beside_their_bytes() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    let mut key = 0;
    for _ in 0..limits::KEYS / 2_048 {
        let put = |n: usize| Call::Put { key: format!("{n:x}"), value: Some(Vec::new()) };
        stage.say(framework, (0..2_048).map(|n| put(key + n)).collect());
        key += 2_048;
    }
    assert_eq!(refused_whole(&stage, framework), None);
    // One that is there may be written, and one may take another's place.
    let put = |key: &str| Call::Put { key: key.to_owned(), value: Some(vec![1]) };
    let delete = |key: &str| Call::Put { key: key.to_owned(), value: None };
    stage.say(framework, vec![put("0"), delete("1"), put("new")]);
    assert_eq!(refused_whole(&stage, framework), None);
    stage.say(framework, vec![put("one-more")]);
    let why = refused_whole(&stage, framework).unwrap();
    assert!(why.contains("65537 keys"), "{why}");
}

#[test]
fn an_update_that_came_during_a_turn_with_reservations_is_told() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    stage.run(framework, vec![task("t", 1_000)]);
    stage.pass(1_000);
    stage.say_and_wait(framework);
    stage.report("t", TaskState::Finished);
    let (mark, held) = (stage.inbox(framework).mark.unwrap(), stage.held(framework));
    let resources = Resources::cpu_memory(10, 0);
    let reserve = Operation::Reserve(Reservation { role: "x".into(), resources });
    let acceptance = Acceptance {
        offers: held,
        operations: vec![reserve],
        refuse_for: Some(DurationMs(60_000)),
    };
    stage.answer(framework, mark, vec![Call::Accept(acceptance), Call::Want(Some(Vec::new()))]);
    let told = stage.updates(framework);
    assert_eq!(
        told.last().map(|(task, state, _)| (task.as_str(), *state)),
        Some(("t", TaskState::Finished))
    );
}

#[test]
fn the_late_answer_of_an_earlier_instance_ends_no_later_one() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    stage.say_and_wait(framework);
    let first = stage.inbox(framework).mark.unwrap();
    // Its stream ends; another instance begins and is asked the same turn.
    let ended = tepui_master_core::Input::SchedulerStreamEnded {
        framework,
        incarnation: first.incarnation,
    };
    stage.input(ended);
    stage.settle_at(60);
    let second = stage.inbox(framework).mark.expect("another instance has begun");
    assert_eq!((second.number, second.incarnation > first.incarnation), (first.number, true));
    stage.settle_at(limits::TURN_ANSWER_MS + 10);
    let instance = stage.leader.state().framework(framework).unwrap().instance.clone();
    assert_eq!(instance.unwrap().incarnation, second.incarnation, "it is still at work");
    // It has not answered yet, so its module may still have to be compiled; but not for ever.
    stage.settle_at(limits::SCHEDULER_START_MS);
    let instance = stage.leader.state().framework(framework).unwrap().instance.clone();
    assert!(instance.is_none_or(|instance| instance.incarnation > second.incarnation));
}
