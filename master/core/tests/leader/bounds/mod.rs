//! What one tenant, one task or one agent can make the leader do, keep, write or send is bounded.

mod agents;
mod history;
mod offers;
mod records;
mod turns;
