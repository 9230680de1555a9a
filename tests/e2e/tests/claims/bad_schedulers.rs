//! Schedulers that misbehave: each bears the consequences, with the reason, and a good one beside them all goes on.

use serde_json::{Value, json};
use tepui_e2e::{Cluster, Folder};

/// How it is bad, and where the reason for what is done about it stands.
const MODES: &[(&str, Told)] = &[
    ("never-returns", Told::Event("scheduler-ended", "out-of-fuel")),
    ("traps-every-third-turn", Told::Event("scheduler-ended", "trapped")),
    ("hog", Told::Event("scheduler-ended", "out-of-memory")),
    ("recurse", Told::Event("scheduler-ended", "stack-exhausted")),
    ("huge-answer", Told::Event("scheduler-ended", "answer-too-large")),
    ("accepts-unheld", Told::Task("dropped", "invalid-offer")),
    ("over-launches", Told::Task("error", "exceeds-offer")),
];

enum Told {
    Event(&'static str, &'static str),
    Task(&'static str, &'static str),
}

fn bad(mode: &str) -> Folder {
    Folder::new(mode, "bad-scheduler.wasm").module("noop", "noop.wasm").config("mode", mode)
}

fn good(name: &str) -> Folder {
    Folder::new(name, "fifteen.wasm").module("hello", "hello.wasm")
}

#[test]
fn a_bad_scheduler_is_told_what_it_did_and_a_good_one_beside_it_completes() {
    let cluster = Cluster::start(2);
    let modes: Vec<&str> = MODES.iter().map(|(mode, _)| *mode).collect();
    for folder in modes.iter().copied().map(bad) {
        let _ran = cluster.submit(folder.written()).good();
    }
    complete_good(&cluster, "good");

    for (mode, told) in MODES {
        await_told(&cluster, mode, told);
    }
    // One does its work in spite of all; those that never get beyond their start are held; none of these launches anything.
    let brave = cluster.api().wait_ended("traps-every-third-turn");
    assert_eq!(brave.get("success"), Some(&Value::Bool(true)), "{brave}");
    for mode in ["never-returns", "hog", "recurse", "huge-answer"] {
        await_told(&cluster, mode, &Told::Event("held", "failures in a row"));
        let view = cluster.json(&["framework", "show", mode]);
        assert_eq!(view.get("phase").and_then(Value::as_str), Some("held"), "{view}");
        assert_eq!(view.get("tasks"), Some(&json!({})), "{view}");
    }
    stop_all(&cluster, &modes);
}

#[test]
fn offers_that_a_scheduler_sits_on_are_taken_back_and_a_good_one_gets_them() {
    let cluster = Cluster::start(1);
    let _ran = cluster.submit(bad("sits-on-offers").written()).good();
    // Once it holds all that there is.
    cluster.api().wait("/frameworks/sits-on-offers?wait=ended&timeout_ms=200", |view| {
        view.get("offers").and_then(Value::as_u64) == Some(1)
    });
    complete_good(&cluster, "good");
    stop_all(&cluster, &["sits-on-offers"]);
}

#[test]
fn a_scheduler_that_floods_its_log_is_cut_short_and_its_events_stay_few() {
    let cluster = Cluster::start(1);
    let _ran = cluster.submit(bad("floods-log").written()).good();
    await_told(&cluster, "floods-log", &Told::Event("log-info", "xxxx"));
    complete_good(&cluster, "good");
    let events = cluster.json(&["framework", "events", "floods-log"]);
    assert!(events.as_array().unwrap().len() <= 256, "{}", events.as_array().unwrap().len());
    assert!(events.to_string().len() < 1 << 20, "{} bytes of events", events.to_string().len());
    stop_all(&cluster, &["floods-log"]);
}

fn complete_good(cluster: &Cluster, name: &str) {
    let _ran = cluster.submit(good(name).written()).good();
    let ended = cluster.api().wait_ended(name);
    assert_eq!(ended.get("success"), Some(&Value::Bool(true)), "{ended}");
    assert_eq!(ended.pointer("/tasks/finished").and_then(Value::as_u64), Some(3), "{ended}");
}

/// Stops what has not ended, and sees that all that was held has come home and is of use.
fn stop_all(cluster: &Cluster, modes: &[&str]) {
    for mode in modes {
        let view = cluster.json(&["framework", "show", mode]);
        if view.get("phase").and_then(Value::as_str) != Some("ended") {
            let _ran = cluster.tepui(["framework", "stop", mode]).good();
        }
        cluster.api().wait_ended(mode);
    }
    complete_good(cluster, "after");
    for agent in cluster.json(&["agent", "ls"]).as_array().unwrap() {
        assert_eq!(agent.get("tasks").and_then(Value::as_u64), Some(0), "{agent}");
        assert_eq!(agent.pointer("/used/memory_bytes").and_then(Value::as_u64), Some(0), "{agent}");
    }
}

/// Each look waits a while for the framework's end, which is not to come.
fn await_told(cluster: &Cluster, mode: &str, told: &Told) {
    let has = |view: &Value, name: &str, word: &str| {
        view.get(name).and_then(Value::as_str).is_some_and(|text| text.contains(word))
    };
    let seen = || match told {
        Told::Event(kind, word) => cluster
            .json(&["framework", "events", mode])
            .as_array()
            .unwrap()
            .iter()
            .any(|event| has(event, "kind", kind) && has(event, "message", word)),
        Told::Task(state, reason) => cluster
            .json(&["task", "ls", "--framework", mode])
            .as_array()
            .unwrap()
            .iter()
            .any(|task| has(task, "state", state) && has(task, "reason", reason)),
    };
    let path = format!("/frameworks/{mode}?wait=ended&timeout_ms=200");
    cluster.api().wait(&path, |_| seen());
}
