//! Who may say what: an agent speaks for what is on it, about what it was asked, and in bounded words.

use crate::stage::{Stage, hello, putting_out, task, whole};
use tepui_master_core::Input;
use tepui_proto::api::{FrameworkPhase, FrameworkSpec};
use tepui_proto::control::{ModuleKind, ModuleVerdict, Report, ReportBody};
use tepui_proto::scheduler::{FromScheduler, SchedulerFailure};
use tepui_proto::tasks::Blob;
use tepui_proto::{Call, Digest, ReportSeq, TaskState, Tenant, limits};

#[test]
fn an_agent_that_reports_on_another_agent_s_task_is_passed_over() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    let framework = stage.framework("f", &["x"]);
    stage.run(framework, vec![task("t", 500)]);
    stage.report("t", TaskState::Running);
    stage.agent("b", 1_000);
    let launch = stage.launches["t"].clone();
    let mut status = {
        let key = tepui_proto::TaskKey { framework, task: "t".into() };
        stage.leader.state().task(&key).unwrap().status.clone()
    };
    status.state = TaskState::Failed;
    let bodies = [ReportBody::Message(vec![1]), ReportBody::Status(status)];
    for (seq, body) in (1..).zip(bodies) {
        let (number, key) = (launch.number, launch.key.clone());
        let report = Report { seq: ReportSeq(seq), launch: number, key, body };
        let connection = stage.connections["b"];
        stage.input(Input::Reported { connection, reports: vec![report] });
    }
    stage.pass(10);
    assert_eq!(stage.state_of(framework, "t"), TaskState::Running);
    assert_eq!(stage.inbox(framework).messages, 0);
    // Its own agent is believed.
    stage.report("t", TaskState::Failed);
    assert_eq!(stage.state_of(framework, "t"), TaskState::Failed);
}

#[test]
fn only_the_agent_that_was_asked_judges_a_module() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    let connection = stage.connections["a"];
    stage.agent("b", 1_000);
    let stranger = stage.connections["b"];
    let (digest, kind) = (Digest([9; 32]), ModuleKind::Scheduler);
    let bad = || ModuleVerdict::Bad { code: "module-invalid".into(), message: "says who".into() };
    // Nobody was asked.
    let good = ModuleVerdict::Good { compile_ms: 1 };
    let ticket = stage.ticket();
    stage.input(Input::BlobStored { ticket, digest, size_bytes: 10 });
    stage.input(Input::ModuleChecked { connection: stranger, digest, kind, verdict: good.clone() });
    assert_eq!(stage.leader.module_kind(&digest), []);
    let spec = FrameworkSpec {
        name: "f".to_owned(),
        roles: vec!["x".to_owned()],
        scheduler: digest.to_string(),
        ..FrameworkSpec::default()
    };
    let (ticket, tenant) = (stage.ticket(), Tenant::from("acme"));
    let kinds = vec![(digest, kind)];
    stage.input(Input::FrameworkSubmitted { ticket, tenant, spec: Box::new(spec), kinds });
    // The one with fewer launches, or the first, was asked.
    stage.input(Input::ModuleChecked { connection: stranger, digest, kind, verdict: bad() });
    stage.input(Input::ModuleChecked { connection: stranger, digest, kind, verdict: good.clone() });
    assert_eq!(stage.leader.module_kind(&digest), []);
    stage.input(Input::ModuleChecked { connection, digest, kind, verdict: good });
    assert_eq!(stage.leader.module_kind(&digest), [kind]);
}

#[test]
fn an_agent_that_cannot_tell_is_not_asked_again_while_another_can() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    stage.agent("b", 1_000);
    let (a, b) = (stage.connections["a"], stage.connections["b"]);
    let (digest, kind) = (Digest([9; 32]), ModuleKind::CommandP1);
    let ticket = stage.ticket();
    stage.input(Input::BlobStored { ticket, digest, size_bytes: 10 });
    let ticket = stage.ticket();
    stage.input(Input::ModuleCheckRequested { ticket, digest, kind });
    assert_eq!(stage.asked(), [(a, digest)]);
    let unknown = ModuleVerdict::Unknown("its compiler was killed".into());
    stage.input(Input::ModuleChecked { connection: a, digest, kind, verdict: unknown });
    assert_eq!(stage.asked(), [(b, digest)]);
}

#[test]
fn an_agent_that_does_not_judge_a_module_in_time_is_not_waited_for() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    stage.agent("b", 1_000);
    let (a, b) = (stage.connections["a"], stage.connections["b"]);
    let (digest, kind) = (Digest([9; 32]), ModuleKind::CommandP1);
    let ticket = stage.ticket();
    stage.input(Input::BlobStored { ticket, digest, size_bytes: 10 });
    let ticket = stage.ticket();
    stage.input(Input::ModuleCheckRequested { ticket, digest, kind });
    assert_eq!(stage.asked(), [(a, digest)]);
    stage.pass(limits::CHECK_MS - 10);
    assert_eq!(stage.asked(), []);
    stage.pass(20);
    assert_eq!(stage.asked(), [(b, digest)]);
    stage.pass(limits::CHECK_MS + 10);
    assert_eq!(stage.asked(), [], "nobody is left to ask");
    assert!(stage.refused(ticket).contains("no agent"), "and whoever asked is told");
}

