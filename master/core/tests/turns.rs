//! A leader, one agent, one framework, through the narrow waist: inputs in, effects out.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeMap;
use tepui_master_core::entry::of_modules;
use tepui_master_core::state::FrozenError;
use tepui_master_core::{
    ConnectionId, Effect, Effects, Entry, Input, Leader, ReplyBody, State, Ticket,
};
use tepui_proto::api::FrameworkSpec;
use tepui_proto::calls::{Acceptance, Operation, Outcome, Want};
use tepui_proto::control::{Hello, Launch, MasterMessage, ModuleKind, Report, ReportBody};
use tepui_proto::events::{Event, Offer};
use tepui_proto::scheduler::{FromScheduler, SchedulerFailure, ToScheduler, TurnMark, TurnUsage};
use tepui_proto::{
    Call, Digest, FrameworkId, Incarnation, LaunchNumber, Life, OfferId, Reason, ReportSeq,
    Resources, TaskSpec, TaskState, TaskStatus, Tenant, Term, Timestamp, TurnNumber, Usage,
};

const SCHEDULER: Digest = Digest([1; 32]);
const TASK: Digest = Digest([2; 32]);
const CONNECTION: ConnectionId = ConnectionId(1);

struct Cluster {
    leader: Leader,
    now: Timestamp,
    log: Vec<Entry>,
    reports: u64,
}

impl Cluster {
    fn new() -> Self {
        let modules = [(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        let modules = modules.map(|(digest, kind)| (digest, Some(kind), 10));
        let mut cluster = Self {
            leader: Leader::new(State::with_modules(modules)),
            now: Timestamp(1_000),
            log: of_modules(modules),
            reports: 0,
        };
        cluster.input(Input::TermWon(Term(1)));
        cluster.input(hello(CONNECTION, Vec::new()));
        cluster
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut fx = Effects::default();
        self.leader.handle(self.now, input, &mut fx);
        self.leader.settle(self.now, &mut fx);
        self.leader.check().unwrap();
        self.log.extend(fx.entries);
        fx.orders
    }

    fn step(&mut self, ms: u64) -> Vec<Effect> {
        self.now = Timestamp(self.now.0 + ms);
        let mut fx = Effects::default();
        self.leader.settle(self.now, &mut fx);
        self.leader.check().unwrap();
        self.log.extend(fx.entries);
        fx.orders
    }

    fn submit(&mut self) -> Vec<Effect> {
        let spec = FrameworkSpec {
            name: "batch".into(),
            roles: vec!["web".into()],
            scheduler: SCHEDULER.to_string(),
            modules: BTreeMap::from([("task".to_owned(), TASK.to_string())]),
            ..FrameworkSpec::default()
        };
        self.input(Input::FrameworkSubmitted {
            ticket: Ticket(9),
            tenant: Tenant::from("acme"),
            spec: Box::new(spec),
            kinds: vec![(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)],
        })
    }

    fn answer(&mut self, mark: TurnMark, calls: Vec<Call>) -> Vec<Effect> {
        let frame = FromScheduler::Answer {
            mark,
            calls,
            usage: TurnUsage::default(),
            log: Vec::new(),
            dropped: false,
        };
        self.input(Input::SchedulerSaid {
            framework: FrameworkId(1),
            incarnation: mark.incarnation,
            frame,
        })
    }

    fn report(&mut self, launch: &Launch, state: TaskState) -> Vec<Effect> {
        self.reports += 1;
        let status = TaskStatus {
            task: launch.key.task.clone(),
            agent: None,
            state,
            reason: Reason::None,
            message: String::new(),
            exit_code: None,
            outputs: Vec::new(),
            usage: Usage::default(),
            at: Timestamp(0),
        };
        let body = ReportBody::Status(status);
        let report = Report {
            seq: ReportSeq(self.reports),
            launch: launch.number,
            key: launch.key.clone(),
            body,
        };
        self.input(Input::Reported { connection: CONNECTION, reports: vec![report] })
    }

    /// Submits and answers the first turn, then the turn with offers if one comes.
    fn offered(&mut self) -> (TurnMark, Vec<Offer>) {
        let orders = self.submit();
        let (mark, _) = turn(&orders).unwrap();
        let orders = self.answer(mark, Vec::new());
        let (mark, events) = turn(&orders).unwrap();
        (mark, offers(&events))
    }
}

fn hello(connection: ConnectionId, reports: Vec<Report>) -> Input {
    let hello = Hello {
        life: Life(7),
        term: Term(0),
        hostname: "host".into(),
        version: "0".into(),
        resources: Resources::cpu_memory(4_000, 8 << 30),
        pools: Vec::new(),
        attributes: Vec::new(),
        domain: None,
        max_tasks: tepui_proto::limits::CELL_INSTANCES,
        has_room: true,
        launch_mark: LaunchNumber(0),
        tasks: Vec::new(),
        has_more_tasks: false,
        reports,
    };
    Input::AgentConnected { connection, name: "agent-1".into(), hello: Box::new(hello) }
}

fn turn(orders: &[Effect]) -> Option<(TurnMark, Vec<Event>)> {
    orders.iter().find_map(|order| match order {
        Effect::SendTurn { turn: ToScheduler::Turn { mark, events, .. }, .. } => {
            Some((*mark, events.clone()))
        }
        _ => None,
    })
}

fn offers(events: &[Event]) -> Vec<Offer> {
    events
        .iter()
        .filter_map(
            |event| if let Event::Offers(offers) = event { Some(offers.clone()) } else { None },
        )
        .flatten()
        .collect()
}

fn launches(orders: &[Effect]) -> Vec<Launch> {
    let launches = orders.iter().filter_map(|order| match order {
        Effect::Send { message: MasterMessage::Launch { launches, .. }, .. } => {
            Some(launches.clone())
        }
        _ => None,
    });
    launches.flatten().collect()
}

fn accept(offers: Vec<OfferId>, tasks: Vec<TaskSpec>) -> Call {
    Call::Accept(Acceptance {
        offers,
        operations: tasks.into_iter().map(Operation::Launch).collect(),
        refuse_for: None,
    })
}

fn task(id: &str) -> TaskSpec {
    TaskSpec::command(id, "task", Resources::cpu_memory(500, 64 << 20))
}

fn updates(events: &[Event]) -> Vec<(String, TaskState, Reason)> {
    let update = |event: &Event| match event {
        Event::TaskUpdated(status) => Some((status.task.0.clone(), status.state, status.reason)),
        _ => None,
    };
    events.iter().filter_map(update).collect()
}

#[test]
fn a_scheduler_is_placed_started_offered_and_its_task_launched_once() {
    let mut cluster = Cluster::new();
    let orders = cluster.submit();
    assert!(orders.iter().any(|order| matches!(order, Effect::OpenScheduler { .. })));
    assert!(orders.iter().any(|order| matches!(
        order,
        Effect::Reply { result: Ok(ReplyBody::Framework { .. }), .. }
    )));
    let (mark, events) = turn(&orders).unwrap();
    assert!(matches!(events.as_slice(), [Event::Started(_), Event::Tasks { last: true, .. }]));
    let orders = cluster.answer(mark, Vec::new());
    let (mark, events) = turn(&orders).unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::Agents(_))));
    let offer = offers(&events)[0].clone();
    assert_eq!(offer.resources.cpu_milli, 3_800, "all but what is held back");
    let answer = vec![accept(vec![offer.id], vec![task("t1")])];
    let first = cluster.answer(mark, answer.clone());
    assert_eq!(launches(&first).len(), 1);
    let again = cluster.answer(mark, answer);
    assert!(launches(&again).is_empty(), "an answer counts once");
}

