//! Two masters at the same index have the same digest: one that replays the log, and the one that wrote it.

use crate::master::Master;

/// Replays the log beside the leader.
pub fn check(master: &Master) {
    let Some(leader) = &master.leader else { return };
    let replayed = master.replay();
    assert_eq!(
        replayed.digest(),
        leader.state().digest(),
        "the log does not add up to the leader's state"
    );
    assert_eq!(
        replayed.digest(),
        replayed.recount_digest(),
        "the kept digest is not that of the state"
    );
}
