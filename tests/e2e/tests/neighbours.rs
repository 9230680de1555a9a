//! What a good task feels of bad ones beside it, on the same agent and in the same cell: nothing to speak of.
//!
//! The only test of its program, since cargo runs one program after the other: nothing else of these tests disturbs
//! what is measured. Whatever else the machine does may: so medians are compared, each against one that was taken
//! the moment before, and of several such ratios the one in the middle counts, whichever way the others went.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests stand outside of them here"
)]

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tepui_e2e::{Api, Cluster, Folder, guest};

/// Runs behind one median.
const RUNS: usize = 21;
/// How many ratios are taken; the one in the middle counts.
const TRIES: usize = 5;
/// What a task is told to do, and how it ends.
const TASKS: &[(&str, &str)] = &[
    ("loop", "wall-time-exceeded"),
    ("log-flood", "wall-time-exceeded"),
    ("memory", "out-of-memory"),
    ("recurse", "stack-exhausted"),
    ("trap", "trapped"),
    ("fds", "too-many-handles"),
];
const SCHEDULERS: &[&str] = &["never-returns", "hog", "recurse", "floods-log"];

/// Keys are never used twice.
static KEYS: AtomicUsize = AtomicUsize::new(0);

fn request(module: &str, args: &[&str]) -> Value {
    json!({
        "key": format!("k{}", KEYS.fetch_add(1, Ordering::Relaxed)), "module": module, "args": args,
        "cpu_milli": 500, "memory_bytes": 32 << 20, "disk_bytes": 16 << 20, "wall_ms": 1_000,
    })
}

fn module(cluster: &Cluster, file: &str) -> String {
    // Run once, so that it is compiled and known.
    let path = guest(file).display().to_string();
    let _ran = cluster.tepui(["run", &path]);
    let put = cluster.json(&["blob", "put", &path]);
    let digest = put.pointer("/0/digest").and_then(Value::as_str).unwrap();
    format!("sha256:{}", digest.trim_start_matches("sha256:"))
}

/// From the request to the end of a program that does nothing.
fn median(api: &Api, noop: &str) -> Duration {
    let mut took: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            let ended = api.run(&request(noop, &[]));
            assert_eq!(ended.get("state").and_then(Value::as_str), Some("finished"), "{ended}");
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[RUNS / 2]
}

/// Compares with and without; gives the ratio in the middle of a few, in hundredths.
fn ratio(api: &Api, noop: &str, beside: impl Fn(&dyn Fn() -> Duration) -> Duration) -> u128 {
    let mut ratios: Vec<u128> = (0..TRIES)
        .map(|_| {
            let alone = median(api, noop);
            let disturbed = beside(&|| median(api, noop));
            disturbed.as_nanos() * 100 / alone.as_nanos()
        })
        .collect();
    ratios.sort_unstable();
    ratios[TRIES / 2]
}

#[test]
fn bad_neighbours_do_not_double_the_latency_of_a_good_one() {
    let cluster = Cluster::start(1);
    let (noop, bad) = (module(&cluster, "noop.wasm"), module(&cluster, "bad-task.wasm"));
    let api = cluster.api();
    let mut ratios = Vec::new();
    for (mode, reason) in TASKS {
        let beside = |measure: &dyn Fn() -> Duration| {
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                let misbehaving = scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let ended = api.run(&request(&bad, &[mode]));
                        let told = ended.get("reason").and_then(Value::as_str);
                        assert_eq!(told, Some(*reason), "{mode}: {ended}");
                    }
                });
                let took = measure();
                over.store(true, Ordering::Relaxed);
                misbehaving.join().unwrap();
                took
            })
        };
        ratios.push((*mode, ratio(api, &noop, beside)));
    }
    for mode in SCHEDULERS {
        let folder = Folder::new(mode, "bad-scheduler.wasm")
            .module("noop", "noop.wasm")
            .config("mode", mode);
        let beside = |measure: &dyn Fn() -> Duration| {
            let _ran = cluster.submit(folder.written()).good();
            let took = measure();
            let _ran = cluster.tepui(["framework", "stop", mode]).good();
            api.wait_ended(mode);
            took
        };
        ratios.push((*mode, ratio(api, &noop, beside)));
    }
    assert!(ratios.iter().all(|(_, hundredths)| *hundredths <= 200), "in hundredths: {ratios:?}");
}
