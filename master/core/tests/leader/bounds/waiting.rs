//! What waits for a framework that does not listen: updates of its tasks, and requests to it.

use super::records::crowd;
use crate::stage::{Stage, task};
use tepui_master_core::state::Class;
use tepui_master_core::{Input, Ticket};
use tepui_proto::events::Request;
use tepui_proto::tasks::Blob;
use tepui_proto::{Digest, FrameworkId, RequestId, TaskState, Tenant, limits};

/// Has the scheduler in the middle of a turn.
fn busy(stage: &mut Stage, framework: FrameworkId) {
    stage.say_and_wait(framework);
    stage.updates(framework);
}

fn waiting(stage: &Stage, framework: FrameworkId) -> tepui_master_core::state::Count {
    stage.leader.state().framework(framework).unwrap().queue.count(Class::Updates)
}

#[test]
fn of_very_many_updates_that_wait_each_task_s_latest_is_kept() {
    let tasks = limits::WAITING_UPDATES / 2 + 500;
    let (mut stage, framework) = crowd(6, tasks.div_ceil(6));
    busy(&mut stage, framework);
    let all: Vec<String> = (0..tasks).map(|n| format!("t{n}")).collect();
    for state in [TaskState::Running, TaskState::Finished] {
        stage.report_all(&all, state);
    }
    assert_eq!(waiting(&stage, framework).entries, limits::WAITING_UPDATES);
    stage.check_copies();
    // None of those that count is lost, and none is told before what came before it.
    stage.rest();
    let told = stage.updates(framework);
    let finals = told.iter().filter(|(_, state, _)| *state == TaskState::Finished).count();
    assert_eq!((finals, told.len()), (tasks, limits::WAITING_UPDATES));
    assert_eq!(waiting(&stage, framework).entries, 0);
}

#[test]
fn updates_that_wait_are_bounded_in_bytes_too() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000_000);
    let framework = stage.framework("f", &["x"]);
    // A status with long names of outputs is some KiB.
    let outputs: Vec<Blob> = (0..200)
        .map(|n| Blob {
            name: format!("{n}{}", "x".repeat(200)),
            digest: Digest([3; 32]),
            size_bytes: 1,
        })
        .collect();
    let spec = |n: usize| crate::stage::putting_out(&format!("t{n}"), &outputs);
    let each = 200 * 250;
    let tasks = limits::WAITING_UPDATE_BYTES / each + 50;
    for from in (0..tasks).step_by(10) {
        stage.pass(1_000);
        stage.run(framework, (from..from + 10).map(spec).collect());
    }
    busy(&mut stage, framework);
    for n in 0..tasks {
        stage.report(&format!("t{n}"), TaskState::Running);
        stage.report_with(&format!("t{n}"), TaskState::Finished, outputs.clone());
    }
    let count = waiting(&stage, framework);
    assert!(count.bytes > limits::WAITING_UPDATE_BYTES, "{count:?}");
    // Beyond the bound there is one update of a task, and that is its end.
    assert!(count.entries < 2 * tasks, "{count:?} of {tasks} tasks");
    stage.rest();
    let told = stage.updates(framework);
    let finals = told.iter().filter(|(_, state, _)| *state == TaskState::Finished).count();
    assert_eq!(finals, tasks);
}

#[test]
fn requests_that_wait_for_one_framework_are_bounded_and_another_is_asked_all_the_same() {
    let (mut stage, _) = Stage::small(10_000, "x");
    let other = stage.framework("other", &["y"]);
    let ask = |stage: &mut Stage, framework: &str| -> Ticket {
        let request = Request {
            id: RequestId(0),
            method: "GET".into(),
            path: "/".into(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let (ticket, tenant) = (stage.ticket(), Tenant::from("acme"));
        let (framework, request) = (framework.to_owned(), Box::new(request));
        stage.input(Input::RequestReceived { ticket, tenant, framework, request });
        ticket
    };
    let mut tickets = Vec::new();
    let refused = loop {
        let ticket = ask(&mut stage, "f");
        if stage.is_answered(ticket) {
            break ticket;
        }
        tickets.push(ticket);
    };
    assert_eq!(tickets.len(), limits::REQUESTS_WAITING, "those of the turn in flight count too");
    assert!(stage.refused(refused).contains("256 requests to `f` wait already"));
    let elsewhere = ask(&mut stage, "other");
    assert!(!stage.is_answered(elsewhere) && stage.inbox(other).mark.is_some());
    // Whoever goes makes room for another.
    stage.input(Input::Abandoned(*tickets.last().unwrap()));
    let again = ask(&mut stage, "f");
    assert!(!stage.is_answered(again));
    stage.rest();
    assert!(stage.is_answered(again) && stage.is_answered(tickets[0]));
}

#[test]
fn a_task_that_says_again_and_again_that_it_runs_is_heard_once() {
    let (mut stage, framework) = Stage::small(10_000, "x");
    stage.run(framework, vec![task("t", 1_000)]);
    busy(&mut stage, framework);
    for _ in 0..1_000 {
        stage.report("t", TaskState::Running);
    }
    assert_eq!(waiting(&stage, framework).entries, 1);
}
