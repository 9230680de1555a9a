//! Messages of tasks: what waits of them for the master.

use super::*;

#[test]
fn messages_of_one_framework_that_wait_are_bounded_in_bytes() {
    let mut bench = Bench::new();
    bench.start(1);
    bench.start(2);
    let message = |launch, number| {
        let data = vec![7; limits::MESSAGE_BYTES];
        said(CellEvent::Message { launch: LaunchNumber(launch), number, data })
    };
    let room = (limits::AGENT_MESSAGE_BYTES / limits::MESSAGE_BYTES) as u64;
    for number in 1..=room {
        assert_eq!(commands(&bench.say(message(1, number))).len(), 1, "{number}");
    }
    // Both are of one framework.
    assert!(commands(&bench.say(message(2, 1))).is_empty());
    assert!(commands(&bench.say(message(1, room + 1))).is_empty());
    // When the master has heard of some, as many go on, and none is lost.
    let reports = bench.agent.waiting_reports() as u64;
    let mut stored = 0;
    for through in 1..=reports + 2 {
        stored += commands(&bench.acknowledge(through)).len();
    }
    assert_eq!(stored, 2);
    assert!(bench.agent.unheard.values().all(|bytes| *bytes <= limits::AGENT_MESSAGE_BYTES));
    assert!(bench.agent.blocked.is_empty());
}
