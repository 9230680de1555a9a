//! Each bound of an answer, to the last one: met exactly it is taken, exceeded by one it is refused whole.

use super::refused_whole;
use crate::stage::{Stage, accept, launch, task, want};
use std::iter::repeat_n;
use tepui_master_core::state::Class;
use tepui_proto::calls::{Comparison, Constraint, Operation, Reservation, Want};
use tepui_proto::events::Message;
use tepui_proto::{Call, DurationMs, FrameworkId, OfferId, Resources, TaskState, Term, limits};

/// The answer to the request with which a test gives a scheduler a turn: it counts like any other call.
const RESPONSES: usize = 1;

/// A bound: how much there may be, what an answer of so much says, and how one too many is told.
struct Bound {
    most: usize,
    answer: fn(&Stage, FrameworkId, usize) -> Vec<Call>,
    told: &'static str,
}

const BOUNDS: &[Bound] = &[
    Bound {
        most: limits::CALLS,
        answer: |_, _, count| vec![Call::CancelTimer("none".to_owned()); count - RESPONSES],
        told: "4097 calls; at most 4096",
    },
    Bound {
        most: limits::OPERATIONS,
        // A group without tasks launches nothing, and is a step all the same.
        answer: |stage, id, count| {
            vec![accept(&stage.held(id), vec![Operation::LaunchGroup(Vec::new()); count])]
        },
        told: "4097 operations of acceptances; at most 4096",
    },
    Bound {
        most: limits::LAUNCHES,
        answer: |stage, id, count| {
            vec![accept(&stage.held(id), (0..count).map(|n| launch(small(n))).collect())]
        },
        told: "1001 launches; at most 1000",
    },
    Bound {
        most: limits::LAUNCHES,
        // Those of a group count each.
        answer: |stage, id, count| {
            let groups = [0..count / 2, count / 2..count];
            let group = |tasks: std::ops::Range<usize>| tasks.map(small).collect();
            let groups = groups.map(|tasks| Operation::LaunchGroup(group(tasks)));
            vec![accept(&stage.held(id), groups.into())]
        },
        told: "1001 launches; at most 1000",
    },
    Bound {
        most: limits::CONVERSIONS,
        answer: |stage, id, count| {
            let resources = Resources::cpu_memory(10, 0);
            let reservation = Reservation { role: "x".into(), resources };
            let both = [Operation::Reserve, Operation::Unreserve];
            let operations = (0..count).map(|n| both[n % 2](reservation.clone()));
            vec![accept(&stage.held(id), operations.collect())]
        },
        told: "65 reservations and volumes; at most 64",
    },
    Bound {
        most: limits::NAMES,
        answer: |_, _, count| {
            let offers = |count: usize| (0..count as u64).map(|n| OfferId::new(Term(9), n));
            let (third, refuse_for) = (count / 3, None);
            vec![
                Call::Decline { offers: offers(third).collect(), refuse_for },
                Call::AcceptInverse(offers(third).collect()),
                Call::DeclineInverse { offers: offers(third - 2).collect(), refuse_for },
                Call::Revive(vec!["x".into()]),
                Call::Suppress(vec!["x".into(); 1 + count % 3]),
            ]
        },
        told: "16385 names of offers, tasks, roles and results; at most 16384",
    },
    Bound {
        most: limits::SENDS,
        answer: |_, _, count| {
            vec![Call::Send(Message { task: "nobody".into(), data: Vec::new() }); count]
        },
        told: "257 messages to tasks; at most 256",
    },
    Bound {
        most: limits::TURN_WANTS,
        answer: |_, _, count| {
            // One call has as many as a framework may have, and takes the place of the one before.
            let full = repeat_n(limits::WANTS, count / limits::WANTS);
            full.chain([count % limits::WANTS]).map(|count| wants(count, 0, 0)).collect()
        },
        told: "4097 wants in all; at most 4096",
    },
    Bound {
        most: limits::TURN_CONSTRAINTS,
        answer: |_, _, count| {
            let full = wants(count / limits::CONSTRAINTS - 1, limits::CONSTRAINTS, 0);
            let rest = limits::CONSTRAINTS / 2;
            vec![full, wants(1, rest, 0), wants(1, rest + count % limits::CONSTRAINTS, 0)]
        },
        told: "2049 constraints of wants in all; at most 2048",
    },
    Bound {
        most: limits::PATTERNS,
        answer: |_, _, count| vec![wants(2, count, count)],
        told: "33 different regular expressions; at most 32",
    },
    Bound {
        most: limits::TIMERS,
        answer: |_, _, count| {
            // One that is set twice is one.
            let names = (0..count).chain([0]).map(|n| format!("t{n}"));
            names.map(|name| Call::SetTimer { name, after: DurationMs(60_000) }).collect()
        },
        told: "1001 timers, set or waiting to be told; at most 1000",
    },
    Bound {
        most: limits::WAITING_REFUSALS,
        // Each task may be refused, and the call itself.
        answer: |_, _, count| {
            let tasks = (0..count - 1 - RESPONSES).map(|n| format!("u{n}").as_str().into());
            vec![Call::Reconcile(tasks.collect())]
        },
        told: "10001 refusals, waiting to be told or possible in this turn; at most 10000",
    },
    Bound {
        most: limits::KEY_BYTES,
        answer: |_, _, bytes| vec![put("k".repeat(bytes), 1)],
        told: "a key of 257 bytes; 1 to 256",
    },
    Bound {
        most: limits::KEY_BYTES,
        answer: |_, _, bytes| {
            vec![Call::SetTimer { name: "t".repeat(bytes), after: DurationMs(60_000) }]
        },
        told: "a timer's name of 257 bytes; at most 256",
    },
    Bound {
        most: limits::VALUE_BYTES,
        answer: |_, _, bytes| vec![put("k".to_owned(), bytes)],
        told: "65537 bytes of a value; at most 65536",
    },
    Bound {
        most: limits::STATE_BYTES,
        answer: |_, _, bytes| {
            // Keys count with their values, and what is written twice counts as it is at last.
            let full = limits::STATE_BYTES / limits::VALUE_BYTES - 1;
            let value = |n: usize| put(format!("{n:04}"), limits::VALUE_BYTES - 4);
            let rest = bytes - full * limits::VALUE_BYTES;
            let (last, more) = (rest / 2, rest - rest / 2);
            let puts = (0..full).map(value).chain([put("9998".to_owned(), limits::VALUE_BYTES)]);
            puts.chain([put("9998".to_owned(), last - 4), put("9999".to_owned(), more - 4)])
                .collect()
        },
        told: "4194305 bytes of durable state; at most 4194304",
    },
];

