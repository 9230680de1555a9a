//! The order of writing down and carrying out, over a log that fails at each step.

use super::*;
use tepui_agent_core::Prepared;
use tepui_proto::cell::{CellEvent, CommandEnd};
use tepui_proto::control::{Launch, MasterMessage, ModuleKind};
use tepui_proto::{
    Digest, DurationMs, FrameworkId, LaunchNumber, Life, Reason, ReportSeq, Resources, TaskKey,
    TaskSpec, TaskState, Term, Timestamp, Usage,
};

const LIFE: Life = Life(7);

/// What the outside world sees of a loop.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// So many records are on disk.
    Synced(usize),
    /// An order of a batch, and whether that batch had to be on disk before.
    Order { batch: usize, needs_sync: bool },
}

fn agent() -> Agent {
    Agent::new(Profile {
        name: "agent-1".to_owned(),
        life: LIFE,
        hostname: "host".to_owned(),
        version: "0".to_owned(),
        resources: Resources::cpu_memory(1_000, 1 << 30),
        pools: Vec::new(),
        attributes: Vec::new(),
        domain: None,
        max_tasks: limits::CELL_INSTANCES,
    })
}

/// A session, a task from its launch to the acknowledgement of its end.
fn life_of_a_task() -> Vec<Input> {
    let launch = LaunchNumber(1);
    let said = |event| Input::CellSaid { tenant: "acme".into(), event };
    let resources = Resources::cpu_memory(10, 1 << 20);
    let end = CommandEnd {
        state: TaskState::Finished,
        reason: Reason::None,
        message: String::new(),
        exit_code: Some(0),
        usage: Usage::default(),
        log_dropped: (1, 0),
    };
    vec![
        Input::MasterConnected,
        Input::MasterSaid(MasterMessage::Welcome {
            term: Term(1),
            now: Timestamp(5),
            heartbeat: DurationMs(1_000),
        }),
        Input::MasterSaid(MasterMessage::Launch {
            term: Term(1),
            life: LIFE,
            launches: vec![Launch {
                number: launch,
                key: TaskKey { framework: FrameworkId(4), task: "t".into() },
                tenant: "acme".into(),
                module: Digest([1; 32]),
                kind: ModuleKind::CommandP1,
                inputs: Vec::new(),
                spec: TaskSpec::command("t", "m", resources),
            }],
        }),
        Input::TaskPrepared {
            launch,
            result: Ok(Prepared {
                compiled: "c".to_owned(),
                sandbox: None,
                stdout: "o".to_owned(),
                stderr: "e".to_owned(),
            }),
        },
        said(CellEvent::Started(launch)),
        said(CellEvent::Message { launch, number: 1, data: vec![1] }),
        said(CellEvent::Ended { launch, end: Box::new(end) }),
        Input::MasterSaid(MasterMessage::Acknowledge(ReportSeq(3))),
    ]
}

/// Runs the loop's step for each input, over a log whose write of that number fails.
fn story(fails_at: usize) -> (Vec<Seen>, Result<(), AgentError>) {
    let (mut agent, mut effects, mut unsynced) = (agent(), Effects::default(), Vec::new());
    let seen = std::cell::RefCell::new(Vec::new());
    let mut writes = 0;
    for (batch, input) in life_of_a_task().into_iter().enumerate() {
        agent.handle(Timestamp(1_000 + batch as u64), input, &mut effects);
        let needs_sync = effects.needs_sync();
        let done = carry_out(
            &mut effects,
            &mut unsynced,
            |records| {
                writes += 1;
                if writes == fails_at {
                    let what = "the disk is gone".to_owned();
                    return Err(AgentError::Config { setting: "dir", what });
                }
                seen.borrow_mut().push(Seen::Synced(records.len()));
                Ok(())
            },
            |_order| seen.borrow_mut().push(Seen::Order { batch, needs_sync }),
        );
        if done.is_err() {
            return (seen.into_inner(), done);
        }
    }
    (seen.into_inner(), Ok(()))
}

/// The orders of a batch that had to be on disk follow upon a write with no other batch's orders between.
fn is_in_order(seen: &[Seen]) -> bool {
    let mut synced = false;
    let mut last = None;
    for what in seen {
        match what {
            Seen::Synced(records) => synced = *records > 0,
            Seen::Order { batch, needs_sync } => {
                if last != Some(*batch) && *needs_sync && !synced {
                    return false;
                }
                last = Some(*batch);
                synced = false;
            }
        }
    }
    true
}

#[test]
fn no_order_is_carried_out_before_what_it_rests_on_is_on_disk() {
    let (whole, ended) = story(usize::MAX);
    ended.unwrap();
    assert!(is_in_order(&whole), "{whole:?}");
    let writes = whole.iter().filter(|what| matches!(what, Seen::Synced(_))).count();
    assert!(writes >= 5, "the story writes often: {whole:?}");
    for fails_at in 1..=writes {
        let (seen, ended) = story(fails_at);
        assert!(ended.is_err(), "it goes on after write {fails_at} failed");
        // Exactly what came before that write: nothing of its batch was carried out, and nothing after.
        let failed = whole.iter().enumerate().filter(|(_, what)| matches!(what, Seen::Synced(_)));
        let (before, _) = failed.clone().nth(fails_at - 1).unwrap();
        assert_eq!(seen, whole[..before], "write {fails_at} failed");
    }
}

#[test]
fn without_room_for_a_snapshot_an_agent_goes_on_and_tries_again_when_its_journal_has_grown() {
    const MIB: u64 = 1 << 20;
    let full = JournalError::Full { path: "snapshots".into(), bytes: 7 };
    assert_eq!(next_snapshot(17 * MIB, Err(full)).unwrap(), 21 * MIB);
    assert_eq!(next_snapshot(21 * MIB, Ok(())).unwrap(), 16 * MIB);
    let failed = next_snapshot(17 * MIB, Err(JournalError::Poisoned));
    assert!(matches!(failed, Err(JournalError::Poisoned)));
}
