//! The whole count over a fake cluster: tasks run as the real ones would, on the real functions.

use super::*;
use std::collections::BTreeMap;
use tepui_sdk::testing::FakeCluster;
use wordcount_task::{Piece as TaskPiece, Tally};

fn texts() -> Vec<(String, Vec<u8>)> {
    let mut texts: Vec<(String, Vec<u8>)> = (0..9)
        .map(|n| {
            (
                format!("in/{n:04}"),
                format!("alpha beta-{n} gamma's DELTA{}", " epsilon".repeat(n * 3)).into_bytes(),
            )
        })
        .collect();
    texts.push(("in/0009".to_owned(), Vec::new()));
    texts.push(("in/0010".to_owned(), b"x".repeat(100)));
    texts
}

fn expected(texts: &[(String, Vec<u8>)]) -> String {
    let mut counts = BTreeMap::<String, u64>::new();
    for (_, text) in texts {
        let words = text.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty());
        words.for_each(|word| {
            *counts.entry(String::from_utf8(word.to_ascii_lowercase()).unwrap()).or_default() += 1
        });
    }
    let mut ranking: Vec<(String, u64)> = counts.into_iter().collect();
    ranking.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let words: u64 = ranking.iter().map(|(_, count)| count).sum();
    let lines: String = ranking.iter().map(|(word, count)| format!("{count} {word}\n")).collect();
    format!("words {words} distinct {}\n{lines}", ranking.len())
}

fn cluster(config: &[(&str, &str)]) -> FakeCluster {
    let cluster = FakeCluster::new().agent("a1", 1_000, 1_024).agent("a2", 1_000, 1_024);
    let blobs =
        texts().into_iter().fold(cluster, |cluster, (name, bytes)| cluster.blob(&name, bytes));
    blobs.submit::<WordCount>(config)
}

/// Runs a live task as `wordcount-task` would, and ends it.
fn run_task(cluster: &mut FakeCluster, id: &str) {
    let inputs: BTreeMap<String, Vec<u8>> = cluster.inputs(id).into_iter().collect();
    let args = cluster.task(id).unwrap().spec.args.clone();
    let (mut tally, mut out) = (Tally::default(), Vec::new());
    for arg in &args[2..] {
        if args[0] == "map" {
            let piece = TaskPiece::parse(arg).unwrap();
            tally.scan(&piece, inputs[&piece.path].as_slice()).unwrap();
        } else {
            tally.read(inputs[arg].as_slice()).unwrap();
        }
    }
    match args[0].as_str() {
        "final" => tally.write_result(&mut out).unwrap(),
        _ => tally.write(&mut out).unwrap(),
    }
    cluster.finish_task_with(id, &[("out", out)]);
}

fn run_all(cluster: &mut FakeCluster) {
    let live: Vec<String> = cluster.live().into_iter().map(str::to_owned).collect();
    live.iter().for_each(|id| run_task(cluster, id));
}

fn result(cluster: &FakeCluster) -> String {
    let outcome = cluster.outcome().unwrap();
    assert!(outcome.success, "{}", outcome.message);
    String::from_utf8(cluster.blob_bytes(&outcome.results[0]).unwrap().to_vec()).unwrap()
}

#[test]
fn every_split_gives_the_same_counts() {
    let expected = expected(&texts());
    for split in ["1", "3", "7", "40", "64", "1000000"] {
        let mut cluster = cluster(&[("split_bytes", split)]);
        cluster.run(1_000, run_all);
        assert_eq!(result(&cluster), expected, "split into {split}");
        assert_eq!(cluster.outcome().unwrap().results, ["result"]);
        assert_eq!(cluster.expired_offers(), 0);
        assert!(cluster.refusals().is_empty(), "{:?}", cluster.refusals());
    }
}

#[test]
fn many_maps_are_reduced_in_a_tree() {
    let mut cluster = cluster(&[("split_bytes", "1")]);
    cluster.run(1_000, run_all);
    assert!(cluster.launched().iter().filter(|id| id.starts_with("map-")).count() > FAN_IN);
    assert!(cluster.launched().iter().filter(|id| id.starts_with("reduce-")).count() > 2);
}

#[test]
fn memory_turns_and_agents_may_go_at_any_time() {
    let mut cluster = cluster(&[("split_bytes", "16")]);
    let mut round = 0;
    cluster.run(2_000, |cluster| {
        round += 1;
        match round % 7 {
            1 => {
                cluster.drop_instance();
            }
            3 => {
                cluster.lose_next_turn();
            }
            5 if round < 50 => {
                cluster.lose_agent("a2").add_agent("a2", 1_000, 1_024);
            }
            _ => {}
        }
        if let Some(id) = cluster.live().get(round % 3).map(|id| (*id).to_owned()) {
            run_task(cluster, &id);
        }
    });
    assert_eq!(result(&cluster), expected(&texts()));
}

#[test]
fn what_failed_is_tried_again() {
    let mut cluster = cluster(&[("split_bytes", "64")]);
    cluster.run(1_000, |cluster| {
        let live: Vec<String> = cluster.live().into_iter().map(str::to_owned).collect();
        for id in live {
            if id.ends_with("-0") {
                cluster.fail_task(&id);
            } else {
                run_task(cluster, &id);
            }
        }
    });
    assert_eq!(result(&cluster), expected(&texts()));
    assert_eq!(cluster.outcome().unwrap().results, ["result.1"]);
}

#[test]
fn what_fails_five_times_ends_the_framework_and_says_why() {
    let mut cluster = cluster(&[]);
    let outcome = cluster.run(100, |cluster| {
        if let Some(id) = cluster.live().first().map(|id| (*id).to_owned()) {
            cluster.fail_task(&id);
        }
    });
    assert!(!outcome.success);
    assert!(
        outcome.message.contains("after 5 attempts") && outcome.message.contains("exited-nonzero"),
        "{outcome:?}"
    );
}

#[test]
fn nothing_to_count_is_counted_too() {
    let mut cluster = FakeCluster::new().agent("a1", 1_000, 1_024).submit::<WordCount>(&[]);
    cluster.run(20, run_all);
    assert_eq!(result(&cluster), "words 0 distinct 0\n");
}

#[test]
fn task_names_lead_back_to_their_steps() {
    let blob = Blob { name: "in/0".to_owned(), digest: String::new(), size_bytes: 70 };
    let plan = Plan::new(vec![blob], 1);
    assert_eq!((plan.maps, plan.steps.len()), (70, 73));
    for step in 0..plan.steps.len() {
        assert_eq!(plan.step_of(&plan.names(step, 3).0), Some((step, 3)));
    }
    for wrong in ["", "map", "map-70-0", "reduce-3-0", "map-1", "other-1-1", "map-1-x"] {
        assert_eq!(plan.step_of(wrong), None, "{wrong}");
    }
    assert_eq!(plan.names(72, 0).1, "result");
}
