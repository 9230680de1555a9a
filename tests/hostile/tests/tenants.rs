//! One tenant's scheduler says all that it may, as fast as it may; others are served meanwhile, and nothing ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of them here")]

use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tepui_e2e::{Cluster, Folder, guest};
use tepui_hostile::{besieged, hostile};

/// How long each goes on.
const FOR: Duration = Duration::from_secs(4);
/// More than a master needs for all of them, and far less than any of them took before.
const MASTER_BYTES: u64 = 400 << 20;

fn with_sleepers(mode: &str, tasks: u32) -> Folder {
    Folder::new(mode, "hostile-scheduler.wasm")
        .module("task", "hostile-task.wasm")
        .config("mode", mode)
        .config("tasks", tasks)
}

/// Lets it go on for a while: waits for an end that does not come.
fn goes_on(cluster: &Cluster, name: &str) {
    let begun = Instant::now();
    while begun.elapsed() < FOR {
        cluster.api().get(&format!("/frameworks/{name}?wait=ended&timeout_ms=500"));
    }
}

fn view(cluster: &Cluster, name: &str) -> Value {
    cluster.api().get(&format!("/frameworks/{name}"))
}

fn digest(cluster: &Cluster, path: &Path) -> String {
    let put = cluster.json(&["blob", "put", &path.display().to_string()]);
    let digest = put.pointer("/0/digest").and_then(Value::as_str).unwrap();
    format!("sha256:{}", digest.trim_start_matches("sha256:"))
}

fn stop(cluster: &Cluster, name: &str) {
    let _ran = cluster.tepui(["framework", "stop", name]).good();
    let ended = cluster.api().wait_ended(name);
    assert_eq!(ended.get("phase").and_then(Value::as_str), Some("ended"));
}

#[test]
fn answers_that_break_a_bound_are_refused_whole_and_their_framework_is_held() {
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        for (mode, word) in [
            ("bad-kills", "refusals"),
            ("declines", "names"),
            ("patterns", "regular expressions"),
            ("reserves", "reservations"),
        ] {
            let _ran = cluster.submit(hostile(mode, mode).written()).good();
            cluster.api().wait(&format!("/frameworks/{mode}?wait=ended&timeout_ms=200"), |view| {
                view.get("phase").and_then(Value::as_str) == Some("held")
            });
            let why = view(&cluster, mode);
            let why = why.get("message").and_then(Value::as_str).unwrap();
            assert!(why.contains(word), "{mode}: {why}");
        }
    });
    for mode in ["bad-kills", "declines", "patterns", "reserves"] {
        stop(&cluster, mode);
    }
}

#[test]
fn answers_within_their_bounds_cost_nobody_else_more_than_a_moment() {
    let cluster = Cluster::start(2);
    for mode in ["reconcile", "sends", "few-declines", "few-patterns", "timers", "wants"] {
        let tasks = if ["reconcile", "sends"].contains(&mode) { 130 } else { 0 };
        besieged(&cluster, MASTER_BYTES, || {
            let _ran = cluster.submit(with_sleepers(mode, tasks).written()).good();
            cluster.api().wait(&format!("/frameworks/{mode}/http/"), |told| {
                told.get("running").and_then(Value::as_u64) == Some(tasks.into())
            });
            goes_on(&cluster, mode);
            // However slow that is on a busy machine, it is said again and again.
            cluster.api().wait(&format!("/frameworks/{mode}?wait=ended&timeout_ms=200"), |view| {
                view.get("turns").and_then(Value::as_u64) > Some(20)
            });
        });
        stop(&cluster, mode);
    }
}

#[test]
fn a_framework_that_is_upgraded_again_and_again_collects_no_more_names_than_one_has() {
    /// New names of each version.
    const NAMES: usize = 1_000;
    let cluster = Cluster::start(2);
    let scheduler = digest(&cluster, &guest("hostile-scheduler.wasm"));
    let blob = cluster.scratch("blob");
    std::fs::write(&blob, "of many names").unwrap();
    let blob = digest(&cluster, &blob);
    // Long names, since each is told to every instance.
    let names = |from: usize| (from..from + NAMES).map(|n| (format!("{n:0>240}"), json!(blob)));
    let upgrade = |from: usize| {
        let spec = json!({
            "name": "renamed", "roles": ["renamed"], "scheduler": scheduler,
            "blobs": names(from).collect::<serde_json::Map<_, _>>(), "config": { "mode": "idle" },
        });
        cluster.api().ask(&Method::PUT, "/frameworks/renamed", Some(&spec)).unwrap()
    };
    besieged(&cluster, MASTER_BYTES, || {
        let (mut taken, mut refused, begun) = (0, 0, Instant::now());
        while begun.elapsed() < FOR || refused < 3 {
            let reply = upgrade((taken + refused) * NAMES);
            if reply.status < 300 {
                taken += 1;
                // 4,096 entries are for all versions together.
                assert!(taken <= 4, "{taken} versions of {NAMES} names were taken");
            } else {
                assert_eq!(reply.body.get("code"), Some(&json!("limit-reached")), "{reply:?}");
                refused += 1;
            }
        }
        assert_eq!(taken, 4);
        // One that adds none is taken, and its scheduler is told of all that there are.
        let again = upgrade(0);
        assert_eq!(again.status, 200, "{again:?}");
        cluster.api().wait("/frameworks/renamed/http/", |told| told.get("turn").is_some());
    });
    stop(&cluster, "renamed");
}

#[test]
fn five_who_keep_every_offer_keep_nobody_from_being_served() {
    let cluster = Cluster::start(2);
    let names: Vec<String> = (0..5).map(|n| format!("keeper-{n}")).collect();
    besieged(&cluster, MASTER_BYTES, || {
        for name in &names {
            let _ran = cluster.submit(hostile(name, "keeps").written()).good();
        }
        goes_on(&cluster, "keeper-0");
        // A new framework gets a place for its scheduler, and its tasks are run.
        let begun = Instant::now();
        let good = Folder::new("good", "fifteen.wasm").module("hello", "hello.wasm");
        let _ran = cluster.submit(good.written()).good();
        let ended = cluster.api().wait_ended("good");
        assert_eq!(ended.get("success"), Some(&Value::Bool(true)), "{ended}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    });
    for name in &names {
        stop(&cluster, name);
    }
}
