//! Turns of schedulers, good and bad.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use tempfile::TempDir;
use tepui_cell::{SchedulerHost, SchedulerInstance, compile};
use tepui_proto::control::ModuleKind;
use tepui_proto::events::{Event, Offer};
use tepui_proto::scheduler::{FromScheduler, Level, Open, SchedulerFailure, TurnMark};
use tepui_proto::{
    AgentHandle, Call, Digest, FrameworkId, Incarnation, OfferId, Resources, Tenant, Term,
    Timestamp, TurnNumber, limits,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A bump allocator and room for an answer at 1024; the argument of `$turn` is the turn's `now`.
fn component(handle: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "tepui:framework/state@0.1.0" "get" (func $get (param i32 i32 i32)))
        (import "tepui:framework/log@0.1.0" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 4)
        (global $next (mut i32) (i32.const 65536))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
            (global.get $next)
            (global.set $next (i32.add (global.get $next) (local.get 3))))
        (data (i32.const 16) "key")
        {handle})"#
    );
    let mut core = wat::parse_str(text).unwrap();
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wasm-sdk/wit");
    let (package, _files) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("framework")).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&core).unwrap().encode().unwrap()
}

fn handle(body: &str) -> String {
    format!(
        r#"(func (export "tepui:framework/scheduler@0.1.0#handle") (param $now i64) (param i32 i32) (result i32)
        {body})"#
    )
}

/// Answers `cancel-timer(OLD)` and `put("key", NOW)`, where OLD is what `state.get("key")` says.
const KEEPS: &str = r"
    (call $get (i32.const 16) (i32.const 3) (i32.const 512))
    (call $log (i32.const 2) (i32.const 16) (i32.const 3))
    (i64.store (i32.const 600) (local.get $now))
    (i32.store8 (i32.const 1024) (i32.const 11))
    (i32.store (i32.const 1032) (i32.load (i32.const 516)))
    (i32.store (i32.const 1036) (i32.load (i32.const 520)))
    (i32.store8 (i32.add (i32.const 1024) (global.get $size)) (i32.const 13))
    (i32.store (i32.add (i32.const 1032) (global.get $size)) (i32.const 16))
    (i32.store (i32.add (i32.const 1036) (global.get $size)) (i32.const 3))
    (i32.store8 (i32.add (i32.const 1040) (global.get $size)) (i32.const 1))
    (i32.store (i32.add (i32.const 1044) (global.get $size)) (i32.const 600))
    (i32.store (i32.add (i32.const 1048) (global.get $size)) (i32.const 1))
    (i32.store (i32.const 768) (i32.const 1024))
    (i32.store (i32.const 772) (i32.const 2))
    (i32.const 768)";
/// Bytes of one `call` in the canonical ABI.
const CALL_SIZE: &str = "(global $size i32 (i32.const 40))";

struct Fixture {
    folder: TempDir,
    host: SchedulerHost,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), host: SchedulerHost::new().unwrap() }
    }

    fn instance(&self, guest: &str, change: impl FnOnce(&mut Open)) -> SchedulerInstance {
        let path = self.folder.path().join("scheduler");
        std::fs::write(&path, compile(ModuleKind::Scheduler, &component(guest)).unwrap()).unwrap();
        let mut open = Open {
            framework: FrameworkId(1),
            tenant: Tenant::from("tenant"),
            name: "framework".to_owned(),
            term: Term(1),
            incarnation: Incarnation(1),
            module: Digest::default(),
            memory_bytes: limits::SCHEDULER_MEMORY_BYTES,
            turn_fuel: limits::TURN_FUEL,
            turn_wall_ms: 60_000,
        };
        change(&mut open);
        let pairs = BTreeMap::from([("key".to_owned(), b"first".to_vec())]);
        SchedulerInstance::new(&self.host.load(&path).unwrap(), open, pairs)
    }
}

