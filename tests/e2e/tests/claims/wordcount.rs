//! The demo's job: counts are right over awkward input, and through the death of every part.

use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::thread;
use tepui_e2e::{Cluster, Folder, Ran, count, scramble};

/// A word longer than many splits, words that begin and end at every place of a split, no words, no bytes.
fn awkward() -> Vec<Vec<u8>> {
    let staircase: Vec<u8> = (1..24)
        .flat_map(|length| [vec![b'a' + length; usize::from(length)], vec![b' ']].concat())
        .collect();
    vec![
        staircase,
        Vec::new(),
        b"x".repeat(100),
        b"0123456789 -+*/ \n\t 42".to_vec(),
        (0..=255).cycle().take(600).collect(),
        b"ends without a separator".to_vec(),
        b"  Begins AND ends with one.".to_vec(),
    ]
}

#[test]
fn words_that_are_cut_everywhere_are_counted_as_by_another_program() {
    let cluster = Cluster::start(2);
    let jobs = [
        ("bytes", awkward(), 3),
        ("whole", awkward(), 1 << 20),
        ("large", vec![scramble(1, 300 << 10), scramble(2, 1)], 16 << 10),
        ("nothing", vec![Vec::new()], 64),
    ];
    for (name, files, split_bytes) in jobs {
        let folder = Folder::wordcount(name, &files, split_bytes);
        let ended = submit_and_wait(&cluster, &folder);
        assert_same(&result(&cluster, name, &ended.good().json()), &count(&files));
    }
}

#[test]
fn an_agent_that_is_killed_amid_a_count_changes_nothing_in_it() {
    // The last agent, so that it is one of several.
    through_a_death(|cluster| cluster.kill("agent-3"));
}

#[test]
fn cells_that_are_killed_amid_a_count_change_nothing_in_it() {
    through_a_death(|cluster| {
        let busy =
            (1..=3).map(|n| format!("agent-{n}")).find(|agent| !cluster.cells(agent).is_empty());
        cluster.kill_cells(&busy.unwrap());
    });
}

#[test]
fn a_master_that_is_killed_amid_a_count_changes_nothing_in_it() {
    through_a_death(|cluster| cluster.kill("master"));
}

/// Counts, kills something once the first map has finished, and checks what comes out.
fn through_a_death(kill: impl FnOnce(&Cluster)) {
    let cluster = Cluster::start(3);
    let files: Vec<Vec<u8>> = (0..4).map(|seed| scramble(seed, 60 << 10)).collect();
    let folder = Folder::wordcount("words", &files, 1 << 10);
    let ended = thread::scope(|scope| {
        let waiting = scope.spawn(|| submit_and_wait(&cluster, &folder));
        let first = cluster.api().wait("/tasks/words/map-0-0?wait=final", |view| {
            view.get("state").and_then(Value::as_str) == Some("finished")
        });
        assert!(first.get("agent").is_some_and(Value::is_string), "{first}");
        kill(&cluster);
        let midway = cluster.api().wait("/frameworks/words", |_| true);
        assert_ne!(midway.get("phase").unwrap(), "ended", "it was over too soon to be a test");
        waiting.join().unwrap()
    });
    assert_same(&result(&cluster, "words", &ended.good().json()), &count(&files));
    no_step_was_done_twice(&cluster, "words");
}

fn submit_and_wait(cluster: &Cluster, folder: &Folder) -> Ran {
    let words = ["framework", "submit", "--wait", "--output", "json"].map(OsStr::new);
    cluster.tepui(words.into_iter().chain([folder.written().as_os_str()]))
}

fn result(cluster: &Cluster, framework: &str, ended: &Value) -> String {
    let name = ended.pointer("/results/0/name").and_then(Value::as_str);
    cluster.blob(framework, name.unwrap_or_else(|| panic!("no result: {ended}")))
}

/// Line by line, so that a failure says where.
fn assert_same(got: &str, expected: &str) {
    for (got, expected) in got.lines().zip(expected.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.lines().count(), expected.lines().count());
}

/// Every task is there once, has ended, and of the attempts at a step exactly one finished.
fn no_step_was_done_twice(cluster: &Cluster, framework: &str) {
    let listed = cluster.json(&["task", "ls", "--framework", framework]);
    let (mut ids, mut steps, mut done) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for task in listed.as_array().unwrap() {
        let word = |name: &str| task.get(name).and_then(Value::as_str).unwrap().to_owned();
        let step = word("task").rsplit_once('-').unwrap().0.to_owned();
        assert!(ids.insert(word("id")), "{} is there twice", word("id"));
        match word("state").as_str() {
            "finished" => assert!(done.insert(step.clone()), "{step} was done twice"),
            "failed" | "lost" | "dropped" | "killed" => {}
            other => panic!("{} is {other}", word("id")),
        }
        steps.insert(step);
    }
    assert_eq!(steps, done);
    assert!(done.len() > 200, "{} steps are too few to be a test", done.len());
}
