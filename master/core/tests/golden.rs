//! The shapes of entries are frozen: those that version 1 had have the bytes of `golden/entries-v1.txt`, those that version 2
//! added have the bytes of `golden/entries-v2.txt`. A snapshot of another version is refused.
//!
//! `UPDATE=1` writes the files anew. Do so only for a kind that is new; a changed line is a changed format, which needs
//! a new version instead.

#![expect(clippy::expect_used, reason = "a test ends at what it did not expect")]

use std::fmt::Write as _;
use std::path::Path;
use tepui_master_core::State;
use tepui_master_core::entry::{
    Completed, Conversion, Demand, Entry, EntryKind, Joined, LaunchDecided, PooledTurn, Submission,
    TaskChange, TimerChange, Turn,
};
use tepui_master_core::policy::RolePolicy;
use tepui_proto::api::FrameworkPhase;
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::control::ModuleKind;
use tepui_proto::events::{AttributeValue, FaultDomain, Refusal, StartCause, Unavailability};
use tepui_proto::roles::{AgentMode, Packing};
use tepui_proto::tasks::{Blob, Input, Output, TaskLimits};
use tepui_proto::{
    AgentId, Bundle, Digest, DurationMs, FrameworkId, Incarnation, LaunchNumber, Life, OfferId,
    Reason, ReportSeq, Resources, TaskKey, TaskSpec, TaskState, TaskStatus, Term, Timestamp,
    TurnNumber, Usage,
};

fn spec() -> TaskSpec {
    TaskSpec {
        args: vec!["a".into()],
        env: vec![("K".into(), "V".into())],
        stdin: Some(vec![1]),
        inputs: vec![Input { source: "blob:in".into(), range: Some((1, 2)), path: "in".into() }],
        outputs: vec![Output { path: "out".into(), blob: "o".into() }],
        limits: TaskLimits { fuel: Some(3), wall_time: Some(DurationMs(4)), log_bytes: Some(5) },
        ..TaskSpec::command("t", "m", Resources::cpu_memory(100, 1 << 20))
    }
}

fn status() -> TaskStatus {
    TaskStatus {
        task: "t".into(),
        agent: Some("agent-1".into()),
        state: TaskState::Failed,
        reason: Reason::OutOfFuel,
        message: "m".into(),
        exit_code: Some(-1),
        outputs: vec![Blob { name: "o".into(), digest: Digest([3; 32]), size_bytes: 9 }],
        usage: Usage {
            fuel: 1,
            cpu_us: 2,
            wall_us: 3,
            memory_bytes_peak: 4,
            disk_bytes: 5,
            log_bytes: 6,
        },
        at: Timestamp(7),
    }
}

fn submission() -> Box<Submission> {
    Box::new(Submission {
        framework: FrameworkId(1),
        tenant: "acme".into(),
        name: "batch".into(),
        roles: vec!["acme/web".into()],
        scheduler: Digest([1; 32]),
        modules: vec![("m".into(), Digest([2; 32]))],
        blobs: vec![("b".into(), Digest([3; 32]))],
        config: vec![("k".into(), "v".into())],
        cpu_milli: 100,
        memory_bytes: 64 << 20,
    })
}

fn turn() -> Box<Turn> {
    let constraint = Constraint {
        attribute: "@zone".into(),
        comparison: Comparison::Equals,
        operand: "z".into(),
    };
    let want = Want {
        id: 1,
        role: "acme/web".into(),
        count: 2,
        each: Resources::cpu_memory(1, 2),
        port_count: 1,
        revocable: false,
        constraints: vec![constraint],
    };
    let launch = LaunchDecided {
        offer: OfferId::new(Term(1), 1),
        agent: AgentId(1),
        number: LaunchNumber(1),
        role: "acme/web".into(),
        want: Some(1),
        module: Digest([2; 32]),
        kind: ModuleKind::CommandP1,
        inputs: vec![Digest([3; 32])],
        spec: spec(),
    };
    Box::new(Turn {
        framework: FrameworkId(1),
        number: TurnNumber(2),
        fuel: 3,
        seen: vec![1, 2],
        launches: vec![launch],
        refused_tasks: vec![("acme/web".into(), "n".into(), status())],
        refusals: vec![Refusal {
            turn: TurnNumber(2),
            index: 1,
            code: "c".into(),
            message: "m".into(),
        }],
        kills: vec![("t".into(), DurationMs(5))],
        reconciled: vec!["t".into()],
        writes: vec![("k".into(), Some(vec![1])), ("gone".into(), None)],
        timers: vec![TimerChange::Set("x".into(), Timestamp(9)), TimerChange::Cancel("y".into())],
        wants: Some(Demand::Only(vec![want])),
        suppressed: Some(vec!["acme/web".into()]),
        completed: Some(Completed {
            success: true,
            message: "m".into(),
            results: vec!["o".into()],
        }),
    })
}

