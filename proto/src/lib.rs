//! The words that the parts of Tepui share: identifiers, resources, tasks, messages, limits, and the frame codec.
//!
//! Owns the shape of everything that crosses a process boundary. Does no I/O, reads no clock, draws no chance.
//! Its one surprise: decoding is bounded twice, by the frame's length before anything is allocated, and by
//! `check` functions on what was decoded.

pub mod api;
pub mod calls;
pub mod cell;
pub mod control;
pub mod events;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod names;
pub mod resources;
pub mod roles;
pub mod scheduler;
pub mod tasks;

pub use calls::Call;
pub use events::Event;
pub use ids::{
    AgentHandle, AgentId, Digest, DurationMs, FrameworkId, Incarnation, LaunchNumber, Life,
    OfferId, ReportSeq, RequestId, Role, TaskId, TaskKey, Tenant, Term, Timestamp, TurnNumber,
};
pub use resources::{
    Attributes, Bundle, DiskKind, EntryProblem, NotationError, PoolKind, PortRange, PortSet,
    Resources, Scalars, VolumeKind,
};
pub use tasks::{Reason, TaskSpec, TaskState, TaskStatus, Usage};