#[test]
fn what_a_task_held_is_offered_again_when_it_ends() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    let orders = cluster.answer(mark, vec![accept(vec![offered[0].id], vec![task("t1")])]);
    let launch = launches(&orders)[0].clone();
    assert!(turn(&orders).is_none(), "what is left over is refused for a while");
    let orders = cluster.report(&launch, TaskState::Running);
    let (mark, events) = turn(&orders).unwrap();
    assert_eq!(updates(&events), [("t1".to_owned(), TaskState::Running, Reason::None)]);
    assert!(orders.iter().any(|o| matches!(
        o,
        Effect::Send { message: MasterMessage::Acknowledge(ReportSeq(1)), .. }
    )));
    cluster.answer(mark, Vec::new());
    let orders = cluster.report(&launch, TaskState::Finished);
    let (_, events) = turn(&orders).unwrap();
    assert_eq!(updates(&events)[0].1, TaskState::Finished);
    let freed = offers(&events);
    assert_eq!(freed.iter().map(|offer| offer.resources.cpu_milli).sum::<u64>(), 3_800);
    // The same report again changes nothing.
    cluster.reports -= 1;
    let orders = cluster.report(&launch, TaskState::Failed);
    assert!(turn(&orders).is_none());
}

#[test]
fn offers_that_are_not_held_and_launches_beyond_an_offer_are_refused_by_name() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    let large = TaskSpec::command("large", "task", Resources::cpu_memory(4_000, 64 << 20));
    let calls = vec![
        accept(vec![OfferId::new(Term(1), 99)], vec![task("unheld")]),
        accept(vec![offered[0].id], vec![task("fits"), large, task("fits")]),
    ];
    let orders = cluster.answer(mark, calls);
    assert_eq!(launches(&orders).len(), 1);
    let (_, events) = turn(&orders).unwrap();
    let expected = [
        ("unheld".to_owned(), TaskState::Dropped, Reason::InvalidOffer),
        ("large".to_owned(), TaskState::Error, Reason::ExceedsOffer),
        ("fits".to_owned(), TaskState::Error, Reason::DuplicateTask),
    ];
    assert_eq!(updates(&events), expected);
}

