//! Schedulers that misbehave: each bears the consequences, with the reason, and a good one beside them all goes on.

use serde_json::Value;
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
    let silent = ["floods-log", "sits-on-offers"];
    let folders: Vec<Folder> =
        MODES.iter().map(|(mode, _)| *mode).chain(silent).map(bad).collect();
    for folder in &folders {
        let _ran = cluster.submit(folder.written()).good();
    }
    let fifteen = good("good");
    let _ran = cluster.submit(fifteen.written()).good();
    let ended = cluster.api().wait_ended("good");
    assert_eq!(ended.get("success"), Some(&Value::Bool(true)), "{ended}");
    assert_eq!(ended.pointer("/tasks/finished").and_then(Value::as_u64), Some(3), "{ended}");

    for (mode, told) in MODES {
        await_told(&cluster, mode, told);
    }
    // Some do their work in the end; the others never get anywhere, and launch nothing.
    let brave = cluster.api().wait_ended("traps-every-third-turn");
    assert_eq!(brave.get("success"), Some(&Value::Bool(true)), "{brave}");
    for mode in ["never-returns", "hog", "recurse", "huge-answer", "sits-on-offers"] {
        let view = cluster.json(&["framework", "show", mode]);
        assert_ne!(view.get("phase").and_then(Value::as_str), Some("ended"), "{view}");
        let tasks = view.get("tasks").and_then(Value::as_object).unwrap();
        assert!(tasks.values().all(|count| count.as_u64() == Some(0)), "{view}");
    }
    for mode in folders.iter().zip(MODES).map(|(_, (mode, _))| *mode).chain(silent) {
        let view = cluster.json(&["framework", "show", mode]);
        if view.get("phase").and_then(Value::as_str) != Some("ended") {
            let _ran = cluster.tepui(["framework", "stop", mode]).good();
        }
        cluster.api().wait_ended(mode);
    }
    // What they held has come home.
    let again = good("after");
    let _ran = cluster.submit(again.written()).good();
    assert_eq!(cluster.api().wait_ended("after").get("success"), Some(&Value::Bool(true)));
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
