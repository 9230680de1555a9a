//! Maintenance: schedulers are told when an agent is to go down, and those that hold something of it are asked to leave.

use crate::stage::{Stage, task};
use tepui_proto::events::Unavailability;
use tepui_proto::{Call, DurationMs, FrameworkId, OfferId, Timestamp};

const WHEN: Unavailability =
    Unavailability { start: Timestamp(90_000), length: Some(DurationMs(60_000)) };

fn inverse(stage: &Stage, framework: FrameworkId) -> Vec<OfferId> {
    stage.inbox(framework).inverse.iter().map(|offer| offer.id).collect()
}

/// One framework with a task on the agent.
fn busy() -> (Stage, FrameworkId) {
    let (mut stage, framework) = Stage::small(4_000, "web");
    stage.run(framework, vec![task("t", 4_000)]);
    stage.nothing(framework);
    (stage, framework)
}

#[test]
fn an_agent_s_unavailability_is_told_with_its_next_offer() {
    let (mut stage, framework) = Stage::small(4_000, "web");
    assert_eq!(stage.inbox(framework).agents.last().unwrap().unavailability, None);
    stage.maintenance("a", Some(WHEN)).unwrap();
    stage.pass(11_000);
    assert_eq!(stage.inbox(framework).agents.last().unwrap().unavailability, Some(WHEN));
    stage.maintenance("a", None).unwrap();
    stage.pass(11_000);
    assert_eq!(stage.inbox(framework).agents.last().unwrap().unavailability, None);
}

#[test]
fn who_holds_something_of_the_agent_is_asked_to_leave_it_once() {
    let (mut stage, framework) = busy();
    let idle = stage.framework("idle", &["ads"]);
    stage.nothing(idle);
    stage.maintenance("a", Some(WHEN)).unwrap();
    stage.pass(20_000);
    let asked = stage.inbox(framework).inverse.clone();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].agent.0, asked[0].unavailability), (stage.agent_id("a").0, WHEN));
    assert_eq!(inverse(&stage, idle), [], "it holds nothing there");
    assert_eq!(stage.kills, [], "an inverse offer moves nothing");
}

#[test]
fn who_is_offered_something_of_the_agent_is_asked_too() {
    let (mut stage, framework) = Stage::small(4_000, "web");
    stage.maintenance("a", Some(WHEN)).unwrap();
    stage.rest();
    assert_eq!(inverse(&stage, framework).len(), 1);
}

#[test]
fn who_accepts_is_not_asked_again_and_who_declines_is_asked_after_a_while() {
    let (mut stage, framework) = busy();
    stage.maintenance("a", Some(WHEN)).unwrap();
    stage.rest();
    let first = inverse(&stage, framework);
    let refuse_for = Some(DurationMs(30_000));
    stage.say(framework, vec![Call::DeclineInverse { offers: first.clone(), refuse_for }]);
    stage.pass(29_000);
    assert_eq!(inverse(&stage, framework), first);
    stage.pass(2_000);
    let second = inverse(&stage, framework);
    assert_eq!(second.len(), 2, "asked again, though nothing else has happened");
    stage.say(framework, vec![Call::AcceptInverse(second[1..].to_vec())]);
    assert_eq!(stage.refusals(framework), [""; 0]);
    stage.pass(600_000);
    assert_eq!(inverse(&stage, framework), second);
}

#[test]
fn answers_to_inverse_offers_that_are_not_out_are_refused() {
    let (mut stage, framework) = busy();
    let other = stage.framework("other", &["ads"]);
    stage.nothing(other);
    stage.maintenance("a", Some(WHEN)).unwrap();
    stage.rest();
    let asked = inverse(&stage, framework);
    stage.say(other, vec![Call::AcceptInverse(asked.clone())]);
    stage.pass(1);
    assert_eq!(stage.refusals(other), ["invalid-offer"], "it is another's");
    stage.say(framework, vec![Call::AcceptInverse(asked.clone()), Call::AcceptInverse(asked)]);
    stage.pass(1);
    assert_eq!(stage.refusals(framework), ["invalid-offer"], "the second time");
}

#[test]
fn an_inverse_offer_is_withdrawn_when_maintenance_is_cancelled_or_moved() {
    let (mut stage, framework) = busy();
    stage.maintenance("a", Some(WHEN)).unwrap();
    stage.rest();
    let first = inverse(&stage, framework);
    let later = Unavailability { start: Timestamp(190_000), length: None };
    stage.maintenance("a", Some(later)).unwrap();
    stage.rest();
    assert_eq!(stage.inbox(framework).rescinded.last().copied().unwrap(), first[0]);
    let second = stage.inbox(framework).inverse.clone();
    assert_eq!((second.len(), second[0].unavailability), (1, later), "asked anew");
    stage.maintenance("a", None).unwrap();
    stage.rest();
    assert_eq!(stage.inbox(framework).rescinded.last().copied().unwrap(), second[0].id);
    stage.pass(60_000);
    assert_eq!(inverse(&stage, framework), []);
}

#[test]
fn maintenance_outlives_masters_and_holders_are_asked_anew() {
    let (mut stage, framework) = busy();
    stage.maintenance("a", Some(WHEN)).unwrap();
    stage.rest();
    for from_snapshot in [false, true] {
        let before = inverse(&stage, framework);
        stage.fail_over(from_snapshot);
        stage.pass(1_000);
        let after = inverse(&stage, framework);
        assert_eq!(after.len(), 1);
        assert_ne!(after, before);
    }
    stage.check_copies();
}
