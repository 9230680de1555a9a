//! What a master is told of the disk's room.

use super::*;

fn room(has_room: bool) -> Input {
    Input::RoomChanged { has_room }
}

fn told(has_room: bool) -> [Effect; 1] {
    [Effect::SendToMaster(AgentMessage::RoomChanged { has_room })]
}

fn says_room(orders: &[Effect]) -> Option<bool> {
    orders.iter().find_map(|order| match order {
        Effect::SendToMaster(AgentMessage::Hello(hello)) => Some(hello.has_room),
        _ => None,
    })
}

#[test]
fn a_change_of_room_is_told_once_and_stands_in_the_next_hello() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(room(false)), told(false));
    assert_eq!(bench.say(room(false)), []);
    bench.say(Input::MasterDisconnected);
    let orders = bench.connect(1);
    assert_eq!(says_room(&orders), Some(false));
    assert_eq!(orders.len(), 1, "the hello has said it: {orders:?}");
    assert_eq!(bench.say(room(true)), told(true));
}

#[test]
fn what_changes_between_hello_and_welcome_is_told_after_the_welcome() {
    let mut bench = Bench::new();
    bench.say(Input::MasterDisconnected);
    bench.say(room(false));
    bench.say(room(true));
    assert_eq!(says_room(&bench.say(Input::MasterConnected)), Some(true));
    assert_eq!(bench.say(room(false)), []);
    let (now, heartbeat) = (Timestamp(5), DurationMs(1_000));
    let welcome = MasterMessage::Welcome { term: Term(1), now, heartbeat };
    assert_eq!(bench.say(Input::MasterSaid(welcome)), told(false));
}

#[test]
fn a_hello_says_how_many_tasks_can_be_run() {
    let agent = Agent::new(Profile { max_tasks: 17, ..profile() });
    assert_eq!(agent.hello().max_tasks, 17);
}
