//! What is remembered, for how long, and at whose cost.

use crate::stage::{Stage, accept, launch, putting_out, task};
use tepui_master_core::Input;
use tepui_proto::tasks::Blob;
use tepui_proto::{Call, Digest, OfferId, TaskState, Tenant, limits};

#[test]
fn a_framework_s_many_ended_tasks_push_nobody_else_s_out() {
    let mut stage = Stage::new();
    stage.agent("a", 100_000);
    let quiet = stage.framework("quiet", &["x"]);
    stage.run(quiet, vec![task("only", 100)]);
    stage.report("only", TaskState::Finished);
    let busy = stage.framework("busy", &["y"]);
    stage.nothing(quiet);
    let mut ended = 0;
    while ended < limits::ENDED_TASKS_ALL + 500 {
        stage.pass(1_000);
        stage.run(busy, (0..500).map(|n| task(&format!("t{}", ended + n), 100)).collect());
        for n in ended..ended + 500 {
            stage.report(&format!("t{n}"), TaskState::Finished);
        }
        ended += 500;
    }
    let key = tepui_proto::TaskKey { framework: quiet, task: "only".into() };
    assert!(stage.leader.state().task(&key).is_some(), "the quiet one's task is still known");
    // All are counted, and so many are kept.
    let view = stage.leader.framework_view(&"acme".into(), "busy").unwrap();
    assert_eq!(view.tasks["finished"], ended as u64);
    let metrics = stage.leader.metrics();
    let kept = metrics.iter().find(|(name, ..)| name == "tepui_tasks_retained").unwrap().3;
    assert_eq!(kept, limits::ENDED_TASKS as u64 + 1);
    stage.check_copies();
    let again = stage.restored();
    let counted = again.framework(busy).unwrap().counts[&TaskState::Finished];
    assert_eq!(counted, ended as u64, "a snapshot keeps the count");
}

#[test]
fn many_frameworks_with_many_ended_tasks_push_nobody_out_who_has_few() {
    let mut stage = Stage::new();
    stage.agent("a", 100_000);
    let quiet = stage.framework("quiet", &["x"]);
    stage.run(quiet, vec![task("only", 100)]);
    stage.report("only", TaskState::Finished);
    stage.nothing(quiet);
    let busy = 20;
    for n in 0..busy {
        let framework = stage.framework(&format!("busy{n}"), &["y"]);
        // Launches on offers that there never were end at once.
        let tasks = (0..limits::ENDED_TASKS).map(|t| launch(task(&format!("t{t}"), 100)));
        stage.say(framework, vec![accept(&[OfferId(1 << 40)], tasks.collect())]);
    }
    let kept = |name: &str| {
        let (_, framework) = stage.leader.state().framework_named(&"acme".into(), name).unwrap();
        framework.tasks.len()
    };
    assert_eq!(kept("quiet"), 1);
    let all: Vec<usize> = (0..busy).map(|n| kept(&format!("busy{n}"))).collect();
    assert_eq!(all.iter().sum::<usize>() + 1, limits::ENDED_TASKS_ALL);
    assert!(all.iter().all(|kept| kept.abs_diff(limits::ENDED_TASKS_ALL / busy) <= 1), "{all:?}");
    stage.check_copies();
}

#[test]
fn records_of_ended_tasks_are_bounded_in_bytes() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000_000);
    let framework = stage.framework("f", &["x"]);
    let outputs: Vec<Blob> = (0..200)
        .map(|n| Blob {
            name: format!("{n}{}", "x".repeat(200)),
            digest: Digest([3; 32]),
            size_bytes: 1,
        })
        .collect();
    for round in 0..20 {
        stage.pass(1_000);
        let spec = |n| putting_out(&format!("t{round}-{n}"), &outputs);
        stage.run(framework, (0..10).map(spec).collect());
        for n in 0..10 {
            stage.report_with(&format!("t{round}-{n}"), TaskState::Finished, outputs.clone());
        }
    }
    let record = stage.leader.state().framework(framework).unwrap();
    let bytes: usize = record.tasks.values().map(|task| task.status.weight()).sum();
    assert!(bytes <= limits::ENDED_TASK_BYTES, "{bytes} bytes of {} tasks", record.tasks.len());
    assert!(record.tasks.contains_key("t19-9"), "the newest is kept");
    stage.check_copies();
}

fn store(stage: &mut Stage, digest: Digest) {
    let ticket = stage.ticket();
    stage.input(Input::BlobStored { ticket, digest, size_bytes: 1 });
}

#[test]
fn blobs_are_kept_for_as_long_as_a_durable_key_says_so() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    let (kept, other) = (Digest([8; 32]), Digest([9; 32]));
    store(&mut stage, kept);
    store(&mut stage, other);
    let key = format!("keep/sha256:{kept}/run-7");
    let put = |value| Call::Put { key: key.clone(), value };
    stage.say(framework, vec![put(Some(Vec::new()))]);
    stage.pass(3 * limits::BLOB_GRACE_MS);
    assert_eq!((stage.leader.has_blob(&kept), stage.leader.has_blob(&other)), (Some(1), None));
    stage.say(framework, vec![put(None)]);
    stage.pass(3 * limits::BLOB_GRACE_MS);
    assert_eq!(stage.leader.has_blob(&kept), None);
}

