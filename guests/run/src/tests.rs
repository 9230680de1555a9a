//! What `tepui run` relies on.

use super::*;
use tepui_sdk::testing::FakeCluster;

fn body(key: &str, instances: u32) -> String {
    let module = format!("sha256:{}", "ab".repeat(32));
    format!(
        r#"{{"key":"{key}","module":"{module}","args":["x"],"env":[["A","b"]],"cpu_milli":100,"memory_bytes":33554432,
        "disk_bytes":1048576,"outputs":[{{"path":"o","blob":"{key}/o"}}],"instances":{instances}}}"#
    )
}

fn cluster() -> FakeCluster {
    FakeCluster::new().agent("a1", 250, 512).submit::<Runs>(&[])
}

fn post(cluster: &mut FakeCluster, body: &str) -> (u16, serde_json::Value) {
    let request = cluster.request("POST", "/runs", body);
    cluster.step();
    answer(cluster, request)
}

fn answer(cluster: &FakeCluster, request: u64) -> (u16, serde_json::Value) {
    let response = cluster.response(request).unwrap();
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

#[test]
fn a_run_is_recorded_then_launched_then_told() {
    let mut cluster = cluster();
    let (status, told) = post(&mut cluster, &body("k", 1));
    assert_eq!((status, told), (201, serde_json::json!({ "tasks": ["r1-0"] })));
    assert!(cluster.launched().is_empty(), "the answer comes first");
    cluster.step();
    assert_eq!(cluster.live(), ["r1-0"]);
    cluster.end_task("r1-0", tepui_sdk::TaskState::Failed, "exited-nonzero", Some(7)).step();
    let request = cluster.request("GET", "/runs/1", "");
    cluster.step();
    let expected = serde_json::json!({ "run": 1, "tasks": [{ "task": "r1-0", "state": "failed", "exit_code": 7 }] });
    assert_eq!(answer(&cluster, request), (200, expected));
    cluster.steps(20);
    assert_eq!(cluster.launched().len(), 1, "nothing is tried again");
}

#[test]
fn the_same_key_starts_nothing_twice() {
    let mut cluster = cluster();
    let first = post(&mut cluster, &body("k", 2));
    for round in 0..6 {
        if round % 2 == 0 {
            cluster.drop_instance();
        }
        let again = post(&mut cluster, &body("k", 2));
        assert_eq!((again.0, &again.1), (200, &first.1));
        cluster.finish_all();
    }
    assert_eq!(cluster.launched(), ["r1-0", "r1-1"]);
    cluster.lose_next_turn();
    let lost = cluster.request("POST", "/runs", body("other", 1));
    cluster.step();
    assert!(cluster.response(lost).is_none());
    cluster.steps(3);
    assert_eq!(answer(&cluster, lost).0, 201);
    assert_eq!(cluster.launched().len(), 3);
}

#[test]
fn instances_wait_for_room() {
    let mut cluster = cluster();
    post(&mut cluster, &body("k", 5));
    cluster.step();
    assert_eq!(cluster.live(), ["r1-0", "r1-1"]);
    assert_eq!(cluster.wants().unwrap()[0].count, 3);
    for _ in 0..10 {
        cluster.finish_all().step();
    }
    assert_eq!(cluster.launched().len(), 5);
    assert_eq!(cluster.wants(), Some([].as_slice()));
    assert_eq!(cluster.task("r1-3").unwrap().spec.outputs[0].blob, "k/o-3");
    assert_eq!(cluster.expired_offers(), 0);
}

#[test]
fn a_run_can_be_stopped_before_and_after_its_launch() {
    let mut cluster = cluster();
    post(&mut cluster, &body("k", 5));
    cluster.step();
    let request = cluster.request("DELETE", "/runs/1", "");
    cluster.steps(3);
    assert_eq!(answer(&cluster, request).0, 202);
    assert!(cluster.live().is_empty());
    assert_eq!(cluster.launched().len(), 2);
}

#[test]
fn many_runs_that_are_stopped_at_once_are_stopped_over_several_turns_even_by_another_instance() {
    let mut cluster = FakeCluster::new().agent("a1", 1_000_000, 1_000_000).submit::<Runs>(&[]);
    let runs = 6;
    for n in 0..runs {
        post(&mut cluster, &body(&format!("k{n}"), INSTANCES));
    }
    let all = runs * INSTANCES as usize;
    while cluster.live().len() < all {
        cluster.step();
    }
    for n in 1..=runs {
        cluster.request("DELETE", &format!("/runs/{n}"), "");
    }
    cluster.step();
    assert_eq!(cluster.live().len(), all - KILLS, "as many as one answer stops");
    cluster.drop_instance();
    for _ in 0..100 {
        cluster.step();
    }
    assert_eq!(cluster.live(), Vec::<&str>::new());
    assert_eq!((cluster.launched().len(), cluster.refusals().len()), (all, 0));
}

#[test]
fn bad_bodies_are_told_what_is_wrong() {
    let mut cluster = cluster();
    let good = body("k", 1);
    let long = format!("\"{}\"", "x".repeat(api::SPEC_BYTES));
    let bad = [
        ("{".to_owned(), "EOF"),
        (good.replace("\"key\"", "\"kee\""), "kee"),
        (good.replace("sha256:ab", "ab"), "`module`"),
        (good.replace("\"instances\":1", "\"instances\":0"), "`instances`"),
        (good.replace("\"cpu_milli\":100", "\"cpu_milli\":-1"), "-1"),
        (good.replace("33554432", "1"), "`memory_bytes`"),
        (good.replace("\"x\"", &long), "bytes"),
    ];
    for (body, word) in bad {
        let (status, told) = post(&mut cluster, &body);
        assert_eq!((status, told["code"].as_str()), (400, Some("invalid-run")));
        assert!(told["message"].as_str().unwrap().contains(word), "{told}");
    }
    assert!(cluster.keys().is_empty(), "nothing is left behind");
}

#[test]
fn ended_runs_are_forgotten_in_the_end() {
    let mut cluster = FakeCluster::new().agent("a1", 10_000, 100_000).submit::<Runs>(&[]);
    for n in 0..ENDED_RUNS + 50 {
        cluster.request("POST", "/runs", body(&format!("k{n}"), 1));
        if n % 50 == 49 {
            cluster.steps(3).finish_all().step();
        }
    }
    cluster.steps(3).finish_all().step();
    assert_eq!(cluster.launched().len(), ENDED_RUNS + 50);
    assert_eq!(cluster.keys().iter().filter(|key| key.starts_with("run/")).count(), ENDED_RUNS);
    assert_eq!(cluster.keys().len(), 3 * ENDED_RUNS + 1);
}

#[test]
fn what_never_began_is_launched_again_under_another_name_and_not_for_ever() {
    let mut cluster = cluster();
    post(&mut cluster, &body("k", 1));
    cluster.step();
    let dropped = |cluster: &mut FakeCluster, task: &str, reason: &str| {
        cluster.end_task(task, tepui_sdk::TaskState::Dropped, reason, None).steps(3);
        let request = cluster.request("GET", "/runs/1", "");
        cluster.step();
        answer(cluster, request).1["tasks"][0].clone()
    };
    let told = dropped(&mut cluster, "r1-0", "invalid-offer");
    assert_eq!((told["task"].as_str(), told["state"].as_str()), (Some("r1-0-2"), Some("launched")));
    cluster.drop_instance();
    for launch in 2..LAUNCHES {
        let told = dropped(&mut cluster, &format!("r1-0-{launch}"), "cell-full");
        assert_eq!(told["task"], format!("r1-0-{}", launch + 1));
    }
    let told = dropped(&mut cluster, "r1-0-8", "invalid-offer");
    assert_eq!((told["task"].as_str(), told["state"].as_str()), (Some("r1-0-8"), Some("dropped")));
    assert_eq!(cluster.launched().len(), 8);
}

#[test]
fn what_the_task_itself_is_wrong_about_is_not_tried_again() {
    let mut cluster = cluster();
    post(&mut cluster, &body("k", 1));
    cluster.step();
    let state = tepui_sdk::TaskState::Dropped;
    cluster.end_task("r1-0", state, "module-unknown", None).steps(3);
    assert_eq!(cluster.launched(), ["r1-0"]);
    assert!(cluster.live().is_empty());
}

#[test]
fn a_run_that_is_stopped_while_it_waits_to_be_launched_again_is_over() {
    let mut cluster = cluster();
    post(&mut cluster, &body("k", 1));
    cluster.step();
    cluster.end_task("r1-0", tepui_sdk::TaskState::Dropped, "invalid-offer", None);
    let request = cluster.request("DELETE", "/runs/1", "");
    cluster.steps(5);
    assert_eq!(answer(&cluster, request).1["tasks"][0]["state"], "killed");
    assert_eq!(cluster.launched(), ["r1-0"]);
}

#[test]
fn what_a_run_that_waits_will_need_is_kept_until_it_has_ended() {
    let mut cluster = cluster();
    let huge = body("k", 1).replace("\"cpu_milli\":100", "\"cpu_milli\":100000");
    let input =
        format!(r#""inputs":[{{"source":"sha256:{}","path":"p"}}],"outputs""#, "CD".repeat(32));
    post(&mut cluster, &huge.replace("\"outputs\"", &input));
    cluster.steps(3);
    let kept = |cluster: &FakeCluster| -> Vec<String> {
        cluster
            .keys()
            .iter()
            .filter(|key| key.starts_with("keep/"))
            .map(|key| (*key).to_owned())
            .collect()
    };
    let expected = ["ab", "cd"].map(|hex| format!("keep/sha256:{}/1", hex.repeat(32)));
    assert_eq!(kept(&cluster), expected);
    cluster.drop_instance();
    cluster.steps(2);
    assert_eq!(kept(&cluster), expected);
    cluster.request("DELETE", "/runs/1", "");
    cluster.steps(2);
    assert!(kept(&cluster).is_empty());
}