#[test]
fn wants_are_offered_cut_to_size_and_count_down_with_launches() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    let each = Resources::cpu_memory(500, 64 << 20);
    let want = Want {
        id: 3,
        role: "web".into(),
        count: 2,
        each,
        port_count: 0,
        revocable: false,
        constraints: Vec::new(),
    };
    let decline = Call::Decline { offers: vec![offered[0].id], refuse_for: None };
    let orders = cluster.answer(mark, vec![decline, Call::Want(Some(vec![want]))]);
    let (mark, events) = turn(&orders).unwrap();
    let offered = offers(&events);
    assert_eq!((offered[0].want, offered[0].resources.cpu_milli), (Some(3), 1_000));
    let orders =
        cluster.answer(mark, vec![accept(vec![offered[0].id], vec![task("a"), task("b")])]);
    assert_eq!(launches(&orders).len(), 2);
    assert!(turn(&orders).is_none(), "nothing more is wanted");
}

#[test]
fn an_offer_that_nobody_answers_is_taken_back_and_made_anew() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    cluster.answer(mark, Vec::new());
    let orders = cluster.step(10_000);
    let (_, events) = turn(&orders).unwrap();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Rescinded(ids) if *ids == [offered[0].id]))
    );
    assert_ne!(offers(&events)[0].id, offered[0].id);
}

#[test]
fn a_scheduler_that_fails_is_restarted_with_its_events_and_held_after_a_run_of_failures() {
    let mut cluster = Cluster::new();
    let mut orders = cluster.submit();
    for failure in 1..=8 {
        let (mark, events) = turn(&orders).unwrap();
        assert_eq!(mark.incarnation, Incarnation(failure));
        assert_eq!(mark.number, TurnNumber(1));
        assert!(matches!(events[0], Event::Started(_)));
        let frame = FromScheduler::Failed {
            mark: Some(mark),
            failure: SchedulerFailure::Trapped,
            message: "unreachable".into(),
            log: Vec::new(),
        };
        cluster.input(Input::SchedulerSaid {
            framework: FrameworkId(1),
            incarnation: mark.incarnation,
            frame,
        });
        cluster.input(Input::AgentHeard(CONNECTION));
        orders = cluster.step(10_000);
    }
    assert!(turn(&orders).is_none());
    let view = cluster.leader.framework_view(&Tenant::from("acme"), "batch").unwrap();
    assert_eq!((view.phase, view.failures), (tepui_proto::api::FrameworkPhase::Held, 8));
}

#[test]
fn a_scheduler_that_starts_well_and_fails_at_its_first_offers_each_time_is_held_too() {
    let mut cluster = Cluster::new();
    let mut orders = cluster.submit();
    for failure in 1..=8 {
        let (mark, events) = turn(&orders).unwrap();
        assert!(matches!(events[0], Event::Started(_)), "instance {failure}");
        let (mark, events) = turn(&cluster.answer(mark, Vec::new())).unwrap();
        assert_eq!(offers(&events).len(), 1);
        let frame = FromScheduler::Failed {
            mark: Some(mark),
            failure: SchedulerFailure::OutOfFuel,
            message: "endless".into(),
            log: Vec::new(),
        };
        let (framework, incarnation) = (FrameworkId(1), mark.incarnation);
        cluster.input(Input::SchedulerSaid { framework, incarnation, frame });
        cluster.input(Input::AgentHeard(CONNECTION));
        orders = cluster.step(10_000);
    }
    let view = cluster.leader.framework_view(&Tenant::from("acme"), "batch").unwrap();
    assert_eq!((view.phase, view.failures), (tepui_proto::api::FrameworkPhase::Held, 8));
}

