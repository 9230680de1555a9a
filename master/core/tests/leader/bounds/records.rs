//! No record is large, whatever was accepted, and no batch moves more tasks than a bound says.

use crate::stage::{Stage, accept, launch, task};
use tepui_master_core::Input;
use tepui_master_core::entry::EntryKind;
use tepui_proto::api::FrameworkPhase;
use tepui_proto::calls::Outcome;
use tepui_proto::control::{AgentMessage, Hello, TaskReport};
use tepui_proto::{Call, FrameworkId, LaunchNumber, TaskKey, TaskState, Tenant, limits};

/// A framework with so many tasks on so many agents.
pub(super) fn crowd(agents: usize, each: usize) -> (Stage, FrameworkId) {
    let mut stage = Stage::new();
    for n in 0..agents {
        stage.agent(&format!("a{n}"), 100_000);
    }
    let framework = stage.framework("f", &["x"]);
    let mut tasks = 0;
    for n in 0..agents {
        let agent = stage.agent_id(&format!("a{n}")).0;
        let offers = &stage.inbox(framework).offers;
        let id = *offers.iter().find(|(_, offer)| offer.agent.0 == agent).unwrap().0;
        let specs = (tasks..tasks + each).map(|n| {
            let mut spec = task(&format!("t{n}"), 10);
            spec.resources.memory_bytes = 1 << 20;
            launch(spec)
        });
        let specs = specs.collect();
        stage.say(framework, vec![accept(&[id], specs)]);
        tasks += each;
    }
    let live = stage.leader.state().framework(framework).unwrap().live;
    assert_eq!(live, agents * each);
    (stage, framework)
}

/// Sizes of what the entries since then move.
fn moves(stage: &Stage, from: usize) -> Vec<usize> {
    let moved = stage.log[from..].iter().filter_map(|entry| match &entry.kind {
        EntryKind::TasksMoved(changes) => Some(changes.len()),
        _ => None,
    });
    moved.collect()
}

#[test]
fn a_framework_with_many_tasks_is_stopped_some_in_each_batch_and_all_in_the_end() {
    let (mut stage, framework) = crowd(5, 900);
    let before = stage.log.len();
    let (ticket, tenant) = (stage.ticket(), Tenant::from("acme"));
    stage.input(Input::FrameworkStopRequested { ticket, tenant, name: "f".to_owned() });
    assert_eq!(moves(&stage, before), [limits::MOVES], "one batch, one record");
    assert_eq!(stage.kills.len(), limits::MOVES);
    assert_eq!(stage.leader.next_deadline(), Some(stage.now), "the rest does not wait");
    // Whoever leads next goes on with it.
    stage.fail_over(false);
    stage.settle_at(1);
    for n in 0..4_500 {
        assert_eq!(stage.state_of(framework, &format!("t{n}")), TaskState::Killing, "t{n}");
    }
    let killed: std::collections::BTreeSet<_> = stage.kills.iter().map(|(task, _)| task).collect();
    assert_eq!(killed.len(), 4_500);
    for entry in &stage.log[before..] {
        assert!(entry.encode().unwrap().len() < 1 << 20);
    }
    for n in 0..4_500 {
        stage.report(&format!("t{n}"), TaskState::Killed);
    }
    let phase = stage.leader.state().framework(framework).unwrap().phase;
    assert_eq!(phase, FrameworkPhase::Ended);
}

#[test]
fn a_framework_that_completes_with_many_tasks_is_stopped_some_in_each_batch() {
    let (mut stage, framework) = crowd(5, 900);
    stage.say_and_wait(framework);
    let (before, mark) = (stage.log.len(), stage.inbox(framework).mark.unwrap());
    let outcome = Outcome { success: true, message: "done".to_owned(), results: Vec::new() };
    stage.answer(framework, mark, vec![Call::Complete(outcome)]);
    assert_eq!(moves(&stage, before), [limits::MOVES], "one batch, one record");
    stage.settle_at(1);
    for n in 0..4_500 {
        assert_eq!(stage.state_of(framework, &format!("t{n}")), TaskState::Killing, "t{n}");
    }
    assert_eq!(stage.kills.len(), 4_500, "each is told once");
    for entry in &stage.log[before..] {
        assert!(entry.encode().unwrap().len() < 1 << 20);
    }
    let all: Vec<String> = (0..4_500).map(|n| format!("t{n}")).collect();
    stage.report_all(&all, TaskState::Killed);
    let record = stage.leader.state().framework(framework).unwrap();
    assert_eq!((record.phase, record.live), (FrameworkPhase::Ended, 0));
}