fn kinds() -> Vec<(&'static str, EntryKind)> {
    let joined = Joined {
        agent: AgentId(1),
        life: Life(2),
        resources: Resources::cpu_memory(1_000, 1 << 30),
        hostname: "h".into(),
        version: "v".into(),
        attributes: vec![("rack".into(), AttributeValue::Text("r".into()))],
        domain: Some(FaultDomain { region: "r".into(), zone: "z".into() }),
        launch_mark: LaunchNumber(3),
    };
    let change = TaskChange { framework: FrameworkId(1), status: status() };
    let key = TaskKey { framework: FrameworkId(1), task: "t".into() };
    let (framework, agent, incarnation) = (FrameworkId(1), AgentId(1), Incarnation(1));
    vec![
        ("term-began", EntryKind::TermBegan(Term(1))),
        ("blob-added", EntryKind::BlobAdded { digest: Digest([1; 32]), size_bytes: 300 }),
        ("blobs-forgotten", EntryKind::BlobsForgotten(vec![Digest([1; 32])])),
        (
            "module-accepted",
            EntryKind::ModuleAccepted { digest: Digest([1; 32]), kind: ModuleKind::Scheduler },
        ),
        ("framework-submitted", EntryKind::FrameworkSubmitted(submission())),
        ("framework-upgraded", EntryKind::FrameworkUpgraded(submission())),
        (
            "framework-moved",
            EntryKind::FrameworkMoved {
                framework,
                phase: FrameworkPhase::Held,
                message: "m".into(),
            },
        ),
        (
            "instance-began",
            EntryKind::InstanceBegan {
                framework,
                incarnation,
                cause: StartCause::NewLeader,
                agent,
                resources: Resources::cpu_memory(100, 64 << 20),
                held_back: true,
            },
        ),
        (
            "instance-ended",
            EntryKind::InstanceEnded { framework, incarnation, counted: true, message: "m".into() },
        ),
        ("agent-admitted", EntryKind::AgentAdmitted { agent, name: "agent-1".into() }),
        ("agent-joined", EntryKind::AgentJoined(Box::new(joined))),
        ("agent-unreachable", EntryKind::AgentUnreachable(agent)),
        (
            "reported",
            EntryKind::Reported {
                agent,
                through: ReportSeq(4),
                changes: vec![change.clone()],
                messages: vec![(key, vec![1, 2])],
            },
        ),
        ("tasks-moved", EntryKind::TasksMoved(vec![change])),
        ("timer-rang", EntryKind::TimerRang { framework, name: "x".into() }),
        ("turn-committed", EntryKind::TurnCommitted(turn())),
    ]
}

fn bundle(text: &str) -> Bundle {
    text.parse().expect("a bundle")
}

/// The kinds that version 2 added, and its values.
fn kinds_of_2() -> Vec<(&'static str, EntryKind)> {
    let agent = AgentId(1);
    let policy = RolePolicy {
        weight_milli: 2_500,
        guarantee: "cpus:1;mem:64".parse().expect("scalars"),
        limit: "cpus:2;gpus:1".parse().expect("scalars"),
        packing: Some(Packing::Pack),
    };
    let spread = RolePolicy { packing: Some(Packing::Spread), ..RolePolicy::default() };
    let random = RolePolicy { packing: Some(Packing::Random), ..RolePolicy::default() };
    let roles = vec![("a".into(), policy), ("a/b".into(), spread), ("c".into(), random)];
    let pools = bundle("cpus(ads):1;cpus{rev}:4;disk{mount=ssd}:50");
    let mode = |mode| EntryKind::AgentModeSet { agent, mode };
    let when = Unavailability { start: Timestamp(8), length: Some(DurationMs(9)) };
    let conversion = Conversion {
        agent,
        from: bundle("cpus:1;disk(ads):8"),
        to: bundle("cpus(ads,ads/x):1;disk(ads){vol:v}:8"),
    };
    let shared = Conversion {
        agent,
        from: bundle("disk(ads):4"),
        to: bundle("disk(ads){shared:s:size=4}:1"),
    };
    let pooled = PooledTurn {
        turn: *turn(),
        conversions: vec![conversion.clone()],
        held: vec![("t".into(), bundle("cpus(ads,ads/x):0.1;mem:1"))],
    };
    vec![
        ("roles-set", EntryKind::RolesSet(roles)),
        ("pools-declared", EntryKind::PoolsDeclared { agent, pools: pools.into() }),
        ("agent-active", mode(AgentMode::Active)),
        ("agent-inactive", mode(AgentMode::Inactive)),
        ("agent-draining", mode(AgentMode::Draining { grace: DurationMs(5_000), then_gone: true })),
        ("agent-drained", mode(AgentMode::Drained)),
        ("agent-gone", mode(AgentMode::Gone)),
        ("maintenance-set", EntryKind::MaintenanceSet { agent, unavailability: Some(when) }),
        ("maintenance-cancelled", EntryKind::MaintenanceSet { agent, unavailability: None }),
        ("converted", EntryKind::Converted(conversion)),
        ("converted-shared", EntryKind::Converted(shared)),
        ("turn-pooled", EntryKind::TurnPooled(Box::new(pooled))),
        ("agent-forgotten", EntryKind::AgentForgotten(AgentId(7))),
    ]
}