#[test]
fn an_output_that_a_task_was_not_to_put_out_is_not_taken_from_its_agent() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    let blob = |name: &str| Blob { name: name.to_owned(), digest: Digest([3; 32]), size_bytes: 1 };
    let asked = [blob("asked")];
    stage.run(framework, vec![putting_out("t", &asked), putting_out("u", &asked)]);
    let said = vec![blob("asked"), blob("asked"), blob(&"x".repeat(1 << 20)), blob("other")];
    stage.report_with("t", TaskState::Finished, said.clone());
    stage.report_with("u", TaskState::Failed, said);
    let key = |task: &str| tepui_proto::TaskKey { framework, task: task.into() };
    let outputs = |task| stage.leader.state().task(&key(task)).unwrap().status.outputs.clone();
    assert_eq!((outputs("t"), outputs("u")), (vec![blob("asked")], Vec::new()));
}

#[test]
fn a_scheduler_goes_to_another_agent_than_the_one_that_failed_it() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    stage.agent("b", 1_000);
    let framework = stage.framework("f", &["x"]);
    let host = |stage: &Stage| {
        let instance = stage.leader.state().framework(framework).unwrap().instance.clone();
        instance.map(|instance| instance.agent)
    };
    let first = host(&stage).unwrap();
    let fail = |stage: &mut Stage| {
        stage.say_and_wait(framework);
        let mark = stage.inbox(framework).mark.unwrap();
        let frame = FromScheduler::Failed {
            mark: Some(mark),
            failure: SchedulerFailure::Agent,
            message: "no room".to_owned(),
            log: Vec::new(),
        };
        let incarnation = mark.incarnation;
        stage.input(Input::SchedulerSaid { framework, incarnation, frame });
        stage.pass(100);
    };
    fail(&mut stage);
    let second = host(&stage).unwrap();
    assert_ne!(second, first);
    // Where every agent has failed it, it goes where there is room all the same.
    fail(&mut stage);
    assert!(host(&stage).is_some());
    assert_eq!(stage.leader.state().framework(framework).unwrap().failures, 0);
}

#[test]
fn an_agent_that_was_here_for_long_and_left_a_moment_ago_is_not_forgotten() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    stage.pass(2 * limits::AGENT_FORGOTTEN_MS);
    stage.disconnect("a");
    stage.pass(limits::AGENT_FORGOTTEN_MS / 2);
    assert!(stage.leader.state().agent_id("a").is_some());
}

#[test]
fn what_an_agent_says_of_itself_is_bounded() {
    let mut stage = Stage::new();
    let long = || "x".repeat(limits::HOST_BYTES + 1);
    let domain =
        |region: String, zone: String| Some(tepui_proto::events::FaultDomain { region, zone });
    let hellos = [
        tepui_proto::control::Hello { hostname: long(), ..hello(whole(1_000)) },
        tepui_proto::control::Hello { version: long(), ..hello(whole(1_000)) },
        tepui_proto::control::Hello {
            domain: domain(long(), String::new()),
            ..hello(whole(1_000))
        },
        tepui_proto::control::Hello {
            domain: domain(String::new(), long()),
            ..hello(whole(1_000))
        },
        tepui_proto::control::Hello { hostname: "a\nb".into(), ..hello(whole(1_000)) },
    ];
    for (n, hello) in hellos.into_iter().enumerate() {
        let connection = tepui_master_core::ConnectionId(n as u64);
        let name = format!("a{n}");
        stage.input(Input::AgentConnected { connection, name, hello: Box::new(hello) });
        assert_eq!(stage.turned_away.len(), n + 1);
    }
    assert!(stage.turned_away.iter().all(|code| code == "invalid-hello"));
}

#[test]
fn what_a_turn_tells_of_agents_and_offers_fits_a_frame() {
    let mut stage = Stage::new();
    for n in 0..64 {
        let mut hello = hello(whole(1_000));
        let text = || tepui_proto::events::AttributeValue::Text("x".repeat(limits::ITEM_BYTES));
        hello.attributes = (0..500).map(|n| (format!("attribute-{n}"), text())).collect();
        stage.agent_with(&format!("a{n}"), hello);
    }
    let framework = stage.framework("f", &["x"]);
    stage.pass(10);
    assert_eq!(stage.inbox(framework).agents.len(), 64, "all are told, in several turns");
    assert!(stage.largest_turn < limits::FRAME_BYTES, "{}", stage.largest_turn);
}

