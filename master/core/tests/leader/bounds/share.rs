//! What all frameworks take of memory is bounded: once it is full, each may grow to an equal share and no further.

use super::refused_whole;
use crate::stage::{Stage, task};
use std::collections::BTreeMap;
use tepui_master_core::Code;
use tepui_proto::{Call, FrameworkId, Reason, TaskId, TaskState};

fn put(key: &str, bytes: usize) -> Call {
    Call::Put { key: key.to_owned(), value: Some(vec![0; bytes]) }
}

/// Two frameworks, one of which takes nearly all of what there is.
fn full() -> (Stage, FrameworkId, FrameworkId) {
    let mut stage = Stage::new();
    stage.agent("a", 10_000);
    let large = stage.framework("large", &["x"]);
    stage.run(large, vec![task("t", 100)]);
    stage.say(large, (0..4).map(|n| put(&format!("{n}"), 60_000)).collect());
    let small = stage.framework("small", &["x"]);
    stage.leader.bound_state(260_000);
    (stage, large, small)
}

#[test]
fn a_framework_above_its_share_grows_no_further_and_others_do() {
    let (mut stage, large, small) = full();
    stage.say(small, vec![put("k", 50_000)]);
    assert_eq!(refused_whole(&stage, small), None);
    // The sum is full now, and so is the share of one: its tasks are refused one by one, and its turn counts.
    stage.run(large, vec![task("more", 100)]);
    assert_eq!(stage.state_of(large, "more"), TaskState::Dropped);
    let record = stage.leader.state().framework(large).unwrap();
    assert_eq!(record.tasks[&TaskId::from("more")].status.reason, Reason::StateFull);
    stage.run(small, vec![task("s", 100)]);
    assert_eq!(stage.state_of(small, "s"), TaskState::Staging);
    // It may always let go of what it has, and is refused whole for more.
    stage.say(large, vec![Call::Put { key: "0".to_owned(), value: None }]);
    assert_eq!(refused_whole(&stage, large), None);
    stage.say(large, vec![put("0", 60_001)]);
    assert!(refused_whole(&stage, large).unwrap().contains("bytes of state of all frameworks"));
}

#[test]
fn what_fills_memory_can_be_upgraded_and_nothing_new_that_is_large_comes_beside_it() {
    let (mut stage, _, small) = full();
    stage.say(small, vec![put("k", 50_000)]);
    stage.upgrade("large", &["x"], BTreeMap::new()).unwrap();
    let names = |count| {
        let name = |n| (format!("{n}{}", "x".repeat(200)), crate::stage::TASK.to_string());
        (0..count).map(name).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(stage.upgrade("large", &["x"], names(10)), Err(Code::LimitReached));
    assert_eq!(stage.upgrade("new", &["x"], names(1_000)), Err(Code::LimitReached));
    assert_eq!(stage.upgrade("new", &["x"], names(10)), Ok(()));
}
