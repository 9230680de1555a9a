//! What an agent says that it can take on is believed, and no more is offered of it.

use crate::stage::{Stage, accept, hello, launch, task, whole};
use tepui_master_core::Input;
use tepui_proto::control::Hello;
use tepui_proto::{FrameworkId, Reason, TaskState, limits};

fn says(stage: &mut Stage, name: &str, has_room: bool) {
    let connection = stage.connections[name];
    stage.input(Input::AgentRoomChanged { connection, has_room });
    stage.rest();
}

/// How many agents a framework is told that it was not offered since they are full.
fn full(stage: &Stage) -> u64 {
    let told = stage.leader.explain_framework(&"acme".into(), "f").unwrap();
    let tallies = told.roles.iter().filter_map(|role| role.tally.as_ref());
    let mut reasons = tallies.flat_map(|tally| &tally.reasons);
    reasons.find(|reason| reason.code == "full").map_or(0, |reason| reason.agents)
}

fn reason_of(stage: &Stage, framework: FrameworkId, task: &str) -> (TaskState, Reason) {
    let key = tepui_proto::TaskKey { framework, task: task.into() };
    let status = &stage.leader.state().task(&key).unwrap().status;
    (status.state, status.reason)
}

#[test]
fn an_agent_that_can_run_few_tasks_takes_no_more_and_is_not_offered_until_one_ends() {
    let mut stage = Stage::new();
    stage.agent_with("a", Hello { max_tasks: 3, ..hello(whole(4_000)) });
    assert_eq!(stage.leader.agent_view("a").unwrap().max_tasks, Some(3));
    let framework = stage.framework("f", &["x"]);
    let held = stage.held(framework);
    let tasks = (0..5).map(|n| launch(task(&format!("t{n}"), 100))).collect();
    stage.say(framework, vec![accept(&held, tasks)]);
    assert_eq!(reason_of(&stage, framework, "t2"), (TaskState::Staging, Reason::None));
    assert_eq!(reason_of(&stage, framework, "t3"), (TaskState::Dropped, Reason::CellFull));
    stage.pass(20_000);
    assert_eq!((stage.offered(framework), full(&stage)), (0, 1));
    stage.report("t0", TaskState::Finished);
    stage.pass(1_000);
    assert_eq!(stage.offered(framework), 3_800);
    // It comes back, and can run more.
    stage.report("t1", TaskState::Finished);
    stage.return_of("a", whole(4_000));
    let most = u64::try_from(limits::AGENT_TASKS).unwrap();
    assert_eq!(stage.leader.agent_view("a").unwrap().max_tasks, Some(most));
}

#[test]
fn what_an_agent_says_that_it_can_run_is_no_more_than_any_can_and_not_nothing() {
    let mut stage = Stage::new();
    stage.agent_with("many", Hello { max_tasks: u32::MAX, ..hello(whole(4_000)) });
    let most = u64::try_from(limits::AGENT_TASKS).unwrap();
    assert_eq!(stage.leader.agent_view("many").unwrap().max_tasks, Some(most));
    let none = Hello { max_tasks: 0, ..hello(whole(4_000)) };
    let (connection, name) = (tepui_master_core::ConnectionId(1), "none".to_owned());
    stage.input(Input::AgentConnected { connection, name, hello: Box::new(none) });
    assert_eq!(stage.turned_away, ["invalid-hello"]);
    assert!(stage.leader.agent_view("none").is_none());
}

#[test]
fn an_agent_without_room_is_not_offered_until_it_has_some() {
    let (mut stage, framework) = Stage::small(4_000, "x");
    stage.run(framework, vec![task("t", 500)]);
    stage.report("t", TaskState::Running);
    stage.rest();
    assert_eq!(stage.offered(framework), 3_500);
    says(&mut stage, "a", false);
    assert_eq!(stage.held(framework), [], "what was on offer is taken back");
    stage.pass(60_000);
    assert_eq!((stage.offered(framework), full(&stage)), (0, 1));
    let view = stage.leader.agent_view("a").unwrap();
    assert_eq!((view.has_room, view.state.as_str()), (Some(false), "connected"));
    stage.agent("b", 1_000);
    stage.pass(10);
    assert_eq!(stage.offered(framework), 1_000, "the other agent's");
    // That something ends there makes no room by itself.
    stage.report("t", TaskState::Finished);
    stage.pass(10_000);
    assert_eq!(stage.offered(framework), 1_000);
    says(&mut stage, "a", true);
    stage.pass(10);
    assert_eq!((stage.offered(framework), full(&stage)), (5_000, 0));
    assert_eq!(stage.leader.agent_view("a").unwrap().has_room, Some(true));
    stage.disconnect("a");
    assert_eq!(stage.leader.agent_view("a").unwrap().has_room, None);
}

#[test]
fn an_agent_that_comes_without_room_is_not_offered_and_no_other_connection_speaks_for_it() {
    let mut stage = Stage::new();
    let framework = stage.framework("f", &["x"]);
    stage.agent("host", 300);
    stage.pass(1_000);
    let before = stage.offered(framework);
    stage.agent_with("a", Hello { has_room: false, ..hello(whole(4_000)) });
    stage.pass(10_000);
    let connection = tepui_master_core::ConnectionId(1);
    stage.input(Input::AgentRoomChanged { connection, has_room: true });
    says(&mut stage, "host", true);
    stage.pass(10_000);
    assert_eq!(stage.offered(framework), before);
    says(&mut stage, "a", true);
    stage.pass(10);
    assert_eq!(stage.offered(framework), before + 4_000);
}
