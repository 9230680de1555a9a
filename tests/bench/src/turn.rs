//! `turn-100`: one turn of a Rust guest over 100 offers that launches on each of them, in this process: events in their
//! wire form go in, calls in theirs come out, and the answer's size is checked on the way.

use crate::row::Row;
use crate::{Bench, Failure, commands};
use std::collections::BTreeMap;
use std::time::Instant;
use tepui_cell::{SchedulerHost, SchedulerInstance, compile};
use tepui_proto::control::ModuleKind;
use tepui_proto::events::{Event, Offer, Start, StartCause};
use tepui_proto::scheduler::{FromScheduler, Open, TurnMark};
use tepui_proto::{
    AgentHandle, Digest, FrameworkId, Incarnation, OfferId, Resources, Role, Tenant, Term,
    Timestamp, TurnNumber, limits,
};

const OFFERS: u64 = 100;
const WARM_UP: u64 = 200;
const SAMPLES: u64 = 2_000;

pub(crate) fn measure(bench: &Bench) -> Result<Row, Failure> {
    let path = bench.dir().join("turn.cwasm");
    let wasm = std::fs::read(bench.guest("turn-100.wasm"))?;
    std::fs::write(&path, compile(ModuleKind::Scheduler, &wasm)?)?;
    let module = SchedulerHost::new()?.load(&path)?;
    let mut instance = SchedulerInstance::new(&module, open(), BTreeMap::new());
    commands::runtime()?.block_on(async {
        let start = Start {
            cause: StartCause::Submitted,
            framework: FrameworkId(1),
            roles: vec![Role::from("*")],
            config: Vec::new(),
            blobs: Vec::new(),
        };
        let first = vec![Event::Started(start), Event::Tasks { tasks: Vec::new(), last: true }];
        calls(instance.turn(mark(1), Timestamp(1), 1, first).await)?;
        let mut spans = Vec::new();
        for number in 2..2 + WARM_UP + SAMPLES {
            let events = vec![Event::Offers(offers(number))];
            let begun = Instant::now();
            let answer = instance.turn(mark(number), Timestamp(number), number, events).await;
            let span = begun.elapsed();
            let made = calls(answer)?;
            if made < usize::try_from(OFFERS)? {
                return Err(format!("{made} calls for {OFFERS} offers").into());
            }
            if number >= 2 + WARM_UP {
                spans.push(span);
            }
        }
        Ok(Row::of("turn-100", spans))
    })
}

fn calls(answer: FromScheduler) -> Result<usize, Failure> {
    match answer {
        FromScheduler::Answer { calls, dropped: false, .. } => Ok(calls.len()),
        other => Err(format!("the turn went wrong: {other:?}").into()),
    }
}

fn mark(number: u64) -> TurnMark {
    TurnMark { term: Term(1), incarnation: Incarnation(1), number: TurnNumber(number) }
}

fn open() -> Open {
    Open {
        framework: FrameworkId(1),
        tenant: Tenant::from("default"),
        name: "turn-100".to_owned(),
        term: Term(1),
        incarnation: Incarnation(1),
        module: Digest::default(),
        memory_bytes: limits::SCHEDULER_MEMORY_BYTES,
        turn_fuel: limits::TURN_FUEL,
        turn_wall_ms: limits::TURN_WALL_MS,
    }
}

fn offers(turn: u64) -> Vec<Offer> {
    let offer = |at| Offer {
        id: OfferId::new(Term(1), turn * OFFERS + at),
        agent: AgentHandle(1),
        role: 0,
        want: None,
        resources: Resources::cpu_memory(1_000, 1 << 30),
        pools: Vec::new(),
        expires: Timestamp(turn + limits::OFFER_TIMEOUT_MS),
    };
    (0..OFFERS).map(offer).collect()
}
