//! Starvation cannot last: who sits on offers or declines them again and again is served after all others, for a while
//! that doubles up to a bound (`docs/decisions/0011-starvation-cannot-last.md`).

use crate::stage::{Stage, launch, task, want};
use tepui_proto::calls::Acceptance;
use tepui_proto::{Call, DurationMs, FrameworkId, TaskState, limits};

/// Two frameworks of equal standing, of which the first is served first.
fn rivals() -> (Stage, FrameworkId, FrameworkId) {
    let mut stage = Stage::new();
    stage.agent("a", 2_000);
    let first = stage.framework("first", &["x"]);
    let second = stage.framework("second", &["y"]);
    assert_eq!((stage.offered(first), stage.offered(second)), (2_000, 0));
    (stage, first, second)
}

fn decline(stage: &mut Stage, framework: FrameworkId) {
    let offers = stage.held(framework);
    assert!(!offers.is_empty());
    let refuse_for = Some(DurationMs(0));
    stage.say(framework, vec![Call::Decline { offers, refuse_for }]);
}

#[test]
fn who_sits_on_offers_is_served_last_from_the_first_on() {
    let (mut stage, sitter, second) = rivals();
    stage.pass(limits::OFFER_TIMEOUT_MS + 1);
    assert_eq!((stage.offered(sitter), stage.offered(second)), (0, 2_000));
}

#[test]
fn who_is_served_last_is_served_all_the_same_where_nobody_else_takes_it() {
    let mut stage = Stage::new();
    stage.agent("a", 2_000);
    let sitter = stage.framework("sitter", &["x"]);
    for _ in 0..20 {
        assert_eq!(stage.offered(sitter), 2_000);
        stage.pass(limits::OFFER_TIMEOUT_MS);
    }
}

/// Somebody who answers every turn like this, and launches nothing.
fn demoted_with_the_third(answer: impl Fn(&mut Stage, FrameworkId)) {
    // The second wants what the first does not: it holds more, so the first stands before it at every look.
    let (mut stage, decliner, second) = rivals();
    stage.agent("b", 1_000);
    stage.pass(1);
    stage.run_on(second, "b", vec![task("t", 1_000)]);
    for turn in 1..=limits::DECLINES_FREE {
        assert_eq!((stage.offered(decliner), stage.offered(second)), (2_000, 0), "turn {turn}");
        answer(&mut stage, decliner);
        stage.pass(1);
    }
    assert_eq!((stage.offered(decliner), stage.offered(second)), (0, 2_000));
}

#[test]
fn a_decliner_is_demoted_with_the_third_turn_in_a_row_and_not_before() {
    demoted_with_the_third(decline);
}

#[test]
fn who_accepts_and_launches_nothing_is_a_decliner() {
    demoted_with_the_third(|stage, decliner| {
        let offers = stage.held(decliner);
        let nothing =
            Acceptance { offers, operations: Vec::new(), refuse_for: Some(DurationMs(0)) };
        stage.say(decliner, vec![Call::Accept(nothing)]);
    });
}

#[test]
fn a_launch_clears_what_was_counted() {
    let (mut stage, sitter, second) = rivals();
    stage.pass(limits::OFFER_TIMEOUT_MS + 1);
    assert_eq!(stage.offered(sitter), 0);
    // The second uses half; the rest comes to the sitter, who uses a little of it.
    let refuse_for = Some(DurationMs(60_000));
    let offers = stage.held(second);
    let spec = task("t", 1_000);
    let call = Call::Accept(Acceptance { offers, operations: vec![launch(spec)], refuse_for });
    stage.say(second, vec![call]);
    stage.pass(1);
    assert_eq!(stage.offered(sitter), 1_000);
    stage.run(sitter, vec![task("s", 100)]);
    stage.pass(1);
    assert_eq!(
        stage.offered(sitter),
        900,
        "the lower share is served first, as if it had never sat"
    );
}

/// For how long at most, of so many hours, one who uses what it is offered gets nothing, while these rivals, who stand
/// before it, do what they do with theirs. It runs a task of a second at a time.
fn longest_wait(rivals: usize, does: impl Fn(&mut Stage, FrameworkId), hours: u64) -> u64 {
    let mut stage = Stage::new();
    // Schedulers have a place elsewhere, and all want the whole of one agent.
    for host in 0..=rivals / 2 {
        stage.agent(&format!("host-{host}"), 1_000);
    }
    let names = (0..rivals).map(|n| (format!("rival-{n}"), format!("a{n}")));
    let names: Vec<(String, String)> = names.collect();
    let rivals: Vec<_> = names.iter().map(|(name, role)| stage.framework(name, &[role])).collect();
    let needy = stage.framework("needy", &["z"]);
    for (framework, (_, role)) in rivals.iter().zip(&names) {
        stage.wants(*framework, want(role, 1, 2_000));
    }
    stage.wants(needy, want("z", 1_000_000, 2_000));
    stage.agent("a", 2_000);
    stage.pass(1);
    let (mut waits_since, mut longest, mut tasks) = (stage.now.0, 0, 0);
    let until = stage.now.0 + hours * 3_600_000;
    while stage.now.0 < until {
        for rival in &rivals {
            if !stage.held(*rival).is_empty() {
                does(&mut stage, *rival);
            }
        }
        if !stage.held(needy).is_empty() {
            longest = longest.max(stage.now.0 - waits_since);
            let id = format!("t{tasks}");
            stage.run(needy, vec![task(&id, 2_000)]);
            stage.pass(1_000);
            stage.report(&id, TaskState::Finished);
            waits_since = stage.now.0;
            tasks += 1;
        }
        stage.pass(1_000);
    }
    assert!(tasks > 100 * hours, "{tasks} tasks");
    longest.max(stage.now.0 - waits_since)
}

#[test]
fn the_rival_of_sitters_waits_no_longer_than_the_rule_says_however_many_they_are() {
    for (rivals, log2) in [(1, 0), (4, 2), (8, 3)] {
        let longest = longest_wait(rivals, |_, _| {}, 1);
        let bound = limits::OFFER_TIMEOUT_MS * rivals as u64 * (log2 + 6);
        assert!(longest <= bound, "{longest} ms with {rivals}");
    }
}

#[test]
fn the_rival_of_one_sitter_waits_for_one_offer_s_time() {
    let longest = longest_wait(1, |_, _| {}, 1);
    assert!(longest <= limits::OFFER_TIMEOUT_MS + 1_000, "{longest} ms");
}

#[test]
fn the_rivals_of_decliners_wait_no_longer_than_the_free_declines_of_each_of_them() {
    for rivals in [1, 3] {
        let longest = longest_wait(rivals, decline, 1);
        // A decliner is asked once a second here.
        let bound = rivals as u64 * u64::from(limits::DECLINES_FREE) * 1_000;
        assert!(longest <= bound + 1_000, "{longest} ms with {rivals}");
    }
}

#[test]
fn a_decline_does_not_shorten_what_sitting_has_brought() {
    let (mut stage, sitter, second) = rivals();
    // Alone, it sits through many offers; at the last it declines.
    stage.nothing(second);
    stage.pass(8 * limits::OFFER_TIMEOUT_MS);
    decline(&mut stage, sitter);
    stage.pass(60_000);
    // A minute later it is still served last.
    let anything = Call::Want(None);
    stage.say(second, vec![anything]);
    stage.pass(limits::OFFER_TIMEOUT_MS + 1);
    assert_eq!((stage.offered(sitter), stage.offered(second)), (0, 2_000));
}
