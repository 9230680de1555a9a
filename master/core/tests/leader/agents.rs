//! Agents out of service: drained, deactivated, gone.

use crate::stage::{Stage, hello, task, want, whole};
use tepui_master_core::Code;
use tepui_proto::roles::AgentMode;
use tepui_proto::{DurationMs, FrameworkId, Life, Reason, Resources, TaskSpec, TaskState};

fn mode_of(stage: &Stage, agent: &str) -> AgentMode {
    stage.leader.state().mode(stage.agent_id(agent))
}

fn with_grace(id: &str, ms: u64) -> TaskSpec {
    TaskSpec { kill_grace: Some(DurationMs(ms)), ..task(id, 500) }
}

/// Two tasks on the agent, with graces of 60 and 1 seconds, and the rest of it offered.
fn busy() -> (Stage, FrameworkId) {
    let (mut stage, framework) = Stage::small(4_000, "web");
    stage.run(framework, vec![with_grace("slow", 60_000), with_grace("quick", 1_000)]);
    stage.report("slow", TaskState::Running);
    stage.rest();
    assert_eq!(stage.offered(framework), 3_000);
    stage.updates(framework);
    (stage, framework)
}

#[test]
fn a_draining_agent_is_not_offered_and_its_tasks_are_asked_to_stop_with_the_lesser_grace() {
    let (mut stage, framework) = busy();
    stage.drain("a", 5_000).unwrap();
    assert_eq!(stage.held(framework), []);
    let mut kills = stage.kills.clone();
    kills.sort();
    assert_eq!(
        kills,
        [("quick".to_owned(), DurationMs(1_000)), ("slow".to_owned(), DurationMs(5_000))]
    );
    stage.agent("b", 1_000);
    stage.pass(1_000);
    let mut updates = stage.updates(framework);
    updates.sort();
    let killing = |id: &str| (id.to_owned(), TaskState::Killing, Reason::AgentDraining);
    assert_eq!(updates, [killing("quick"), killing("slow")]);
    assert_eq!(stage.offered(framework), 1_000, "the other agent's");
}

#[test]
fn an_agent_is_drained_after_the_last_final_update_and_offered_again_only_when_it_is_activated() {
    let (mut stage, framework) = busy();
    stage.drain("a", 5_000).unwrap();
    stage.report("slow", TaskState::Killed);
    assert!(matches!(mode_of(&stage, "a"), AgentMode::Draining { .. }));
    stage.report("quick", TaskState::Finished);
    assert_eq!(mode_of(&stage, "a"), AgentMode::Drained);
    stage.pass(60_000);
    assert_eq!(stage.offered(framework), 0);
    stage.return_of("a", whole(4_000));
    assert_eq!(mode_of(&stage, "a"), AgentMode::Drained, "a hello changes nothing");
    stage.mode("a", AgentMode::Active).unwrap();
    stage.pass(1_000);
    assert_eq!(stage.offered(framework), 4_000);
    stage.check_copies();
}

#[test]
fn an_agent_that_runs_nothing_is_drained_at_once() {
    let (mut stage, _) = Stage::small(4_000, "web");
    stage.drain("a", 5_000).unwrap();
    assert_eq!(mode_of(&stage, "a"), AgentMode::Drained);
    stage.drain("a", 5_000).unwrap();
    assert_eq!(mode_of(&stage, "a"), AgentMode::Drained);
}

#[test]
fn schedulers_on_a_draining_agent_move_at_once() {
    let (mut stage, framework) = busy();
    stage.agent("b", 4_000);
    stage.drain("a", 5_000).unwrap();
    stage.pass(1_000);
    let home = stage.leader.state().framework(framework).unwrap().instance.as_ref().unwrap().agent;
    assert_eq!(home, stage.agent_id("b"));
    assert!(stage.offered(framework) > 0);
    let failures = stage.leader.state().framework(framework).unwrap().failures;
    assert_eq!(failures, 0, "no fault of the tenant's");
}

#[test]
fn a_drain_goes_on_under_another_master_with_its_own_grace() {
    let (mut stage, _) = busy();
    stage.drain("a", 5_000).unwrap();
    for from_snapshot in [false, true] {
        stage.kills.clear();
        stage.fail_over(from_snapshot);
        let mut kills = stage.kills.clone();
        kills.sort();
        assert_eq!(
            kills,
            [("quick".to_owned(), DurationMs(1_000)), ("slow".to_owned(), DurationMs(5_000))],
            "who says hello anew is asked anew, and not more gently"
        );
    }
    for id in ["slow", "quick"] {
        stage.report(id, TaskState::Killed);
    }
    assert_eq!(mode_of(&stage, "a"), AgentMode::Drained);
}

#[test]
fn a_task_that_was_unreachable_is_stopped_when_its_agent_returns_draining() {
    let (mut stage, framework) = busy();
    stage.disconnect("a");
    stage.pass(6_000);
    assert_eq!(stage.state_of(framework, "slow"), TaskState::Unreachable);
    stage.drain("a", 5_000).unwrap();
    assert_eq!(stage.kills, [], "nobody hears it");
    stage.return_of("a", whole(4_000));
    assert_eq!(stage.kills.len(), 2);
    assert!(matches!(mode_of(&stage, "a"), AgentMode::Draining { .. }));
}

#[test]
fn a_drain_ends_with_tasks_that_another_life_has_lost() {
    let (mut stage, framework) = busy();
    stage.drain("a", 5_000).unwrap();
    stage.agent_with("a", tepui_proto::control::Hello { life: Life(8), ..hello(whole(4_000)) });
    stage.rest();
    assert_eq!(stage.state_of(framework, "slow"), TaskState::Lost);
    assert_eq!(mode_of(&stage, "a"), AgentMode::Drained);
}

