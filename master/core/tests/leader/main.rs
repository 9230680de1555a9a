//! What operators do with roles and agents, what the leader does with guarantees, and what it lets nobody do: through the
//! narrow waist.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at what it did not expect"
)]

mod agents;
mod bounds;
mod maintenance;
mod preemption;
mod reservations;
mod roles;
mod stage;
mod starvation;
mod volumes;
