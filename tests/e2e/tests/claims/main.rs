//! What Tepui claims, with real processes: a claim a test, a theme a file.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stand outside of them here"
)]

mod bad_input;
mod bad_peers;
mod bad_schedulers;
mod bad_tasks;
mod capacity;
mod dev;
mod machines;
mod operators;
mod readme;
mod run;
mod simulate;
mod uploads;
mod wordcount;
