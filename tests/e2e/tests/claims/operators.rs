//! What operators say is checked, enforced, and explained; what they take out of service comes back when they say so.

use super::bad_input::assert_refused;
use serde_json::{Value, json};
use std::ffi::OsStr;
use tepui_e2e::{Cluster, Folder, guest};

fn text<'a>(view: &'a Value, pointer: &str) -> &'a str {
    view.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_quota_that_does_not_fit_changes_nothing_and_a_limit_is_enforced_and_explained() {
    let cluster = Cluster::start(1);
    let set = |words: &[&str]| cluster.tepui(["role", "set"].iter().chain(words));
    for (words, code) in [
        (&["idle", "--guarantee", "cpus:100000"][..], "quota-invalid"),
        (&["idle", "--guarantee", "cpus:2", "--limit", "cpus:1"][..], "quota-invalid"),
        (&["idle/deep", "--guarantee", "mem:16"][..], "quota-invalid"),
        (&["idle", "--weight", "0"][..], "weight-invalid"),
    ] {
        assert_refused(&set(words), 1, &["cannot set", code, "hint: "]);
    }
    assert_refused(&set(&["a//b", "--weight", "2"]), 2, &["hint: "]);
    assert_refused(&set(&["idle"]), 2, &["hint: "]);
    assert_eq!(cluster.json(&["role", "ls"]), json!([]));
    // Of two changes, one is bad.
    let changes = json!([{"role": "idle", "limit": "cpus:0"}, {"role": "idle", "weight_milli": 2}]);
    let body = json!({ "changes": changes });
    let refused = cluster.api().ask(&reqwest::Method::PATCH, "/roles", Some(&body)).unwrap();
    assert_eq!((refused.status, text(&refused.body, "/code")), (400, "invalid-spec"));
    assert_eq!(cluster.json(&["role", "ls"]), json!([]));

    let limited =
        cluster.json(&["role", "set", "idle", "--limit", "cpus:0;mem:0", "--weight", "0.5"]);
    assert_eq!(text(&limited, "/0/limit"), "cpus:0;mem:0");
    assert_eq!(limited.pointer("/0/weight_milli"), Some(&json!(500)));
    let folder = Folder::new("idle", "fifteen.wasm").module("hello", "hello.wasm");
    let _ran = cluster.submit(folder.written()).good();
    let quota = |view: &Value| {
        let reasons = view.pointer("/roles/0/tally/reasons").and_then(Value::as_array);
        reasons.is_some_and(|reasons| reasons.iter().any(|reason| text(reason, "/code") == "quota"))
    };
    let why = cluster.api().wait("/explain/framework/idle", quota);
    assert_eq!(why.pointer("/roles/0/tally/offered"), Some(&json!(0)), "{why}");
    for words in [["explain", "framework", "idle"], ["explain", "role", "idle"]] {
        let told = cluster.tepui(words).good();
        assert!(told.text().contains("the role, or one above it, is at its limit"), "{told:?}");
    }
    assert_eq!(cluster.json(&["task", "ls"]), json!([]));

    let _ran = set(&["idle", "--limit", "", "--weight", ""]).good();
    let ended = cluster.api().wait_ended("idle");
    assert_eq!(ended.get("success"), Some(&json!(true)), "{ended}");
}

