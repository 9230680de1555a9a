//! One tenant's many tasks, or one of them again and again: what is said to them, what they say, and their end.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of them here")]

use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tepui_e2e::{Cluster, Folder};
use tepui_hostile::{besieged, hostile, instances};

/// How long each goes on once it has begun.
const FOR: Duration = Duration::from_secs(5);
/// More than a master needs for all of them.
const MASTER_BYTES: u64 = 400 << 20;

/// One cluster after the other: what is measured is not to be disturbed by another test.
static ALONE: Mutex<()> = Mutex::new(());

/// A hostile scheduler with so many tasks of a module.
fn with_tasks(mode: &str, module: &str, tasks: u32, args: &str) -> Folder {
    Folder::new(mode, "hostile-scheduler.wasm")
        .module("task", module)
        .config("mode", mode)
        .config("tasks", tasks)
        .config("args", args)
}

/// What a hostile scheduler says of itself.
fn told(cluster: &Cluster, name: &str, what: &str) -> u64 {
    let told = cluster.api().get(&format!("/frameworks/{name}/http/"));
    told.get(what).and_then(Value::as_u64).unwrap()
}

/// Waits until it says that there is so much of something.
fn wait_told(cluster: &Cluster, name: &str, what: &str, least: u64) {
    cluster.api().wait(&format!("/frameworks/{name}/http/"), |told| {
        told.get(what).and_then(Value::as_u64) >= Some(least)
    });
}

/// Lets it go on for a while: waits for an end that does not come.
fn goes_on(cluster: &Cluster, name: &str) {
    let begun = Instant::now();
    while begun.elapsed() < FOR {
        cluster.api().get(&format!("/frameworks/{name}?wait=ended&timeout_ms=500"));
    }
}

fn stop(cluster: &Cluster, name: &str) {
    let _ran = cluster.tepui(["framework", "stop", name]).good();
    let ended = cluster.api().wait_ended(name);
    assert_eq!(ended.get("phase").and_then(Value::as_str), Some("ended"));
}

/// Its tasks in these states.
fn tasks_in(view: &Value, states: &[&str]) -> u64 {
    let tasks = view.get("tasks").unwrap();
    states.iter().filter_map(|state| tasks.get(state).and_then(Value::as_u64)).sum()
}

#[test]
fn tasks_that_never_stop_telling_leave_their_agents_to_others_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start_with(2, &["--memory", "8GiB", "--cpus", "4"]);
    besieged(&cluster, MASTER_BYTES, || {
        let tellers = with_tasks("listens", "hostile-task-p2.wasm", 120, "tell 100000000");
        let _ran = cluster.submit(tellers.written()).good();
        wait_told(&cluster, "listens", "running", 110);
        let before = told(&cluster, "listens", "heard");
        goes_on(&cluster, "listens");
        // 8 MiB and more: the bound slows them down and stops nobody.
        wait_told(&cluster, "listens", "heard", before + 512);
        assert!(told(&cluster, "listens", "running") >= 110, "they have ended");
    });
    stop(&cluster, "listens");
}

#[test]
fn one_task_that_is_killed_and_written_to_thousands_of_times_a_turn_cuts_no_agent() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(1);
    let other = hostile("other", "idle");
    let _ran = cluster.submit(other.written()).good();
    wait_told(&cluster, "other", "turn", 1);
    let before = instances(&cluster, "other");
    besieged(&cluster, MASTER_BYTES, || {
        let torments = with_tasks("torments", "hostile-task.wasm", 1, "sleep 600000");
        let _ran = cluster.submit(torments.written()).good();
        wait_told(&cluster, "torments", "running", 1);
        let turns = told(&cluster, "torments", "turn");
        goes_on(&cluster, "torments");
        wait_told(&cluster, "torments", "turn", turns + 20);
        // It still runs, so each of those turns had somebody to kill and to write to.
        assert_eq!(told(&cluster, "torments", "running"), 1);
    });
    assert_eq!(instances(&cluster, "other"), before, "somebody else's scheduler was begun anew");
    stop(&cluster, "torments");
}

#[test]
fn the_stop_of_thousands_of_tasks_cuts_no_agent() {
    /// Nearly as many as four agents take.
    const TASKS: u32 = 3_600;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start_with(4, &["--memory", "8GiB", "--cpus", "12"]);
    besieged(&cluster, MASTER_BYTES, || {
        let many = with_tasks("many", "hostile-task.wasm", TASKS, "sleep 600000");
        let _ran = cluster.submit(many.written()).good();
        cluster.api().wait("/frameworks/many?wait=ended&timeout_ms=100", |view| {
            tasks_in(view, &["staging", "starting", "running"]) == u64::from(TASKS)
        });
        stop(&cluster, "many");
    });
    let view = cluster.api().get("/frameworks/many");
    assert_eq!(tasks_in(&view, &["killed"]), u64::from(TASKS), "{view}");
}
