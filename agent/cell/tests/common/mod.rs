//! Fixtures: modules from text, and what it takes to run them.

use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tepui_cell::{CommandHost, Outgoing, TaskLink, compile, run_command};
use tepui_proto::cell::{CellEvent, CommandEnd, RunCommand};
use tepui_proto::control::ModuleKind;
use tepui_proto::{FrameworkId, LaunchNumber};
use tokio::sync::mpsc;

pub struct Fixture {
    pub folder: TempDir,
    pub host: CommandHost,
}

impl Fixture {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), host: CommandHost::new().unwrap() }
    }

    /// Compiles a preview 1 module; `body` is what follows its memory and WASI imports.
    pub fn module(&self, name: &str, body: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, compile(ModuleKind::CommandP1, &core(body)).unwrap()).unwrap();
        path
    }

    pub fn run(&self, launch: u64, compiled: &std::path::Path) -> RunCommand {
        let log = |name: &str| {
            self.folder.path().join(format!("{launch}-{name}")).to_str().unwrap().to_owned()
        };
        RunCommand {
            launch: LaunchNumber(launch),
            task: "framework/task".to_owned(),
            framework: FrameworkId(1),
            agent: "agent".to_owned(),
            compiled: compiled.to_str().unwrap().to_owned(),
            kind: ModuleKind::CommandP1,
            args: vec!["program".to_owned()],
            env: Vec::new(),
            stdin: Vec::new(),
            sandbox: None,
            stdout: log("out"),
            stderr: log("err"),
            log_bytes: 1 << 20,
            cpu_milli: 1_000,
            memory_bytes: 1 << 20,
            disk_bytes: 0,
            fuel: 1_000_000_000_000,
            wall_ms: 600_000,
        }
    }

    pub async fn end_of(&self, body: &str, change: impl FnOnce(&mut RunCommand)) -> CommandEnd {
        let compiled = self.module("m", body);
        let mut run = self.run(1, &compiled);
        change(&mut run);
        let (link, _events) = link(&mut run);
        let module = self.host.load(run.kind, &compiled).unwrap();
        run_command(&module, run, &link).await
    }
}

pub fn link(run: &mut RunCommand) -> (Arc<TaskLink>, mpsc::Receiver<Outgoing>) {
    let (outbox, events) = mpsc::channel(64);
    (TaskLink::new(run, outbox, &Arc::default()), events)
}

pub async fn next(events: &mut mpsc::Receiver<Outgoing>) -> CellEvent {
    events.recv().await.unwrap().into_event()
}

pub fn core(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {body})")).unwrap()
}

pub const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
pub const WRITE: &str = r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
pub const EMPTY: &str = r#"(memory (export "memory") 1) (func (export "_start"))"#;
pub const SPIN: &str = r#"(memory (export "memory") 1) (func (export "_start") (loop (br 0)))"#;
