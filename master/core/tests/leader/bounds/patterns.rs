//! What regular expressions cost the leader, who is made to wait for it.

use crate::stage::{Stage, want};
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::{Call, FrameworkId, limits};

/// Wants that name so many regular expressions, with this in each.
fn wanting(role: &str, tag: &str, count: usize) -> Call {
    let constraint = |n| Constraint {
        attribute: "@hostname".into(),
        comparison: Comparison::Matches,
        operand: format!("{tag}{n}"),
    };
    let constraints = (0..count).map(constraint).collect();
    Call::Want(Some(vec![Want { constraints, ..want(role, 1, 1_000) }]))
}

/// For how long a scheduler that has something to be told is given no turn, in milliseconds.
fn waits(stage: &mut Stage, framework: FrameworkId) -> u64 {
    let from = stage.now;
    let _mark = stage.turn_of(framework);
    stage.rest();
    stage.now.since(from).0
}

#[test]
fn who_has_regular_expressions_compiled_waits_for_it_and_nobody_else_does() {
    let mut stage = Stage::new();
    stage.agent("a", 10_000);
    let [one, two, other] = ["one", "two", "other"].map(|name| stage.framework(name, &[name]));
    assert_eq!(waits(&mut stage, one), 0);
    stage.say(one, vec![wanting("one", "a", 10)]);
    assert_eq!(waits(&mut stage, other), 0);
    assert_eq!(waits(&mut stage, one), 10 * limits::PATTERN_REST_MS);
    // What it wants already was compiled before, and so was what stands in two wants of one answer.
    let again = [wanting("one", "a", 9), wanting("one", "a", 10), wanting("one", "a", 9)];
    stage.say(one, again.into());
    assert_eq!(waits(&mut stage, one), 0);
    // Those who do it again share what there is; who does it for once does not wait for them.
    stage.say(one, vec![wanting("one", "b", 10)]);
    stage.say(two, vec![wanting("two", "b", 10)]);
    assert_eq!(waits(&mut stage, two), 10 * limits::PATTERN_REST_MS);
    assert_eq!(waits(&mut stage, one), 0);
    stage.say(one, vec![wanting("one", "c", 10)]);
    stage.say(two, vec![wanting("two", "c", 10)]);
    assert_eq!(waits(&mut stage, two), 2 * 10 * limits::PATTERN_REST_MS);
    assert_eq!(waits(&mut stage, one), 0);
    // After a while it is as if nothing had been.
    stage.pass(limits::REST_FORGOTTEN_MS);
    stage.say(one, vec![wanting("one", "d", 10)]);
    stage.say(two, vec![wanting("two", "d", 10)]);
    assert_eq!(waits(&mut stage, two), 10 * limits::PATTERN_REST_MS);
    assert_eq!(waits(&mut stage, other), 0);
}

#[test]
fn who_has_bad_regular_expressions_compiled_waits_too_and_each_is_compiled_once() {
    let mut stage = Stage::new();
    stage.agent("a", 10_000);
    let framework = stage.framework("one", &["x"]);
    stage.say(framework, vec![wanting("x", "(", 1); 200]);
    assert!(stage.refusals(framework).is_empty(), "it was given a turn");
    assert_eq!(waits(&mut stage, framework), limits::PATTERN_REST_MS);
    let told = stage.refusals(framework);
    assert!(!told.is_empty() && told.iter().all(|code| code == "constraint-invalid"), "{told:?}");
}

#[test]
fn the_more_agents_there_are_to_match_the_longer_a_scheduler_waits() {
    let mut stage = Stage::new();
    for n in 0..2 * limits::PATTERN_REST_AGENTS {
        stage.agent(&format!("a{n}"), 1_000);
    }
    let framework = stage.framework("one", &["x"]);
    stage.say(framework, vec![wanting("x", "h", 3)]);
    assert_eq!(waits(&mut stage, framework), 3 * (limits::PATTERN_REST_MS + 2));
}

#[test]
fn who_rests_is_offered_nothing_and_keeps_nothing_from_others() {
    let mut stage = Stage::new();
    let agent = stage.agent("a", 10_000);
    let rests = stage.framework("rests", &["x"]);
    let other = stage.framework("other", &["y"]);
    stage.nothing(other);
    stage.nothing(rests);
    // Both want all that there is, and the first is the first in turn.
    let matching = Constraint {
        attribute: "@hostname".into(),
        comparison: Comparison::Matches,
        operand: ".*".into(),
    };
    let all = |role: &str| want(role, 1, 9_000);
    stage
        .say(rests, vec![Call::Want(Some(vec![Want { constraints: vec![matching], ..all("x") }]))]);
    assert!(stage.held(rests).is_empty());
    stage.wants(other, all("y"));
    assert_eq!(stage.offer(other).agent.0, agent.0);
    // Once it has rested, it is offered what the other gives back.
    stage.nothing(other);
    assert!(stage.held(rests).is_empty(), "it rests still");
    stage.pass(limits::PATTERN_REST_MS);
    assert_eq!(stage.held(rests).len(), 1);
}

#[test]
fn who_rests_for_long_gives_back_what_it_holds_and_it_is_told_why() {
    let mut stage = Stage::new();
    let agent = stage.agent("a", 10_000);
    let names: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
    let all: Vec<FrameworkId> = names.iter().map(|name| stage.framework(name, &["x"])).collect();
    let (first, others) = all.split_first().unwrap();
    let new = |tag: &str| wanting("x", tag, limits::PATTERNS);
    for framework in &all {
        stage.say(*framework, vec![new("a")]);
    }
    stage.pass(limits::PATTERN_REST_MS * limits::PATTERNS as u64);
    for framework in others {
        stage.say(*framework, vec![new("b")]);
    }
    stage.say(*first, vec![Call::Want(None)]);
    assert_eq!(stage.held(*first).len(), 1);
    stage.say(*first, vec![new("b")]);
    // It is told of that once it has rested.
    let account = |stage: &Stage| {
        stage.leader.state().ledger().agent(agent).unwrap().offerable.offered.clone()
    };
    assert!(account(&stage).is_empty());
    let explained = stage.leader.explain_framework(&"acme".into(), "f0").unwrap();
    assert_eq!(explained.roles[0].state, "resting");
    let notes = stage.leader.event_views(&"acme".into(), "f0", 0, 1_000).unwrap();
    let note = notes.items.iter().find(|note| note.kind == "resting").unwrap();
    assert!(note.message.contains("32 new regular expressions"), "{}", note.message);
}