async fn turn(instance: &mut SchedulerInstance, number: u64, now: u64) -> FromScheduler {
    let mark = TurnMark { term: Term(1), incarnation: Incarnation(1), number: TurnNumber(number) };
    let offer = |id| Offer {
        id: OfferId(id),
        agent: AgentHandle(1),
        role: 0,
        want: None,
        resources: Resources::cpu_memory(1_000, 1 << 30),
        pools: Vec::new(),
        expires: Timestamp(9),
    };
    let events =
        vec![Event::Timer("timer".to_owned()), Event::Offers((0..100).map(offer).collect())];
    instance.turn(mark, Timestamp(now), 42, events).await
}

#[track_caller]
fn failure(answer: &FromScheduler) -> SchedulerFailure {
    match answer {
        FromScheduler::Failed { failure, .. } => *failure,
        FromScheduler::Answer { .. } => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn what_a_turn_wrote_is_read_by_the_next() {
    let fixture = Fixture::new();
    let mut instance = fixture.instance(&format!("{CALL_SIZE} {}", handle(KEEPS)), |_| {});
    let (before, after) = ("first", "A");
    for (number, now, old) in [(1, 65, before), (2, 66, after)] {
        let FromScheduler::Answer { calls, log, dropped, usage, .. } =
            turn(&mut instance, number, now).await
        else {
            panic!("no answer");
        };
        let written = vec![u8::try_from(now).unwrap()];
        let put = Call::Put { key: "key".to_owned(), value: Some(written) };
        assert_eq!(calls, [Call::CancelTimer(old.to_owned()), put]);
        assert_eq!((log, dropped), (vec![(Level::Info, "key".to_owned())], false));
        assert!(usage.fuel > 0 && usage.memory_bytes >= 4 << 16);
    }
    assert_eq!(
        failure(&turn(&mut instance, 9, 67).await),
        SchedulerFailure::Agent,
        "turns come in order"
    );
}

#[tokio::test]
async fn bad_turns_fail_with_their_reason() {
    let fixture = Fixture::new();
    // As many calls that cancel a timer without a name.
    let many = "(local $i i32) (memory.fill (i32.const 1024) (i32.const 0) (i32.const 200000)) (loop
        (i32.store8 (i32.add (i32.const 1024) (i32.mul (local.get $i) (i32.const 40))) (i32.const 11))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $i) (i32.const 5000))))
        (i32.store (i32.const 768) (i32.const 1024)) (i32.store (i32.const 772) (i32.const 5000)) (i32.const 768)";
    let hog = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let deep = "(call $f (i64.const 0)) drop unreachable";
    let recursive = "(func $f (param i64) (result i64)
        (i64.add (local.get 0) (call $f (i64.add (local.get 0) (i64.const 1)))))";
    for (guest, expected) in [
        (handle("(loop (br 0)) unreachable"), SchedulerFailure::OutOfFuel),
        (handle("unreachable"), SchedulerFailure::Trapped),
        (handle(hog), SchedulerFailure::OutOfMemory),
        (format!("{recursive} {}", handle(deep)), SchedulerFailure::StackExhausted),
        (handle(many), SchedulerFailure::AnswerTooLarge),
    ] {
        let mut instance = fixture.instance(&guest, |open| open.turn_fuel = 100_000_000);
        let got = failure(&turn(&mut instance, 1, 1).await);
        assert_eq!(got, expected, "{guest}");
    }
    let spins = handle("(loop (br 0)) unreachable");
    let mut instance =
        fixture.instance(&spins, |open| (open.turn_fuel, open.turn_wall_ms) = (u64::MAX / 4, 20));
    assert_eq!(failure(&turn(&mut instance, 1, 1).await), SchedulerFailure::TooSlow);
}

#[tokio::test]
async fn a_large_instance_is_dropped_after_its_turn() {
    let grows = "(drop (memory.grow (i32.const 900))) (i32.const 768)";
    let fixture = Fixture::new();
    let mut instance = fixture.instance(&handle(grows), |_| {});
    let answer = turn(&mut instance, 1, 1).await;
    assert!(matches!(answer, FromScheduler::Answer { dropped: true, .. }), "{answer:?}");
}
