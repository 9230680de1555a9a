//! Many frameworks of one tenant, or one that speaks in every turn, which make the leader work for them; others are
//! served meanwhile, and nothing ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of them here")]

use reqwest::Method;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tepui_e2e::{Api, Cluster};
use tepui_hostile::{besieged, hostile, stored};

/// How long each goes on.
const FOR: Duration = Duration::from_secs(6);
/// More than a master needs for all of them.
const MASTER_BYTES: u64 = 400 << 20;

/// One cluster after the other: what is measured is not to be disturbed by another test.
static ALONE: Mutex<()> = Mutex::new(());

fn goes_on(cluster: &Cluster, name: &str) {
    let begun = Instant::now();
    while begun.elapsed() < FOR {
        cluster.api().get(&format!("/frameworks/{name}?wait=ended&timeout_ms=500"));
    }
}

fn turns(cluster: &Cluster, name: &str) -> u64 {
    let view = cluster.api().get(&format!("/frameworks/{name}"));
    view.get("turns").and_then(Value::as_u64).unwrap()
}

/// A framework of the hostile scheduler, with little of everything; says the status.
fn put(api: &Api, name: &str, spec: &Value) -> u16 {
    let mut all =
        json!({ "name": name, "roles": [name], "cpu_milli": 10, "memory_bytes": 8 << 20 });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    api.ask(&Method::PUT, &format!("/frameworks/{name}"), Some(&all)).unwrap().status
}

#[test]
fn many_who_name_other_regular_expressions_in_every_turn_wait_for_each_other() {
    const MANY: usize = 60;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start_with(2, &["--memory", "8GiB", "--cpus", "8"]);
    let scheduler = stored(&cluster, "hostile-scheduler.wasm");
    besieged(&cluster, MASTER_BYTES, || {
        let name = |n: usize| format!("p{n}");
        for n in 0..MANY {
            let config = json!({ "mode": "few-patterns" });
            let spec = json!({ "scheduler": scheduler, "config": config });
            assert_eq!(put(cluster.api(), &name(n), &spec), 201);
        }
        for n in 0..MANY {
            // To ask it would be to wait until it has rested.
            cluster.api().wait(&format!("/frameworks/{}", name(n)), |view| {
                view.get("turns").and_then(Value::as_u64) > Some(0)
            });
        }
        let before: u64 = (0..MANY).map(|n| turns(&cluster, &name(n))).sum();
        goes_on(&cluster, "p0");
        // They go on, too.
        let after: u64 = (0..MANY).map(|n| turns(&cluster, &name(n))).sum();
        assert!(after > before, "none of them had a turn");
    });
}

#[test]
fn who_takes_every_offer_and_does_nothing_with_it_takes_it_from_nobody() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        for name in ["empty-0", "empty-1"] {
            let _ran = cluster.submit(hostile(name, "empty").written()).good();
        }
        cluster.api().wait("/frameworks/empty-1/http/", |told| told.get("turn").is_some());
        goes_on(&cluster, "empty-0");
    });
}

#[test]
fn who_makes_volumes_of_all_that_it_is_offered_has_as_many_as_an_agent_takes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        let _ran = cluster.submit(hostile("volumes", "volumes").written()).good();
        goes_on(&cluster, "volumes");
        // What it made is there, and that is bounded: each is looked at whenever its agent is offered.
        cluster.api().wait("/agents/agent-1", |view| pools(view) >= 60);
        for agent in ["agent-1", "agent-2"] {
            let view = cluster.api().get(&format!("/agents/{agent}"));
            assert!(pools(&view) <= 1_100, "{} on {agent}", pools(&view));
        }
    });
}

/// How many pools an agent has.
fn pools(view: &Value) -> usize {
    view.get("pools").and_then(Value::as_str).unwrap().split(';').count()
}

#[test]
fn submissions_of_many_names_are_written_down_and_nobody_waits_for_that() {
    const NAMES: usize = 3_000;
    /// Each is nearly a MiB of log, and of every snapshot after it.
    const MANY: usize = 320;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(2);
    let scheduler = stored(&cluster, "hostile-scheduler.wasm");
    besieged(&cluster, 3 * MASTER_BYTES, || {
        let blobs: serde_json::Map<_, _> =
            (0..NAMES).map(|n| (format!("{n:0>220}"), json!(scheduler))).collect();
        for n in 0..MANY {
            // There is no room for so large a scheduler, so it waits and is kept.
            let spec = json!({
                "scheduler": scheduler, "blobs": blobs, "cpu_milli": 1_000, "memory_bytes": 256 << 20,
            });
            assert_eq!(put(cluster.api(), &format!("names-{n}"), &spec), 201);
        }
    });
    let log = std::fs::read_to_string(cluster.dir().join("master.log")).unwrap();
    assert!(log.contains("took a snapshot"), "the log never grew enough");
}

#[test]
fn who_reads_much_with_the_token_waits_for_themselves() {
    const READERS: usize = 4;
    const TOGETHER: usize = 200;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        let _ran = cluster.submit(hostile("wants", "wants").written()).good();
        cluster.api().wait("/frameworks/wants/http/", |told| told.get("turn").is_some());
        let asked: usize = thread::scope(|scope| {
            let reads = |path: &'static str| {
                // A connection of its own, by somebody with a machine of their own.
                let (client, url) = (cluster.api().another(), cluster.api().url().to_owned());
                let token = cluster.api().token().to_owned();
                scope.spawn(move || {
                    rustix::process::nice(19).unwrap();
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let ask = || async {
                        let request = client.get(format!("{url}/v1{path}")).bearer_auth(&token);
                        request.send().await.unwrap().bytes().await.unwrap().len()
                    };
                    // One connection, and all that follows is on it.
                    let mut count = usize::from(runtime.block_on(ask()) > 0);
                    let begun = Instant::now();
                    while begun.elapsed() < FOR {
                        let all = futures_util::future::join_all((0..TOGETHER).map(|_| ask()));
                        count += runtime.block_on(all).len();
                    }
                    count
                })
            };
            let paths =
                ["/frameworks/wants/events", "/explain/framework/wants", "/frameworks", "/agents"];
            let threads: Vec<_> = paths.into_iter().cycle().take(READERS).map(reads).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(asked >= READERS * TOGETHER, "only {asked} requests");
    });
}