fn small(n: usize) -> tepui_proto::TaskSpec {
    let mut spec = task(&format!("t{n:04}"), 10);
    spec.resources.memory_bytes = 1 << 20;
    spec
}

fn put(key: String, bytes: usize) -> Call {
    Call::Put { key, value: Some(vec![7; bytes]) }
}

/// So many wants with so many constraints each, of which so many are patterns, the same ones in each want.
fn wants(count: usize, constraints: usize, patterns: usize) -> Call {
    let constraint = |n: usize| Constraint {
        attribute: "@hostname".to_owned(),
        comparison: if n < patterns { Comparison::Matches } else { Comparison::Exists },
        operand: if n < patterns { format!("h{n}") } else { String::new() },
    };
    let constraints: Vec<Constraint> = (0..constraints).map(constraint).collect();
    let one = |id: usize| Want {
        id: u32::try_from(id).unwrap(),
        constraints: constraints.clone(),
        ..want("x", 1, 100)
    };
    Call::Want(Some((0..count).map(one).collect()))
}

#[test]
fn each_bound_of_an_answer_is_exact() {
    for Bound { most, answer, told } in BOUNDS {
        let (mut stage, framework) = Stage::small(100_000, "x");
        let turns = stage.leader.state().framework(framework).unwrap().turns.0;
        let calls = answer(&stage, framework, *most);
        stage.say_and_wait(framework);
        let mark = stage.inbox(framework).mark.unwrap();
        stage.answer(framework, mark, calls);
        let record = stage.leader.state().framework(framework).unwrap();
        assert_eq!(refused_whole(&stage, framework), None, "one less than what is told as: {told}");
        assert!(record.turns.0 > turns && record.instance.is_some(), "{told}");
        assert_eq!(record.failures, 0, "{told}");
        stage.check_copies();
    }
}

#[test]
fn one_more_than_a_bound_is_refused_whole_with_its_name_and_ends_the_instance_as_failed() {
    for Bound { most, answer, told } in BOUNDS {
        let (mut stage, framework) = Stage::small(100_000, "x");
        stage.say_and_wait(framework);
        let mark = stage.inbox(framework).mark.unwrap();
        let turns = stage.leader.state().framework(framework).unwrap().turns.0;
        // What would have been done, had it been looked at call by call.
        let mut calls = vec![put("innocent".to_owned(), 1)];
        let is_of_calls = told.contains(" calls;");
        calls.truncate(usize::from(!is_of_calls && *most != limits::STATE_BYTES));
        calls.extend(answer(&stage, framework, most + 1));
        stage.answer(framework, mark, calls);
        assert_eq!(refused_whole(&stage, framework).as_deref(), Some(*told));
        let record = stage.leader.state().framework(framework).unwrap();
        // It counts as a failure, the instance has ended, and nothing of the answer was done.
        assert_eq!((record.failures, record.turns.0), (1, turns), "{told}");
        assert!(record.instance.is_none(), "{told}");
        assert!(record.keys.is_empty() && record.timers.is_empty(), "{told}");
        assert!(record.tasks.is_empty() && record.queue.is_empty(), "{told}");
        assert_eq!(record.wants, None, "{told}");
        stage.check_copies();
    }
}

