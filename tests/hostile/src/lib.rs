//! What the attacks in `tests/` share: a neighbour who wants a small run done, again and again, while they go on.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness of tests: what goes wrong here has to fail the test, with words"
)]

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tepui_e2e::{Cluster, Folder, guest};

/// How long the neighbour's run may take at any moment of an attack ...
pub const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// ... or so many times what it takes without one, on a machine that is busy with other things.
const TIMES_QUIET: u32 = 10;
/// Runs without an attack, before it.
const QUIET_RUNS: u32 = 5;

/// One attack at a time: what two of them do to each other is nobody's question.
static ONE: Mutex<()> = Mutex::new(());

/// Runs one whole attack while a neighbour asks for runs of a module that the cluster knows, one after the other.
///
/// Fails unless each of them succeeds in time ([`SERVED_WITHIN`]), no part ends, no agent's session does, the scheduler of
/// those runs neither, and the master stays within `master_bytes` of memory all the time.
pub fn besieged(cluster: &Cluster, master_bytes: u64, attack: impl FnOnce()) {
    // A test that failed has left nothing here.
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let hello = guest("hello.wasm");
    let run = || {
        let begun = Instant::now();
        let ran =
            cluster.tepui(["run".as_ref(), hello.as_os_str(), "--".as_ref(), "neighbour".as_ref()]);
        (ran, begun.elapsed())
    };
    // It is compiled, and known.
    let _first = run().0.good();
    let quiet = (0..QUIET_RUNS).map(|_| {
        let (ran, took) = run();
        assert_eq!(ran.code, 0, "{ran:?}");
        took
    });
    let quiet = quiet.max().unwrap_or_default();
    let most = SERVED_WITHIN.max(quiet * TIMES_QUIET);
    let before = Standing::of(cluster);
    forget_peak(cluster.pid("master"));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let runs = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            let mut count = 0_u32;
            loop {
                let last = over.load(Ordering::Relaxed);
                let (ran, took) = run();
                assert_eq!(ran.code, 0, "the neighbour was not served: {ran:?}");
                slowest = slowest.max(took);
                count += 1;
                if last {
                    return (count, slowest);
                }
            }
        });
        // However the attack ends, the neighbour is told.
        let _told = Told(&over);
        attack();
        over.store(true, Ordering::Relaxed);
        let (count, slowest) = runs.join().unwrap_or_else(|_| panic!("the neighbour gave up"));
        eprintln!("{count} runs, the slowest {slowest:?}; without an attack {quiet:?}");
        assert!(
            slowest < most,
            "the slowest of {count} runs took {slowest:?}; without an attack {quiet:?}"
        );
    });
    let used = peak_bytes(cluster.pid("master"));
    eprintln!("the master held {} MiB", used >> 20);
    assert_eq!(Standing::of(cluster), before, "a part, a session or a scheduler was begun anew");
    assert!(used < master_bytes, "the master held {used} bytes");
}

/// What an attack may not change.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    /// The ids of all parts.
    parts: Vec<u32>,
    /// Sessions of agents so far.
    sessions: usize,
    /// Instances of the scheduler behind `tepui run` so far.
    instances: u64,
}

impl Standing {
    fn of(cluster: &Cluster) -> Self {
        let sessions = sessions(cluster);
        assert!(sessions > 0, "the master's log does not tell of sessions");
        Self { parts: parts(cluster), sessions, instances: instances(cluster, "run") }
    }
}

/// How many sessions of agents there were so far, by what the master has logged.
pub fn sessions(cluster: &Cluster) -> usize {
    let log = fs::read_to_string(cluster.dir().join("master.log")).unwrap();
    log.matches("an agent said hello").count()
}

/// How many instances a framework's scheduler had so far.
pub fn instances(cluster: &Cluster, framework: &str) -> u64 {
    let view = cluster.api().get(&format!("/frameworks/{framework}"));
    view.get("incarnation").and_then(Value::as_u64).unwrap()
}

/// From now on a process's peak of memory is counted anew; where that may not be asked for, it is that of its whole life.
fn forget_peak(pid: u32) {
    fs::write(Path::new("/proc").join(pid.to_string()).join("clear_refs"), "5").ok();
}

/// The most memory that a process has held.
fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// A hostile scheduler of this mode, with the modules that it may need.
pub fn hostile(name: &str, mode: &str) -> Folder {
    Folder::new(name, "hostile-scheduler.wasm")
        .module("task", "hostile-task.wasm")
        .config("mode", mode)
}

/// Uploads a module; says by which digest it is named.
pub fn stored(cluster: &Cluster, file: &str) -> String {
    let put = cluster.json(&["blob", "put", &guest(file).display().to_string()]);
    let digest = put.pointer("/0/digest").and_then(Value::as_str).unwrap();
    format!("sha256:{}", digest.trim_start_matches("sha256:"))
}

/// The ids of all parts.
fn parts(cluster: &Cluster) -> Vec<u32> {
    let mut names: Vec<String> = fs::read_dir(cluster.dir())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| cluster.dir().join(name).join("pid").exists())
        .collect();
    names.sort();
    names.iter().map(|name| cluster.pid(name)).collect()
}

struct Told<'a>(&'a AtomicBool);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