#[test]
fn the_loss_of_an_agent_is_one_record_of_bounded_size() {
    let (mut stage, framework) = crowd(1, limits::AGENT_TASKS - 1);
    let before = stage.log.len();
    stage.disconnect("a0");
    stage.pass(10_000);
    assert_eq!(stage.state_of(framework, "t7"), TaskState::Unreachable);
    assert!(moves(&stage, before).iter().all(|moved| *moved <= limits::MOVES));
    for entry in &stage.log[before..] {
        assert!(entry.encode().unwrap().len() < 1 << 20);
    }
}

#[test]
fn the_loss_of_many_agents_at_once_is_many_batches() {
    let (mut stage, framework) = crowd(30, 900);
    for n in 0..30 {
        stage.disconnect(&format!("a{n}"));
    }
    let mut largest = 0;
    for _ in 0..200 {
        let before = stage.log.len();
        stage.settle_once(100);
        largest = largest.max(moves(&stage, before).iter().sum());
    }
    assert_eq!(stage.state_of(framework, "t0"), TaskState::Unreachable);
    assert_eq!(stage.state_of(framework, "t26999"), TaskState::Unreachable);
    assert!(
        largest > 10 * limits::MOVES && largest <= 21 * limits::MOVES,
        "{largest} in one batch"
    );
}

#[test]
fn launches_of_the_largest_records_leave_in_frames_that_fit() {
    let mut stage = Stage::new();
    stage.agent("a", 100_000_000);
    let framework = stage.framework("f", &["x"]);
    for round in 0..10 {
        // An answer has at most 1 MiB, so the difference to a hello is where many large ones meet.
        let specs = (0..15).map(|n| {
            let mut spec = task(&format!("t{round}-{n}"), 1_000);
            spec.args = vec!["x".repeat(100); 400];
            spec
        });
        stage.run(framework, specs.collect());
        stage.pass(1);
    }
    let sizes = |stage: &Stage| {
        let frames = stage.frames.iter().map(|frame| postcard::to_stdvec(frame).unwrap().len());
        frames.collect::<Vec<_>>()
    };
    assert!(sizes(&stage).iter().all(|bytes| *bytes < limits::FRAME_BYTES));
    // The agent knows of none of them and is told all.
    stage.frames.clear();
    stage.disconnect("a");
    stage.agent("a", 100_000_000);
    let sizes = sizes(&stage);
    assert!(sizes.len() > 4 && sizes.iter().sum::<usize>() > limits::FRAME_BYTES, "{sizes:?}");
    assert!(sizes.iter().all(|bytes| *bytes <= limits::LAUNCH_FRAME_BYTES + limits::TASK_BYTES));
}

#[test]
fn a_hello_with_many_tasks_is_told_in_pages_that_fit_and_lead_to_the_whole_again() {
    let report = |n: u64| TaskReport {
        launch: LaunchNumber(n),
        key: TaskKey { framework: FrameworkId(1), task: "x".repeat(128).as_str().into() },
        state: TaskState::Finished,
    };
    let whole = Hello {
        tasks: (0..30_000).map(report).collect(),
        ..crate::stage::hello(tepui_proto::Resources::default())
    };
    let pages = whole.clone().into_pages();
    assert!(pages.len() > 2 && pages.len() <= limits::HELLO_PAGES);
    let mut joined: Option<Hello> = None;
    for page in pages {
        assert!(postcard::to_stdvec(&page).unwrap().len() < limits::FRAME_BYTES);
        match (page, &mut joined) {
            (AgentMessage::Hello(hello), None) => joined = Some(*hello),
            (AgentMessage::HelloTasks { tasks, has_more }, Some(hello)) => {
                hello.tasks.extend(tasks);
                hello.has_more_tasks = has_more;
            }
            (other, _) => panic!("{other:?}"),
        }
    }
    assert_eq!(joined, Some(whole));
}

#[test]
fn what_an_agent_is_to_forget_is_told_in_pages_that_fit() {
    let mut stage = Stage::new();
    let report = |n: u64| TaskReport {
        launch: LaunchNumber(n),
        key: TaskKey { framework: FrameworkId(1), task: format!("t{n}").as_str().into() },
        state: TaskState::Finished,
    };
    // Ends of tasks that nobody here remembers, more than a page of them.
    let many = 2 * limits::HELLO_TASKS + 500;
    let hello = Hello {
        tasks: (1..=many as u64).map(report).collect(),
        launch_mark: LaunchNumber(many as u64),
        ..crate::stage::hello(crate::stage::whole(1_000))
    };
    stage.agent_with("a", hello);
    assert_eq!(stage.forgotten, [limits::HELLO_TASKS, limits::HELLO_TASKS, 500]);
}
