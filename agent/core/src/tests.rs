//! Claims about the agent, through `handle` and its effects alone.

mod ends;
mod messages;
mod room;
mod schedulers;

use crate::{Agent, Effect, Effects, Input, Prepared, Profile, Record, Refused, Snapshot};
use tepui_proto::cell::{CellCommand, CellEvent, CommandEnd};
use tepui_proto::control::{AgentMessage, Launch, MasterMessage, ModuleKind, Report, ReportBody};
use tepui_proto::scheduler::{FromScheduler, Open, SchedulerFailure, ToScheduler};
use tepui_proto::tasks::{Blob, Output};
use tepui_proto::{
    Digest, DurationMs, FrameworkId, Incarnation, LaunchNumber, Life, Reason, ReportSeq, Resources,
    TaskKey, TaskSpec, TaskState, Term, Timestamp, Usage, limits,
};

const LIFE: Life = Life(77);

fn profile() -> Profile {
    Profile {
        name: "agent-1".to_owned(),
        life: LIFE,
        hostname: "host".to_owned(),
        version: "0".to_owned(),
        resources: Resources::cpu_memory(1_000, 1 << 30),
        pools: Vec::new(),
        attributes: Vec::new(),
        domain: None,
        max_tasks: limits::CELL_INSTANCES,
    }
}

/// An agent, its disk, and a clock that goes on with every input.
struct Bench {
    agent: Agent,
    disk: Vec<Record>,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { agent: Agent::new(profile()), disk: Vec::new(), now: 1_000 };
        bench.connect(1);
        bench
    }

    fn connect(&mut self, term: u64) -> Vec<Effect> {
        let mut orders = self.say(Input::MasterConnected);
        let welcome = MasterMessage::Welcome {
            term: Term(term),
            now: Timestamp(5),
            heartbeat: DurationMs(1_000),
        };
        orders.extend(self.say(Input::MasterSaid(welcome)));
        orders
    }

    fn say(&mut self, input: Input) -> Vec<Effect> {
        self.say_all([input])
    }

    fn say_all(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        let mut effects = Effects::default();
        for input in inputs {
            self.now += 1;
            self.agent.handle(Timestamp(self.now), input, &mut effects);
        }
        self.disk.extend(effects.records);
        assert_eq!(self.recovered_book(), self.agent.snapshot(), "the records add up to the state");
        effects.orders
    }

    /// What the records add up to, before what recovery adds.
    fn recovered_book(&self) -> Snapshot {
        let mut bare = Agent::new(profile());
        let mut gone = Vec::new();
        for record in &self.disk {
            let bytes = record.encode().unwrap();
            bare.book.apply(&Record::decode(&bytes).unwrap(), &mut gone);
        }
        bare.snapshot()
    }

    fn restart(&mut self) {
        let (agent, effects) =
            Agent::recover(profile(), Timestamp(self.now), None, self.disk.clone());
        self.agent = agent;
        self.disk.extend(effects.records);
    }

    fn launch(&mut self, number: u64) -> Vec<Effect> {
        self.say(launch(1, LIFE, number))
    }

    fn start(&mut self, number: u64) -> Vec<Effect> {
        self.launch(number);
        self.say_all([prepared(number), said(CellEvent::Started(LaunchNumber(number)))])
    }

    fn finish(&mut self, number: u64) -> Vec<Effect> {
        self.say(ended(number, TaskState::Finished))
    }

    fn kill(&mut self, number: u64) -> Vec<Effect> {
        let key = key(number);
        let grace = DurationMs(9);
        self.say(Input::MasterSaid(MasterMessage::Kill {
            term: Term(1),
            launch: LaunchNumber(number),
            key,
            grace,
        }))
    }

    fn acknowledge(&mut self, seq: u64) -> Vec<Effect> {
        self.say(Input::MasterSaid(MasterMessage::Acknowledge(ReportSeq(seq))))
    }
}

fn key(number: u64) -> TaskKey {
    TaskKey { framework: FrameworkId(4), task: format!("t{number}").as_str().into() }
}

fn launch_of(number: u64) -> Launch {
    Launch {
        number: LaunchNumber(number),
        key: key(number),
        tenant: "acme".into(),
        module: Digest([1; 32]),
        kind: ModuleKind::CommandP1,
        inputs: Vec::new(),
        spec: TaskSpec::command(&format!("t{number}"), "m", Resources::cpu_memory(10, 1 << 20)),
    }
}

fn launch(term: u64, life: Life, number: u64) -> Input {
    Input::MasterSaid(MasterMessage::Launch {
        term: Term(term),
        life,
        launches: vec![launch_of(number)],
    })
}