/// The entries' bytes are those of the file, line by line.
fn check_golden(version: u16, kinds: Vec<(&'static str, EntryKind)>) {
    let mut text = String::new();
    for (name, kind) in kinds {
        let entry = Entry { version, at: Timestamp(1_700_000_000_000), kind };
        let bytes = entry.encode().expect("an entry can be encoded");
        assert_eq!(Entry::decode(&bytes).as_ref(), Ok(&entry), "{name} reads what it wrote");
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes what is written");
            hex
        });
        writeln!(text, "{name} {hex}").expect("a string takes what is written");
    }
    let file = format!("tests/golden/entries-v{version}.txt");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file is there");
    for (now, then) in text.lines().zip(golden.lines()) {
        assert_eq!(now, then, "the shape of an entry has changed");
    }
    assert_eq!(
        text.lines().count(),
        golden.lines().count(),
        "a kind without golden bytes: UPDATE=1 adds it"
    );
}

#[test]
fn entries_of_version_1_have_the_bytes_that_they_always_had() {
    check_golden(1, kinds());
}

#[test]
fn kinds_of_version_2_have_the_bytes_that_they_always_had() {
    check_golden(2, kinds_of_2());
}

#[test]
fn a_kind_of_version_1_in_an_entry_of_version_2_differs_in_the_version_alone() {
    for (name, kind) in kinds() {
        let [old, new] = [1, 2].map(|version| {
            let entry = Entry { version, at: Timestamp(9), kind: kind.clone() };
            entry.encode().expect("an entry can be encoded")
        });
        assert_eq!((old[0], new[0], &old[1..]), (1, 2, &new[1..]), "{name}");
    }
}

#[test]
fn an_entry_of_a_later_version_stops_a_master_that_does_not_know_it() {
    let entry = Entry { version: 2, at: Timestamp(1), kind: EntryKind::TermBegan(Term(1)) };
    let mut bytes = entry.encode().expect("an entry can be encoded");
    bytes[0] = 3;
    let error = Entry::decode(&bytes).expect_err("it is refused");
    assert!(error.to_string().contains("version 3"), "{error}");
}

/// The state that all these add up to.
fn state_of(kinds: impl IntoIterator<Item = (&'static str, EntryKind)>) -> State {
    let mut state = State::new();
    for (_, kind) in kinds {
        // Events that the kind before has seen or a name that it took away do not matter here.
        state.apply(&Entry { version: 2, at: Timestamp(1_700_000_000_000), kind });
    }
    state
}

#[test]
fn a_snapshot_holds_settings_and_provisions_and_what_tasks_hold() {
    let turn_of_1 = |kind: &EntryKind| matches!(kind, EntryKind::TurnCommitted(_));
    let kinds = kinds().into_iter().filter(|(_, kind)| !turn_of_1(kind));
    let is_end = |kind: &EntryKind| {
        let none = EntryKind::MaintenanceSet { agent: AgentId(1), unavailability: None };
        *kind == none
    };
    let state = state_of(kinds.chain(kinds_of_2().into_iter().filter(|(_, kind)| !is_end(kind))));
    let key = TaskKey { framework: FrameworkId(1), task: "t".into() };
    let held = state.task(&key).map(|task| state.held_by(&key, &task.resources));
    assert_eq!(held, Some(bundle("cpus(ads,ads/x):0.1;mem:1")));
    let bytes = state.encode().expect("a snapshot");
    let read = State::decode(&bytes).expect("it is read");
    assert_eq!((read.digest(), read.recount_digest()), (state.digest(), state.digest()));
    assert_eq!(read.provision(AgentId(1)), state.provision(AgentId(1)));
    assert!(read.provision(AgentId(1)).is_some_and(|p| p.unavailability.is_some()));
    assert_eq!(read.held_by(&key, &Resources::default()), bundle("cpus(ads,ads/x):0.1;mem:1"));
    assert_eq!(read.encode().expect("a snapshot"), bytes);
}

#[test]
fn a_snapshot_of_another_version_or_one_that_is_cut_short_is_refused() {
    let bytes = state_of(kinds()).encode().expect("a snapshot");
    for version in [0, 1, 2, 3, 5] {
        let mut other = bytes.clone();
        assert_eq!(std::mem::replace(&mut other[0], version), 4);
        let error = State::decode(&other).expect_err("it is refused");
        assert!(error.to_string().contains(&format!("version {version}")), "{error}");
    }
    for cut in [0, 1, 10, bytes.len() / 2, bytes.len() - 1] {
        assert!(State::decode(&bytes[..cut]).is_err(), "cut after {cut} bytes");
    }
}
