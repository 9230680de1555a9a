//! The same request again and again, by several with the token, each with a connection and a machine of their own; and
//! schedulers whose every answer makes the master write much. Others are served meanwhile, and nothing ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of them here")]

use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use tepui_e2e::Cluster;
use tepui_hostile::{besieged, hostile, stored};

/// How long each goes on.
const FOR: Duration = Duration::from_secs(6);
/// More than a master needs for all of them.
const MASTER_BYTES: u64 = 512 << 20;
/// Who asks at the same time.
const CLIENTS: u64 = 4;

type Statuses = BTreeMap<u16, usize>;

/// Each client asks what `request` makes of its number, of how often it has asked, and of the last answer, one after the
/// other. Says which statuses came how often.
fn storm<F>(cluster: &Cluster, request: F) -> Statuses
where
    F: Fn(u64, u64, &Value) -> (Method, String, Value) + Sync,
{
    let client = |number: u64| {
        let (client, url) = (cluster.api().another(), cluster.api().url().to_owned());
        let (token, request) = (cluster.api().token().to_owned(), &request);
        move || {
            rustix::process::nice(19).unwrap();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (mut statuses, mut last, begun) = (Statuses::new(), Value::Null, Instant::now());
            for turn in 0.. {
                if begun.elapsed() > FOR {
                    break;
                }
                let (method, path, body) = request(number, turn, &last);
                let asked = client.request(method, format!("{url}/v1{path}"));
                let asked = asked.bearer_auth(&token).json(&body);
                let (status, body) = runtime.block_on(async {
                    let answer = asked.send().await.unwrap();
                    (answer.status().as_u16(), answer.bytes().await.unwrap())
                });
                last = serde_json::from_slice(&body).unwrap_or_default();
                *statuses.entry(status).or_default() += 1;
            }
            statuses
        }
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(client(number))).collect();
        let mut sum = Statuses::new();
        for statuses in all.into_iter().map(|client| client.join().unwrap()) {
            for (status, count) in statuses {
                *sum.entry(status).or_default() += count;
            }
        }
        sum
    })
}

#[test]
fn one_weight_that_changes_all_the_time_leaves_others_their_offers() {
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        let statuses = storm(&cluster, |client, turn, _last| {
            let change = json!({ "role": format!("r{client}"), "weight_milli": 1_000 + turn % 2 });
            (Method::PATCH, "/roles".to_owned(), json!({ "changes": [change] }))
        });
        assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
        assert!(statuses[&200] > 100, "{statuses:?}");
    });
}

#[test]
fn settings_of_a_thousand_roles_at_a_time_are_set_one_request_after_the_other() {
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        let statuses = storm(&cluster, |client, turn, _last| {
            let change = |n: u64| {
                let role = format!("r{client}/{}/{}", "deep/".repeat(12), turn % 3 * 1_000 + n);
                json!({ "role": role.replace("//", "/"), "limit": "cpus:1", "weight_milli": 1_000 + turn })
            };
            let changes: Vec<Value> = (0..1_000).map(change).collect();
            (Method::PATCH, "/roles".to_owned(), json!({ "changes": changes, "force": true }))
        });
        // Some of them are too much together.
        assert!(statuses.keys().all(|status| [200, 409].contains(status)), "{statuses:?}");
        assert!(statuses.get(&200).is_some_and(|count| *count > 5), "{statuses:?}");
    });
}