fn prepared(number: u64) -> Input {
    let paths = Prepared {
        compiled: "c".to_owned(),
        sandbox: None,
        stdout: "o".to_owned(),
        stderr: "e".to_owned(),
    };
    Input::TaskPrepared { launch: LaunchNumber(number), result: Ok(paths) }
}

fn said(event: CellEvent) -> Input {
    Input::CellSaid { tenant: "acme".into(), event }
}

fn ended(number: u64, state: TaskState) -> Input {
    let end = CommandEnd {
        state,
        reason: Reason::None,
        message: String::new(),
        exit_code: Some(0),
        usage: Usage::default(),
        log_dropped: (0, 0),
    };
    said(CellEvent::Ended { launch: LaunchNumber(number), end: Box::new(end) })
}

fn reports(orders: &[Effect]) -> Vec<Report> {
    let frames = orders.iter().filter_map(|order| match order {
        Effect::SendToMaster(AgentMessage::Reports(reports)) => Some(reports.clone()),
        Effect::SendToMaster(AgentMessage::Hello(hello)) => Some(hello.reports.clone()),
        _ => None,
    });
    frames.flatten().collect()
}

fn states(orders: &[Effect]) -> Vec<(u64, TaskState, Reason)> {
    let statuses = reports(orders).into_iter().filter_map(|report| match report.body {
        ReportBody::Status(status) => Some((report.launch.0, status.state, status.reason)),
        ReportBody::Message(_) => None,
    });
    statuses.collect()
}

fn prepares(orders: &[Effect]) -> usize {
    orders.iter().filter(|order| matches!(order, Effect::Prepare(_))).count()
}

fn commands(orders: &[Effect]) -> Vec<CellCommand> {
    let commands = orders.iter().filter_map(|order| match order {
        Effect::ToCell { command, .. } => Some(command.clone()),
        _ => None,
    });
    commands.collect()
}

#[test]
fn a_launch_happens_at_most_once() {
    let mut bench = Bench::new();
    assert_eq!(prepares(&bench.launch(5)), 1);
    assert_eq!(prepares(&bench.launch(5)), 0, "repeated");
    assert_eq!(prepares(&bench.launch(4)), 0, "below the mark");
    assert_eq!(prepares(&bench.say(launch(1, Life(78), 6))), 0, "of another life");
    assert_eq!(prepares(&bench.say(launch(0, LIFE, 7))), 0, "of a lower term");
    assert_eq!(prepares(&bench.say(launch(3, LIFE, 8))), 1, "a higher term is obeyed");
    assert_eq!(prepares(&bench.say(launch(2, LIFE, 9))), 0, "and then the lower one is not");
    bench.restart();
    bench.connect(3);
    assert_eq!(prepares(&bench.say(launch(3, LIFE, 8))), 0, "not after a restart either");
    assert_eq!(bench.agent.launch_mark(), LaunchNumber(8));
}

#[test]
fn a_launch_is_written_down_before_it_is_prepared() {
    let mut bench = Bench::new();
    let mut effects = Effects::default();
    bench.agent.handle(Timestamp(1), launch(1, LIFE, 1), &mut effects);
    assert!(effects.needs_sync());
    assert!(effects.records.iter().any(
        |record| matches!(record, Record::Launched(launch) if launch.number == LaunchNumber(1))
    ));
}

#[test]
fn a_short_task_is_reported_as_running_then_as_finished_in_one_frame() {
    let mut bench = Bench::new();
    bench.launch(1);
    assert!(matches!(commands(&bench.say(prepared(1))).as_slice(), [CellCommand::Run(_)]));
    let orders =
        bench.say_all([said(CellEvent::Started(LaunchNumber(1))), ended(1, TaskState::Finished)]);
    assert_eq!(
        states(&orders),
        [(1, TaskState::Running, Reason::None), (1, TaskState::Finished, Reason::None)]
    );
    let frames = orders.iter().filter(|order| matches!(order, Effect::SendToMaster(_))).count();
    assert_eq!(frames, 1);
}

#[test]
fn a_recorded_task_without_an_end_is_lost_after_a_restart_and_never_started_again() {
    let mut bench = Bench::new();
    bench.start(1);
    bench.start(2);
    bench.finish(2);
    bench.restart();
    let orders = bench.connect(1);
    let ends: Vec<_> =
        states(&orders).into_iter().filter(|(_, state, _)| state.is_final()).collect();
    assert_eq!(
        ends,
        [(2, TaskState::Finished, Reason::None), (1, TaskState::Lost, Reason::AgentRestarted)]
    );
    assert_eq!(prepares(&orders), 0);
    assert!(states(&bench.finish(1)).is_empty(), "a late end changes nothing");
    bench.restart();
    assert_eq!(bench.agent.waiting_reports(), 4, "it is not lost twice");
}

