//! What becomes of commands, good and bad.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(unreachable_pub, reason = "fixtures are shared")]

mod common;

use common::{EMPTY, EXIT, Fixture, SPIN, WRITE, core, link, next};
use std::sync::Arc;
use tepui_cell::{compile, run_command};
use tepui_proto::cell::CellEvent;
use tepui_proto::control::{LogStream, ModuleKind};
use tepui_proto::{LaunchNumber, Reason, TaskState, limits};

#[tokio::test]
async fn an_empty_command_finishes() {
    let end = Fixture::new().end_of(EMPTY, |_| {}).await;
    assert_eq!(
        (end.state, end.reason, end.exit_code),
        (TaskState::Finished, Reason::None, Some(0))
    );
    assert_eq!(end.usage.memory_bytes_peak, 65_536);
}

#[tokio::test]
async fn an_exit_code_is_kept() {
    let fixture = Fixture::new();
    for (code, state, reason) in [
        (0, TaskState::Finished, Reason::None),
        (7, TaskState::Failed, Reason::ExitedNonzero),
        (200, TaskState::Failed, Reason::ExitedNonzero),
    ] {
        let body = format!(
            r#"{EXIT} (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code})))"#
        );
        let end = fixture.end_of(&body, |_| {}).await;
        assert_eq!((end.state, end.reason, end.exit_code), (state, reason, Some(code)), "{end:?}");
    }
}

#[tokio::test]
async fn an_endless_loop_runs_out_of_fuel() {
    let end = Fixture::new().end_of(SPIN, |run| run.fuel = 50_000_000).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::OutOfFuel), "{end:?}");
    assert_eq!(end.usage.fuel, 50_000_000);
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_wall_time() {
    let end = Fixture::new().end_of(SPIN, |run| run.wall_ms = 30).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::WallTimeExceeded), "{end:?}");
    assert!(end.usage.wall_us >= 30_000);
    assert!(end.usage.fuel > 0);
}

#[tokio::test]
async fn an_endless_loop_can_be_killed() {
    let fixture = Fixture::new();
    let compiled = fixture.module("m", SPIN);
    let mut run = fixture.run(1, &compiled);
    let (link, mut events) = link(&mut run);
    let module = fixture.host.load(run.kind, &compiled).unwrap();
    let kill = async {
        assert_eq!(next(&mut events).await, CellEvent::Started(LaunchNumber(1)));
        link.kill(0);
    };
    let (end, ()) = tokio::join!(run_command(&module, run, &link), kill);
    assert_eq!((end.state, end.reason), (TaskState::Killed, Reason::KillRequested), "{end:?}");
}

#[tokio::test]
async fn a_memory_hog_is_refused_and_told_why() {
    let hog = r#"(memory (export "memory") 1) (func (export "_start")
        (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable)"#;
    let fixture = Fixture::new();
    let end = fixture.end_of(hog, |_| {}).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::OutOfMemory), "{end:?}");
    assert_eq!(end.usage.memory_bytes_peak, 1 << 20);
    for pages in [17, 5_000] {
        let large = format!(r#"(memory (export "memory") {pages}) (func (export "_start"))"#);
        let compiled = fixture.module("large", &large);
        let mut run = fixture.run(1, &compiled);
        let (link, _events) = link(&mut run);
        let reason = match fixture.host.load(run.kind, &compiled) {
            Ok(module) => run_command(&module, run, &link).await.reason,
            Err(tepui_cell::LoadError::Memory(_)) => Reason::OutOfMemory,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(reason, Reason::OutOfMemory, "{pages} pages");
    }
}

#[tokio::test]
async fn deep_recursion_and_traps_are_told_apart() {
    let fixture = Fixture::new();
    let deep = r#"(memory (export "memory") 1) (func $f (param i64) (result i64)
        (i64.add (local.get 0) (call $f (i64.add (local.get 0) (i64.const 1)))))
        (func (export "_start") (drop (call $f (i64.const 0))))"#;
    let end = fixture.end_of(deep, |_| {}).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::StackExhausted), "{end:?}");
    let trap = r#"(memory (export "memory") 1) (func (export "_start") unreachable)"#;
    let end = fixture.end_of(trap, |_| {}).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::Trapped), "{end:?}");
    assert!(end.message.contains("unreachable") && !end.message.contains('\n'), "{}", end.message);
}