#[test]
fn a_completed_framework_ends_when_its_last_task_has() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    let orders = cluster.answer(mark, vec![accept(vec![offered[0].id], vec![task("t1")])]);
    let launch = launches(&orders)[0].clone();
    let orders = cluster.report(&launch, TaskState::Running);
    let (mark, _) = turn(&orders).unwrap();
    let outcome = Outcome { success: true, message: "done".into(), results: Vec::new() };
    let orders = cluster.answer(mark, vec![Call::Complete(outcome)]);
    assert!(
        orders
            .iter()
            .any(|o| matches!(o, Effect::Send { message: MasterMessage::Kill { .. }, .. }))
    );
    cluster.report(&launch, TaskState::Killed);
    let view = cluster.leader.framework_view(&Tenant::from("acme"), "batch").unwrap();
    assert_eq!((view.phase, view.success), (tepui_proto::api::FrameworkPhase::Ended, Some(true)));
}

#[test]
fn the_log_applied_to_an_empty_state_gives_the_same_digest() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    let put = Call::Put { key: "k".into(), value: Some(b"v".to_vec()) };
    let orders =
        cluster.answer(mark, vec![put, accept(vec![offered[0].id], vec![task("t1"), task("t2")])]);
    let launch = launches(&orders)[0].clone();
    cluster.report(&launch, TaskState::Finished);
    let mut replayed = State::new();
    for entry in &cluster.log {
        let bytes = entry.encode().unwrap();
        replayed.apply(&Entry::decode(&bytes).unwrap());
    }
    assert_eq!(replayed.digest(), cluster.leader.state().digest());
    assert_eq!(replayed.digest(), replayed.recount_digest());
    let restored = State::decode(&cluster.leader.state().encode().unwrap()).unwrap();
    assert_eq!(restored.digest(), replayed.digest());
    Leader::new(restored).check().unwrap();
}

#[test]
fn a_frozen_state_stays_as_it_was_while_the_state_goes_on() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    let before = cluster.leader.state().encode().unwrap();
    let frozen = cluster.leader.state().freeze();
    let put = Call::Put { key: "k".into(), value: Some(b"v".to_vec()) };
    cluster.answer(mark, vec![put, accept(vec![offered[0].id], vec![task("t1")])]);
    let mut written = Vec::new();
    frozen.write(&mut written).unwrap();
    assert_eq!(written, before);
    assert_ne!(cluster.leader.state().encode().unwrap(), before);
    let digest = State::decode(&before).unwrap().recount_digest();
    assert_eq!(State::decode(&written).unwrap().digest(), digest);
}

#[test]
fn what_stops_a_snapshot_is_told() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = Cluster::new().leader.state().freeze().write(&mut Full).unwrap_err();
    let FrozenError::Write(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn an_agent_that_forgot_a_launch_below_its_mark_lost_the_task_and_above_it_gets_it_again() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    let orders = cluster.answer(mark, vec![accept(vec![offered[0].id], vec![task("t1")])]);
    assert_eq!(launches(&orders).len(), 1);
    let orders = cluster.input(hello(ConnectionId(2), Vec::new()));
    assert_eq!(launches(&orders).len(), 1, "its mark is below, so it never began");
    let Input::AgentConnected { name, mut hello, .. } = hello(ConnectionId(3), Vec::new()) else {
        unreachable!()
    };
    hello.launch_mark = LaunchNumber(1);
    let orders = cluster.input(Input::AgentConnected { connection: ConnectionId(3), name, hello });
    assert!(launches(&orders).is_empty());
    let view = cluster.leader.task_view(&Tenant::from("acme"), "batch", "t1").unwrap();
    assert_eq!((view.state, view.reason.as_str()), (TaskState::Lost, "agent-restarted"));
}

#[test]
fn a_want_that_is_stated_again_beside_a_launch_on_it_stands_in_full() {
    let mut cluster = Cluster::new();
    let (mark, offered) = cluster.offered();
    let each = Resources::cpu_memory(500, 64 << 20);
    let want = Want {
        id: 3,
        role: "web".into(),
        count: 1,
        each,
        port_count: 0,
        revocable: false,
        constraints: Vec::new(),
    };
    let decline = Call::Decline { offers: vec![offered[0].id], refuse_for: None };
    let orders = cluster.answer(mark, vec![decline, Call::Want(Some(vec![want.clone()]))]);
    let (mark, events) = turn(&orders).unwrap();
    let first = offers(&events)[0].clone();
    let calls = vec![accept(vec![first.id], vec![task("a")]), Call::Want(Some(vec![want]))];
    let orders = cluster.answer(mark, calls);
    let (_, events) = turn(&orders).unwrap();
    assert_eq!(offers(&events)[0].want, Some(3), "one more is wanted");
}