#[test]
fn a_drained_agent_has_no_tasks_and_gets_none_until_it_is_active_again() {
    let cluster = Cluster::start(2);
    let module = guest("bad-task.wasm").display().to_string();
    let hello = guest("hello.wasm").display().to_string();
    let put = cluster.json(&["blob", "put", &module]);
    let digest = text(&put, "/0/digest").trim_start_matches("sha256:").to_owned();
    let _ran = cluster.tepui(["run", &module, "--", "exit", "0"]).good();
    let request = json!({
        "key": "k", "module": format!("sha256:{digest}"), "args": ["sleep", "600000"],
        "cpu_milli": 500, "memory_bytes": 32 << 20, "disk_bytes": 0,
    });
    let started = cluster.api().post("/frameworks/run/http/runs", &request);
    assert_eq!(started.status, 201, "{started:?}");
    let task = text(&started.body, "/tasks/0").to_owned();
    let path = format!("/tasks/run/{task}");
    let running = cluster.api().wait(&path, |view| text(view, "/state") == "running");
    let name = text(&running, "/agent").to_owned();

    let words = ["agent", "drain", &name, "--grace", "100ms", "--wait"];
    assert_eq!(cluster.tepui(words).good().text(), format!("{name}  drained\n"));
    let ended = cluster.api().wait_final("run", &task);
    assert_eq!(text(&ended, "/state"), "killed", "{ended}");
    let view = cluster.json(&["agent", "show", &name]);
    assert_eq!((text(&view, "/mode"), view.get("tasks")), ("drained", Some(&json!(0))), "{view}");
    assert_eq!(text(&view, "/state"), "connected", "{view}");

    let ran_on = |cluster: &Cluster| {
        assert_eq!(cluster.tepui(["run", &hello]).good().text(), "hello\n");
        let tasks = cluster.json(&["task", "ls", "--framework", "run"]);
        let last = tasks.as_array().and_then(|tasks| {
            tasks.iter().max_by_key(|task| task.get("at").and_then(Value::as_u64))
        });
        text(last.unwrap(), "/agent").to_owned()
    };
    let other = ran_on(&cluster);
    assert_ne!(other, name);
    let activate = [OsStr::new("agent"), OsStr::new("activate"), OsStr::new(&name)];
    assert_eq!(cluster.tepui(activate).good().text(), format!("{name}  active\n"));
    let _ran = cluster.tepui(["agent", "drain", &other, "--wait"]).good();
    assert_eq!(ran_on(&cluster), name);
    assert_refused(&cluster.tepui(["agent", "drain", "nobody"]), 1, &["agent-unknown", "hint: "]);
}

#[test]
fn a_master_with_an_interval_gives_out_what_is_worth_an_offer_and_says_what_is_not() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("master.toml");
    let start = |text: &str| {
        std::fs::write(&config, text).unwrap();
        Cluster::start_with(1, &["--master-config", &config.display().to_string()])
    };
    let cluster = start("allocation_interval = \"300ms\"\n");
    let folder = Folder::new("idle", "fifteen.wasm").module("hello", "hello.wasm");
    let _ran = cluster.submit(folder.written()).good();
    let ended = cluster.api().wait_ended("idle");
    assert_eq!(ended.get("success"), Some(&json!(true)), "{ended}");
    drop(cluster);

    let cluster = start("smallest_offer = [\"cpus:100000\"]\n");
    let _ran = cluster.submit(folder.written()).good();
    let is_told = |view: &Value| {
        let reasons = view.pointer("/roles/0/tally/reasons").and_then(Value::as_array);
        reasons.is_some_and(|all| all.iter().any(|why| text(why, "/code") == "smallest-offer"))
    };
    let why = cluster.api().wait("/explain/framework/idle", is_told);
    assert_eq!(why.pointer("/roles/0/tally/offered"), Some(&json!(0)), "{why}");
}

#[test]
fn resources_of_the_operators_own_names_are_offered_and_gpus_to_nobody_who_wants_none() {
    let cluster = Cluster::start_with(1, &["--custom", "gpus:2;licences:{a,b}"]);
    let agents = cluster.json(&["agent", "ls"]);
    let custom = agents.pointer("/0/total/custom").cloned().unwrap_or_default();
    assert_eq!(custom, json!({"gpus": {"milli": 2_000}, "licences": {"items": ["a", "b"]}}));
    let table = cluster.tepui(["agent", "ls"]).good();
    assert!(table.text().contains("2 gpus"), "{table:?}");
    let folder = Folder::new("idle", "fifteen.wasm").module("hello", "hello.wasm");
    let _ran = cluster.submit(folder.written()).good();
    let is_told = |view: &Value| {
        let reasons = view.pointer("/roles/0/tally/reasons").and_then(Value::as_array);
        reasons.is_some_and(|all| all.iter().any(|why| text(why, "/code") == "not-accepted"))
    };
    let why = cluster.api().wait("/explain/framework/idle", is_told);
    assert_eq!(why.pointer("/roles/0/tally/offered"), Some(&json!(0)), "{why}");
}

