//! What an agent decides: which launches count, what became of each task, what the master has not heard yet.
//!
//! Owns the lifecycles of tasks, the reports that wait for an acknowledgement, and which schedulers are hosted. Never
//! does I/O, reads no clock, draws no chance. Its one surprise: whatever must outlive a crash changes only by applying
//! a [`Record`], so the state that is recovered is the state that was.
//!
//! The shell hands facts to [`Agent::handle`], writes the records of the whole batch down with one sync, and only then
//! carries out its orders.

mod agent;
mod book;
mod input;
mod profile;
mod schedulers;
mod tasks;
#[cfg(test)]
mod tests;

pub use agent::{Agent, Logs};
pub use book::{KEPT_LOGS, KeptLogs, Record, RecordError, Snapshot, Task};
pub use input::{Effect, Effects, Input, Prepared, Refused};
pub use profile::Profile;
pub use tasks::needs_sandbox;
