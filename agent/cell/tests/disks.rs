//! What tasks do with files is counted, charged, and bounded while they run.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(unreachable_pub, dead_code, reason = "not every test uses every fixture")]

mod common;

use common::{Fixture, WRITE};
use std::path::{Path, PathBuf};
use tepui_proto::cell::RunCommand;
use tepui_proto::{Reason, TaskState, limits};

const OPEN: &str = r#"(import "wasi_snapshot_preview1" "path_open" (func $open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
const CLOSE: &str =
    r#"(import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))"#;
const UNLINK: &str = r#"(import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink
    (param i32 i32 i32) (result i32)))"#;
const STAT: &str = r#"(import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat
    (param i32 i32) (result i32)))"#;
/// Opens the file whose name has four bytes at 8, and makes it; its number is at 32.
const CREATE: &str = r"(if (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 1)
    (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)) (then unreachable))";
/// Writes 32 KiB to it, again and again.
const FILL: &str = r"(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 32768))
    (loop (if (call $write (i32.load (i32.const 32)) (i32.const 0) (i32.const 1) (i32.const 36)) (then unreachable))
    (br 0))";

fn sandbox(fixture: &Fixture) -> PathBuf {
    let sandbox = fixture.folder.path().join("sandbox");
    std::fs::create_dir(&sandbox).unwrap();
    sandbox
}

fn with_disk(run: &mut RunCommand, sandbox: &Path, disk_bytes: u64) {
    (run.sandbox, run.disk_bytes) = (Some(sandbox.to_str().unwrap().to_owned()), disk_bytes);
}

fn body(imports: &[&str], code: &str) -> String {
    format!(
        r#"{} (memory (export "memory") 2) (data (i32.const 8) "aaaa")
        (func (export "_start") (local $n i32) {code})"#,
        imports.concat()
    )
}

#[tokio::test]
async fn a_task_that_fills_its_disk_is_ended_while_it_does() {
    let fixture = Fixture::new();
    let sandbox = sandbox(&fixture);
    let fills = body(&[WRITE, OPEN], &format!("{CREATE} {FILL}"));
    let disk = 4 << 20;
    let end = fixture.end_of(&fills, |run| with_disk(run, &sandbox, disk)).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::DiskExceeded), "{end:?}");
    let size = std::fs::metadata(sandbox.join("aaaa")).unwrap().len();
    assert!((disk..=disk + disk / 8 + (32 << 10)).contains(&size), "{size}");
}

#[tokio::test]
async fn a_file_without_a_name_counts_while_it_is_open() {
    let fixture = Fixture::new();
    let sandbox = sandbox(&fixture);
    let unlink = "(if (call $unlink (i32.const 3) (i32.const 8) (i32.const 4)) (then unreachable))";
    let hides = body(&[WRITE, OPEN, UNLINK], &format!("{CREATE} {unlink} {FILL}"));
    let end = fixture.end_of(&hides, |run| with_disk(run, &sandbox, 4 << 20)).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::DiskExceeded), "{end:?}");
}

#[tokio::test]
async fn empty_files_count() {
    let fixture = Fixture::new();
    let sandbox = sandbox(&fixture);
    let code = format!(
        r"(loop
        (i32.store (i32.const 8) (i32.add (i32.const 0x61616161) (i32.add
            (i32.and (local.get $n) (i32.const 15)) (i32.add
            (i32.shl (i32.and (local.get $n) (i32.const 0xf0)) (i32.const 4))
            (i32.shl (i32.and (local.get $n) (i32.const 0xf00)) (i32.const 8))))))
        {CREATE} (if (call $close (i32.load (i32.const 32))) (then unreachable))
        (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $n) (i32.const 4000))))"
    );
    let litters = body(&[OPEN, CLOSE], &code);
    let disk = 4 << 20;
    let end = fixture.end_of(&litters, |run| with_disk(run, &sandbox, disk)).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::DiskExceeded), "{end:?}");
    let count = std::fs::read_dir(&sandbox).unwrap().count() as u64;
    let most = (disk + disk / 8) / limits::FILE_ENTRY_BYTES + limits::FREE_ENTRIES;
    assert!(count <= most, "{count} of {most}");
}

#[tokio::test]
async fn work_on_files_is_charged() {
    let fixture = Fixture::new();
    let sandbox = sandbox(&fixture);
    let looks = body(&[STAT], "(loop (drop (call $stat (i32.const 3) (i32.const 64))) (br 0))");
    let mut burnt = Vec::new();
    for cpu_milli in [1_000, 100] {
        let end = fixture
            .end_of(&looks, |run| {
                with_disk(run, &sandbox, 4 << 20);
                (run.cpu_milli, run.wall_ms) = (cpu_milli, 1_500);
            })
            .await;
        assert_eq!(end.reason, Reason::WallTimeExceeded, "{end:?}");
        assert!(end.usage.cpu_us <= end.usage.wall_us / 1_000 * cpu_milli + 20_000, "{end:?}");
        burnt.push(end.usage.fuel);
    }
    // It looks as often as it burns fuel; a tenth of the share is far less than half of the work.
    assert!(burnt.first().unwrap() > &(burnt.last().unwrap() * 3), "{burnt:?}");
}

#[tokio::test]
async fn a_log_beyond_what_is_for_nothing_is_part_of_the_disk() {
    let fixture = Fixture::new();
    let sandbox = sandbox(&fixture);
    let code = r"(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 32768))
        (loop (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 36)) (then unreachable))
        (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $n) (i32.const 320))))";
    let logs = body(&[WRITE], code);
    let written = 320 * 32_768;
    for (disk, kept) in [
        (0, limits::TASK_LOG_BYTES),
        (4 << 20, limits::TASK_LOG_BYTES + (4 << 20)),
        (64 << 20, written),
    ] {
        let end = fixture
            .end_of(&logs, |run| {
                run.log_bytes = 1 << 30;
                if disk > 0 {
                    with_disk(run, &sandbox, disk);
                }
            })
            .await;
        assert_eq!(end.state, TaskState::Finished, "{end:?}");
        let missed = written - end.log_dropped.0;
        assert!((kept - (64 << 10)..=kept).contains(&missed), "{disk}: {missed}");
        assert_eq!(std::fs::metadata(fixture.folder.path().join("1-out")).unwrap().len(), missed);
    }
}
