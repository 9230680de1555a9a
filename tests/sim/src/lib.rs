//! One master core and many agent cores on a virtual wire, in virtual time, from one seed.
//!
//! Owns the world that the cores live in: delays, lost connections, doubled messages, crashes between any two steps,
//! disks that survive them or do not. Never sleeps and reads no clock. Its one surprise: a crash of the master falls
//! before a commit, or after it and before any order was performed, which is where the hard cases are.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a simulation ends at the first thing that should not be"
)]

mod agents;
pub mod chance;
pub mod invariants;
pub mod job;
mod jobs;
mod links;
pub mod machine;
pub mod master;
mod operator;
pub mod wire;
pub mod world;

pub use operator::Acts;
pub use world::{Faults, Setup, World};