#[test]
fn reports_are_repeated_in_order_until_they_are_acknowledged() {
    let mut bench = Bench::new();
    bench.start(1);
    bench.finish(1);
    bench.start(2);
    for term in 1..3 {
        bench.say(Input::MasterDisconnected);
        let seqs: Vec<u64> =
            reports(&bench.connect(term)).iter().map(|report| report.seq.0).collect();
        assert_eq!(seqs, [1, 2, 3]);
    }
    bench.acknowledge(2);
    bench.acknowledge(1);
    bench.restart();
    let seqs: Vec<u64> = reports(&bench.connect(2)).iter().map(|report| report.seq.0).collect();
    assert_eq!(seqs, [3, 4], "what was acknowledged is gone, and the lost one came");
    assert!(bench.agent.hello().tasks.iter().all(|task| task.launch == LaunchNumber(2)));
}

#[test]
fn what_a_hello_has_no_room_for_follows_the_welcome() {
    let mut bench = Bench::new();
    bench.say(Input::MasterDisconnected);
    let big = vec![7; limits::MESSAGE_BYTES];
    bench.connect(1);
    for number in 1..=3 {
        bench.start(number);
    }
    bench.say(Input::MasterDisconnected);
    for number in 1..=3 {
        for message in 0..limits::MESSAGES_WAITING as u64 {
            bench.say(said(CellEvent::Message {
                launch: LaunchNumber(number),
                number: message + 1,
                data: big.clone(),
            }));
        }
    }
    let orders = bench.connect(1);
    let seqs: Vec<u64> = reports(&orders).iter().map(|report| report.seq.0).collect();
    assert_eq!(seqs, (1..=bench.agent.waiting_reports() as u64).collect::<Vec<_>>());
    for order in &orders {
        if let Effect::SendToMaster(message) = order {
            tepui_proto::frame::encode(message).unwrap();
        }
    }
}

#[test]
fn a_task_that_is_killed_before_its_start_never_starts() {
    let mut bench = Bench::new();
    bench.launch(1);
    assert_eq!(states(&bench.kill(1)), [(1, TaskState::Killed, Reason::KillRequested)]);
    assert!(commands(&bench.say(prepared(1))).is_empty());
    assert!(states(&bench.kill(1)).is_empty(), "a kill repeated is harmless");
}

#[test]
fn a_kill_of_a_running_task_goes_to_its_cell() {
    let mut bench = Bench::new();
    bench.start(1);
    for _ in 0..2 {
        assert_eq!(
            commands(&bench.kill(1)),
            [CellCommand::Kill { launch: LaunchNumber(1), grace_ms: 9 }]
        );
    }
    assert_eq!(
        states(&bench.say(ended(1, TaskState::Killed))),
        [(1, TaskState::Killed, Reason::None)]
    );
    bench.acknowledge(9);
    assert!(states(&bench.kill(1)).is_empty(), "its end is not followed by another");
}

#[test]
fn a_kill_of_an_unknown_launch_is_answered_with_lost_and_fences_it() {
    let mut bench = Bench::new();
    assert_eq!(states(&bench.kill(3)), [(3, TaskState::Lost, Reason::AgentRestarted)]);
    assert!(states(&bench.kill(3)).is_empty());
    bench.acknowledge(1);
    bench.say(Input::MasterSaid(MasterMessage::Forget(vec![LaunchNumber(3)])));
    bench.restart();
    bench.connect(1);
    assert_eq!(prepares(&bench.launch(3)), 0);
    assert_eq!(prepares(&bench.launch(2)), 1, "those below it are not fenced");
}

#[test]
fn outputs_are_kept_before_the_end_is_told() {
    for result in
        [Ok(vec![Blob { name: "b".to_owned(), digest: Digest([2; 32]), size_bytes: 3 }]), Err(())]
    {
        let mut bench = Bench::new();
        let mut spec = launch_of(1);
        spec.spec.outputs = vec![Output { path: "out".to_owned(), blob: "b".to_owned() }];
        bench.say(Input::MasterSaid(MasterMessage::Launch {
            term: Term(1),
            life: LIFE,
            launches: vec![spec],
        }));
        bench.say_all([prepared(1), said(CellEvent::Started(LaunchNumber(1)))]);
        let orders = bench.finish(1);
        assert!(states(&orders).is_empty());
        assert!(orders.iter().any(|order| matches!(order, Effect::StoreOutputs { .. })));
        let expected = if result.is_ok() {
            (TaskState::Finished, Reason::None)
        } else {
            (TaskState::Failed, Reason::OutputUnavailable)
        };
        let result = result.map_err(|()| Refused {
            reason: Reason::OutputUnavailable,
            message: "gone".to_owned(),
        });
        let orders = bench.say(Input::OutputsStored { launch: LaunchNumber(1), result });
        assert_eq!(states(&orders), [(1, expected.0, expected.1)]);
        assert!(orders.contains(&Effect::RemoveSandbox(LaunchNumber(1))));
    }
}

