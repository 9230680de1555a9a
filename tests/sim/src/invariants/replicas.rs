//! Two masters at the same index have the same digest: one that replays the log, one that restarts from a snapshot and the
//! records after it, and the one that wrote both.

use crate::master::Master;

/// Replays the log beside the leader.
pub fn check(master: &Master) {
    let Some(leader) = &master.leader else { return };
    for state in [master.replay(master.log.len()), master.recovered()] {
        assert_eq!(
            state.digest(),
            leader.state().digest(),
            "the log does not add up to the leader's state"
        );
        assert_eq!(
            state.digest(),
            state.recount_digest(),
            "the kept digest is not that of the state"
        );
    }
}
