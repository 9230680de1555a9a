//! How much of a sandbox a task may have before it and look at, however large its disk is.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(unreachable_pub, dead_code, reason = "not every test uses every fixture")]

mod common;

use common::{Fixture, link};
use std::path::Path;
use tepui_cell::{compile, run_command};
use tepui_proto::cell::{CommandEnd, RunCommand};
use tepui_proto::control::ModuleKind;
use tepui_proto::{Reason, TaskState, limits};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The largest disk that an agent may say it has.
const HUGE: u64 = 1 << 50;

/// Makes so many files of four letters in its folder, and closes each.
fn makes_files(count: u64) -> String {
    format!(
        r#"(import "wasi_snapshot_preview1" "path_open" (func $open
            (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (memory (export "memory") 1)
        (func $letter (param $n i32) (param $at i32)
            (i32.store8 (local.get $at) (i32.add (i32.const 97) (i32.and (local.get $n) (i32.const 15)))))
        (func (export "_start") (local $n i32) (loop
            (call $letter (local.get $n) (i32.const 8))
            (call $letter (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 9))
            (call $letter (i32.shr_u (local.get $n) (i32.const 8)) (i32.const 10))
            (call $letter (i32.shr_u (local.get $n) (i32.const 12)) (i32.const 11))
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 1)
                (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)) (then unreachable))
            (if (call $close (i32.load (i32.const 32))) (then unreachable))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $n) (i32.const {count})))))"#
    )
}

#[tokio::test]
async fn files_and_folders_are_bounded_however_large_the_disk_is() {
    let fixture = Fixture::new();
    let look = limits::SANDBOX_ENTRIES / 8;
    let makes = makes_files(look + 100);
    for (there, ends_well) in [(0, true), (limits::SANDBOX_ENTRIES - 100, false)] {
        let sandbox = fixture.folder.path().join(there.to_string());
        std::fs::create_dir(&sandbox).unwrap();
        for number in 0..there {
            std::fs::File::create(sandbox.join(format!("{number}"))).unwrap();
        }
        let disk = |run: &mut RunCommand| {
            (run.sandbox, run.disk_bytes) = (Some(sandbox.to_str().unwrap().to_owned()), HUGE);
        };
        let end = fixture.end_of(&makes, disk).await;
        let count = std::fs::read_dir(&sandbox).unwrap().count() as u64;
        if ends_well {
            assert_eq!((end.state, count), (TaskState::Finished, look + 100), "{end:?}");
        } else {
            assert_eq!(
                (end.state, end.reason),
                (TaskState::Failed, Reason::DiskExceeded),
                "{end:?}"
            );
            assert_eq!(count, there + look, "as many as may be made without a look");
        }
    }
}

const WIT: &str = r"
    package wasi:filesystem@0.2.0 {
        interface types {
            enum error-code {
                access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, file-too-large,
                illegal-byte-sequence, in-progress, interrupted, invalid, io, is-directory, loop, too-many-links,
                message-size, name-too-long, no-device, no-entry, no-lock, insufficient-memory, insufficient-space,
                not-directory, not-empty, not-recoverable, unsupported, no-tty, no-such-device, overflow,
                not-permitted, pipe, read-only, invalid-seek, text-file-busy, cross-device,
            }
            resource directory-entry-stream;
            resource descriptor {
                read-directory: func() -> result<directory-entry-stream, error-code>;
            }
        }
        interface preopens {
            use types.{descriptor};
            get-directories: func() -> list<tuple<descriptor, string>>;
        }
    }
    package wasi:cli@0.2.0 {
        interface run { run: func() -> result; }
    }
    package test:reader {
        world reader {
            import wasi:filesystem/types@0.2.0;
            import wasi:filesystem/preopens@0.2.0;
            export wasi:cli/run@0.2.0;
        }
    }";

/// Begins to read its folder so often, with something done after each time.
fn reads_folders(count: usize, then: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $folders (param i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.read-directory" (func $read (param i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[resource-drop]directory-entry-stream" (func $drop (param i32)))
        (memory (export "memory") 1)
        (global $next (mut i32) (i32.const 4096))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
            (global.get $next)
            (global.set $next (i32.add (global.get $next) (local.get 3))))
        (func (export "wasi:cli/run@0.2.0#run") (result i32) (local $n i32)
            (call $folders (i32.const 16))
            (loop
                (call $read (i32.load (i32.load (i32.const 16))) (i32.const 32))
                (if (i32.load8_u (i32.const 32)) (then unreachable))
                {then}
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $n) (i32.const {count}))))
            (i32.const 0)))"#
    );
    let mut core = wat::parse_str(text).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("reader.wit", &format!("package test:all;{WIT}")).unwrap();
    let world = resolve.select_world(&[package], Some("test:reader/reader")).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&core).unwrap().encode().unwrap()
}

async fn end_of(fixture: &Fixture, component: &[u8], sandbox: &Path) -> CommandEnd {
    let compiled = fixture.folder.path().join("component");
    std::fs::write(&compiled, compile(ModuleKind::CommandP2, component).unwrap()).unwrap();
    let mut run = fixture.run(1, &compiled);
    run.kind = ModuleKind::CommandP2;
    (run.sandbox, run.disk_bytes) = (Some(sandbox.to_str().unwrap().to_owned()), 1 << 20);
    let (link, _events) = link(&mut run);
    let module = fixture.host.load(run.kind, &compiled).unwrap();
    run_command(&module, run, &link).await
}

#[tokio::test]
async fn folders_that_are_read_at_once_are_few() {
    let fixture = Fixture::new();
    let sandbox = fixture.folder.path().join("sandbox");
    std::fs::create_dir(&sandbox).unwrap();
    let drops = "(call $drop (i32.load (i32.const 36)))";
    for (count, then) in [(limits::FOLDERS_READ, ""), (100, drops)] {
        let end = end_of(&fixture, &reads_folders(count, then), &sandbox).await;
        assert_eq!(end.state, TaskState::Finished, "{count}: {end:?}");
    }
    let end = end_of(&fixture, &reads_folders(limits::FOLDERS_READ + 1, ""), &sandbox).await;
    assert_eq!((end.state, end.reason), (TaskState::Failed, Reason::TooManyHandles), "{end:?}");
}