#[test]
fn schedulers_with_much_state_that_are_upgraded_all_the_time_begin_now_and_then() {
    let cluster = Cluster::start(2);
    let scheduler = stored(&cluster, "hostile-scheduler.wasm");
    besieged(&cluster, MASTER_BYTES, || {
        let spec = |client: u64, turn: u64| {
            let config = json!({ "mode": "state", "turn": turn.to_string() });
            json!({
                "name": format!("u{client}"), "roles": ["u"], "cpu_milli": 50, "memory_bytes": 64 << 20,
                "scheduler": scheduler, "config": config,
            })
        };
        let path = |client: u64| format!("/frameworks/u{client}");
        for client in 0..CLIENTS {
            let begun = cluster.api().ask(&Method::PUT, &path(client), Some(&spec(client, 0)));
            assert_eq!(begun.unwrap().status, 201);
        }
        for client in 0..CLIENTS {
            cluster.api().wait(&format!("{}/http/", path(client)), |told| {
                told.get("turn").and_then(Value::as_u64) > Some(4)
            });
        }
        let statuses = storm(&cluster, |client, turn, _last| {
            (Method::PUT, path(client), spec(client, turn + 1))
        });
        assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
        for client in 0..CLIENTS {
            let view = cluster.api().get(&path(client));
            let begun = view.get("incarnation").and_then(Value::as_u64).unwrap();
            assert!((2..12).contains(&begun), "{begun} instances of {statuses:?} upgrades");
        }
    });
}

#[test]
fn many_runs_that_are_begun_and_stopped_all_the_time_leave_others_theirs() {
    let cluster = Cluster::start(2);
    let noop = stored(&cluster, "noop.wasm");
    besieged(&cluster, MASTER_BYTES, || {
        let statuses = storm(&cluster, |client, turn, last| {
            let begun = last.pointer("/tasks/0").and_then(Value::as_str);
            if let Some(number) =
                begun.and_then(|task| task.trim_start_matches('r').split('-').next())
            {
                let path = format!("/frameworks/run/http/runs/{number}");
                return (Method::DELETE, path, json!(null));
            }
            let run = json!({
                "key": format!("{client}-{turn}"), "module": noop, "cpu_milli": 1,
                "memory_bytes": 1 << 20, "instances": 1_000,
            });
            (Method::POST, "/frameworks/run/http/runs".to_owned(), run)
        });
        let begun = statuses.get(&201).copied().unwrap_or_default();
        let stopped = statuses.get(&202).copied().unwrap_or_default();
        assert!(begun > 5 && stopped > 5, "{statuses:?}");
    });
}

#[test]
fn many_who_launch_what_never_begins_push_nobody_s_ended_tasks_out() {
    const MANY: usize = 30;
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        for n in 0..MANY {
            let folder = hostile(&format!("n{n}"), "bad-launches");
            let _ran = cluster.submit(folder.written()).good();
        }
        let last = format!("/frameworks/n{}", MANY - 1);
        cluster.api().wait(&last, |view| view.get("phase").is_some_and(|phase| phase == "held"));
        // More was launched, and forgotten, than all together may keep.
        let count = |n: usize| {
            let view = cluster.api().get(&format!("/frameworks/n{n}"));
            view.pointer("/tasks/dropped").and_then(Value::as_u64).unwrap_or(0)
        };
        let all: u64 = (0..MANY).map(count).sum();
        assert!(all > 50_000, "{all}");
    });
}

#[test]
fn reservations_that_come_and_go_on_agents_with_many_pools_leave_others_time() {
    let cluster = Cluster::start(2);
    besieged(&cluster, MASTER_BYTES, || {
        let _ran = cluster.submit(hostile("volumes", "volumes").written()).good();
        cluster.api().wait("/agents/agent-1", |view| {
            let pools = view.get("pools").and_then(Value::as_str);
            pools.is_some_and(|pools| pools.matches(';').count() > 200)
        });
        let statuses = storm(&cluster, |client, turn, _last| {
            let role = format!("{}{client}-{}", "deep/".repeat(20), turn / 2 % 7);
            let what = ["reserve", "unreserve"][usize::try_from(turn % 2).unwrap()];
            let operation = json!({ what: { "role": role, "resources": "mem:1" } });
            (Method::POST, format!("/agents/agent-{}/operations", 1 + client % 2), operation)
        });
        // What the framework made a volume of meanwhile cannot be reserved.
        assert!(statuses.keys().all(|status| [200, 409].contains(status)), "{statuses:?}");
        assert!(statuses.get(&200).is_some_and(|count| *count > 3), "{statuses:?}");
    });
}