#[test]
fn who_asks_for_a_blob_and_is_told_that_it_is_here_may_count_on_it() {
    let (mut stage, _) = Stage::small(1_000, "x");
    let digest = Digest([9; 32]);
    store(&mut stage, digest);
    for _ in 0..6 {
        stage.pass(limits::BLOB_GRACE_MS / 2);
        stage.input(Input::BlobAskedFor(digest));
        assert_eq!(stage.leader.has_blob(&digest), Some(1));
    }
    // Asked often, it is not written down each time.
    let before = stage.log.len();
    for _ in 0..100 {
        stage.input(Input::BlobAskedFor(digest));
        store(&mut stage, digest);
    }
    assert_eq!(stage.log.len(), before);
    stage.pass(3 * limits::BLOB_GRACE_MS);
    assert_eq!(stage.leader.has_blob(&digest), None);
}

#[test]
fn a_framework_is_told_when_names_of_its_outputs_are_forgotten() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000_000);
    let framework = stage.framework("f", &["x"]);
    let mut named = 0;
    let told = |stage: &Stage| {
        let notes = stage.leader.event_views(&"acme".into(), "f", 0, 1_000).unwrap();
        notes.items.iter().filter(|note| note.kind == "outputs-forgotten").count()
    };
    let blob = |name: String| Blob { name, digest: Digest([3; 32]), size_bytes: 1 };
    while named < limits::KEPT_OUTPUTS {
        let id = format!("t{named}");
        let outputs: Vec<Blob> = (named..named + 256).map(|n| blob(format!("b{n}"))).collect();
        stage.pass(1_000);
        stage.run(framework, vec![putting_out(&id, &outputs)]);
        stage.report_with(&id, TaskState::Finished, outputs);
        named += 256;
    }
    assert_eq!(told(&stage), 0);
    let last = vec![blob("last".to_owned())];
    stage.pass(1_000);
    stage.run(framework, vec![putting_out("last", &last)]);
    stage.report_with("last", TaskState::Finished, last);
    assert_eq!(told(&stage), 1);
}

#[test]
fn names_of_all_versions_of_a_framework_are_bounded_together() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    let digest = Digest([9; 32]);
    store(&mut stage, digest);
    let names = |from: usize| (from..from + 1_500).map(|n| (format!("b{n}"), digest.to_string()));
    let mut upgrade = |from| stage.upgrade("f", &["x"], names(from).collect());
    assert_eq!(upgrade(0), Ok(()));
    assert_eq!(upgrade(1_500), Ok(()));
    // The same names again are no more.
    assert_eq!(upgrade(0), Ok(()));
    assert_eq!(upgrade(3_000), Err(tepui_master_core::Code::LimitReached));
    let known = stage.leader.state().framework(framework).unwrap().blobs.len();
    assert_eq!(known, 3_000);
}

fn stop(stage: &mut Stage, name: &str) {
    let (ticket, tenant) = (stage.ticket(), Tenant::from("acme"));
    stage.input(Input::FrameworkStopRequested { ticket, tenant, name: name.to_owned() });
    stage.pass(10);
}

#[test]
fn the_newest_of_the_ended_frameworks_are_kept_and_nothing_of_the_others() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000);
    for n in 0..limits::ENDED_FRAMEWORKS + 10 {
        let name = format!("f{n}");
        stage.framework(&name, &["x"]);
        stop(&mut stage, &name);
    }
    let known = |n: usize| stage.leader.framework_view(&"acme".into(), &format!("f{n}")).is_some();
    assert!((0..10).all(|n| !known(n)));
    assert!((10..limits::ENDED_FRAMEWORKS + 10).all(known));
    assert!(stage.leader.event_views(&"acme".into(), "f0", 0, 10).is_none());
    assert!(stage.leader.event_views(&"acme".into(), "f10", 0, 10).is_some());
    stage.check_copies();
}

#[test]
fn durable_keys_of_an_ended_framework_go_after_a_while() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    for other in ["second", "third"] {
        stage.framework(other, &["x"]);
    }
    let put = Call::Put { key: "k".to_owned(), value: Some(vec![7; 1_000]) };
    stage.say(framework, vec![put]);
    stop(&mut stage, "f");
    let keys = |stage: &Stage| stage.leader.state().framework(framework).unwrap().keys.len();
    // They are looked at when another one ends ...
    stage.pass(limits::ENDED_STATE_MS - 10_000);
    stop(&mut stage, "second");
    assert_eq!(keys(&stage), 1);
    stage.pass(20_000);
    stop(&mut stage, "third");
    assert_eq!(keys(&stage), 0);
    stage.check_copies();
}

#[test]
fn durable_keys_of_an_ended_framework_go_though_nobody_else_ends() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    let put = Call::Put { key: "k".to_owned(), value: Some(vec![7; 1_000]) };
    stage.say(framework, vec![put]);
    stop(&mut stage, "f");
    let keys = |stage: &Stage| stage.leader.state().framework(framework).unwrap().keys.len();
    stage.pass(limits::ENDED_STATE_MS - 10_000);
    assert_eq!(keys(&stage), 1);
    // ... and by each sweep.
    stage.pass(limits::BLOB_GRACE_MS / 6 + 20_000);
    assert_eq!(keys(&stage), 0);
    stage.check_copies();
}