#[test]
fn messages_are_written_down_before_the_guest_goes_on_and_are_bounded() {
    let mut bench = Bench::new();
    bench.start(1);
    let message =
        |number| said(CellEvent::Message { launch: LaunchNumber(1), number, data: vec![1] });
    for number in 1..=limits::MESSAGES_WAITING as u64 {
        assert_eq!(
            commands(&bench.say(message(number))),
            [CellCommand::MessageStored { launch: LaunchNumber(1), number }]
        );
    }
    let next = limits::MESSAGES_WAITING as u64 + 1;
    assert!(commands(&bench.say(message(next))).is_empty());
    assert!(commands(&bench.say(message(3))).is_empty(), "a number that was there counts once");
    assert_eq!(
        commands(&bench.acknowledge(2)),
        [CellCommand::MessageStored { launch: LaunchNumber(1), number: next }]
    );
}

#[test]
fn a_task_that_cannot_be_prepared_ends_with_the_reason() {
    for (reason, state) in [
        (Reason::ModuleInvalid, TaskState::Error),
        (Reason::ModuleUnknown, TaskState::Dropped),
        (Reason::InputUnavailable, TaskState::Dropped),
    ] {
        let mut bench = Bench::new();
        bench.launch(1);
        let result = Err(Refused { reason, message: "é".repeat(5_000) });
        assert_eq!(
            states(&bench.say(Input::TaskPrepared { launch: LaunchNumber(1), result })),
            [(1, state, reason)]
        );
    }
}

#[test]
fn a_master_of_an_old_term_is_left() {
    let mut bench = Bench::new();
    bench.connect(9);
    let orders = bench.connect(8);
    assert!(orders.contains(&Effect::CloseSession { code: "term-old" }));
    assert_eq!(prepares(&bench.say(launch(8, LIFE, 1))), 0);
}

#[test]
fn a_heartbeat_is_sent_when_nothing_else_was() {
    let mut bench = Bench::new();
    assert!(bench.say(Input::Tick).is_empty());
    bench.now = bench.agent.next_deadline().unwrap().0;
    assert_eq!(bench.say(Input::Tick), [Effect::SendToMaster(AgentMessage::Heartbeat)]);
    bench.say(Input::MasterDisconnected);
    assert_eq!(bench.agent.next_deadline(), None);
}

#[test]
fn logs_of_the_newest_ended_tasks_are_kept() {
    let mut bench = Bench::new();
    let mut removed = Vec::new();
    for number in 1..=crate::KEPT_LOGS as u64 + 2 {
        let mut effects = Effects::default();
        let started = said(CellEvent::Started(LaunchNumber(number)));
        let acknowledge = Input::MasterSaid(MasterMessage::Acknowledge(ReportSeq(number * 2)));
        for input in [
            launch(1, LIFE, number),
            prepared(number),
            started,
            ended(number, TaskState::Finished),
            acknowledge,
        ] {
            bench.agent.handle(Timestamp(1), input, &mut effects);
        }
        removed.extend(
            effects.orders.into_iter().filter(|order| matches!(order, Effect::RemoveLogs(_))),
        );
    }
    assert_eq!(removed, [Effect::RemoveLogs(LaunchNumber(1)), Effect::RemoveLogs(LaunchNumber(2))]);
    assert_eq!(bench.agent.tasks().count(), 0);
    assert_eq!(bench.agent.waiting_reports(), 0);
}

#[test]
fn a_snapshot_and_the_records_after_it_are_the_state() {
    let mut bench = Bench::new();
    bench.start(1);
    bench.kill(8);
    bench.start(2);
    bench.finish(2);
    let snapshot = Snapshot::decode(&bench.agent.snapshot().encode().unwrap()).unwrap();
    let before = bench.disk.len();
    bench.acknowledge(2);
    bench.start(3);
    bench.finish(1);
    let now = Timestamp(9);
    let (all, _) = Agent::recover(profile(), now, None, bench.disk.clone());
    let (rest, _) =
        Agent::recover(profile(), now, Some(snapshot.clone()), bench.disk[before..].to_vec());
    assert_eq!(all.snapshot(), rest.snapshot());
    let other = Profile { life: Life(1), ..profile() };
    let (fresh, _) = Agent::recover(other, now, Some(snapshot), Vec::new());
    assert_eq!(fresh.launch_mark(), LaunchNumber(0), "another life begins with nothing");
}
