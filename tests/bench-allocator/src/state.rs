//! What it takes to begin again with 50,000 agents, 200 frameworks and 500,000 live tasks.
//!
//! `mind-anew-50k-500k`: a leader of the state, told that it leads, to the end of its first batch; agents' hellos come after.
//! `state-from-snapshot-50k-500k`: the state from its snapshot's bytes, books included. `memory-task-500k`: what the
//! process holds more (`VmRSS`) for each task, in the state alone.

use crate::repeat;
use std::hint::black_box;
use std::time::Instant;
use tepui_figures::{Failure, Row, machine, say};
use tepui_master_core::entry::{ENTRY_VERSION, Joined, LaunchDecided, Submission, Turn};
use tepui_master_core::{Effects, Entry, EntryKind, Input, Leader, State};
use tepui_proto::control::ModuleKind;
use tepui_proto::events::AttributeValue;
use tepui_proto::{
    AgentId, Digest, FrameworkId, LaunchNumber, Life, OfferId, Resources, Role, TaskSpec, Tenant,
    Term, Timestamp, TurnNumber,
};

const AGENTS: u32 = 50_000;
const FRAMEWORKS: u64 = 200;
const TASKS: u64 = 500_000;
/// Launches of one turn.
const LAUNCHES: u64 = 500;
const MIND: &str = "mind-anew-50k-500k";
const SNAPSHOT: &str = "state-from-snapshot-50k-500k";
const MEMORY: &str = "memory-task-500k";
const SAMPLES: usize = 7;

pub(crate) fn measure(is_asked: &impl Fn(&str) -> bool) -> Result<Vec<Row>, Failure> {
    if ![MIND, SNAPSHOT, MEMORY].into_iter().any(is_asked) {
        return Ok(Vec::new());
    }
    let mut state = State::new();
    apply(&mut state, EntryKind::TermBegan(Term(1)));
    (1..=FRAMEWORKS).for_each(|id| apply(&mut state, submitted(FrameworkId(id))));
    for id in (1..=AGENTS).map(AgentId) {
        apply(&mut state, EntryKind::AgentAdmitted { agent: id, name: format!("agent-{id}") });
        apply(&mut state, joined(id));
    }
    let rss = || machine::rss_kib(std::process::id()).unwrap_or(0);
    let before = rss();
    for turn in 0..TASKS / LAUNCHES {
        apply(&mut state, launches(turn));
    }
    let each = (rss().saturating_sub(before) << 10) / TASKS;
    say(&format!("{MEMORY}: {each} bytes each"));
    let mut rows = vec![Row::named(MEMORY).with("bytes_each", each.into())];
    if is_asked(MIND) {
        rows.push(mind(&state)?);
    }
    if is_asked(SNAPSHOT) {
        rows.push(snapshot(&state)?);
    }
    Ok(rows)
}

fn mind(state: &State) -> Result<Row, Failure> {
    let now = Timestamp(2_000_000);
    let mut term = state.term();
    let spans = repeat(SAMPLES, || {
        // Each is a leader of its own, and its state and mind go before the next begins.
        let state = state.clone();
        term = term.next();
        let mut fx = Effects::default();
        let begun = Instant::now();
        let mut leader = Leader::new(state);
        leader.handle(now, Input::TermWon(term), &mut fx);
        leader.settle(now, &mut fx);
        let span = begun.elapsed();
        black_box(leader);
        Ok(span)
    })?;
    Ok(Row::of(MIND, spans))
}

fn snapshot(state: &State) -> Result<Row, Failure> {
    let bytes = state.encode()?;
    let spans = repeat(SAMPLES, || {
        let begun = Instant::now();
        let state = State::decode(&bytes)?;
        let span = begun.elapsed();
        black_box(state);
        Ok(span)
    })?;
    Ok(Row::of(SNAPSHOT, spans).with("snapshot_bytes", bytes.len().into()))
}

fn apply(state: &mut State, kind: EntryKind) {
    state.apply(&Entry { version: ENTRY_VERSION, at: Timestamp(1_000_000), kind });
}

fn submitted(framework: FrameworkId) -> EntryKind {
    EntryKind::FrameworkSubmitted(Box::new(Submission {
        framework,
        tenant: Tenant::from("acme"),
        name: format!("framework-{framework}"),
        roles: vec![role(framework)],
        scheduler: Digest([1; 32]),
        modules: vec![("task".to_owned(), Digest([2; 32]))],
        blobs: Vec::new(),
        config: Vec::new(),
        cpu_milli: 100,
        memory_bytes: 64 << 20,
    }))
}

fn role(framework: FrameworkId) -> Role {
    Role(format!("team-{framework}"))
}

fn joined(agent: AgentId) -> EntryKind {
    EntryKind::AgentJoined(Box::new(Joined {
        agent,
        life: Life(1),
        resources: Resources::cpu_memory(16_000, 64 << 30),
        hostname: format!("host-{agent}"),
        version: "bench".to_owned(),
        attributes: vec![("rack".to_owned(), AttributeValue::Text(format!("r{}", agent.0 % 10)))],
        domain: None,
        launch_mark: LaunchNumber(0),
    }))
}

/// A committed turn, of the frameworks one after the other, over the agents one after the other.
fn launches(turn: u64) -> EntryKind {
    let framework = FrameworkId(turn % FRAMEWORKS + 1);
    let launch = |nth: u64| {
        let count = turn * LAUNCHES + nth;
        let agents = u64::from(AGENTS);
        LaunchDecided {
            offer: OfferId::new(Term(1), count),
            agent: AgentId(u32::try_from(count % agents).unwrap_or(0) + 1),
            number: LaunchNumber(count / agents + 1),
            role: role(framework),
            want: None,
            module: Digest([2; 32]),
            kind: ModuleKind::CommandP1,
            inputs: Vec::new(),
            spec: TaskSpec::command(
                &format!("task-{count}"),
                "task",
                Resources::cpu_memory(500, 256 << 20),
            ),
        }
    };
    EntryKind::TurnCommitted(Box::new(Turn {
        framework,
        number: TurnNumber(turn / FRAMEWORKS + 1),
        fuel: 0,
        seen: Vec::new(),
        launches: (0..LAUNCHES).map(launch).collect(),
        refused_tasks: Vec::new(),
        refusals: Vec::new(),
        kills: Vec::new(),
        reconciled: Vec::new(),
        writes: Vec::new(),
        timers: Vec::new(),
        wants: None,
        suppressed: None,
        completed: None,
    }))
}
