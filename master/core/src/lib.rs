//! The master's core: the state, the offers, the allocator, the reconciler.
//!
//! Owns every decision that the cluster takes. Does no I/O, reads no clock, draws no chance, starts no thread, and is
//! not async: facts come in through [`Leader::handle`], orders go out through [`Effects`]. Its one surprise: `handle`
//! applies to the state at once what it proposes, so orders may be performed only when the entries of their batch
//! are committed.

pub mod allocator;
pub mod effect;
pub mod entry;
pub mod input;
pub mod leader;
pub mod ledger;
pub mod policy;
pub mod quantities;
pub mod refusal;
pub mod state;
pub mod views;

pub use effect::{Effect, Effects, ReplyBody};
pub use entry::{Entry, EntryKind};
pub use input::{ConnectionId, Input, Ticket};
pub use leader::{Leader, Violation};
pub use refusal::{Code, Refusal};
pub use state::State;