#[tokio::test]
async fn a_huge_table_is_refused() {
    let grow = r#"(memory (export "memory") 1) (table $t 1 funcref) (func (export "_start")
        (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000000)) (i32.const -1)) (then unreachable)))"#;
    let fixture = Fixture::new();
    let end = fixture.end_of(grow, |_| {}).await;
    assert_eq!(
        (end.state, end.reason),
        (TaskState::Failed, Reason::TooManyTableElements),
        "{end:?}"
    );
    let large = fixture.module(
        "large",
        r#"(memory (export "memory") 1) (table 1000000 funcref) (func (export "_start"))"#,
    );
    assert!(matches!(
        fixture.host.load(ModuleKind::CommandP1, &large),
        Err(tepui_cell::LoadError::Table(_))
    ));
}

#[tokio::test]
async fn a_log_flood_is_kept_up_to_its_limit_and_counted_beyond() {
    let flood = format!(
        r#"{WRITE} (memory (export "memory") 1) (data (i32.const 0) "\10\00\00\00\e8\03\00\00")
        (func (export "_start") (local $i i32) (loop
            (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000)))))"#
    );
    let fixture = Fixture::new();
    let compiled = fixture.module("m", &flood);
    let mut run = fixture.run(1, &compiled);
    run.log_bytes = 10_500;
    let (stdout, stderr) = (run.stdout.clone(), run.stderr.clone());
    let (link, mut events) = link(&mut run);
    let module = fixture.host.load(run.kind, &compiled).unwrap();
    let end = run_command(&module, run, &link).await;
    assert_eq!(
        (end.state, end.log_dropped),
        (TaskState::Finished, (1_000_000 - 10_500, 0)),
        "{end:?}"
    );
    assert_eq!(end.usage.log_bytes, 1_000_000);
    assert_eq!(std::fs::metadata(stdout).unwrap().len(), 10_500);
    assert!(!std::path::Path::new(&stderr).exists());
    assert_eq!(next(&mut events).await, CellEvent::Started(LaunchNumber(1)));
    let grown = next(&mut events).await;
    assert_eq!(
        grown,
        CellEvent::Logged { launch: LaunchNumber(1), stream: LogStream::Stdout, size: 10_500 }
    );
    assert!(events.try_recv().is_err(), "growth is told once until it is read");
}

#[tokio::test]
async fn a_hoarder_of_descriptors_is_stopped() {
    let hoard = r#"(import "wasi_snapshot_preview1" "path_open" (func $open
          (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "f")
        (func (export "_start") (loop
          (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 1)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)) (then unreachable))
          (br 0)))"#;
    let fixture = Fixture::new();
    let sandbox = fixture.folder.path().join("sandbox");
    std::fs::create_dir(&sandbox).unwrap();
    let end =
        fixture.end_of(hoard, |run| run.sandbox = Some(sandbox.to_str().unwrap().to_owned())).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::TooManyHandles), "{end:?}");
}

#[tokio::test]
async fn a_full_disk_is_told() {
    let body = format!(
        r#"{WRITE} (import "wasi_snapshot_preview1" "path_open" (func $open
          (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "\10\00\00\00\e8\03\00\00f")
        (func (export "_start")
          (if (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 1)
                (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)) (then unreachable))
          (if (call $write (i32.load (i32.const 32)) (i32.const 0) (i32.const 1) (i32.const 36)) (then unreachable)))"#
    );
    let fixture = Fixture::new();
    let sandbox = fixture.folder.path().join("sandbox");
    std::fs::create_dir(&sandbox).unwrap();
    for (disk_bytes, reason) in [(1_000, Reason::None), (999, Reason::DiskExceeded)] {
        let sandbox = sandbox.to_str().unwrap().to_owned();
        let end = fixture
            .end_of(&body, |run| (run.sandbox, run.disk_bytes) = (Some(sandbox), disk_bytes))
            .await;
        assert_eq!((end.reason, end.usage.disk_bytes), (reason, 1_000), "{end:?}");
    }
}

