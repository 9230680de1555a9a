//! `tepui run`: a program that nobody built for Tepui behaves as it does at home.

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use tepui_e2e::{Cluster, PATIENCE, Watched, guest};

#[test]
fn programs_of_both_previews_get_their_words_and_give_their_output_and_exit_code() {
    let cluster = Cluster::start(1);
    // Preview 2 tells success from failure and no more: its `exit` takes no code.
    for (module, code) in [("hello.wasm", 7), ("hello-p2.wasm", 1)] {
        let module = guest(module).display().to_string();
        let ran = cluster.tepui(["run", &module, "--", "a", "b c"]);
        assert_eq!((ran.code, ran.text().as_str(), ran.stderr.as_str()), (0, "hello a b c\n", ""));
        let env = ["--env", "TEPUI_A=1", "--env", "TEPUI_B=x=y"];
        let words = ["run", &module].into_iter().chain(env).chain(["--", "--exit", "7"]);
        let ran = cluster.tepui(words);
        let said = "hello --exit 7\nTEPUI_A=1\nTEPUI_B=x=y\n";
        assert_eq!((ran.code, ran.text().as_str(), ran.stderr.as_str()), (code, said, ""));
    }
    for (module, code) in [("bad-task.wasm", 2), ("bad-task-p2.wasm", 1)] {
        let ran = cluster.tepui(["run", &guest(module).display().to_string(), "--", "nonsense"]);
        assert_eq!((ran.code, ran.text().as_str()), (code, ""));
        assert!(ran.stderr.starts_with("bad-task: `nonsense` is none of loop,"), "{}", ran.stderr);
    }
}

#[test]
fn instances_are_told_apart_and_files_go_in_and_come_out() {
    let cluster = Cluster::start(2);
    let hello = guest("hello.wasm").display().to_string();
    let ran = cluster.tepui(["run", &hello, "--instances", "3", "--cpus", "0.1", "--", "x"]).good();
    let text = ran.text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let expected = [
        "[0] TEPUI_INSTANCE=0",
        "[0] hello x",
        "[1] TEPUI_INSTANCE=1",
        "[1] hello x",
        "[2] TEPUI_INSTANCE=2",
        "[2] hello x",
    ];
    assert_eq!(lines, expected);

    let (source, kept) = (cluster.scratch("source"), cluster.scratch("kept"));
    fs::write(&source, "to be or not to be").unwrap();
    let (input, output) = (format!("{}=p0", source.display()), format!("out={}", kept.display()));
    let counter = guest("wordcount-task.wasm").display().to_string();
    let files = ["--input", &input, "--output", &output];
    let words =
        ["run", &counter].into_iter().chain(files).chain(["--", "map", "out", "0:0:18:1:p0"]);
    let _ran = cluster.tepui(words).good();
    let counts = fs::read_to_string(&kept).unwrap();
    assert!(counts.contains("be") && counts.contains("not"), "{counts}");

    // A file that the program does not leave is an error with a reason.
    let ran = cluster.tepui(["run", &hello, "--output", &format!("none={}", kept.display())]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("output-unavailable"), "{}", ran.stderr);
}

#[test]
fn a_request_that_is_sent_twice_starts_nothing_twice() {
    let cluster = Cluster::start(1);
    let hello = guest("hello.wasm").display().to_string();
    let _first = cluster.tepui(["run", &hello]).good();
    let first = cluster.api().get("/tasks/run/r1-0");
    let count = || cluster.json(&["task", "ls", "--framework", "run"]).as_array().unwrap().len();
    let module = cluster.json(&["blob", "put", &hello]);
    let module =
        module.pointer("/0/digest").and_then(Value::as_str).unwrap().trim_start_matches("sha256:");
    let request = json!({
        "key": "once", "module": format!("sha256:{module}"), "cpu_milli": 100,
        "memory_bytes": 16 << 20, "instances": 2,
    });
    assert_eq!((first.get("state").and_then(Value::as_str), count()), (Some("finished"), 1));
    let (one, two) = std::thread::scope(|scope| {
        let send = || cluster.api().post("/frameworks/run/http/runs", &request);
        let (one, two) = (scope.spawn(send), scope.spawn(send));
        (one.join().unwrap(), two.join().unwrap())
    });
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    assert_eq!(one.body, two.body);
    for task in one.body.get("tasks").and_then(Value::as_array).unwrap() {
        cluster.api().wait_final("run", task.as_str().unwrap());
    }
    let third = cluster.api().post("/frameworks/run/http/runs", &request);
    assert_eq!((third.status, &third.body, count()), (200, &one.body, 3));
}

#[test]
fn a_run_that_waits_is_stopped_by_ctrl_c_and_by_sigterm_and_nothing_of_it_begins_later() {
    let cluster = Cluster::start(1);
    let hello = guest("hello.wasm").display().to_string();
    let _known = cluster.tepui(["run", &hello]).good();
    for (signal, run) in [(Signal::INT, 2), (Signal::TERM, 3)] {
        let words = ["run", "--cpus", "64", &hello];
        let mut child = cluster.program(words).spawn();
        let stderr = child.stderr.take().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let reads = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                tell.send(line.unwrap()).unwrap();
            }
        });
        let next = || told.recv_timeout(PATIENCE).unwrap();
        assert!(
            next().starts_with("note: the run waits for 64 cpus"),
            "it does not say that it waits"
        );
        let watched = Watched::of(child.id());
        watched.signal(signal);
        assert!(watched.ended_within(PATIENCE));
        assert_eq!(child.wait().unwrap().code(), Some(130));
        reads.join().unwrap();
        let shown = cluster.api().get(&format!("/frameworks/run/http/runs/{run}"));
        assert_eq!(shown.pointer("/tasks/0/state"), Some(&json!("killed")), "{shown}");
    }
}
