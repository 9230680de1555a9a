//! One tenant's scheduler says all that it may, as fast as it may; others are served meanwhile, and nothing ends.

use serde_json::Value;
use std::time::{Duration, Instant};
use tepui_e2e::{Cluster, Folder};
use tepui_hostile::{besieged, hostile};

/// How long each goes on.
const FOR: Duration = Duration::from_secs(4);
/// More than a master needs for all of them, and far less than any of them took before.
const MASTER_BYTES: u64 = 400 << 20;

fn with_sleepers(mode: &str, tasks: u32) -> Folder {
    Folder::new(mode, "hostile-scheduler.wasm")
        .module("task", "bad-task.wasm")
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
    for mode in ["reconcile", "few-declines", "few-patterns", "timers", "wants"] {
        let tasks = if mode == "reconcile" { 130 } else { 0 };
        besieged(&cluster, MASTER_BYTES, || {
            let _ran = cluster.submit(with_sleepers(mode, tasks).written()).good();
            goes_on(&cluster, mode);
        });
        let turns = view(&cluster, mode);
        let turns = turns.get("turns").and_then(Value::as_u64).unwrap();
        assert!(turns > 20, "{mode} has only taken {turns} turns");
        stop(&cluster, mode);
    }
}

#[test]
fn many_messages_many_kills_and_the_stop_of_many_tasks_cut_no_agent() {
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        let _ran = cluster.submit(with_sleepers("sends", 150).written()).good();
        goes_on(&cluster, "sends");
        stop(&cluster, "sends");
    });
    // Each session is the one it was: one hello an agent, one term.
    let events = cluster.json(&["framework", "events", "run"]);
    let lost = events.as_array().unwrap().iter().filter(|event| {
        event.get("message").and_then(Value::as_str).is_some_and(|text| text.contains("connection"))
    });
    assert_eq!(lost.count(), 0, "{events}");
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
