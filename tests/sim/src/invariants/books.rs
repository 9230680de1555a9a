//! `total + overdraft = free + offered + used`, and offers add up, in every state.

use tepui_master_core::Leader;

/// Fails with what the leader itself finds wrong.
pub fn check(leader: &Leader) {
    if let Err(violation) = leader.check() {
        panic!("{violation}");
    }
}
