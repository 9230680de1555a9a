//! Which instance of a scheduler counts, and who may speak for it.

use super::*;

fn open(incarnation: u64) -> Open {
    Open {
        framework: FrameworkId(4),
        tenant: "acme".into(),
        name: "f".to_owned(),
        term: Term(1),
        incarnation: Incarnation(incarnation),
        module: Digest([3; 32]),
        memory_bytes: 1,
        turn_fuel: 1,
        turn_wall_ms: 1,
    }
}

fn host(bench: &mut Bench, incarnation: u64) -> Vec<Effect> {
    let mut orders = bench.say(Input::SchedulerOpened(open(incarnation)));
    let framework = FrameworkId(4);
    let result = Ok("c".to_owned());
    orders.extend(bench.say(Input::SchedulerPrepared {
        framework,
        incarnation: Incarnation(incarnation),
        result,
    }));
    orders
}

#[test]
fn a_newer_instance_of_a_scheduler_replaces_the_older_and_never_the_other_way() {
    let mut bench = Bench::new();
    host(&mut bench, 2);
    let older = bench.say(Input::SchedulerOpened(open(1)));
    assert_eq!(
        older,
        [Effect::CloseSchedulerStream { framework: FrameworkId(4), incarnation: Incarnation(1) }]
    );
    let orders = host(&mut bench, 3);
    let (framework, incarnation) = (FrameworkId(4), Incarnation(2));
    assert!(commands(&orders).contains(&CellCommand::CloseScheduler { framework, incarnation }));
    assert!(
        orders.contains(&Effect::ReadSchedulerStream { framework, incarnation: Incarnation(3) })
    );
    let frame = ToScheduler::State { pairs: Vec::new(), last: true };
    assert!(
        bench
            .say(Input::SchedulerFrame { framework, incarnation, frame: frame.clone() })
            .is_empty()
    );
    let incarnation = Incarnation(3);
    assert_eq!(
        commands(&bench.say(Input::SchedulerFrame { framework, incarnation, frame })).len(),
        1
    );
}

#[test]
fn a_cell_does_not_speak_for_another_tenant() {
    let mut bench = Bench::new();
    bench.start(1);
    host(&mut bench, 1);
    let frame = FromScheduler::Failed {
        mark: None,
        failure: SchedulerFailure::Trapped,
        message: String::new(),
        log: Vec::new(),
    };
    let scheduler =
        CellEvent::Scheduler { framework: FrameworkId(4), incarnation: Incarnation(1), frame };
    for event in
        [scheduler, CellEvent::Message { launch: LaunchNumber(1), number: 1, data: vec![] }]
    {
        assert!(bench.say(Input::CellSaid { tenant: "evil".into(), event }).is_empty());
    }
}

#[test]
fn a_dead_cell_takes_its_own_tasks_and_schedulers_with_it_and_comes_back_when_needed() {
    let mut bench = Bench::new();
    bench.start(1);
    bench.launch(2);
    host(&mut bench, 1);
    let orders =
        bench.say(Input::CellDied { tenant: "acme".into(), message: "signal 9".to_owned() });
    assert_eq!(states(&orders), [(1, TaskState::Failed, Reason::CellDied)]);
    assert!(orders.iter().any(|order| matches!(
        order,
        Effect::ToSchedulerStream {
            frame: FromScheduler::Failed { failure: SchedulerFailure::CellDied, .. },
            ..
        }
    )));
    let orders = bench.say(prepared(2));
    assert!(orders.iter().any(|order| matches!(order, Effect::StartCell(_))));
    bench.say(Input::CellDied { tenant: "other".into(), message: String::new() });
    assert_eq!(states(&bench.finish(2)), [(2, TaskState::Finished, Reason::None)]);
}