/// Every verb about agents and tasks is run once at least, as OPERATING writes it.
#[test]
fn what_operators_and_tenants_can_say_of_agents_and_tasks_is_done() {
    let cluster = Cluster::start(3);
    let good = |words: &[&str]| cluster.tepui(words).good().text();
    // What is reserved and made into a volume is undone again.
    let resources = "cpus:0.5;mem:64;disk:64";
    good(&["agent", "reserve", "agent-1", "acme/web", resources]);
    good(&["agent", "volume", "create", "agent-1", "v1", "--role", "acme/web", "--size", "32MiB"]);
    let shown = cluster.json(&["agent", "show", "agent-1"]).to_string();
    assert!(shown.contains("acme/web") && shown.contains("v1"), "{shown}");
    let early = cluster.tepui(["agent", "unreserve", "agent-1", "acme/web", resources]);
    assert_refused(&early, 1, &["resources-not-free"]);
    good(&["agent", "volume", "destroy", "agent-1", "v1"]);
    good(&["agent", "unreserve", "agent-1", "acme/web", resources]);
    let shown = cluster.json(&["agent", "show", "agent-1"]).to_string();
    assert!(!shown.contains("acme/web") && !shown.contains("v1"), "{shown}");
    // A plan is made and dropped.
    good(&["agent", "maintain", "agent-1", "--start", "+30m", "--for", "2h"]);
    let planned = cluster.json(&["agent", "show", "agent-1"]);
    assert_eq!(planned.pointer("/unavailability/length_ms"), Some(&json!(7_200_000)), "{planned}");
    good(&["agent", "maintain", "agent-1", "--cancel"]);
    let planned = cluster.json(&["agent", "show", "agent-1"]);
    assert_eq!(planned.pointer("/unavailability/length_ms"), None, "{planned}");

    // A task is read and stopped by its name.
    let module = guest("bad-task.wasm").display().to_string();
    let put = cluster.json(&["blob", "put", &module]);
    let digest = text(&put, "/0/digest").trim_start_matches("sha256:").to_owned();
    let refused = cluster.tepui(["run", &module, "--", "nonsense"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let told = cluster.json(&["task", "ls"]);
    let name = text(&told, "/0/id").to_owned();
    let logs = cluster.tepui(["task", "logs", &name]).good();
    assert!(
        format!("{}{}", logs.text(), logs.stderr).contains("`nonsense` is none of"),
        "{logs:?}"
    );
    let request = json!({
        "key": "k", "module": format!("sha256:{digest}"), "args": ["sleep", "600000"],
        "cpu_milli": 100, "memory_bytes": 32 << 20, "disk_bytes": 0,
    });
    let started = cluster.api().post("/frameworks/run/http/runs", &request);
    let task = text(&started.body, "/tasks/0").to_owned();
    let path = format!("/tasks/run/{task}");
    cluster.api().wait(&path, |view| text(view, "/state") == "running");
    good(&["task", "kill", &format!("run/{task}")]);
    let ended = cluster.api().wait_final("run", &task);
    assert_eq!((text(&ended, "/state"), text(&ended, "/reason")), ("killed", "kill-requested"));
    assert_refused(&cluster.tepui(["task", "kill", "run/nobody"]), 1, &["task-unknown"]);

    // An agent that is deactivated is offered no more; one that is gone stays gone.
    for agent in ["agent-1", "agent-2"] {
        good(&["agent", "deactivate", agent]);
        assert_eq!(text(&cluster.json(&["agent", "show", agent]), "/mode"), "inactive");
    }
    let hello = guest("hello.wasm").display().to_string();
    good(&["run", &hello]);
    let ran = cluster.json(&["task", "ls", "--framework", "run"]);
    let last = ran.as_array().unwrap().iter().rev().find(|task| text(task, "/state") == "finished");
    assert_eq!(text(last.unwrap(), "/agent"), "agent-3", "{ran}");
    good(&["agent", "activate", "agent-1"]);
    good(&["agent", "gone", "agent-2"]);
    assert_eq!(text(&cluster.json(&["agent", "show", "agent-2"]), "/mode"), "gone");
    assert_refused(&cluster.tepui(["agent", "activate", "agent-2"]), 1, &["agent-mode-invalid"]);
}