#[test]
fn an_agent_that_was_away_for_long_with_nothing_on_it_is_forgotten() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    stage.agent("b", 1_000);
    stage.agent("kept", 1_000);
    let framework = stage.framework("f", &["x"]);
    stage.run_on(framework, "b", vec![task("t", 500)]);
    stage.mode("kept", tepui_proto::roles::AgentMode::Inactive).unwrap();
    for name in ["a", "b", "kept"] {
        stage.disconnect(name);
    }
    stage.pass(limits::AGENT_FORGOTTEN_MS / 2);
    assert!(stage.leader.state().agent_id("a").is_some());
    stage.pass(limits::AGENT_FORGOTTEN_MS);
    assert_eq!(stage.leader.state().agent_id("a"), None);
    assert!(stage.leader.state().agent_id("kept").is_some(), "its operator has set something");
    stage.check_copies();
    // One that comes back is another, with the numbers of its own disk.
    let back = tepui_proto::control::Hello {
        launch_mark: tepui_proto::LaunchNumber(41),
        ..hello(whole(1_000))
    };
    let id = stage.agent_with("a", back);
    let last = stage.leader.state().agent(id).unwrap().last_launch.0;
    assert!(last > 41 + 1_000, "above whatever it may have fenced: {last}");
}

#[test]
fn messages_to_a_framework_that_does_not_listen_are_bounded_in_bytes() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    stage.run(framework, vec![task("t", 500)]);
    stage.report("t", TaskState::Running);
    stage.say_and_wait(framework);
    let launch = stage.launches["t"].clone();
    let connection = stage.connections["a"];
    for frame in 0..20_u64 {
        let report = |n: u64| Report {
            seq: ReportSeq(2 + frame * 100 + n),
            launch: launch.number,
            key: launch.key.clone(),
            body: ReportBody::Message(vec![7; limits::MESSAGE_BYTES]),
        };
        stage.input(Input::Reported { connection, reports: (0..100).map(report).collect() });
        let queue = &stage.leader.state().framework(framework).unwrap().queue;
        let waiting = queue.count(tepui_master_core::state::Class::Messages);
        let most = limits::WAITING_MESSAGE_BYTES + limits::WAITING_MESSAGES * 1_024;
        assert!(waiting.bytes <= most, "{waiting:?}");
    }
    let notes = stage.leader.event_views(&Tenant::from("acme"), "f", 0, 1_000).unwrap();
    assert!(notes.items.iter().any(|note| note.kind == "message-dropped"));
    // What waits is told, and then there is room again.
    stage.rest();
    assert!(stage.inbox(framework).messages > 400);
    let queue = &stage.leader.state().framework(framework).unwrap().queue;
    assert_eq!(queue.len(), 0);
}

#[test]
fn messages_to_a_framework_that_is_held_are_bounded_and_told_once_it_goes_on() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    stage.run(framework, vec![task("t", 500)]);
    stage.report("t", TaskState::Running);
    // It breaks a bound in each of its turns, until it is asked no more.
    let mut failures = 0;
    while stage.leader.state().framework(framework).unwrap().phase != FrameworkPhase::Held {
        stage.settle_at(limits::RESTART_BACKOFF_MS_MAX);
        stage.say_and_wait(framework);
        let mark = stage.inbox(framework).mark.expect("it is asked");
        stage.answer(framework, mark, vec![Call::Reconcile(Vec::new()); limits::CALLS + 1]);
        failures += 1;
        assert!(failures <= limits::FAILURES_HELD);
    }
    let launch = stage.launches["t"].clone();
    let connection = stage.connections["a"];
    for frame in 0..20_u64 {
        let report = |n: u64| Report {
            seq: ReportSeq(2 + frame * 100 + n),
            launch: launch.number,
            key: launch.key.clone(),
            body: ReportBody::Message(vec![7; limits::MESSAGE_BYTES]),
        };
        stage.input(Input::Reported { connection, reports: (0..100).map(report).collect() });
    }
    let queue = &stage.leader.state().framework(framework).unwrap().queue;
    let waiting = queue.count(tepui_master_core::state::Class::Messages);
    assert!(waiting.entries > 400, "{waiting:?}");
    let most = limits::WAITING_MESSAGE_BYTES + limits::WAITING_MESSAGES * 1_024;
    assert!(waiting.bytes <= most, "{waiting:?}");
    // A new version of it is told all of them.
    assert_eq!(stage.upgrade("f", &["x"], std::collections::BTreeMap::new()), Ok(()));
    stage.pass(1_000);
    assert_eq!(stage.inbox(framework).messages, waiting.entries);
    assert_eq!(stage.leader.state().framework(framework).unwrap().queue.len(), 0);
}
