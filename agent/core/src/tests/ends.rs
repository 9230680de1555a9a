//! Ends that somebody else wants, and what is left after an end.

use super::*;
use crate::KEPT_LOGS;
use std::collections::BTreeMap;

#[test]
fn a_task_whose_outputs_are_being_stored_can_be_killed() {
    let mut bench = Bench::new();
    let mut launch = launch_of(1);
    launch.spec.outputs = vec![Output { path: "out".to_owned(), blob: "b".to_owned() }];
    let launches = vec![launch];
    bench.say(Input::MasterSaid(MasterMessage::Launch { term: Term(1), life: LIFE, launches }));
    bench.say_all([prepared(1), said(CellEvent::Started(LaunchNumber(1)))]);
    assert!(states(&bench.finish(1)).is_empty());
    let orders = bench.kill(1);
    assert_eq!(states(&orders), [(1, TaskState::Killed, Reason::KillRequested)]);
    assert!(orders.contains(&Effect::RemoveSandbox(LaunchNumber(1))), "which ends the storing");
    let blobs = vec![Blob { name: "b".to_owned(), digest: Digest([2; 32]), size_bytes: 3 }];
    let late = bench.say(Input::OutputsStored { launch: LaunchNumber(1), result: Ok(blobs) });
    assert_eq!(late, [], "it has ended already");
}

/// Ends a task that wrote so many bytes to its logs, and acknowledges its end.
fn end_with_logs(bench: &mut Bench, number: u64, log_bytes: u64) -> Vec<Effect> {
    bench.start(number);
    let end = CommandEnd {
        state: TaskState::Finished,
        reason: Reason::None,
        message: String::new(),
        exit_code: Some(0),
        usage: Usage { log_bytes: log_bytes + 5, ..Usage::default() },
        log_dropped: (3, 2),
    };
    bench.say(said(CellEvent::Ended { launch: LaunchNumber(number), end: Box::new(end) }));
    bench.acknowledge(u64::MAX)
}

fn removed(orders: &[Effect]) -> Vec<u64> {
    let removed = orders.iter().filter_map(|order| match order {
        Effect::RemoveLogs(launch) => Some(launch.0),
        _ => None,
    });
    removed.collect()
}

#[test]
fn logs_that_are_kept_have_a_bound_in_bytes_beside_that_in_number() {
    let mut bench = Bench::new();
    let part = limits::KEPT_LOG_BYTES / 4;
    for number in 1..=4 {
        assert_eq!(removed(&end_with_logs(&mut bench, number, part)), [0; 0]);
    }
    assert_eq!(removed(&end_with_logs(&mut bench, 5, 1)), [1]);
    assert_eq!(removed(&end_with_logs(&mut bench, 6, 2 * part)), [2, 3]);
    // After a restart the files tell, and a small disk keeps less.
    let sizes =
        BTreeMap::from([(LaunchNumber(4), 40), (LaunchNumber(5), 1), (LaunchNumber(6), 60)]);
    let mut effects = Effects::default();
    bench.agent.on_logs_found(&sizes, 100, &mut effects);
    assert_eq!(removed(&effects.orders), [4]);
    assert_eq!(bench.agent.kept_logs().count(), 2);
    const { assert!(KEPT_LOGS > 6, "so it was their bytes that were too many") };
}