#[tokio::test]
async fn a_share_of_a_core_stretches_wall_time() {
    let end =
        Fixture::new().end_of(SPIN, |run| (run.fuel, run.cpu_milli) = (300_000_000, 100)).await;
    assert_eq!(end.reason, Reason::OutOfFuel);
    let usage = end.usage;
    assert!(usage.cpu_us > 60_000, "it has to work for longer than it may save up: {usage:?}");
    // A tenth of the time, what was saved up (10 ms), and a slice of debt.
    assert!(usage.cpu_us <= usage.wall_us / 10 + 10_000 + 5_000, "{usage:?}");
}

#[tokio::test]
async fn neighbours_go_on_while_one_spins() {
    let fixture = Arc::new(Fixture::new());
    let (spin, empty) = (fixture.module("spin", SPIN), fixture.module("empty", EMPTY));
    let mut run = fixture.run(1, &spin);
    let (spinner, mut events) = link(&mut run);
    let module = fixture.host.load(run.kind, &spin).unwrap();
    let neighbours = async {
        assert_eq!(next(&mut events).await, CellEvent::Started(LaunchNumber(1)));
        let module = fixture.host.load(ModuleKind::CommandP1, &empty).unwrap();
        for launch in 2..50 {
            let mut run = fixture.run(launch, &empty);
            let (link, _events) = link(&mut run);
            assert_eq!(run_command(&module, run, &link).await.state, TaskState::Finished);
            // The one thread that all share goes to the spinner in between.
            tokio::task::yield_now().await;
        }
        spinner.kill(0);
    };
    let (end, ()) = tokio::join!(run_command(&module, run, &spinner), neighbours);
    assert_eq!(end.state, TaskState::Killed);
}

#[test]
fn modules_are_refused_for_what_they_are() {
    let code = |kind, wasm: &[u8]| compile(kind, wasm).unwrap_err().code();
    assert_eq!(code(ModuleKind::CommandP1, b"#!/bin/sh"), "module-invalid");
    assert_eq!(code(ModuleKind::CommandP1, b""), "module-invalid");
    assert_eq!(code(ModuleKind::CommandP1, &core(EMPTY)[..20]), "module-invalid");
    assert_eq!(code(ModuleKind::CommandP2, &core(EMPTY)), "module-invalid");
    assert_eq!(
        code(ModuleKind::Scheduler, &wat::parse_str("(component)").unwrap()),
        "module-invalid"
    );
    assert_eq!(
        code(ModuleKind::CommandP1, &core(r#"(memory (export "memory") 1)"#)),
        "module-invalid"
    );
    assert_eq!(
        code(ModuleKind::CommandP1, &vec![0; usize::try_from(limits::MODULE_BYTES).unwrap() + 1]),
        "module-too-large"
    );
    let alien = core(r#"(import "env" "fork" (func)) (func (export "_start"))"#);
    let error = compile(ModuleKind::CommandP1, &alien).unwrap_err();
    assert_eq!(error.code(), "module-imports");
    assert!(error.to_string().contains("env::fork"), "{error}");
    let alien = wat::parse_str(
        r#"(component (import "evil:corp/door" (instance (export "open" (func)))))"#,
    )
    .unwrap();
    let error = compile(ModuleKind::CommandP2, &alien).unwrap_err();
    assert_eq!(error.code(), "module-imports");
    assert!(error.to_string().contains("evil:corp/door"), "{error}");
}

/// A component that does nothing, with so many modules that it never uses: each is 60 bytes, and 5 MiB of code.
fn unfolds(modules: usize) -> Vec<u8> {
    let large =
        "(core module (table 1048576 funcref) (func $f) (elem (i32.const 1048575) func $f))";
    let text = format!(
        r#"(component
        (core module $m (func (export "run") (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $inst (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $inst))
        {})"#,
        large.repeat(modules)
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_small_module_whose_code_is_large_is_refused() {
    let few = unfolds(4);
    let code = compile(ModuleKind::CommandP2, &few).unwrap().len() as u64;
    assert!(few.len() < 1_000 && code > 16 << 20, "{} bytes become {code}", few.len());
    let error = compile(ModuleKind::CommandP2, &unfolds(60)).unwrap_err();
    assert_eq!(error.code(), "module-uncompilable", "{error}");
}