#[test]
fn an_agent_may_be_gone_once_it_is_drained() {
    let (mut stage, framework) = busy();
    let grace = DurationMs(1_000);
    stage.mode("a", AgentMode::Draining { grace, then_gone: true }).unwrap();
    stage.report("slow", TaskState::Killed);
    stage.report("quick", TaskState::Killed);
    assert_eq!(mode_of(&stage, "a"), AgentMode::Gone);
    assert_eq!(stage.state_of(framework, "slow"), TaskState::Killed, "not `gone`");
}

#[test]
fn a_deactivated_agent_keeps_its_tasks_and_its_schedulers() {
    let (mut stage, framework) = busy();
    stage.mode("a", AgentMode::Inactive).unwrap();
    stage.pass(60_000);
    assert_eq!((stage.offered(framework), stage.kills.len()), (0, 0));
    assert_eq!(stage.state_of(framework, "slow"), TaskState::Running);
    let instance = stage.leader.state().framework(framework).unwrap().instance.clone();
    assert_eq!(instance.map(|instance| instance.incarnation.0), Some(1));
    stage.mode("a", AgentMode::Active).unwrap();
    stage.pass(1_000);
    assert_eq!(stage.offered(framework), 3_000);
    stage.check_copies();
}

#[test]
fn no_scheduler_is_placed_on_an_agent_that_is_out_of_service() {
    let mut stage = Stage::new();
    stage.agent("a", 4_000);
    stage.mode("a", AgentMode::Inactive).unwrap();
    let framework = stage.framework("f", &["web"]);
    assert!(stage.leader.state().framework(framework).unwrap().instance.is_none());
    stage.mode("a", AgentMode::Active).unwrap();
    stage.pass(1_000);
    assert!(stage.leader.state().framework(framework).unwrap().instance.is_some());
}

#[test]
fn tasks_of_an_agent_that_is_gone_are_gone_and_it_is_turned_away() {
    let (mut stage, framework) = busy();
    stage.agent("b", 4_000);
    stage.mode("a", AgentMode::Gone).unwrap();
    stage.pass(1_000);
    let mut updates = stage.updates(framework);
    updates.sort();
    let gone = |id: &str| (id.to_owned(), TaskState::Gone, Reason::AgentGone);
    assert_eq!(updates, [gone("quick"), gone("slow")]);
    for life in [7, 8] {
        let hello = tepui_proto::control::Hello { life: Life(life), ..hello(whole(4_000)) };
        stage.agent_with("a", hello);
        assert_eq!(stage.turned_away.pop().as_deref(), Some("agent-gone"));
    }
    stage.pass(60_000);
    let home = stage.leader.state().framework(framework).unwrap().instance.as_ref().unwrap().agent;
    assert_eq!(home, stage.agent_id("b"));
    stage.check_copies();
    stage.agent("c", 4_000);
    assert_eq!(stage.turned_away, [""; 0], "others are welcome");
}

#[test]
fn what_an_agent_had_that_is_gone_counts_for_nothing() {
    let (mut stage, _) = busy();
    stage.agent("b", 1_000);
    stage.mode("a", AgentMode::Gone).unwrap();
    let change = crate::stage::guarantee("web", "cpus:2");
    assert_eq!(stage.roles(vec![change]), Err(Code::QuotaInvalid), "the cluster has 1.2");
    assert!(stage.total("a").is_empty());
    stage.check_copies();
}

#[test]
fn modes_follow_each_other_only_as_they_may() {
    let (mut stage, _) = busy();
    let grace = DurationMs(1_000);
    let draining = AgentMode::Draining { grace, then_gone: false };
    let invalid = Err(Code::AgentModeInvalid);
    assert_eq!(stage.mode("nobody", AgentMode::Inactive), Err(Code::AgentUnknown));
    assert_eq!(stage.mode(&"x".repeat(1 << 20), AgentMode::Gone), Err(Code::AgentUnknown));
    assert_eq!(stage.mode("a", AgentMode::Drained), invalid);
    assert_eq!(stage.drain("a", 3_600_001), invalid, "a grace of more than an hour");
    stage.mode("a", AgentMode::Inactive).unwrap();
    stage.mode("a", draining).unwrap();
    assert_eq!(stage.mode("a", AgentMode::Active), invalid, "while its tasks are being stopped");
    assert_eq!(stage.mode("a", AgentMode::Inactive), invalid);
    stage.mode("a", AgentMode::Gone).unwrap();
    for next in [AgentMode::Active, AgentMode::Inactive, draining, AgentMode::Gone] {
        assert_eq!(stage.mode("a", next), invalid, "what is gone stays gone: {next:?}");
    }
}

#[test]
fn a_want_that_an_agent_answered_is_asked_for_elsewhere_when_it_drains() {
    let (mut stage, framework) = Stage::small(4_000, "web");
    stage.wants(framework, want("web", 2, 1_000));
    assert_eq!(stage.offered(framework), 2_000);
    stage.agent_with("b", hello(Resources { disk_bytes: 0, ..whole(4_000) }));
    stage.drain("a", 0).unwrap();
    stage.pass(2_000);
    let agents: Vec<u32> = stage.inbox(framework).offers.values().map(|o| o.agent.0).collect();
    assert_eq!((agents, stage.offered(framework)), (vec![stage.agent_id("b").0], 2_000));
}