#[test]
fn a_key_has_a_name() {
    let (mut stage, framework) = Stage::small(100_000, "x");
    stage.say(framework, vec![put(String::new(), 1)]);
    let why = refused_whole(&stage, framework).unwrap();
    assert_eq!(why, "a key of 0 bytes; 1 to 256");
}

#[test]
fn refusals_that_the_answered_turn_has_told_leave_room_for_as_many() {
    let kill = |n: usize| Call::Kill { task: format!("nobody-{n}").as_str().into(), grace: None };
    // What waits beside those that the turn in flight tells of, after two answers with many.
    let crowded = || {
        let (mut stage, framework) = Stage::small(100_000, "x");
        stage.say_and_wait(framework);
        for _ in 0..2 {
            let mark = stage.next_turn_of(framework);
            // What is told from here on is told by the turn that follows.
            stage.inboxes.get_mut(&framework).unwrap().refusals.clear();
            stage.answer(framework, mark, (0..4_000).map(kill).collect());
            assert_eq!(refused_whole(&stage, framework), None);
        }
        let mark = stage.next_turn_of(framework);
        let told = stage.inbox(framework).refusals.len();
        assert!(told > 100, "{told}");
        let queue = &stage.leader.state().framework(framework).unwrap().queue;
        (mark, queue.count(Class::Refusals).entries - told, stage)
    };
    let (mark, waiting, mut stage) = crowded();
    let room = limits::WAITING_REFUSALS - waiting;
    stage.answer(FrameworkId(1), mark, (0..room).map(kill).collect());
    assert_eq!(refused_whole(&stage, FrameworkId(1)), None);
    let (mark, _, mut stage) = crowded();
    stage.answer(FrameworkId(1), mark, (0..=room).map(kill).collect());
    let why = refused_whole(&stage, FrameworkId(1)).unwrap();
    assert!(why.starts_with("10001 refusals, waiting to be told or possible"), "{why}");
}

#[test]
fn records_of_live_tasks_are_bounded_in_bytes() {
    let mut stage = Stage::new();
    for n in 0..5 {
        stage.agent(&format!("b{n}"), 100_000_000);
    }
    let framework = stage.framework("f", &["x"]);
    // A record of exactly so many bytes.
    let of = |n: usize, bytes: usize| {
        let mut spec = small(n);
        spec.stdin = Some(Vec::new());
        spec.stdin = Some(vec![7; bytes - spec.weight()]);
        launch(spec)
    };
    let (most, each) = (limits::LIVE_TASK_BYTES, limits::TASK_BYTES);
    let mut tasks = 0;
    while tasks + 1 < most / each {
        let held = stage.held(framework);
        let (offer, count) = (*held.first().unwrap(), (most / each - 1 - tasks).min(990));
        let launches = (tasks..tasks + count).map(|n| of(n, each)).collect();
        stage.say(framework, vec![accept(&[offer], launches)]);
        assert_eq!(refused_whole(&stage, framework), None);
        tasks += count;
    }
    let live = |stage: &Stage| stage.leader.state().framework(framework).unwrap().live;
    assert_eq!(live(&stage), tasks);
    // There is room for one record of the largest size, in two parts.
    let half = of(tasks, each / 2);
    let (half, more) =
        ([half.clone(), of(tasks + 1, each / 2)], [half, of(tasks + 1, each / 2 + 1)]);
    let last = |stage: &Stage| *stage.held(framework).last().unwrap();
    stage.say_and_wait(framework);
    let mark = stage.inbox(framework).mark.unwrap();
    stage.answer(framework, mark, vec![accept(&[last(&stage)], more.into())]);
    let why = refused_whole(&stage, framework).unwrap();
    assert_eq!(why, format!("{} bytes of records of live tasks; at most {most}", most + 1));
    assert_eq!(live(&stage), tasks);
    // Another instance, which keeps to it, has it.
    stage.pass(1_000);
    let offer = last(&stage);
    stage.say(framework, vec![accept(&[offer], half.into())]);
    assert_eq!(live(&stage), tasks + 2);
    assert_eq!(stage.state_of(framework, &format!("t{tasks:04}")), TaskState::Staging);
}
